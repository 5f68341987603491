package topics

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// flushing has a group of some members, whose values leave one by one and in
// parts, three of which are held back.
func flushing(t *testing.T, members int) (*rig, []*socket) {
	r := newRig(t, HubConfig{}, 1)
	m := r.shards[0].members
	m.pace.writeBytes = frameOverhead + 10 // one value in each part
	var all []*socket
	for i := range members {
		c := r.connect(0, uint32(i))
		c.paces("a.*", 1)
		all = append(all, c)
	}
	r.publish("a.w")
	r.run()
	r.publish("a.x", "a.y", "a.z")
	r.run()
	for _, c := range all {
		c.wants("a.w 1")
	}
	time.Sleep(time.Second)
	synctest.Wait()
	r.shards[0].runTasks()
	return r, all
}

// sends has so many sends made, beginning included.
func (r *rig) sends(n int) {
	m := r.shards[0].members
	m.pace.turn, m.pace.slice = n, n
	m.fanOutSome()
	m.pace.turn, m.pace.slice = 4096, 1024
}

// One who stops in the middle of a flush gets the rest of it later, once.
func TestBlockedInFlush(t *testing.T) {
	for sends := range 8 {
		synced(t, func(t *testing.T) {
			r, all := flushing(t, 2)
			r.sends(1 + sends)
			all[0].block(0)
			r.run()
			all[1].wants("a.x 2", "a.y 3", "a.z 4")
			all[0].drain()
			r.run()
			all[0].wants("a.x 2", "a.y 3", "a.z 4")
			r.publish("a.y")
			r.run()
			r.passes(time.Second)
			all[0].wants("a.y 5")
			all[1].wants("a.y 5")
			if n := r.shards[0].members.Counts().Behind; n != 0 {
				t.Errorf("%d are behind", n)
			}
		})
	}
}

// Who takes a part only after the next flush gets the newest alone, and is told.
func TestBlockedOverFlushes(t *testing.T) {
	synced(t, func(t *testing.T) {
		r, all := flushing(t, 2)
		r.sends(2)
		all[0].block(0)
		r.run()
		r.publish("a.z")
		r.run()
		r.passes(time.Second)
		all[1].wants("a.x 2", "a.y 3", "a.z 4", "a.z 5")
		all[0].drain()
		r.run()
		all[0].wants("a.x 2", "a.y 3", "skipped a.z 1", "a.z 5")
	})
}

// Members may come and go at any point of a flush.
func TestChangeDuringFlush(t *testing.T) {
	for sends := range 10 {
		synced(t, func(t *testing.T) {
			r, all := flushing(t, 3)
			r.sends(sends)
			all[0].leave()
			all[1].unsubscribe("a.*")
			had := slices.Clone(all[1].got)
			late := r.connect(0, 9)
			late.paces("a.*", 1)
			other := r.connect(0, 10)
			other.paces("a.*", 4)
			r.wantConsistent()
			r.run()
			all[1].wants(had...)
			all[2].wants("a.x 2", "a.y 3", "a.z 4")
			if sends > 0 {
				late.wants() // what is on its way is of a time before it
			}
			other.wants()
			late.got = nil
			r.publish("a.x")
			r.run()
			other.wants("a.x 5")
			r.passes(time.Second)
			late.wants("a.x 5")
			all[2].wants("a.x 5")
			r.wantConsistent()
		})
	}
}

// Each rate of a pattern has windows of its own.
func TestRates(t *testing.T) {
	synced(t, func(t *testing.T) {
		r := newRig(t, HubConfig{}, 1)
		rates := []float64{0.5, 1, 2, 4, 10}
		var all []*socket
		for i, rate := range rates {
			c := r.connect(0, uint32(i))
			c.paces("a.*", rate)
			all = append(all, c)
		}
		const seconds = 20
		for range seconds * 20 {
			r.publish("a.x", "a.y")
			r.run()
			r.passes(50 * time.Millisecond)
		}
		r.passes(2 * time.Second)
		last := []string{fmt.Sprint("a.x ", r.number-1), fmt.Sprint("a.y ", r.number)}
		for i, c := range all {
			values := slices.DeleteFunc(slices.Clone(c.got), func(line string) bool { return line[0] != 'a' })
			if n, want := len(values)/2, int(seconds*rates[i]); n < want || n > want+1 || c.writes != n {
				t.Errorf("at %v/s: %d values of each in %d writes, want about %d", rates[i], n, c.writes, want)
			}
			if got := values[len(values)-2:]; !slices.Equal(got, last) {
				t.Errorf("at %v/s: ends on %q, want %q", rates[i], got, last)
			}
		}
		if n := len(r.shards[0].members.pacer.waiting); n > len(rates) {
			t.Errorf("%d windows are waited for, with %d groups", n, len(rates))
		}
	})
}

