package topics

import (
	"fmt"
	"slices"
	"testing"
)

func TestBehindFromRing(t *testing.T) {
	r := newRig(t, HubConfig{}, 1)
	slow, fast := r.connect(0, 0), r.connect(0, 1)
	slow.subscribe("a.*", "b")
	fast.subscribe("a.*")
	slow.block(1)
	pace := &r.shards[0].members.pace
	room := pace.writeBytes
	pace.writeBytes = 1 // each frame is a write of its own
	r.publish("a.x", "a.y", "b", "a.z")
	r.run()
	pace.writeBytes = room
	slow.wants("a.x 1")
	fast.wants("a.x 1", "a.y 2", "a.z 4")
	if n := r.shards[0].members.Behind(0); n != 2 {
		t.Errorf("behind in %d feeds, want 2", n)
	}
	if n := r.shards[0].members.Behind(1); n != 0 {
		t.Errorf("the other is behind in %d feeds", n)
	}
	slow.drain()
	slow.wants("a.y 2", "a.z 4", "b 3")
	r.publish("a.w")
	r.run()
	slow.wants("a.w 5")
	fast.wants("a.w 5")
	if c := r.shards[0].members.Counts(); c.Behind != 0 || c.FellBehind != 2 || c.CaughtUp != 3 || c.Deliveries != 6 {
		t.Errorf("counts: %+v", c)
	}
	r.wantConsistent()
}

// A connection catches up in the middle of a fan-out: it must neither have that
// entry twice nor miss the next.
func TestCatchUpDuringFanOut(t *testing.T) {
	r := newRig(t, HubConfig{}, 1)
	m := r.shards[0].members
	first, slow := r.connect(0, 0), r.connect(0, 1)
	first.subscribe("a.x")
	slow.subscribe("a.x")
	slow.block(0)
	r.publish("a.x")
	r.run()
	m.pace.slice, m.pace.turn = 2, 2
	r.publish("a.x")
	r.shards[0].runTasks()
	m.Turn() // begins the second message, and sends it to first
	first.wants("a.x 1", "a.x 2")
	slow.drain()
	slow.wants("a.x 1", "a.x 2")
	slow.block(0)
	r.publish("a.x")
	slow.drain()
	r.run()
	slow.wants("a.x 3")
	first.wants("a.x 3")
	if n := m.Behind(1); n != 0 {
		t.Errorf("behind in %d feeds", n)
	}
}

func TestCatchUpInBoundedWrites(t *testing.T) {
	r := newRig(t, HubConfig{}, 1)
	m := r.shards[0].members
	c := r.connect(0, 0)
	c.subscribe("a.x")
	c.block(0)
	var want []string
	for i := range 100 {
		r.publish("a.x")
		want = append(want, fmt.Sprintf("a.x %d", i+1))
	}
	r.run()
	m.pace.write, m.pace.writeBytes = 7, 20
	c.drain()
	c.wants(want[:4]...) // of 6 bytes each
	m.pace.writeBytes = 1 << 20
	m.Turn()
	c.wants(want[4:11]...)
	c.block(7)
	r.run()
	c.wants(want[11:18]...)
	c.drain()
	r.run()
	c.wants(want[18:]...)
}

func TestGapOnlyWhereSomethingIsMissing(t *testing.T) {
	r := newRig(t, HubConfig{RingMessages: 3}, 1)
	c, d := r.connect(0, 0), r.connect(0, 1)
	c.subscribe("a.x", "a.y", "a.z", "a.*.>")
	d.subscribe("a.x", "a.y")
	c.block(0)
	r.publish("a.x")
	r.run()
	r.publish("a.y")
	r.run()
	r.publish("a.x", "a.x")
	r.run() // the ring holds 2, 3, 4
	d.wants("a.x 1", "a.y 2", "a.x 3", "a.x 4")
	c.drain()
	c.wants("gap a.x slow", "a.y 2", "a.x 3", "a.x 4")

	// What is joined while behind misses nothing of what came before.
	c.block(0)
	r.publish("a.y", "a.w")
	r.run()
	c.subscribe("a.w")
	for range 3 {
		r.publish("a.x")
		r.run()
	}
	c.drain()
	c.wants("gap a.y slow", "a.x 7", "a.x 8", "a.x 9")
}

// What the ring gave up, and the shard has still to come to, is not yet missed.
func TestNoGapForWhatTheShardStillHas(t *testing.T) {
	r := newRig(t, HubConfig{RingMessages: 2}, 1)
	m := r.shards[0].members
	c, others := r.connect(0, 0), r.connect(0, 1)
	c.subscribe("a.x", "a.y")
	others.subscribe("a.>")
	c.block(0)
	r.publish("a.y")
	r.run()
	m.pace.slice, m.pace.turn = 1, 1
	r.publish("a.x", "a.x") // the shard takes both, and begins none
	r.shards[0].runTasks()
	v := m.groupOf("a.x").view
	if !v.take() || len(v.batch) != 2 {
		t.Fatalf("the shard took %d entries", len(v.batch))
	}
	r.publish("b", "a.none", "a.none") // out of the ring
	c.drain()
	c.wants("gap a.y slow")
	r.run()
	c.wants("a.x 2", "a.x 3")
}

