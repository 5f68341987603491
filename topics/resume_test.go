package topics

import "testing"

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
