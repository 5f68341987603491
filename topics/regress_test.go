package topics

import (
	"strconv"
	"testing"
	"time"
)

// regressing has a client of all.x and 10 messages of a stream with so many
// replicas.
func regressing(t *testing.T, replicas int) (r *rig, h *fakeHistory, c *socket, publish func(data ...string)) {
	h = newFakeHistory(nil)
	r = newRig(t, historyConfig(h), 1)
	all := h.stream("all")
	all.replicas = replicas
	publish = func(data ...string) {
		for _, d := range data {
			r.hub.Deliver([]Message{all.store("all.x", []byte(d))})
		}
	}
	c = r.connect(0, 0)
	c.subscribe("all.x")
	r.lasts(h, time.Second, nil)
	for i := range 10 {
		publish(strconv.Itoa(i + 1))
	}
	r.run()
	c.got = nil
	return r, h, c, publish
}

// A leader that has been deposed, and does not know that yet, says less than
// what has come. Nothing is told, nothing comes twice, and all that comes later
// comes when the others answer again.
func TestDeposedLeader(t *testing.T) {
	synced(t, func(t *testing.T) {
		r, h, c, publish := regressing(t, 3)
		all := h.stream("all")
		all.deposed = 7
		r.hub.LostAll()
		r.lasts(h, time.Second, nil)
		publish("11", "12")
		all.store("all.x", []byte("13")) // which is lost on its way
		r.lasts(h, regressPatience-2*time.Second, nil)
		c.wants()
		all.deposed = 0
		r.lasts(h, time.Second, nil)
		c.wants("all.x 11", "all.x 12", "all.x 13")
		publish("14")
		r.run()
		c.wants("all.x 14")
		if n := r.hub.Counts().Restarts; n != 0 {
			t.Errorf("%d streams began anew", n)
		}
	})
}

// What proves that the stream is the same may be gone when it can be asked for.
func TestDeposedLeaderAndLimits(t *testing.T) {
	synced(t, func(t *testing.T) {
		r, h, c, publish := regressing(t, 3)
		all := h.stream("all")
		all.deposed = 5
		r.hub.LostAll()
		r.lasts(h, time.Second, nil)
		publish("11", "12")
		all.expire(10)
		all.deposed = 0
		r.lasts(h, time.Second, nil)
		c.wants("all.x 11", "all.x 12")
	})
}

// A stream that has lost its end says so, whoever answers: who listens is told.
func TestStreamCutShort(t *testing.T) {
	for _, replicas := range []int{1, 3} {
		for _, refilled := range []bool{false, true} { // up to the number that was known, and beyond
			synced(t, func(t *testing.T) {
				r, h, c, publish := regressing(t, replicas)
				h.stream("all").cut(3)
				r.hub.LostAll()
				r.lasts(h, time.Second, nil)
				if replicas == 1 {
					c.wants("gap all.x restarted", "all.x 1", "all.x 2", "all.x 3", "all.x 4", "all.x 5", "all.x 6", "all.x 7")
				}
				publish("8'")
				if refilled {
					publish("9'", "10'", "11'")
				}
				r.lasts(h, time.Second, nil)
				if replicas > 1 && !refilled {
					c.wants()
				}
				r.lasts(h, regressPatience, nil)
				var want []string
				if replicas > 1 {
					want = append(want, "gap all.x restarted", "all.x 1", "all.x 2", "all.x 3", "all.x 4", "all.x 5", "all.x 6", "all.x 7")
				}
				want = append(want, "all.x 8'")
				if refilled {
					want = append(want, "all.x 9'", "all.x 10'", "all.x 11'")
				}
				c.wants(want...)
				publish("12'")
				r.lasts(h, time.Second, nil)
				c.wants("all.x 12'")
				if n := r.hub.Counts().Restarts; n != 1 {
					t.Errorf("streams began anew %d times", n)
				}
			})
		}
	}
}

// The number that was the newest may be given to a message that nobody can have.
func TestStreamCutShortAndTooLarge(t *testing.T) {
	synced(t, func(t *testing.T) {
		r, h, c, publish := regressing(t, 3)
		all := h.stream("all")
		all.cut(1)
		r.hub.LostAll()
		h.answer(nil)
		all.store("all.x", nil)
		publish("11'")
		r.lasts(h, 2*time.Second, nil)
		c.wants("gap all.x restarted", "all.x 1", "all.x 2", "all.x 3", "all.x 4", "all.x 5", "all.x 6", "all.x 7", "all.x 8", "all.x 9",
			"gap all.x upstream", "all.x 11'")
	})
}

// regresses has a stream lose its end, or be answered for by one who knows less
// than has come, or who does no longer.
func (m *historyModel) regresses(ns string) {
	s := m.history.stream(ns)
	switch {
	case s.deposed > 0:
		s.deposed = 0
	case s.replicas > 1 && m.rnd.IntN(3) > 0:
		s.deposed = s.last - min(s.last, uint64(1+m.rnd.IntN(4)))
	case s.perTopic > 0: // what proves it may be gone
		return
	case m.rnd.IntN(8) > 0:
		return
	default:
		m.settle() // a live message that waits could be taken for one of the same number
		n := 1 + m.rnd.IntN(4)
		for _, msg := range m.log[ns] {
			if msg.Cursor.Epoch == s.epoch && msg.Cursor.Seq+uint64(n) > s.last {
				m.cut[ns+string(msg.Data)] = true
			}
		}
		s.cut(n)
		m.lossy[ns] = true
		m.hub.LostAll() // the servers were away
		for m.history.answer(nil) {
		}
	}
	m.note("%s goes back to %d, is said to end at %d", ns, s.last, s.deposed)
}
