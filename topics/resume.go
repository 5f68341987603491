package topics

// A subscriber that comes back says where it was, and is behind from there. So
// it joins as any other, and what it missed comes in the way in which one that
// was slow gets it. Whether the place that it names is still one is found out
// first: in the ring, where it nearly always is, else by asking the bus.

// place finds where a subscription begins. Without ok that is not known yet,
// and nothing is sent of the feed until it is.
func (m *Members) place(slot uint32, s *seating, g *group, isNew bool, want Want) (st Standing, ok bool) {
	f := g.view.feed
	switch {
	case f.kept == nil && !want.Ring.IsZero():
		return m.resumeInRing(slot, s, g, want.Ring), true
	case f.kept == nil && want.Resume:
		return Standing{Resumed: NotRecovered, Why: LossExpired}, true
	case f.kept == nil:
		return st, true
	case want.Resume:
		return m.resume(slot, s, g, want.Cursor)
	case isNew && g.mode == ModeLatest:
		return m.beginAt(slot, s, g, f.firstPlace(), Standing{}), true
	}
	at := max(g.view.pos, g.since)
	if mark := f.goesOn(at); mark > at { // what the shard still has of the last life is nothing to a new subscriber
		return m.beginAt(slot, s, g, mark, st), true
	}
	st.Cursor = f.placeOf(at)
	return st, true
}

// goesOn is where one goes on that is at an entry: elsewhere, if history began
// anew after that.
func (f *feed) goesOn(at uint64) uint64 {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if at <= f.kept.begin {
		return max(at, f.kept.mark)
	}
	return at
}

// firstPlace is before all that history has.
func (f *feed) firstPlace() uint64 {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.kept.base
}

// beginAt has a subscription begin after an entry.
func (m *Members) beginAt(slot uint32, s *seating, g *group, at uint64, st Standing) Standing {
	isNew := m.lagOf(s, g.view) == nil
	l := m.goBehind(slot, s, g.view)
	if isNew && st.Resumed == NotResumed {
		l.fresh = g.view.pos
	}
	m.lower(s, l, g, at)
	if l.back == nil {
		l.back = make(map[*group]uint64)
	}
	l.back[g] = g.view.pos
	l.anchor = 0
	m.goOn(slot, s)
	st.Cursor = g.view.feed.placeOf(at)
	return st
}

// resume has a subscription go on from a cursor, if that can be told now. Else
// the connection waits, and resumeWith comes back here.
func (m *Members) resume(slot uint32, s *seating, g *group, c Cursor) (st Standing, ok bool) {
	f := g.view.feed
	at, verdict, why := f.locate(c)
	w := wanted{feed: f, pattern: g.sub.pattern, from: at, stamp: c.Stamp, kind: readPlace}
	given := m.giving
	if verdict == NotResumed && given != nil && given.wanted == w {
		verdict, why = given.verdict, given.why
	}
	switch verdict {
	case Recovered:
		st = m.beginAt(slot, s, g, at, Standing{Resumed: Recovered})
		st.Cursor = c
		return st, true
	case NotRecovered:
		if why == LossRestarted {
			at = f.firstPlace()
		}
		return m.beginAt(slot, s, g, at, Standing{Resumed: NotRecovered, Why: why}), true
	}
	tried := given != nil && given.wanted.feed == f && given.wanted.kind == readBack
	if from, ok := m.hub.wayBack(f, at); ok && !tried && g.mode != ModeLatest {
		w = wanted{feed: f, from: from, kind: readBack}
	}
	m.read(slot, g.view, w, UrgentResume) // and resumeWith follows: none of these is kept
	return st, false
}

// locate says where a cursor is in a feed, and what became of it if that can be
// told from the ring: NotResumed means that it cannot.
func (f *feed) locate(c Cursor) (at uint64, verdict Resumption, why LossReason) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	k := f.kept
	at = k.base + c.Seq
	stamp := uint32(0) // of the message there, if it is known
	switch {
	case c.Epoch != k.epoch || c.Seq > 1<<62:
		return at, NotRecovered, LossRestarted
	case at > f.last || at < f.floor:
		return at, NotResumed, 0
	case at == f.last:
		stamp = k.lastStamp
	case at == f.floor:
		if stamp = k.floorStamp; stamp == 0 {
			return at, NotResumed, 0
		}
	default:
		if e := f.find(at); e != nil {
			stamp = e.Cursor.Stamp
		} else if k.twice {
			return at, NotResumed, 0
		}
	}
	if stamp != 0 && c.Stamp != 0 && stamp != c.Stamp {
		return at, NotRecovered, LossRestarted
	}
	return at, Recovered, 0
}

// leastBack is how many messages are read back at least: others will come who
// were away for longer.
const leastBack = 512

// wayBack says from where the ring can be filled so that it reaches back to an
// entry, if there is room for that.
func (h *Hub) wayBack(f *feed, at uint64) (from uint64, ok bool) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if at >= f.floor || at < f.kept.hole {
		return 0, false
	}
	room, distance := uint64(h.cfg.RingMessages-f.ring.count), f.floor-at
	if distance >= room {
		return 0, false
	}
	back := uint64(leastBack)
	for back <= distance {
		back *= 2
	}
	back = min(back, room, f.floor-f.kept.base)
	return f.floor + 1 - back, true
}

// resumeWith goes on with the subscriptions of a connection that wait for what was read.
func (m *Members) resumeWith(slot uint32, r *read) {
	if r.wanted.kind != readPlace && r.wanted.kind != readBack {
		return
	}
	s := m.at(slot)
	if s == nil {
		return
	}
	for _, at := range m.seatsOf(s) {
		if v := m.groups[at.group].view; v.feed == r.wanted.feed {
			v.tellOne(slot, r)
			return
		}
	}
}

// goBehind has a connection wait for what comes of a feed after now.
func (m *Members) goBehind(slot uint32, s *seating, v *view) *lag {
	m.blend.settle(s, v)
	if l := m.lagOf(s, v); l != nil {
		return l
	}
	fan := &v.fan
	switch {
	case fan.idle():
		return m.fallBehind(slot, s, v, v.pos)
	case fan.flush != nil:
		return m.leaveFlush(slot, s, v, false)
	}
	l := m.fallBehind(slot, s, v, fan.run[0].before())
	for _, at := range m.seatsOf(s) {
		if g := m.groups[at.group]; g.view == v && fan.served(g, at.index) {
			l.begins(g, v.pos)
		}
	}
	return l
}

// lower has one subscription begin earlier, or later, than the others.
func (m *Members) lower(s *seating, l *lag, g *group, at uint64) {
	if at < l.cursor {
		for _, seat := range m.seatsOf(s) {
			if other := m.groups[seat.group]; other.view == l.view && other != g {
				l.begins(other, l.after(other))
			}
		}
		l.cursor = at
	}
	l.begins(g, at)
	l.replay = max(l.replay, g.since)
}

// beginAnew has a subscriber of the newest values get those of a stream that
// began anew, of which the ring may not have all.
func (m *Members) beginAnew(slot uint32, s *seating, g *group, mark *entry) {
	l := m.fallBehind(slot, s, g.view, mark.after)
	m.lower(s, l, g, g.view.feed.kept.begin)
	m.goOn(slot, s)
}