// Who changes its subscriptions while what it is due is on its way gets that
// first, and then falls behind without a loss in the new one.
func TestChangeDuringBlend(t *testing.T) {
	for _, patterns := range [][2]string{{"a.*", "a.x"}, {"a.x", "a.*"}} {
		before, during := patterns[0], patterns[1]
		r := newRig(t, HubConfig{RingMessages: 1}, 1)
		m := r.shards[0].members
		first, c, last := r.connect(0, 0), r.connect(0, 1), r.connect(0, 2)
		first.subscribe("a.x")
		c.subscribe(before)
		last.subscribe("a.*")
		m.pace.slice, m.pace.turn = 2, 2
		r.publish("a.x")
		r.shards[0].runTasks()
		m.Turn()
		first.wants("a.x 1")
		last.wants()
		if _, _, err := m.Subscribe(c.slot, 0, during, "", Want{}); err != nil {
			t.Fatal(err)
		}
		c.wants("a.x 1")
		c.block(0)
		r.run()
		last.wants("a.x 1")
		r.publish("a.y")
		r.run()
		c.drain()
		c.wants("a.y 2")
	}
}

// Who cannot take what it is due when its subscriptions change falls behind
// right there: the new one brings nothing that came before it.
func TestBlockedChangeDuringBlend(t *testing.T) {
	r := newRig(t, HubConfig{}, 1)
	m := r.shards[0].members
	first, c := r.connect(0, 0), r.connect(0, 1)
	first.subscribe("a.x", "a.y")
	c.subscribe("a.y")
	m.pace.slice, m.pace.turn = 2, 2
	r.publish("a.x", "a.y")
	r.shards[0].runTasks()
	m.Turn()
	first.wants("a.x 1", "a.y 2")
	c.block(0)
	if _, _, err := m.Subscribe(c.slot, 0, "a.x", "", Want{}); err != nil {
		t.Fatal(err)
	}
	r.run()
	r.publish("a.x")
	r.run()
	c.drain()
	r.run()
	c.wants("a.y 2", "a.x 3")
}

// A hostile client may join and leave for as long as it does not read.
func TestNotesOfJoiningAreBounded(t *testing.T) {
	r := newRig(t, HubConfig{}, 1)
	c := r.connect(0, 0)
	c.subscribe("a.x")
	c.block(0)
	r.publish("a.x")
	r.run()
	for i := range 100 {
		c.subscribe(fmt.Sprintf("a.%d", i))
		r.wantConsistent()
		c.unsubscribe(fmt.Sprintf("a.%d", i))
	}
}

// A socket may be refused, and drain, while it waits for its turn to go on.
func TestCatchesUpOnceEachTurn(t *testing.T) {
	r := newRig(t, HubConfig{}, 1)
	m := r.shards[0].members
	m.pace.write = 1
	c := r.connect(0, 0)
	c.subscribe("a", "b")
	c.block(0)
	r.publish("a", "a", "a", "a", "a")
	r.run()
	for range 3 {
		c.block(2) // one of a, one of b
		c.refused = false
		m.Drained(0)
		r.publish("b")
		r.shards[0].runTasks()
		m.fanOutSome()
		c.drain()
		if len(m.again) > 1 {
			t.Fatalf("slot 0 lined up %d times", len(m.again))
		}
	}
	r.run()
	slices.Sort(c.got)
	c.wants("a 1", "a 2", "a 3", "a 4", "a 5", "b 6", "b 7", "b 8")
}

// A connection that is behind in two feeds is fed in both by turns, and not in
// the second only when the first has no more.
func TestCatchesUpWithFeedsByTurns(t *testing.T) {
	r := newRig(t, HubConfig{}, 1)
	m := r.shards[0].members
	m.pace.write = 1
	c := r.connect(0, 0)
	c.subscribe("a", "b")
	c.block(0)
	r.publish("a", "a", "a", "b", "b", "b")
	r.run()
	c.drain()
	for m.Turn() {
	}
	for i := 1; i < len(c.got); i++ {
		if c.got[i][0] == c.got[i-1][0] {
			t.Fatalf("fed with %q", c.got)
		}
	}
	slices.Sort(c.got)
	c.wants("a 1", "a 2", "a 3", "b 4", "b 5", "b 6")
	r.wantConsistent()
}

