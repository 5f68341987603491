package topics

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"
)

func TestWaitingForTheBus(t *testing.T) {
	r := newRig(t, HubConfig{}, 2)
	a, b, gone, other := r.connect(0, 0), r.connect(0, 1), r.connect(0, 2), r.connect(1, 0)
	ask := func(c *socket, pattern, tag string) {
		t.Helper()
		if _, stands, err := c.shard.members.Subscribe(c.slot, 0, pattern, tag, Want{}); stands || err != nil {
			t.Fatalf("Subscribe: %v, %v", stands, err)
		}
	}
	ask(a, "a.x", "1")
	ask(a, "a.*", "2")
	ask(a, "a.x", "3")
	ask(b, "a.x", "4")
	ask(gone, "a.x", "5")
	ask(other, "a.y", "6")
	b.unsubscribe("a.x")
	gone.leave()
	r.publish("a.x") // of an interest that was there before
	r.hub.LostAll()
	r.run()
	if want := []question{{in: Interest{Name: "a", Namespace: true}}}; len(r.bus.asked) != 1 || r.bus.asked[0].in != want[0].in {
		t.Fatalf("the bus was asked %v", r.bus.asked)
	}
	r.bus.answer(errors.New("the bus is away"))
	r.publish("a.x", "a.y")
	late := r.connect(0, 3)
	ask(late, "a.x", "7") // the shard does not know yet
	r.run()
	a.wants("subscribed a.x 1", "subscribed a.* 2", "subscribed a.x 3", "a.x 2", "a.y 3")
	b.wants("subscribed a.x 4") // before it unsubscribed
	gone.wants()
	other.wants("subscribed a.y 6", "a.y 3")
	if len(late.got) == 0 || late.got[0] != "subscribed a.x 7" {
		t.Errorf("the late one got %q", late.got)
	}
	if _, stands, err := r.shards[1].members.Subscribe(1, 0, "a.x", "", Want{}); !stands || err != nil {
		t.Errorf("Subscribe to what is there: %v, %v", stands, err)
	}
	r.wantConsistent()
}

