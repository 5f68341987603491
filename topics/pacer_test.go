package topics

import (
	"fmt"
	"testing"
)

// What is held back is bounded: too much leaves before its time.
func TestHeldBackIsBounded(t *testing.T) {
	const rate, most = 0.001, 1 << 20
	synced(t, func(t *testing.T) {
		r := newRig(t, HubConfig{RingMessages: 10, RingMemory: heldPart * most * 2}, 2)
		fast, other := r.connect(0, 0), r.connect(0, 1)
		fast.paces("a.*", rate)
		other.paces("b.*", rate)
		m := r.shards[0].members
		for n := range 10_000 {
			r.publish(fmt.Sprint("a.", n%5000), fmt.Sprint("b.", n))
			r.run()
			var held int64
			for _, g := range m.groups {
				for _, value := range g.pace.held {
					held += value.entry.weight()
				}
			}
			if held > most || held != m.pacer.weight {
				t.Fatalf("after %d messages %d bytes are held back, counted %d, at most %d", n, held, m.pacer.weight, most)
			}
		}
		r.passes(maxWindow)
		if n := len(other.got); n != 10_000 {
			t.Errorf("got %d values, want all 10000", n)
		}
		fast.leave()
		other.leave()
		if m.pacer.weight != 0 {
			t.Errorf("%d bytes are held back for nobody", m.pacer.weight)
		}
	})
}

// Who subscribes with ever new rates leaves nothing behind.
func TestPacerForgets(t *testing.T) {
	synced(t, func(t *testing.T) {
		r := newRig(t, HubConfig{}, 1)
		c := r.connect(0, 0)
		for n := range 1000 {
			c.paces("a.x", 0.001+float64(n)/1e9)
			r.publish("a.x")
			r.run()
			r.publish("a.x")
			r.run()
			c.unsubscribe("a.x")
		}
		if n := len(r.shards[0].members.pacer.waiting); n != 0 {
			t.Errorf("%d windows are waited for by nobody", n)
		}
		r.wantConsistent()
	})
}
