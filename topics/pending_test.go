package topics

import (
	"fmt"
	"testing"
)

// Live messages that wait for what came before them have a bound over all
// feeds. What has no room is read.
func TestPendingIsBounded(t *testing.T) {
	const feeds, messages, most, size = 20, 50, 1 << 20, 16 << 10
	h := newFakeHistory(nil)
	cfg := historyConfig(h)
	cfg.RingMemory = pendPart * most
	r := newRig(t, cfg, 1)
	s := h.stream("one")
	c := r.connect(0, 0)
	r.shards[0].members.max = feeds
	for n := range feeds {
		c.wish(fmt.Sprint("one.", n), Want{})
		r.answers(h)
	}
	for n := range feeds {
		s.store(fmt.Sprint("one.", n), make([]byte, size)) // and is lost on its way
	}
	for n := range feeds * messages {
		r.hub.Deliver([]Message{s.store(fmt.Sprint("one.", n%feeds), make([]byte, size))})
		waiting := 0
		for _, f := range r.hub.topics.entries {
			for _, m := range f.kept.pend {
				waiting += len(m.Data)
			}
		}
		if waiting > most+feeds*size {
			t.Fatalf("after %d messages %d bytes wait, of at most %d", n, waiting, most)
		}
	}
	r.wantConsistent()
	c.got = nil
	r.answers(h)
	if n := len(c.got); n != feeds*(messages+1) {
		t.Errorf("got %d messages, want %d", n, feeds*(messages+1))
	}
	r.wantConsistent()
}
