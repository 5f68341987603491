package topics

import "slices"

// Below the floor of its ring, a feed with history serves those that are behind
// from the stream: every message to those who want all, and to those who come
// back; the newest of each topic to those who want that; a gap to the others.

// concern is a subscription that lacks something below the floor.
type concern struct {
	group *group
	after uint64
}

// catchUpBelow feeds a connection whose cursor is below the ring's floor. It
// reports whether it is.
func (m *Members) catchUpBelow(slot uint32, s *seating, l *lag) (state lagState, below bool) {
	v := l.view
	f := v.feed
	f.mu.RLock()
	limit, begin, base := min(f.floor, v.pos), f.kept.begin, f.kept.base
	f.mu.RUnlock()
	if l.cursor >= limit {
		return 0, false
	}
	m.readers = m.readers[:0]
	var newest, told []concern
	for _, at := range m.seatsOf(s) {
		g := m.groups[at.group]
		c := concern{g, l.after(g)}
		switch {
		case g.view != v || c.after >= limit:
		case c.after <= begin:
			m.pending = append(m.pending, owed{group: g, why: LossRestarted, to: f.placeOf(base)})
			told = append(told, concern{g, base})
		case g.mode == ModeLatest:
			newest = append(newest, c)
		case g.mode == ModeAll || c.after < l.came(g):
			m.readers = append(m.readers, c)
		default:
			if min(g.givenUp(), g.newest) > c.after {
				m.pending = append(m.pending, owed{group: g, why: LossSlow, from: f.placeOf(c.after), to: f.placeOf(limit)})
			}
			told = append(told, concern{g, limit})
		}
	}
	switch {
	case len(told) > 0:
		if _, _, ok := m.sendOwed(slot, s, l); !ok {
			return lagBlocked, true
		}
		l.anchor = 0
		for _, c := range told {
			l.begins(c.group, c.after)
		}
		m.moveCursor(s, l, limit)
		return lagHasMore, true
	case len(newest) > 0:
		return m.sendSnapshot(slot, s, l, newest[0]), true
	case len(m.readers) > 0:
		return m.sendPage(slot, s, l, limit), true
	}
	l.cursor = limit
	return 0, false
}

// placeOf is cursorAt for one who does not hold mu.
func (f *feed) placeOf(seq uint64) Cursor {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.cursorAt(seq)
}

// givenUp is the newest entry for a group that the ring has given up.
func (g *group) givenUp() uint64 {
	f := g.view.feed
	f.mu.RLock()
	defer f.mu.RUnlock()
	return g.sub.givenUp()
}

// sendSnapshot sends the newest values that a subscription lacks, in one write.
func (m *Members) sendSnapshot(slot uint32, s *seating, l *lag, c concern) lagState {
	g := c.group
	w := wanted{feed: l.view.feed, pattern: g.sub.pattern, kind: readSnapshot}
	if m.failed(w) {
		return m.tryLater(slot)
	}
	given := m.giving != nil && m.giving.wanted == w
	values, upTo, ok := m.hub.snapshot(l.view, w, c.after, given)
	switch {
	case !ok && given:
		return m.tryLater(slot)
	case !ok:
		m.await(slot, w)
		return lagWaits
	}
	skipped := 0
	if c.after >= l.came(g) {
		skipped = unknownSkipped // it was there, and too slow
	}
	for _, e := range values {
		o := owed{entry: e, skipped: skipped}
		if l.skipped[e.Topic] > 0 {
			o.skipped = l.skipped[e.Topic]
		}
		m.pending = append(m.pending, o)
	}
	last, all, ok := m.sendOwed(slot, s, l)
	switch {
	case !ok:
		return lagBlocked
	case all:
		l.begins(g, upTo)
	case last != nil:
		l.begins(g, last.seq)
	}
	m.moveCursor(s, l, l.view.pos)
	return lagHasMore
}

