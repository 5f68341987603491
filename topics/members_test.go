package topics

import (
	"errors"
	"fmt"
	"slices"
	"testing"
)

func TestFanOut(t *testing.T) {
	r := newRig(t, HubConfig{}, 2)
	exact, wild, other := r.connect(0, 0), r.connect(1, 0), r.connect(1, 7000)
	exact.subscribe("a.x")
	wild.subscribe("a.*", "b")
	other.subscribe("b.>")

	r.publish("a.x", "a.y", "a", "b", "b.x", "c")
	r.run()
	exact.wants("a.x 1")
	slices.Sort(wild.got) // between feeds there is no order
	wild.wants("a.x 1", "a.y 2", "b 4")
	other.wants("b.x 5")

	wild.unsubscribe("a.*")
	exact.leave()
	r.publish("a.x", "b")
	r.run()
	exact.wants()
	wild.wants("b 8")
}

func TestOverlappingPatternsDeliverOnce(t *testing.T) {
	r := newRig(t, HubConfig{}, 1)
	r.shards[0].members.pace.slice = 1 // so that the fan-outs of the two feeds mix
	c, d := r.connect(0, 0), r.connect(0, 1)
	c.subscribe("a.x", "a.*", "a.>", "b.*", "b.>")
	d.subscribe("a.>", "a.x", "b.>")
	r.publish("a.x", "b.x", "a.x", "b.x", "a.y")
	r.run()
	for _, got := range [][]string{c.got, d.got} {
		slices.Sort(got) // between feeds there is no order
	}
	want := []string{"a.x 1", "a.x 3", "a.y 5", "b.x 2", "b.x 4"}
	c.wants(want...)
	d.wants(want...)
}

// Who comes and goes while an entry is on its way.
func TestSlicedFanOut(t *testing.T) {
	r := newRig(t, HubConfig{}, 1)
	m := r.shards[0].members
	m.pace.slice, m.pace.turn = 3, 3 // the entry, and two sends
	var c []*socket
	for slot := range uint32(6) {
		c = append(c, r.connect(0, slot))
		c[slot].subscribe("a.x")
	}
	r.publish("a.x")
	r.shards[0].runTasks()
	if !m.Turn() {
		t.Fatal("Turn says there is no more to do")
	}
	c[0].wants("a.x 1")
	c[1].wants("a.x 1")
	c[2].wants()

	c[0].leave() // has had it
	c[2].leave() // has not
	c[4].unsubscribe("a.x")
	c[4].subscribe("a.x") // again, and so after it
	late := r.connect(0, 2)
	late.subscribe("a.x") // in the slot of one who left
	r.wantConsistent()
	r.run()
	r.wantConsistent()
	c[1].wants()
	c[2].wants()
	c[3].wants("a.x 1")
	c[4].wants()
	c[5].wants("a.x 1")
	late.wants()

	r.publish("a.x")
	r.run()
	for _, c := range []*socket{c[1], c[3], c[4], c[5], late} {
		c.wants("a.x 2")
	}
}

func TestEverybodyLeavesDuringFanOut(t *testing.T) {
	r := newRig(t, HubConfig{}, 1)
	m := r.shards[0].members
	m.pace.slice, m.pace.turn = 2, 2
	a, b := r.connect(0, 0), r.connect(0, 1)
	a.subscribe("a.x")
	b.subscribe("a.x")
	r.publish("a.x")
	r.shards[0].runTasks()
	m.Turn()
	a.leave()
	b.leave()
	r.run()
	r.wantConsistent()
	if n := r.hub.Counts().Patterns; n != 0 {
		t.Errorf("%d patterns are left", n)
	}
}

