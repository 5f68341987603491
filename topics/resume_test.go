package topics

import (
	"fmt"
	"testing"
)

// TestResumeBelowTheRing comes back to a node that has just begun to listen.
func TestResumeBelowTheRing(t *testing.T) {
	f := func(name string, perTopic int, stored []string, pattern string, verdict Resumption, want ...string) {
		t.Run(name, func(t *testing.T) {
			r := newHistoryRig(t, nil)
			r.history.stream(Namespace(pattern)).perTopic = perTopic
			first := r.store(stored...)[0]
			c, st := r.join(0, pattern, Want{Mode: ModeAll, Resume: true, Cursor: first.Cursor})
			if st.Resumed != verdict {
				t.Errorf("stands %+v", st)
			}
			if verdict == Recovered { // else there is no more to say
				c.wants(want...)
			}
			r.wantConsistent()
		})
	}
	f("all is there", 0, []string{"all.b", "all.a", "all.b"}, "all.*", Recovered, "all.a 02", "all.b 03")
	f("a topic's bound dropped some", 2, []string{"all.b", "all.a", "all.a", "all.a", "all.a"}, "all.*", NotRecovered)
	f("one was too large", 0, []string{"all.b", "all.a", "all.a!", "all.b"}, "all.*", Recovered, "all.a 02", "gap all.* upstream", "all.b 04")
	f("one of the topic was too large", 0, []string{"one.b", "one.a", "one.b!", "one.b"}, "one.b", Recovered, "gap one.b upstream", "one.b 04")
}

// TestResumeBehindDeletion comes back to a stream of which some messages were
// deleted by hand, with room to read the ring back and without.
func TestResumeBehindDeletion(t *testing.T) {
	f := func(name, pattern string, stored []string, remove, cursor int, verdict Resumption) {
		for _, room := range []int{100, 2} {
			t.Run(fmt.Sprintf("%s, ring of %d", name, room), func(t *testing.T) {
				r := newHistoryRig(t, func(cfg *HubConfig) { cfg.RingMessages = room })
				at := r.store(stored...)[cursor].Cursor
				r.history.stream(Namespace(pattern)).remove(func(n int, _ Message) bool { return n == remove })
				_, st := r.join(0, pattern, Want{Mode: ModeAll, Resume: true, Cursor: at})
				if st.Resumed != verdict {
					t.Errorf("stands %+v", st)
				}
				r.wantConsistent()
			})
		}
	}
	all := []string{"all.b", "all.a", "all.a", "all.b", "all.b"}
	f("behind the cursor", "all.*", all, 2, 0, NotRecovered)
	f("before the cursor", "all.*", all, 0, 1, Recovered)
	f("at the cursor", "all.*", all, 1, 1, Recovered)
	f("of the topic, behind the cursor", "one.a", []string{"one.a", "one.b", "one.a", "one.a", "one.b"}, 2, 0, NotRecovered)
	f("of the topic, before the cursor", "one.a", []string{"one.a", "one.b", "one.a", "one.a", "one.b"}, 0, 2, Recovered)
}
