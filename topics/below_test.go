package topics

import "testing"

// belowRig has namespaces with history, of which a ring holds two messages.
func belowRig(t *testing.T) (*rig, *fakeHistory) {
	h := newFakeHistory(nil)
	cfg := historyConfig(h)
	cfg.RingMessages = 2
	return newRig(t, cfg, 1), h
}

// answers has history answer all that is asked.
func (r *rig) answers(h *fakeHistory) {
	r.run()
	for h.answer(nil) {
		r.run()
	}
}

// stores has history take messages, and passes them on live.
func (r *rig) stores(h *fakeHistory, topics ...string) {
	for _, topic := range topics {
		s := h.stream(Namespace(topic))
		r.hub.Deliver([]Message{s.store(topic, []byte{byte('A' + s.last)})})
	}
}

// Where each topic has a bound of its own, that one message is still there says
// nothing of those of other topics.
func TestGapWhereTopicsHaveBounds(t *testing.T) {
	r, h := belowRig(t)
	h.stream("all").perTopic = 2
	slow := r.connect(0, 0)
	slow.wish("all.*", Want{})
	r.answers(h)
	slow.got = nil
	slow.block(0)
	r.stores(h, "all.b", "all.a", "all.a")
	r.run()
	for range 5 {
		r.stores(h, "all.a", "all.a", "all.a", "all.a")
		r.run()
	}
	slow.drain()
	r.answers(h)
	slow.wants("all.b A", "gap all.* expired", "all.a V", "all.a W")
}

// A whole shard that fell behind tells its members the same.
func TestGapOfShardWhereTopicsHaveBounds(t *testing.T) {
	r, h := belowRig(t)
	h.stream("all").perTopic = 2
	c := r.connect(0, 0)
	c.wish("all.*", Want{})
	r.answers(h)
	r.stores(h, "all.b")
	r.run()
	c.got = nil
	r.stores(h, "all.a", "all.b", "all.a", "all.a", "all.a")
	r.answers(h)
	c.wants("gap all.* expired", "all.b C", "gap all.* expired", "all.a E", "all.a F")
}

// What those who keep up were told of by a mark, one who does not is told of too.
func TestGapWhereMarkIsGone(t *testing.T) {
	for _, pattern := range []string{"all.*", "all.a", "one.a"} {
		t.Run(pattern, func(t *testing.T) {
			r, h := belowRig(t)
			ns := Namespace(pattern)
			fast, slow := r.connect(0, 0), r.connect(0, 1)
			fast.wish(pattern, Want{})
			slow.wish(pattern, Want{})
			r.answers(h)
			slow.got = nil
			slow.block(0)
			r.stores(h, ns+".a")
			r.answers(h)
			s := h.stream(ns)
			s.store(ns+".a", []byte("-"))
			lost := s.kept[1]
			m := s.store(ns+".a", []byte("C"))
			s.kept = append(s.kept[:1], s.kept[2:]...) // somebody deletes what did not arrive
			m.Prev = lost.Cursor.Seq
			fast.got = nil
			r.hub.Deliver([]Message{m})
			r.answers(h)
			fast.wants("gap "+pattern+" expired", ns+".a C")
			r.stores(h, ns+".a", ns+".a", ns+".a")
			r.answers(h)
			slow.drain()
			r.answers(h)
			want := []string{ns + ".a A", "gap " + pattern + " expired", ns + ".a C", ns + ".a D", ns + ".a E", ns + ".a F"}
			if ns == "one" { // no numbers say where it is
				want[0], want[1] = want[1], want[0]
			}
			slow.wants(want...)
		})
	}
}

// Who comes back after long is told of what is kept and too large for anybody.
func TestGapWhereMessageIsLeftOut(t *testing.T) {
	for _, pattern := range []string{"all.a", "all.>", "one.a"} {
		t.Run(pattern, func(t *testing.T) {
			r, h := belowRig(t)
			ns := Namespace(pattern)
			s := h.stream(ns)
			at := s.store(ns+".a", []byte("A")).Cursor
			s.store(ns+".a", nil)
			for _, data := range []string{"C", "D", "E"} {
				s.store(ns+".a", []byte(data))
			}
			c := r.connect(0, 0)
			c.wish(pattern, Want{Resume: true, Cursor: at})
			r.answers(h)
			c.wants("subscribed "+pattern+" .", "gap "+pattern+" upstream", ns+".a C", ns+".a D", ns+".a E")
		})
	}
}

// A delete by hand is seen by those who are served the pages of one topic too.
func TestGapWhereMessageIsDeleted(t *testing.T) {
	for _, pattern := range []string{"all.a", "one.a"} {
		t.Run(pattern, func(t *testing.T) {
			r, h := belowRig(t)
			ns := Namespace(pattern)
			c := r.connect(0, 0)
			c.wish(pattern, Want{})
			r.answers(h)
			c.got = nil
			c.block(0)
			for range 5 {
				r.stores(h, ns+".a")
				r.answers(h)
			}
			h.stream(ns).remove(func(n int, _ Message) bool { return n == 1 })
			r.hub.LostAll() // it is looked how the stream stands
			r.answers(h)
			c.drain()
			r.answers(h)
			want := []string{ns + ".a A", "gap " + pattern + " expired", ns + ".a C", ns + ".a D", ns + ".a E"}
			if ns == "one" { // no numbers say where it is
				want[0], want[1] = want[1], want[0]
			}
			c.wants(want...)
		})
	}
}

// Who resumes in mode live gets what came while it was away, whoever else of its
// pattern was there.
func TestResumeLiveBesideOthers(t *testing.T) {
	r, h := belowRig(t)
	other, back := r.connect(0, 0), r.connect(0, 1)
	other.wish("live.*", Want{})
	r.answers(h)
	var want []string
	for n := range 12 {
		r.stores(h, "live.a")
		r.run()
		if n > 0 {
			want = append(want, "live.a "+string(rune('A'+n)))
		}
	}
	back.wish("live.*", Want{Resume: true, Cursor: h.stream("live").kept[0].Cursor})
	r.answers(h)
	back.wants(append([]string{"subscribed live.* ."}, want...)...)

	// From then on it is served as any other.
	back.block(0)
	for range 4 {
		r.stores(h, "live.a")
		r.run()
	}
	back.drain()
	r.answers(h)
	back.wants("gap live.* slow", "live.a O", "live.a P")
}