// sendPage sends what the subscriptions in m.readers lack of a page of history,
// in one write.
func (m *Members) sendPage(slot uint32, s *seating, l *lag, limit uint64) lagState {
	from := m.readers[0].after
	for _, c := range m.readers {
		from = min(from, c.after)
	}
	f := l.view.feed
	w := wanted{feed: f, from: from, kind: readPage}
	witness := from // a message that must be there, if nothing after from is missing
	pattern := m.readers[0].group.sub.pattern
	if whole, all := m.hub.wholeness(f, pattern, from); len(m.readers) == 1 && !all {
		w.pattern = pattern
		if witness = l.anchor; witness == 0 || !whole || !Match(pattern, l.topic) { // else it is another subscription's
			w.from, w.checked = from+1, true
		} else {
			w.from = witness
		}
	}
	r, within := m.hub.still(l.page), true
	if r == nil || l.pageAt != from || r.wanted.pattern != w.pattern {
		r, within = m.readWithin(slot, l.view, w, UrgentSlow)
	}
	switch {
	case r == nil:
		return lagWaits
	case r.err != nil:
		return m.tryLater(slot)
	}
	if !within && r.lacks(witness) {
		for _, c := range m.readers {
			m.pending = append(m.pending, owed{group: c.group, why: LossExpired, from: f.placeOf(from), to: m.missingUpTo(r, limit, f)})
		}
	}
	marked := l.marked
	if !f.in.Namespace { // no numbers show what is missing
		if marked = max(marked, f.marksGivenUp()); marked > max(from, l.marked) {
			m.oweGaps(&entry{seq: marked, why: LossExpired, after: from, to: f.placeOf(marked)}, marked)
		}
	}
	most := l.view.pos
	if len(m.readers) < m.countIn(s, l.view) {
		most = limit // what comes behind it concerns others too, and they get it from the ring
	}
	left, n := false, 0
	for _, e := range r.entries {
		begin := e.seq
		if e.lost {
			begin = e.after + 1
		}
		if begin > most || n >= m.pace.write {
			left = begin <= most
			break
		}
		if e.lost {
			m.oweGaps(e, most)
			continue
		}
		if slices.ContainsFunc(m.readers, func(c concern) bool { return e.seq > c.after && Match(c.group.sub.pattern, e.Topic) }) {
			m.pending = append(m.pending, owed{entry: e})
			n++
		}
	}
	last, all, ok := m.sendOwed(slot, s, l)
	if !ok {
		return lagBlocked
	}
	l.marked = marked
	reached := min(r.reached(), most)
	l.page = wanted{}
	if last != nil && (left || !all) {
		reached = last.seq
		l.page, l.pageAt = r.wanted, reached
	}
	switch {
	case last != nil:
		l.anchor, l.topic = last.seq, last.Topic
	case reached <= from && l.anchor != 0 && l.anchor != from: // too far back to bring anything new
		l.anchor = 0
		return lagHasMore
	case reached <= from: // a replica lags
		return m.tryLater(slot)
	}
	for _, c := range m.readers {
		l.begins(c.group, max(c.after, reached))
	}
	m.moveCursor(s, l, l.view.pos)
	return lagHasMore
}

// wholeness says whether nothing but what limits drop is missing in a stream, so
// that a message that is there proves that those after it are; and whether pages
// for a subscription are to be of all topics, whose numbers show what is missing:
// where it proves nothing of other topics, which have bounds of their own, or
// somebody was told of a loss.
func (h *Hub) wholeness(f *feed, pattern string, from uint64) (whole, all bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := &f.kept.stream.state
	return s.Whole, f.in.Namespace && (!s.Whole || f.markEvicted > from || HasWildcard(pattern) && s.PerTopic > 0)
}

// marksGivenUp is the newest mark of loss that the ring has given up.
func (f *feed) marksGivenUp() uint64 {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.markEvicted
}

// oweGaps puts into pending, for each of the readers whom it concerns, that
// messages are missing up to most. What follows a gap at once is one with it.
func (m *Members) oweGaps(e *entry, most uint64) {
	f := m.readers[0].group.view.feed
	to := e.to
	if e.seq > most {
		to = f.placeOf(most)
	}
	gaps := len(m.pending)
	for gaps > 0 && m.pending[gaps-1].entry == nil {
		gaps--
	}
	for _, c := range m.readers {
		if min(e.seq, most) <= c.after {
			continue
		}
		if i := slices.IndexFunc(m.pending[gaps:], func(o owed) bool { return o.group == c.group }); i >= 0 {
			m.pending[gaps+i].to = to
			continue
		}
		m.pending = append(m.pending, owed{group: c.group, why: e.why, from: f.placeOf(max(c.after, e.after)), to: to})
	}
}

// countIn says how many subscriptions a connection has in a view.
func (m *Members) countIn(s *seating, v *view) (n int) {
	for _, at := range m.seatsOf(s) {
		if m.groups[at.group].view == v {
			n++
		}
	}
	return n
}

// still returns a page that was read, nil if it has been forgotten.
func (h *Hub) still(w wanted) *read {
	if w.feed == nil {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.shared.reads[w]
	if r == nil || !r.in {
		return nil
	}
	h.use(r)
	return r
}

// lacks reports whether messages may be missing before a page, which was to
// begin with a witness or to be checked. One with all topics has marks for them.
func (r *read) lacks(witness uint64) bool {
	switch {
	case r.wanted.checked:
		return r.verdict != Recovered
	case r.wanted.pattern == "":
		return false
	}
	return len(r.entries) == 0 || r.entries[0].seq != witness
}

// markHoles puts marks into a page of all topics where messages are missing:
// numbers go up by one.
func (h *Hub) markHoles(r *read) {
	f := r.wanted.feed
	page := r.entries
	r.entries = make([]*entry, 0, len(page))
	at, from := r.wanted.from, f.cursorAt(r.wanted.from)
	mark := func(upTo uint64) {
		if upTo <= at {
			return
		}
		e := &entry{seq: upTo, aside: true, after: at, lost: true, why: LossExpired, from: from, to: f.kept.cursor(upTo, 0), matched: f.everybody()}
		r.entries = append(r.entries, e)
		r.weight += e.weight()
		at, from = upTo, e.to
	}
	markUpTo := func(upTo uint64) {
		mark(min(upTo, r.madeAt)) // a shard that reads takes what comes by then
		mark(upTo)
	}
	for _, e := range page {
		markUpTo(e.seq - 1)
		r.entries = append(r.entries, e)
		if at, from = e.seq, e.Cursor; e.lost {
			from = e.to
		}
	}
	markUpTo(r.reached())
}

// missingUpTo is the last place of what is missing before a page.
func (m *Members) missingUpTo(r *read, limit uint64, f *feed) Cursor {
	if len(r.entries) > 0 {
		limit = r.entries[0].seq - 1
	}
	return f.placeOf(limit)
}
