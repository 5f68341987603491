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

// TestRingOfNamespace keeps as many messages as the namespace says, and of
// others as the hub does.
func TestRingOfNamespace(t *testing.T) {
	r := newRig(t, HubConfig{RingMessages: 8, Settings: func(namespace string) Settings {
		if namespace == "few" {
			return Settings{RingMessages: 2}
		}
		return Settings{}
	}}, 1)
	r.connect(0, 0).subscribe("few.>", "many.>")
	for range 5 {
		r.publish("few.x", "many.x")
	}
	r.run()
	for _, f := range r.hub.Describe(10) {
		if want := map[string]int{"few": 2, "many": 5}[f.Name]; f.RingMessages != want {
			t.Errorf("%s keeps %d messages, want %d", f.Name, f.RingMessages, want)
		}
	}
	r.wantConsistent()
}