// A subscription with max_rate and one without go side by side.
func TestRateBesideLive(t *testing.T) {
	synced(t, func(t *testing.T) {
		r := newRig(t, HubConfig{}, 1)
		c := r.connect(0, 1)
		c.paces("a.>", 1)
		c.subscribe("a.x")
		r.publish("a.x", "a.y")
		r.run()
		c.wants("a.x 1", "a.x 1", "a.y 2") // each by itself
		r.publish("a.x", "a.x", "a.y")
		r.run()
		c.wants("a.x 3", "a.x 4")
		c.block(0)
		r.publish("a.x", "a.y")
		r.run()
		c.drain()
		r.run()
		c.wants("a.x 6")
		r.passes(time.Second)
		c.wants("skipped a.x 2", "a.x 6", "skipped a.y 1", "a.y 7")
		c.unsubscribe("a.x")
		r.publish("a.x")
		r.run()
		c.wants()
		r.passes(time.Second)
		c.wants("a.x 8")
	})
}

// To subscribe again with another rate, or none, changes it.
func TestRateChanges(t *testing.T) {
	synced(t, func(t *testing.T) {
		r := newRig(t, HubConfig{}, 1)
		c := r.connect(0, 1)
		c.paces("a.x", 1)
		r.publish("a.x", "a.x")
		r.run()
		c.wants("skipped a.x 1", "a.x 2")
		c.paces("a.x", 10)
		r.publish("a.x")
		r.run()
		c.wants("a.x 3")
		c.subscribe("a.x")
		r.publish("a.x", "a.x")
		r.run()
		c.wants("a.x 4", "a.x 5")
		r.passes(time.Hour)
		c.wants()
		c.unsubscribe("a.x")
		r.wantConsistent()
		if n := len(r.shards[0].members.pacer.waiting); n != 0 {
			t.Errorf("%d windows are waited for, and nobody has a rate", n)
		}
	})
}

// A subscriber with max_rate that comes late has the values at once, like any
// other, and then at its rate.
func TestSnapshotAtRate(t *testing.T) {
	synced(t, func(t *testing.T) {
		h := newFakeHistory(nil)
		r := newRig(t, historyConfig(h), 1)
		publish := func(topic, data string) { r.hub.Deliver([]Message{h.stream("latest").store(topic, []byte(data))}) }
		settle := func() {
			r.run()
			for h.answer(nil) {
				r.run()
			}
		}
		first := r.connect(0, 1)
		first.paces("latest.*", 1)
		settle()
		first.got = nil
		publish("latest.x", "1")
		publish("latest.y", "1")
		settle()
		first.wants("latest.x 1", "latest.y 1")
		r.passes(100 * time.Millisecond)
		publish("latest.x", "2") // held back
		settle()
		late := r.connect(0, 2)
		late.paces("latest.*", 1)
		settle()
		late.wants("latest.y 1", "latest.x 2")
		publish("latest.y", "2")
		settle()
		r.passes(900 * time.Millisecond)
		settle()
		first.wants("latest.x 2", "latest.y 2")
		late.wants("latest.y 2")
		publish("latest.x", "3")
		r.passes(time.Second)
		late.wants("latest.x 3")
		if n := r.shards[0].members.Counts().Behind; n != 0 {
			t.Errorf("%d are behind", n)
		}
	})
}

// One that is behind, and whose values are held back for longer than the ring
// is looked at in one go, is not in the way of its other subscriptions.
func TestHeldBackForLong(t *testing.T) {
	synced(t, func(t *testing.T) {
		r := newRig(t, HubConfig{}, 1)
		m := r.shards[0].members
		m.pace.scan = 4
		c := r.connect(0, 1)
		c.paces("a.x", 0.001)
		c.subscribe("a.y")
		r.publish("a.x")
		r.run()
		r.publish("a.x")
		r.run()
		c.wants("a.x 1")
		for range 10 {
			r.publish("a.y")
		}
		r.run()
		c.got = nil
		c.block(0)
		r.publish("a.y")
		r.run()
		c.drain()
		for range 20 {
			m.Turn()
		}
		c.wants("a.y 13")
		if n := m.Counts().Behind; n != 0 || len(m.again) != 0 {
			t.Errorf("%d are behind, and %d go on", n, len(m.again))
		}
		r.passes(1000 * time.Second)
		c.wants("a.x 2")
	})
}
