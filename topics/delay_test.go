package topics

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// delays is what the namespaces of these tests ask for; "now" asks for nothing.
func delays(namespace string) time.Duration {
	return map[string]time.Duration{"a": 20 * time.Millisecond, "user": 20 * time.Millisecond, "long": time.Second}[namespace]
}

// delayedRig runs a test on a rig whose feeds have delays, by a clock of its
// own: nothing is waited for in earnest, and nothing is left at the end.
func delayedRig(t *testing.T, cfg HubConfig, shards int, test func(t *testing.T, r *rig)) {
	synctest.Test(t, func(t *testing.T) {
		cfg.Settings = func(namespace string) Settings {
			return Settings{ByTopic: namespace == "user", BatchDelay: delays(namespace)}
		}
		r := newRig(t, cfg, shards)
		test(t, r)
		r.hub.Close()
	})
}

// after lets time pass, and the shards do what there is to do.
func (r *rig) after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
	r.run()
}

// wantsIn is wants, in so many writes.
func (c *socket) wantsIn(writes int, want ...string) {
	c.t.Helper()
	if c.writes != writes {
		c.t.Errorf("slot %d got %q in %d writes, want %d", c.slot, c.got, c.writes, writes)
	}
	c.writes = 0
	c.wants(want...)
}

func TestDelayGathers(t *testing.T) {
	delayedRig(t, HubConfig{}, 2, func(t *testing.T, r *rig) {
		one, other, several, now := r.connect(0, 0), r.connect(1, 0), r.connect(0, 1), r.connect(1, 1)
		one.subscribe("a.x")
		other.subscribe("a.x")
		several.subscribe("a.*", "a.y", "long")
		now.subscribe("now")

		for range 3 { // batches
			r.publish("a.x", "a.y", "now")
			r.run()
		}
		now.wantsIn(3, "now 3", "now 6", "now 9")
		r.after(19 * time.Millisecond)
		one.wantsIn(0)
		other.wantsIn(0)
		several.wantsIn(0)
		r.after(time.Millisecond)
		one.wantsIn(1, "a.x 1", "a.x 4", "a.x 7")
		other.wantsIn(1, "a.x 1", "a.x 4", "a.x 7")
		several.wantsIn(1, "a.x 1", "a.y 2", "a.x 4", "a.y 5", "a.x 7", "a.y 8")

		// At rest again: the next delay begins with the next message, and each feed has its own.
		r.after(time.Hour)
		r.publish("long")
		r.after(995 * time.Millisecond)
		r.publish("a.x")
		r.after(5 * time.Millisecond)
		several.wantsIn(1, "long 10")
		r.publish("a.x")
		r.after(14 * time.Millisecond)
		one.wantsIn(0)
		r.after(time.Millisecond)
		one.wantsIn(1, "a.x 11", "a.x 12")
	})
}

// Feeds of one delay share a timer, and each keeps its own time.
func TestDelayOfEachFeed(t *testing.T) {
	delayedRig(t, HubConfig{}, 1, func(t *testing.T, r *rig) {
		var clients []*socket
		for i := range 5 {
			c := r.connect(0, uint32(i))
			c.subscribe(fmt.Sprintf("user.%d", i))
			clients = append(clients, c)
		}
		for i := range clients {
			r.publish(fmt.Sprintf("user.%d", i))
			r.after(3 * time.Millisecond)
		}
		r.after(4 * time.Millisecond)
		for i, c := range clients { // it is 19 ms
			c.wantsIn(0)
			r.after(time.Millisecond)
			c.wantsIn(1, fmt.Sprintf("user.%d %d", i, i+1))
			r.after(2 * time.Millisecond)
		}
		if len(r.hub.delays) != 1 || len(r.hub.delays[0].waiting) != 0 {
			t.Errorf("%d delays are left, want one with nobody in it", len(r.hub.delays))
		}
	})
}

func TestDelayOfLosses(t *testing.T) {
	delayedRig(t, HubConfig{}, 1, func(t *testing.T, r *rig) {
		c := r.connect(0, 0)
		c.subscribe("a.x")
		r.publish("a.x")
		r.hub.Lost(Interest{Name: "a", Namespace: true})
		r.publish("a.x")
		r.run()
		c.wantsIn(0)
		r.after(20 * time.Millisecond)
		c.wantsIn(3, "a.x 1", "gap a.x upstream", "a.x 2")
		r.hub.LostAll()
		r.after(19 * time.Millisecond)
		c.wantsIn(0)
		r.after(time.Millisecond)
		c.wantsIn(1, "gap a.x upstream")
	})
}

// A shard that comes by for another reason reads on at once, and is not sent
// anything twice for it.
func TestDelayEndsEarlyForTheBusy(t *testing.T) {
	delayedRig(t, HubConfig{}, 2, func(t *testing.T, r *rig) {
		busy, idle := r.connect(0, 0), r.connect(1, 0)
		busy.subscribe("a.x")
		idle.subscribe("a.x")
		r.publish("a.x")
		r.hub.feedOf("a").view(r.shards[0].members).wake()
		r.run()
		busy.wantsIn(1, "a.x 1")
		idle.wantsIn(0)
		r.after(20 * time.Millisecond)
		busy.wantsIn(0)
		idle.wantsIn(1, "a.x 1")
	})
}

