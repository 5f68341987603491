package topics

import (
	"testing"
	"time"
)

// lacking has a client of one.x, of which messages 2 and 3 were lost on their
// way, and a bus that has been asked for them.
func lacking(t *testing.T) (r *rig, h *fakeHistory, c *socket) {
	h = newFakeHistory(nil)
	r = newRig(t, historyConfig(h), 1)
	c = r.connect(0, 0)
	c.subscribe("one.x")
	for h.answer(nil) || len(r.bus.asked) > 0 {
		r.bus.answer(nil)
		r.run()
	}
	one := h.stream("one")
	one.replicas = 3
	r.hub.Deliver([]Message{one.store("one.x", []byte("1"))})
	one.store("one.x", []byte("2"))
	one.store("one.x", []byte("3"))
	r.hub.sweep(time.Now().Add(checkPeriod))
	for range 2 { // how the stream stands, and which topics have news
		h.answer(nil)
	}
	r.run()
	c.wants("subscribed one.x .", "one.x 1")
	return r, h, c
}

// lasts answers all that is asked for a while.
func (r *rig) lasts(h *fakeHistory, d time.Duration, err error) {
	for end := time.Now().Add(d); time.Now().Before(end); r.passes(100 * time.Millisecond) {
		for h.answer(err) {
		}
	}
}

// After NATS was away for longer than a replica is given to catch up, the first
// to answer may still lag.
func TestReplicaLagsAfterOutage(t *testing.T) {
	synced(t, func(t *testing.T) {
		r, h, c := lacking(t)
		r.lasts(h, 2*lagPatience, errFakeAway)
		h.stream("one").lag = 1
		r.lasts(h, lagPatience/2, nil)
		c.wants("one.x 2")
		h.stream("one").lag = 0
		r.lasts(h, time.Second, nil)
		c.wants("one.x 3")
	})
}

// What one replica had is not lost as long as the leader has it, however long
// another lags.
func TestReplicaLagsForLong(t *testing.T) {
	synced(t, func(t *testing.T) {
		r, h, c := lacking(t)
		h.stream("one").lag = 1
		r.lasts(h, 5*lagPatience, nil)
		c.wants("one.x 2")
		h.stream("one").lag = 0
		r.lasts(h, time.Second, nil)
		c.wants("one.x 3")
	})
}

// What one replica had, and then nobody has, is told of.
func TestReplicaHadWhatIsGone(t *testing.T) {
	synced(t, func(t *testing.T) {
		r, h, c := lacking(t)
		h.stream("one").expire(3)
		r.lasts(h, 2*lagPatience, nil)
		c.wants("gap one.x expired")
		r.hub.Deliver([]Message{h.stream("one").store("one.x", []byte("4"))})
		r.lasts(h, time.Second, nil)
		c.wants("one.x 4")
	})
}

// A message of a life of the stream that has ended may come late, and is in
// nobody's way.
func TestStrayOfAnotherLife(t *testing.T) {
	for _, ready := range []bool{false, true} { // whether the feed is when it comes
		synced(t, func(t *testing.T) {
			h := newFakeHistory(nil)
			r := newRig(t, historyConfig(h), 1)
			one := h.stream("one")
			stray := one.store("one.x", []byte("0"))
			one.renew()
			c := r.connect(0, 0)
			if !ready {
				c.subscribe("one.x")
				r.hub.Deliver([]Message{stray})
			}
			c.subscribe("one.x")
			r.lasts(h, time.Second, nil)
			if ready {
				r.hub.Deliver([]Message{stray})
			}
			r.lasts(h, checkPeriod, nil)
			c.got = nil
			reads := h.reads
			for _, data := range []string{"1", "2"} {
				r.hub.Deliver([]Message{one.store("one.x", []byte(data))})
				r.run()
			}
			c.wants("one.x 1", "one.x 2")
			if n := h.reads - reads; n > 0 {
				t.Errorf("ready %v: %d readings of history for live messages that lack nothing", ready, n)
			}
		})
	}
}

// Of a new life of the stream, a replica may not have the last yet when it is
// first read.
func TestReplicaLagsInNewLife(t *testing.T) {
	synced(t, func(t *testing.T) {
		r, h, c := lacking(t)
		r.lasts(h, time.Second, nil)
		c.wants("one.x 2", "one.x 3")
		one := h.stream("one")
		one.renew()
		one.store("one.x", []byte("4"))
		one.store("one.x", []byte("5"))
		one.lag = 1
		r.hub.sweep(time.Now().Add(checkPeriod))
		r.lasts(h, time.Second, nil)
		c.wants("gap one.x restarted", "one.x 4")
		one.lag = 0
		r.hub.sweep(time.Now().Add(checkPeriod))
		r.lasts(h, time.Second, nil)
		c.wants("one.x 5")
	})
}

// One that subscribes while its shard has not come to where the stream began
// anew has nothing to do with the life before.
func TestSubscribesBeforeNewLife(t *testing.T) {
	synced(t, func(t *testing.T) {
		r, h, first := lacking(t)
		r.lasts(h, time.Second, nil)
		first.got = nil
		one := h.stream("one")
		r.hub.Deliver([]Message{one.store("one.x", []byte("4"))})
		one.renew()
		r.hub.sweep(time.Now().Add(checkPeriod))
		for h.answer(nil) {
		}
		late := r.connect(0, 1)
		st, stands, err := r.shards[0].members.Subscribe(1, 0, "one.x", ".", Want{})
		if want := (Cursor{Epoch: one.epoch}); err != nil || !stands || st.Cursor != want {
			t.Errorf("subscribed at %v, %v, %v, want %v", st.Cursor, stands, err, want)
		}
		r.lasts(h, time.Second, nil)
		late.wants()
		r.hub.Deliver([]Message{one.store("one.x", []byte("5"))})
		r.lasts(h, time.Second, nil)
		late.wants("one.x 5")
		if n := r.shards[0].members.Counts().Behind; n != 0 {
			t.Errorf("%d are behind", n)
		}
	})
}