// However often a socket drains while its connection waits for the end of a
// fan-out, and whoever comes into its slot, the slot is noted once.
func TestWaitsForFanOutOnce(t *testing.T) {
	r := newRig(t, HubConfig{}, 1)
	m := r.shards[0].members
	first, slow, last := r.connect(0, 0), r.connect(0, 1), r.connect(0, 2)
	for _, c := range []*socket{first, slow, last} {
		c.subscribe("a.x")
	}
	slow.block(0)
	r.publish("a.x")
	r.run()
	m.pace.slice, m.pace.turn = 2, 2
	r.publish("a.x")
	r.shards[0].runTasks()
	m.Turn() // begins the second message, and sends it to first
	slow.drain()
	v := m.groupOf("a.x").view
	for range 3 {
		m.Drained(slow.slot)
		if !slices.Equal(v.catching, []uint32{slow.slot}) {
			t.Fatalf("slots %d wait for the end of the fan-out", v.catching)
		}
	}
	slow.wants("a.x 1", "a.x 2")
	slow.leave()
	r.connect(0, slow.slot)
	if slices.Contains(v.catching, slow.slot) {
		t.Errorf("slots %d wait for the end of the fan-out", v.catching)
	}
	r.run()
	last.wants("a.x 1", "a.x 2")
	r.wantConsistent()
}

// However long a ring is, the hub can append in between.
func TestRingIsLookedAtInParts(t *testing.T) {
	r := newRig(t, HubConfig{}, 2)
	c, other := r.connect(0, 0), r.connect(1, 0)
	c.subscribe("a.x", "a.y")
	other.subscribe("a.none")
	c.block(0)
	r.publish("a.x")
	r.run()
	for range 20 {
		r.publish("a.none")
	}
	r.publish("a.y")
	m := r.shards[0].members
	m.pace.scan = 3
	v := m.groupOf("a.x").view
	for pos := uint64(4); pos < 20; pos += 3 {
		if !v.take() || len(v.batch) != 0 || v.pos != pos {
			t.Fatalf("after one look the shard is at %d, and took %d entries", v.pos, len(v.batch))
		}
	}
	c.drain()
	c.wants("a.x 1")
	l := m.lagOf(m.at(0), v)
	if l == nil || l.cursor != 3 {
		t.Fatalf("after one look the connection is at %+v", l)
	}
	r.run()
	c.wants("a.y 22")
}

func TestWholeShardLags(t *testing.T) {
	r := newRig(t, HubConfig{RingMessages: 2}, 2)
	c, d, fast := r.connect(0, 0), r.connect(0, 1), r.connect(1, 0)
	c.subscribe("a.x", "a.y")
	d.subscribe("a.y")
	fast.subscribe("a.x")
	for range 4 {
		r.publish("a.x")
		r.shards[1].runTasks()
		r.shards[1].members.Turn()
	}
	r.publish("a.y")
	r.run()
	fast.wants("a.x 1", "a.x 2", "a.x 3", "a.x 4")
	c.wants("gap a.x slow", "a.x 4", "a.y 5")
	d.wants("a.y 5")
	if got := r.shards[0].members.Counts().Gaps; got != [NumLossReasons]uint64{LossSlow: 1} {
		t.Errorf("gaps: %v", got)
	}
}

func TestLossOnTheWayHere(t *testing.T) {
	r := newRig(t, HubConfig{}, 1)
	live, slow, raw, elsewhere := r.connect(0, 0), r.connect(0, 1), r.connect(0, 2), r.connect(0, 3)
	live.subscribe("a.x")
	slow.subscribe("a.x")
	elsewhere.subscribe("b")
	if _, _, err := r.shards[0].members.Subscribe(2, 1, "a.x", "", Want{}); err != nil {
		t.Fatal(err)
	}
	slow.block(1)
	r.publish("a.x")
	r.hub.Lost(Interest{Name: "a", Namespace: true})
	r.hub.Lost(Interest{Name: "a"}) // a topic, and nobody's
	r.publish("a.x")
	r.run()
	live.wants("a.x 1", "gap a.x upstream", "a.x 2")
	raw.wants("a.x 1", "a.x 2")
	slow.wants("a.x 1")
	slow.drain()
	slow.wants("gap a.x upstream", "a.x 2")
	elsewhere.wants()
	r.hub.LostAll()
	r.run()
	elsewhere.wants("gap b upstream")
	live.wants("gap a.x upstream")
	slow.wants("gap a.x upstream")
	if n := r.hub.Counts().Losses; n != 3 {
		t.Errorf("%d losses counted, want 3", n)
	}
}

// Each subscription of a connection has a gap of its own. A socket that takes
// the first and not the second must get the second alone.
func TestLossToldOnceForEachSubscription(t *testing.T) {
	for _, why := range []string{"upstream", "slow"} {
		t.Run(why, func(t *testing.T) {
			r := newRig(t, HubConfig{RingMessages: 2}, 1)
			c := r.connect(0, 0)
			c.subscribe("a.x", "a.y")
			c.block(1)
			if why == "upstream" {
				r.hub.LostAll()
			} else {
				r.publish("a.x", "a.y", "a.none", "a.x", "a.x")
			}
			r.run()
			c.drain()
			gaps := slices.DeleteFunc(c.got, func(line string) bool { return line[:3] != "gap" })
			slices.Sort(gaps)
			if want := []string{"gap a.x " + why, "gap a.y " + why}; !slices.Equal(gaps, want) {
				t.Errorf("got %q, want %q", gaps, want)
			}
		})
	}
}
