package topics

import (
	"errors"
	"testing"
	"time"
)

func TestWay(t *testing.T) {
	settings := map[string]Settings{
		"plain": {}, "all": {Mode: ModeAll}, "latest": {Mode: ModeLatest}, "slow": {Mode: ModeLatest, MaxRate: 4},
	}
	m := newRig(t, HubConfig{Settings: func(namespace string) Settings { return settings[namespace] }}, 1).shards[0].members
	for _, c := range []struct {
		pattern string
		want    Want
		way     way
		err     error
	}{
		{"plain.x", Want{}, way{ModeLive, 0}, nil},
		{"plain.x", Want{Mode: ModeLatest}, way{ModeLatest, 0}, nil},
		{"plain.x", Want{Mode: ModeAll}, way{}, ErrMode},
		{"all.x", Want{}, way{ModeAll, 0}, nil},
		{"all.x", Want{Mode: ModeLive}, way{ModeLive, 0}, nil},
		{"all.x", Want{MaxRate: 1}, way{}, ErrRate},
		{"all.x", Want{Mode: ModeLatest, MaxRate: 10}, way{ModeLatest, 100 * time.Millisecond}, nil},
		{"latest.x", Want{Mode: ModeLive}, way{}, ErrMode},
		{"latest.x", Want{MaxRate: 1e-9}, way{ModeLatest, time.Hour}, nil},
		{"slow.x", Want{}, way{ModeLatest, 250 * time.Millisecond}, nil},
		{"slow.x", Want{MaxRate: 100}, way{ModeLatest, 250 * time.Millisecond}, nil},
		{"slow.x", Want{MaxRate: 2}, way{ModeLatest, 500 * time.Millisecond}, nil},
	} {
		got, err := m.way(c.pattern, c.want)
		if !errors.Is(err, c.err) || err == nil && got != c.way {
			t.Errorf("%s, %+v: %+v, %v; want %+v, %v", c.pattern, c.want, got, err, c.way, c.err)
		}
	}
}
