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
		case g.mode == ModeAll || c.after < g.since:
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
	if err := m.failure(w); err != nil {
		return m.tryLater(slot, err)
	}
	given := m.giving != nil && m.giving.wanted == w
	entries, upTo, ok := m.hub.snapshot(l.view, w, given)
	switch {
	case !ok && given:
		return m.tryLater(slot, nil)
	case !ok:
		m.await(slot, w)
		return lagWaits
	}
	skipped := 0
	if c.after >= g.since {
		skipped = unknownSkipped // it was there, and too slow
	}
	first, _ := slices.BinarySearchFunc(entries, c.after+1, func(e *entry, seq uint64) int {
		return bySeq(e, &entry{seq: seq})
	})
	n := min(len(entries), first+m.pace.write)
	for _, e := range entries[first:n] {
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
	case all && n == len(entries):
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
	w := wanted{feed: l.view.feed, from: from, kind: readPage}
	witness := from // a message that must be there, if nothing after from is missing
	if len(m.readers) == 1 {
		w.pattern = m.readers[0].group.sub.pattern
		if witness = l.anchor; witness == 0 || !Match(w.pattern, l.topic) { // else it is another subscription's
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
		return m.tryLater(slot, r.err)
	}
	if !within && r.lacks(witness) {
		for _, c := range m.readers {
			m.pending = append(m.pending, owed{group: c.group, why: LossExpired, from: l.view.feed.placeOf(from), to: m.missingUpTo(r, limit, l.view.feed)})
		}
	}
	most := l.view.pos
	if len(m.readers) < m.countIn(s, l.view) {
		most = limit // what comes behind it concerns others too, and they get it from the ring
	}
	left := false
	for _, e := range r.entries {
		if e.seq > most || len(m.pending) >= m.pace.write {
			left = e.seq <= most
			break
		}
		if slices.ContainsFunc(m.readers, func(c concern) bool { return e.seq > c.after && Match(c.group.sub.pattern, e.Topic) }) {
			m.pending = append(m.pending, owed{entry: e})
		}
	}
	last, all, ok := m.sendOwed(slot, s, l)
	if !ok {
		return lagBlocked
	}
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
		return m.tryLater(slot, nil)
	}
	for _, c := range m.readers {
		l.begins(c.group, max(c.after, reached))
	}
	m.moveCursor(s, l, l.view.pos)
	return lagHasMore
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
// begin with a witness or to be checked. Where it has all topics of a namespace,
// the one right behind the witness will do.
func (r *read) lacks(witness uint64) bool {
	if r.wanted.checked {
		return r.verdict != Recovered
	}
	if len(r.entries) == 0 {
		return true
	}
	first := r.entries[0].seq
	return first != witness && !(r.wanted.pattern == "" && first == witness+1)
}

// missingUpTo is the last place of what is missing before a page.
func (m *Members) missingUpTo(r *read, limit uint64, f *feed) Cursor {
	if len(r.entries) > 0 {
		limit = r.entries[0].seq - 1
	}
	return f.placeOf(limit)
}
