package topics

import (
	"strings"
	"testing"
	"time"
)

// A place is told as a text that is taken for no other.
func TestPositionText(t *testing.T) {
	for _, p := range []Position{
		{},
		{Cursor: Cursor{Epoch: 7, Seq: 41}},
		{Cursor: Cursor{Epoch: 1<<32 - 1, Seq: 1<<64 - 1, Stamp: 1<<32 - 1}},
		{Ring: RingPlace{1, 0}},
		{Ring: RingPlace{1<<64 - 1, 1<<64 - 1}},
	} {
		text := string(p.Append(nil))
		if p == (Position{}) {
			if text != "" {
				t.Errorf("no place is %q", text)
			}
			continue
		}
		got, err := ParsePosition(text)
		_, asCursor := ParseCursor(text)
		if err != nil || got != p || (asCursor == nil) != p.Ring.IsZero() || strings.ContainsAny(text, ",%&+ ") {
			t.Errorf("%+v is %q, which is %+v, %v; as a cursor: %v", p, text, got, err, asCursor)
		}
	}
	for _, text := range []string{"", "_", "1_", "_1", "0_1", "01_1", "1_01", "1_1_1", "A_1", "1_1 ", "zzzzzzzzzzzzzzz_1", "7.41_1", "1.2,3.4"} {
		if p, err := ParsePosition(text); err == nil {
			t.Errorf("%q is %+v", text, p)
		}
	}
}

func FuzzPosition(f *testing.F) {
	f.Add("k3.58.x7")
	f.Add("3w5e11264sgsf_41")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ParsePosition(text)
		if err == nil && string(p.Append(nil)) != text {
			t.Fatalf("%q is %+v, which is %q", text, p, p.Append(nil))
		}
		if c, err := ParseCursor(text); err == nil && p != (Position{Cursor: c}) {
			t.Fatalf("%q is %+v, and as a cursor %+v", text, p, c)
		}
	})
}

// What was polled is collected for a while, and not for ever; and what somebody
// else is subscribed to is not kept for longer because of it.
func TestPolledLingers(t *testing.T) {
	r := newRig(t, HubConfig{PollLinger: 10 * time.Second}, 2)
	poll := func(shard int, slot uint32, at Position) (*socket, Position, Standing) {
		t.Helper()
		c := r.connect(shard, slot)
		st, stands, err := c.shard.members.Subscribe(slot, 0, "a.x", "", Want{Resume: !at.Ring.IsZero(), Ring: at.Ring})
		c.shard.onStanding = func(_ uint32, _ string, later Standing, _ error) { st = later }
		for len(r.bus.asked) > 0 {
			r.bus.answer(nil)
		}
		r.run()
		if err != nil {
			t.Fatal(err)
		}
		p, ok := c.shard.members.Position(slot, "a.x")
		if !ok || stands && st.Resumed == NotResumed && !at.Ring.IsZero() {
			t.Fatalf("position %+v, %v; standing %+v", p, ok, st)
		}
		c.leave()
		return c, p, st
	}
	_, at, _ := poll(0, 1, Position{})
	r.publish("a.x", "a.y")
	c, at, st := poll(1, 2, at) // on another shard
	if st.Resumed != Recovered {
		t.Errorf("standing %+v, want it recovered", st)
	}
	c.wants("a.x 1")
	r.publish("a.x")
	r.hub.sweep(time.Now().Add(9 * time.Second))
	c, at, st = poll(0, 3, at)
	if st.Resumed != Recovered {
		t.Errorf("after 9 s: standing %+v, want it recovered", st)
	}
	c.wants("a.x 3")
	r.hub.sweep(time.Now().Add(11 * time.Second))
	r.publish("a.x")
	if c, _, st = poll(0, 4, at); st.Resumed != NotRecovered || st.Why != LossRestarted || len(c.got) > 0 {
		t.Errorf("after 11 s: standing %+v, got %q; want it restarted", st, c.got)
	}
	r.hub.sweep(time.Now().Add(time.Hour))
	r.run()
	r.wantEmpty()
}

// Patterns that were polled are bounded, as clients may invent them.
func TestPolledAreBounded(t *testing.T) {
	r := newRig(t, HubConfig{}, 1)
	for i := range maxPolled + 10 {
		c := r.connect(0, 1)
		pattern := "a.t" + string(Position{Ring: RingPlace{1, uint64(i)}}.Append(nil))
		c.subscribe(pattern)
		if _, ok := c.shard.members.Position(1, pattern); !ok {
			t.Fatal("no position")
		}
		c.leave()
	}
	if n := r.hub.Counts().Patterns; n != maxPolled {
		t.Errorf("%d patterns are kept, want %d", n, maxPolled)
	}
	r.wantConsistent()
	for range 2 * maxPolled { // who polls often takes nobody's place
		c := r.connect(0, 1)
		c.subscribe("b.x")
		if _, ok := c.shard.members.Position(1, "b.x"); !ok {
			t.Fatal("no position")
		}
		c.leave()
	}
	if n := r.hub.Counts().Patterns; n != maxPolled {
		t.Errorf("after many polls of one more, %d patterns are kept, want %d", n, maxPolled)
	}
	if n := r.hub.lingerers; n != maxPolled {
		t.Errorf("%d are counted, want %d", n, maxPolled)
	}
	r.hub.sweep(time.Now().Add(time.Hour))
	if n := r.hub.lingerers; n != 0 || len(r.hub.lingering) != 0 {
		t.Errorf("%d are counted, and %d listed, when all have ended", n, len(r.hub.lingering))
	}
	r.run()
	r.wantEmpty()
}