func TestAnswersWaitedForAreBounded(t *testing.T) {
	r := newRig(t, HubConfig{}, 1)
	for i := range maxAwaited + 1 {
		_, _, err := r.shards[0].members.Subscribe(0, 0, "a.x", fmt.Sprint(i), Want{})
		if want := i == maxAwaited; errors.Is(err, ErrTooManyWaiting) != want || errors.Is(err, ErrTooMany) {
			t.Errorf("request %d: %v", i, err)
		}
	}
	if n := r.hub.Connections("a.x"); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// Each subscribe has its reply, also if the subscription ends before it stands.
func TestUnsubscribeAnswersWhoWaits(t *testing.T) {
	r := newRig(t, HubConfig{}, 1)
	m := r.shards[0].members
	c := r.connect(0, 0)
	for _, ask := range [][2]string{{"a.x", "1"}, {"a.y", "2"}, {"a.x", "3"}} {
		if _, _, err := m.Subscribe(0, 0, ask[0], ask[1], Want{}); err != nil {
			t.Fatal(err)
		}
	}
	c.unsubscribe("a.x")
	c.wants("subscribed a.x 1", "subscribed a.x 3")
	if m.Unsubscribe(0, "a.x") {
		t.Error("it was unsubscribed twice")
	}
	r.bus.answer(nil)
	r.run()
	c.wants("subscribed a.y 2")

	// Who is told may leave.
	if _, _, err := m.Subscribe(0, 0, "b.x", "4", Want{}); err != nil {
		t.Fatal(err)
	}
	m.Subscribe(0, 0, "b.x", "5", Want{})
	c.onStand = func(string) { c.leave() }
	c.unsubscribe("b.x")
	c.wants("subscribed b.x 4")
	r.wantConsistent()
	if v := r.hub.feedOf("b").views[0]; len(v.waiting) != 0 {
		t.Errorf("%v wait still", v.waiting)
	}
}

// An answer of the bus that is final ends the feed for all who wait, and who
// comes later has the bus asked anew.
func TestFinalRefusal(t *testing.T) {
	r := newRig(t, HubConfig{}, 2)
	a, b, other, gone := r.connect(0, 0), r.connect(0, 1), r.connect(1, 0), r.connect(0, 2)
	in := Interest{Name: "a", Namespace: true}
	ask := func(c *socket, pattern, tag string) {
		t.Helper()
		if _, stands, err := c.shard.members.Subscribe(c.slot, 0, pattern, tag, Want{}); stands || err != nil {
			t.Fatalf("Subscribe: %v, %v", stands, err)
		}
	}
	a.subscribe("b")
	ask(a, "a.x", "1")
	ask(a, "a.x", "2")
	ask(b, "a.*", "3")
	ask(other, "a.x", "4")
	ask(gone, "a.x", "5")
	gone.leave()
	r.bus.answer(fmt.Errorf("a: %w", errDenied))
	if r.bus.standing[in] {
		t.Error("the bus still has the interest")
	}
	ask(b, "a.*", "6") // the shard does not know yet
	ask(b, "a.y", "7") // what it has not had is of the next feed
	r.run()
	a.wants("refused a.x 1: a: denied", "refused a.x 2: a: denied")
	b.wants("refused a.* 3: a: denied", "refused a.* 6: a: denied")
	other.wants("refused a.x 4: a: denied")
	r.wantConsistent()
	if got := r.shards[0].members.Patterns(0, nil); !slices.Equal(got, []string{"b"}) {
		t.Errorf("slot 0 is subscribed to %q", got)
	}

	ask(a, "a.x", "8")
	if len(r.bus.asked) != 1 || !r.bus.standing[in] {
		t.Fatalf("the bus was asked %v", r.bus.asked)
	}
	r.bus.answer(nil)
	r.run()
	r.publish("a.x", "a.y", "b")
	r.run()
	slices.Sort(a.got[1:])
	a.wants("subscribed a.x 8", "a.x 1", "b 3")
	b.wants("subscribed a.y 7", "a.y 2")
	r.wantConsistent()
	for _, c := range []*socket{a, b, other} {
		c.leave()
	}
	r.hub.sweep(time.Now().Add(time.Hour))
	r.wantEmpty()
}

// Who is told of a refusal may leave, or ask again.
func TestRefusedMayCallBack(t *testing.T) {
	r := newRig(t, HubConfig{}, 1)
	m := r.shards[0].members
	leaver, again := r.connect(0, 0), r.connect(0, 1)
	for _, tag := range []string{"1", "2"} {
		m.Subscribe(0, 0, "a.x", tag, Want{})
		m.Subscribe(1, 0, "a.x", tag, Want{})
	}
	leaver.onRefuse = func(string) { leaver.leave() }
	again.onRefuse = func(pattern string) { m.Subscribe(1, 0, pattern, "3", Want{}) }
	r.bus.answer(errDenied)
	r.run()
	leaver.wants("refused a.x 1: denied")
	again.wants("refused a.x 1: denied", "refused a.x 2: denied")
	r.wantConsistent()
	r.bus.answer(nil)
	r.run()
	again.wants("subscribed a.x 3", "subscribed a.x 3")
}

// A feed that nobody waits for any more may be refused while it lingers, and
// after it has ended.
func TestRefusedTooLate(t *testing.T) {
	r := newRig(t, HubConfig{}, 1)
	c := r.connect(0, 0)
	for _, lingers := range []bool{true, false} {
		r.shards[0].members.Subscribe(0, 0, "a.x", "", Want{})
		c.unsubscribe("a.x")
		if !lingers {
			r.hub.sweep(time.Now().Add(time.Hour))
		}
		r.bus.answer(errDenied)
		r.run()
		r.hub.sweep(time.Now().Add(time.Hour))
		r.wantEmpty()
	}
}

// A server may go on with a connection, and so come back here, when it is told
// that its subscription stands.
func TestSubscribedMayCallBack(t *testing.T) {
	r := newRig(t, HubConfig{}, 1)
	m := r.shards[0].members
	a, b, late := r.connect(0, 0), r.connect(0, 1), r.connect(0, 2)
	for _, c := range []*socket{a, b} {
		for _, pattern := range []string{"a.x", "a.y", "a.z"} {
			if _, _, err := m.Subscribe(c.slot, 0, pattern, ".", Want{}); err != nil {
				t.Fatal(err)
			}
		}
		other := a
		if c == a {
			other = b
		}
		c.onStand = func(string) {
			if len(other.got) == 0 && len(c.got) == 1 { // the first to be told
				other.leave()
				c.unsubscribe("a.y")
				late.shard.members.Subscribe(late.slot, 0, "a.new", "", Want{})
			}
		}
	}
	r.bus.answer(nil)
	r.run()
	r.wantConsistent()
	if got, want := append(a.got, b.got...), []string{"subscribed a.x .", "subscribed a.y .", "subscribed a.z ."}; !slices.Equal(got, want) {
		t.Errorf("told %q, want %q", got, want)
	}
	if got := m.Patterns(2, nil); !slices.Equal(got, []string{"a.new"}) {
		t.Errorf("slot 2 is subscribed to %q", got)
	}
}
