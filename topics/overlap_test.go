package topics

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// A connection comes back with subscriptions that overlap, one from before what
// the ring holds and one from within: it gets all in order, and what both want once.
func TestOverlapComesBackInOrder(t *testing.T) {
	history := newFakeHistory(nil)
	cfg := historyConfig(history)
	cfg.RingMessages = 4
	r := newRig(t, cfg, 1)
	defer r.hub.Close()
	settle := func() {
		for r.run(); len(r.bus.asked) > 0 || history.answer(nil); r.run() {
			r.bus.answer(nil)
		}
	}
	r.connect(0, 0).subscribe("all.none")
	settle()
	var cursors []Cursor
	for n := 1; n <= 10; n++ {
		m := history.stream("all").store([]string{"all.x", "all.y"}[n%2], fmt.Append(nil, n))
		cursors = append(cursors, m.Cursor)
		r.hub.Deliver([]Message{m})
		settle()
	}
	for _, order := range [][]string{{"all.x", "all.>"}, {"all.>", "all.x"}} {
		from := map[string]Cursor{"all.x": cursors[0], "all.>": cursors[6]}
		c := r.connect(0, 1)
		for _, pattern := range order {
			if _, _, err := r.shards[0].members.Subscribe(1, 0, pattern, ".", Want{Resume: true, Cursor: from[pattern]}); err != nil {
				t.Fatal(err)
			}
		}
		settle()
		got := slices.DeleteFunc(slices.Clone(c.got), func(line string) bool { return line[0] == 's' })
		want := []string{"all.x 2", "all.x 4", "all.x 6", "all.x 8", "all.y 9", "all.x 10"}
		if !slices.Equal(got, want) {
			t.Errorf("%v: got %q, want %q", order, got, want)
		}
		c.leave()
	}
}

// One that has had its turn in a fan-out that is under way, and then asks for
// the newest of another pattern, does not get the same again.
func TestBeginsAmidFanOut(t *testing.T) {
	history := newFakeHistory(nil)
	r := newRig(t, historyConfig(history), 1)
	defer r.hub.Close()
	both := []*socket{r.connect(0, 0), r.connect(0, 1)}
	for _, c := range both {
		c.subscribe("all.*")
	}
	settle := func() {
		for r.run(); len(r.bus.asked) > 0 || history.answer(nil); r.run() {
			r.bus.answer(nil)
		}
	}
	settle()
	for _, c := range both {
		c.got = nil
	}
	r.hub.Deliver([]Message{history.stream("all").store("all.y", []byte("1"))})
	r.shards[0].runTasks()
	r.sends(2)
	both[0].wants("all.y 1")
	both[1].wants()
	if _, _, err := r.shards[0].members.Subscribe(0, 0, "all.x", ".", Want{Mode: ModeLatest}); err != nil {
		t.Fatal(err)
	}
	settle()
	both[0].wants()
	both[1].wants("all.y 1")
}

// One that waits until its shard has come to where one of its subscriptions is
// does so no longer when it ends that.
func TestEndsWhatItWaitsFor(t *testing.T) {
	synced(t, func(t *testing.T) {
		history := newFakeHistory(nil)
		r := newRig(t, historyConfig(history), 1)
		settle := func() {
			for r.run(); len(r.bus.asked) > 0 || history.answer(nil); r.run() {
				r.bus.answer(nil)
			}
		}
		publish := func(data string) {
			r.hub.Deliver([]Message{history.stream("latest").store("latest.x", []byte(data))})
			settle()
		}
		first, second := r.connect(0, 0), r.connect(0, 1)
		first.paces("latest.*", 0.1)
		second.subscribe("latest.y")
		settle()
		publish("1")
		publish("2") // held back for the first
		second.got = nil
		second.paces("latest.*", 0.1)
		settle()
		second.wants("latest.x 2") // and waits for the others of its group
		behind := func() int64 { return r.shards[0].members.Counts().Behind }
		if n := behind(); n != 1 {
			t.Fatalf("%d are behind, want one that waits", n)
		}
		second.unsubscribe("latest.*")
		settle()
		if n := behind(); n != 0 {
			t.Errorf("%d are behind, and nothing is left to wait for", n)
		}
		r.passes(time.Minute)
	})
}

// What was left out for a subscription that has ended is not told to another
// one, which wants all.
func TestSkippedForWhatHasEnded(t *testing.T) {
	synced(t, func(t *testing.T) {
		r := newRig(t, HubConfig{}, 1)
		m := r.shards[0].members
		m.pace.writeBytes = frameOverhead + 10 // one value in each part of a flush
		c := r.connect(0, 0)
		c.paces("a.>", 1)
		c.subscribe("a.y")
		r.publish("a.w")
		r.run()
		r.publish("a.x", "a.y", "a.z")
		r.run()
		c.wants("a.w 1", "a.y 3")
		time.Sleep(time.Second)
		synctest.Wait()
		r.shards[0].runTasks()
		r.sends(2)
		c.wants("a.x 2")
		c.block(0)
		r.run()
		r.publish("a.y")
		r.run()
		m.pace.write = 1
		c.drain()
		c.wants("a.z 4") // and passes over a.y 3
		c.unsubscribe("a.>")
		r.run()
		c.wants("a.y 5")
	})
}