// More comes within a delay than the ring holds: nothing is missed by a shard
// that runs when it is told, be it in one feed or over all.
func TestDelayCostsNoMessage(t *testing.T) {
	weight := (&entry{Message: Message{Topic: "long", Data: []byte("100")}}).weight()
	for _, test := range []struct {
		cfg   HubConfig
		early int // writes before the end
	}{
		{HubConfig{RingMessages: 1}, 100},
		{HubConfig{RingMessages: 2}, 100},
		{HubConfig{RingMessages: 3}, 100},
		{HubConfig{RingMessages: 8}, 25},
		{HubConfig{RingMessages: 100}, 2},
		{HubConfig{RingMessages: 1000}, 0},
		{HubConfig{RingMemory: 5 * weight}, 66}, // what is not delayed counts too
		{HubConfig{RingMemory: 20 * weight}, 18},
		{HubConfig{RingMemory: 300 * weight}, 1},
	} {
		t.Run(fmt.Sprintf("messages=%d,memory=%d", test.cfg.RingMessages, test.cfg.RingMemory/weight), func(t *testing.T) {
			delayedRig(t, test.cfg, 1, func(t *testing.T, r *rig) {
				c, now := r.connect(0, 0), r.connect(0, 1)
				c.subscribe("long")
				now.subscribe("now")
				var want []string
				for range 100 {
					r.publish("long", "now")
					r.run()
					want = append(want, fmt.Sprintf("long %d", r.number-1))
				}
				if c.writes != test.early {
					t.Errorf("%d writes before the end, want %d", c.writes, test.early)
				}
				r.after(time.Second)
				c.wantsIn(c.writes, want...)
			})
		})
	}
}

// A batch by itself may be half of the ring and more.
func TestDelayOfALargeBatch(t *testing.T) {
	delayedRig(t, HubConfig{RingMessages: 8}, 1, func(t *testing.T, r *rig) {
		c := r.connect(0, 0)
		c.subscribe("a")
		r.publish("a", "a", "a", "a", "a", "a")
		r.run()
		c.wantsIn(1, "a 1", "a 2", "a 3", "a 4", "a 5", "a 6")
		r.publish("a")
		r.run()
		c.wantsIn(0) // the delay goes on
		r.after(20 * time.Millisecond)
		c.wantsIn(1, "a 7")
	})
}

func TestFeedEndsDuringDelay(t *testing.T) {
	delayedRig(t, HubConfig{Linger: time.Nanosecond}, 1, func(t *testing.T, r *rig) {
		c := r.connect(0, 0)
		c.subscribe("user.1")
		r.publish("user.1")
		c.unsubscribe("user.1")
		r.hub.sweep(time.Now().Add(time.Hour))
		if n := r.hub.Counts().Feeds; n != 0 {
			t.Fatalf("%d feeds are left", n)
		}
		c.subscribe("user.1") // another feed, with a delay of its own
		time.Sleep(10 * time.Millisecond)
		r.publish("user.1")
		r.after(10 * time.Millisecond)
		c.wantsIn(0)
		r.after(10 * time.Millisecond)
		c.wantsIn(1, "user.1 2")
		if n := len(r.hub.delays[0].waiting); n != 0 {
			t.Errorf("%d feeds are delayed still", n)
		}
	})
}

// At the end of a hub what was gathered leaves, no timer is left, and what
// comes after it is not delayed.
func TestCloseEndsDelays(t *testing.T) {
	delayedRig(t, HubConfig{}, 1, func(t *testing.T, r *rig) {
		c := r.connect(0, 0)
		c.subscribe("a", "long")
		r.publish("a", "long", "a")
		r.hub.Close()
		r.run()
		c.wantsIn(2, "a 1", "a 3", "long 2")
		r.publish("a")
		r.run()
		c.wantsIn(1, "a 4")
		for _, d := range r.hub.delays {
			if d.timer.Stop() || len(d.waiting) != 0 {
				t.Errorf("the timer of %v runs still, for %d feeds", d.wait, len(d.waiting))
			}
		}
		r.after(time.Hour)
		c.wantsIn(0)
	})
}

// A hub that is closed while timers end waits for them.
func TestCloseBesideTimers(t *testing.T) {
	for range 200 {
		c := newCosts(HubConfig{Settings: func(string) Settings { return Settings{BatchDelay: time.Microsecond} }})
		c.members.post = func(Task) bool { return true }
		if _, _, err := c.members.Subscribe(0, 0, "a", "", Want{}); err != nil {
			t.Fatal(err)
		}
		c.bus.answer(nil)
		for range 3 {
			c.hub.Deliver([]Message{{Topic: "a"}})
		}
		c.hub.Close()
		if n := len(c.hub.delays[0].waiting); n != 0 {
			t.Fatalf("%d feeds are delayed still", n)
		}
	}
}
