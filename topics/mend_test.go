package topics

import (
	"slices"
	"testing"
)

// historyRig is a rig whose streams answer at once, unless they are told not to.
type historyRig struct {
	*rig
	history *fakeHistory
}

func newHistoryRig(t testing.TB, change func(*HubConfig)) *historyRig {
	h := newFakeHistory(nil)
	cfg := historyConfig(h)
	if change != nil {
		change(&cfg)
	}
	return &historyRig{rig: newRig(t, cfg, 1), history: h}
}

// settle answers all questions, and lets the shards do what there is to do.
func (r *historyRig) settle() {
	for n := 0; len(r.bus.asked) > 0 || r.history.waiting() > 0; n++ {
		if n > 1000 {
			r.t.Fatal("the hub asks for ever")
		}
		r.bus.answer(nil)
		r.history.answer(nil)
		r.run()
	}
	r.run()
}

// look has the hub ask how the streams stand.
func (r *historyRig) look() {
	r.hub.LostAll()
	r.settle()
}

// store stores messages that do not come live, whose data are their numbers;
// of a topic with "!" one that is too large.
func (r *historyRig) store(topics ...string) (stored []Message) {
	for _, topic := range topics {
		s := r.history.stream(Namespace(topic))
		data := []byte{byte('0' + (s.last+1)/10), byte('0' + (s.last+1)%10)}
		if topic[len(topic)-1] == '!' {
			topic, data = topic[:len(topic)-1], nil
		}
		stored = append(stored, s.store(topic, data))
	}
	return stored
}

// join connects a client that subscribes, and waits until that stands.
func (r *historyRig) join(slot uint32, pattern string, want Want) (*socket, Standing) {
	r.t.Helper()
	c := r.connect(0, slot)
	var st Standing
	r.shards[0].onStanding = func(_ uint32, _ string, s Standing, err error) {
		if err != nil {
			r.t.Fatal(err)
		}
		st = s
	}
	s, stands, err := r.shards[0].members.Subscribe(slot, 0, pattern, ".", want)
	if err != nil {
		r.t.Fatal(err)
	}
	if stands {
		st = s
	}
	r.settle()
	return c, st
}

// What nobody can have must not stop the mending, however much of it there is.
func TestMendPassesOverWhatIsLeftOut(t *testing.T) {
	f := func(name, pattern string, lost, live []string, want ...string) {
		t.Run(name, func(t *testing.T) {
			r := newHistoryRig(t, nil)
			c, _ := r.join(0, pattern, Want{Mode: ModeAll})
			r.store(lost...)
			r.hub.Deliver(r.store(live...))
			r.settle()
			r.look()
			c.wants(want...)
		})
	}
	large := slices.Repeat([]string{"all.x!"}, 12) // of which a page has five
	f("before one that came live", "all.*", large, []string{"all.y"}, "gap all.* upstream", "gap all.* upstream", "gap all.* upstream", "all.y 13")
	f("before one that was lost too", "all.*", append(large, "all.y"), nil, "gap all.* upstream", "gap all.* upstream", "gap all.* upstream", "all.y 13")
	f("as the last", "all.*", []string{"all.y", "all.x!"}, nil, "all.y 01", "gap all.* upstream")
	f("of a topic", "one.x", []string{"one.y", "one.x!", "one.y"}, []string{"one.x"}, "gap one.x upstream", "one.x 04")
	f("of a topic, which was lost too", "one.x", []string{"one.x!", "one.x"}, nil, "gap one.x upstream", "one.x 02")
}

// The hub may give up what a connection lacks after it was looked for below the
// ring, and before it is collected from there.
func TestRingMovesOnUnderSlowClient(t *testing.T) {
	r := newHistoryRig(t, func(cfg *HubConfig) { cfg.RingMessages = 4 })
	c, _ := r.join(0, "all.*", Want{Mode: ModeAll})
	c.block(0)
	r.hub.Deliver(r.store("all.x", "all.x", "all.x", "all.x"))
	r.settle()
	m := r.shards[0].members
	s := m.at(0)
	l := m.extras.all[s.extra].lags[0]
	if _, below := m.catchUpBelow(0, s, l); below {
		t.Fatal("it is below the ring")
	}
	r.hub.Deliver(r.store("all.x", "all.x"))
	if cursor, ok := m.collect(s, l); ok {
		t.Fatalf("collected up to %d, and the ring begins behind %d", cursor, l.view.feed.floor)
	}
	c.drain()
	r.settle()
	c.wants("all.x 01", "all.x 02", "all.x 03", "all.x 04", "all.x 05", "all.x 06")
}

// What was under way when a stream was made anew must not stay in the way of
// what comes later.
func TestMessageOfFormerLife(t *testing.T) {
	f := func(pattern, topic string) {
		r := newHistoryRig(t, nil)
		c, _ := r.join(0, pattern, Want{Mode: ModeAll})
		late := r.store(topic)
		r.history.stream(Namespace(topic)).renew()
		r.look()
		r.hub.Deliver(late)
		r.settle()
		reads := r.history.reads
		for range 3 {
			r.hub.Deliver(r.store(topic))
		}
		r.settle()
		c.wants("gap "+pattern+" restarted", topic+" 01", topic+" 02", topic+" 03")
		if r.history.reads != reads {
			t.Errorf("%s: %d reads for what came live", pattern, r.history.reads-reads)
		}
	}
	f("all.*", "all.x")
	f("one.x", "one.x")
}

// However many come back at once, what topics have missed is looked for once,
// and only of those that are heard here.
func TestSweepOnceForAll(t *testing.T) {
	r := newHistoryRig(t, nil)
	var gone []Message
	for range 40 {
		gone = append(gone, r.store("one.x")...)
	}
	c, _ := r.join(0, "one.x", Want{Mode: ModeAll})
	r.history.stream("one").expire(40)
	r.store("one.x", "one.y", "one.y")
	for i, m := range gone {
		slot := uint32(i + 1)
		r.connect(0, slot)
		want := Want{Mode: ModeAll, Resume: true, Cursor: m.Cursor}
		if _, _, err := r.shards[0].members.Subscribe(slot, 0, "one.x", ".", want); err != nil {
			t.Fatal(err)
		}
	}
	r.settle()
	c.wants("one.x 41")
	if n := r.history.sweeps; n != 1 {
		t.Errorf("%d sweeps", n)
	}
	if n := r.history.swept; n != 1 {
		t.Errorf("%d messages came of sweeps", n)
	}
}

// A look for what topics have missed that fails is made again where another
// was wanted meanwhile.
func TestSweepAgain(t *testing.T) {
	r := newHistoryRig(t, nil)
	c, _ := r.join(0, "one.x", Want{Mode: ModeAll})
	r.store("one.x")
	r.hub.LostAll()
	r.history.answer(nil) // how the stream stands
	r.hub.LostAll()
	slices.Reverse(r.history.asked)
	r.history.answer(nil)         // the same once more
	r.history.answer(errFakeAway) // the look
	r.settle()
	c.wants("one.x 01")
}