func TestSubscribeRefuses(t *testing.T) {
	r := newRig(t, HubConfig{}, 1)
	m := r.shards[0].members
	c := r.connect(0, 0)
	var name *NameError
	if _, _, err := m.Subscribe(0, 0, "*.x", "", Want{}); !errors.As(err, &name) {
		t.Errorf("a wildcard for a namespace: %v", err)
	}
	if _, _, err := m.Subscribe(0, 0, "user.*", "", Want{}); !errors.Is(err, ErrNoWildcards) {
		t.Errorf("a wildcard where each topic is a feed: %v", err)
	}
	for i := range m.max {
		c.subscribe(fmt.Sprintf("a.%d", i))
	}
	if _, _, err := m.Subscribe(0, 0, "a.more", "", Want{}); !errors.Is(err, ErrTooMany) {
		t.Errorf("one more than may be: %v", err)
	}
	c.subscribe("a.1") // it has that one
	c.unsubscribe("a.0")
	c.subscribe("a.more")
	if m.Unsubscribe(0, "a.0") || m.Unsubscribe(0, "nobody") || m.Unsubscribe(1<<20, "a.1") {
		t.Error("Unsubscribe found what is not there")
	}
	m.Leave(1 << 20)
	m.Drained(1 << 20)
	if got := m.Patterns(0, nil); len(got) != m.max {
		t.Errorf("subscribed to %q", got)
	}
	c.leave()
	r.wantConsistent()
}

func TestPatternMayBeAViewOfABuffer(t *testing.T) {
	r := newRig(t, HubConfig{}, 1)
	c := r.connect(0, 0)
	for _, pattern := range []string{"a.x", "a.*", "user.1"} {
		buffer := []byte(pattern)
		if _, _, err := r.shards[0].members.Subscribe(0, 0, viewOf(buffer), "", Want{}); err != nil {
			t.Fatal(err)
		}
		copy(buffer, "??????")
	}
	for len(r.bus.asked) > 0 {
		r.bus.answer(nil)
	}
	r.run()
	c.got = nil
	r.publish("a.x", "a.y", "user.1")
	r.run()
	slices.Sort(c.got)
	c.wants("a.x 1", "a.y 2", "user.1 3")
}

func TestTurnIsBounded(t *testing.T) {
	r := newRig(t, HubConfig{}, 1)
	m := r.shards[0].members
	m.pace.slice, m.pace.turn, m.pace.catchUps, m.pace.write, m.pace.take = 4, 15, 2, 1, 1
	var all []*socket
	for slot := range uint32(30) {
		c := r.connect(0, slot)
		c.subscribe("a", "b", "c")
		all = append(all, c)
	}
	frames := func() (n int) {
		for _, c := range all {
			n += len(c.got)
		}
		return n
	}
	r.publish("a", "b", "c", "a")
	r.shards[0].runTasks()
	m.Turn()
	first := make(map[string]int)
	for _, c := range all {
		for _, line := range c.got {
			first[line[:1]]++
		}
	}
	if len(first) != 3 || max(first["a"], first["b"], first["c"]) > m.pace.slice {
		t.Errorf("the first turn sent %v, at most %d of each feed", first, m.pace.slice)
	}
	before := frames()
	for turns := 0; m.Turn(); turns++ {
		n := frames()
		if n-before > m.pace.turn {
			t.Fatalf("a turn sent %d frames, at most %d", n-before, m.pace.turn)
		}
		before = n
		if turns > 1000 {
			t.Fatal("no end")
		}
	}
	if n := frames(); n != 4*len(all) {
		t.Fatalf("%d frames, want %d", n, 4*len(all))
	}

	for _, c := range all {
		c.block(0)
	}
	for range 5 {
		r.publish("a")
	}
	r.run()
	for _, c := range all {
		c.drain()
	}
	before = frames()
	for m.Turn() {
		n := frames()
		if n-before > m.pace.catchUps {
			t.Fatalf("a turn caught up with %d frames, at most %d", n-before, m.pace.catchUps)
		}
		before = n
	}
	if n := frames(); n != 9*len(all) {
		t.Fatalf("%d frames, want %d", n, 9*len(all))
	}
}

func TestSinglePublishIsSeenByIdleShard(t *testing.T) {
	r := newRig(t, HubConfig{}, 1)
	c := r.connect(0, 0)
	c.subscribe("a")
	for i := range 3 {
		r.publish("a", "a")
		if n := len(r.shards[0].tasks); n != 1 {
			t.Fatalf("a batch posted %d tasks", n)
		}
		r.run()
		c.wants(fmt.Sprintf("a %d", 2*i+1), fmt.Sprintf("a %d", 2*i+2))
	}
}
