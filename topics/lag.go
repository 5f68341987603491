package topics

// A member whose socket took no more is behind: what it has is a cursor, and
// when the socket drains it is fed from the ring until it has caught up.
// Whatever it misses, it costs no more than that.

// lag is where a connection stands in a feed in which it is behind.
type lag struct {
	view     *view
	cursor   uint64            // newest entry that it has had
	joined   map[*group]uint64 // of patterns that it subscribed to since: what came before them
	catching uint32            // its place in view.catching, from 1; 0: none
}

// joins keeps a new subscription from getting what came before it.
func (l *lag) joins(g *group, seq uint64) {
	if l.joined == nil {
		l.joined = make(map[*group]uint64)
	}
	l.joined[g] = seq
}

func (l *lag) leaves(g *group) { delete(l.joined, g) }

// lagOf returns a connection's place in a feed in which it is behind, nil if it is not.
func (m *Members) lagOf(s *seating, v *view) *lag {
	if !s.behind {
		return nil
	}
	lags := m.extras.all[s.extra].lags
	for i := range lags {
		if lags[i].view == v {
			return &lags[i]
		}
	}
	return nil
}

// fallBehind notes that a connection did not take what comes after cursor.
func (m *Members) fallBehind(slot uint32, s *seating, v *view, cursor uint64) {
	l := lag{view: v, cursor: cursor}
	for _, at := range m.seatsOf(s) {
		if g := m.groups[at.group]; g.view == v && v.fan.spares(g, at.index) {
			l.joins(g, v.pos)
		}
	}
	x := m.extraOf(s)
	x.lags = append(x.lags, l)
	s.behind = true
	m.stats.behind.Add(1)
	m.stats.fellBehind.Add(1)
}

// Drained goes on with a connection whose socket takes data again.
func (m *Members) Drained(slot uint32) {
	s := m.at(slot)
	if s == nil || !s.behind {
		return
	}
	x := m.extras.all[s.extra]
	for i := 0; i < len(x.lags); {
		switch m.catchUp(slot, s, &x.lags[i]) {
		case lagCaughtUp:
			end := len(x.lags) - 1
			x.lags[i] = x.lags[end]
			x.lags[end] = lag{}
			x.lags = x.lags[:end]
			m.stats.behind.Add(-1)
		case lagWaits:
			i++
		case lagHasMore:
			if !s.again {
				s.again = true
				m.again = append(m.again, slot)
			}
			// The next turn begins with another feed, so that one which
			// always has more does not keep the others waiting.
			first := x.lags[i]
			copy(x.lags[i:], x.lags[i+1:])
			x.lags[len(x.lags)-1] = first
			return
		case lagBlocked:
			return // Drained comes again
		}
	}
	if len(x.lags) == 0 {
		s.behind = false
		m.trimExtra(s)
	}
}

type lagState uint8

const (
	lagCaughtUp lagState = iota
	lagWaits             // for the end of what is under way, else it would get that twice
	lagHasMore           // in the next turn, so that others come between
	lagBlocked
)

// catchUp feeds a connection from the ring, in one write.
func (m *Members) catchUp(slot uint32, s *seating, l *lag) lagState {
	v := l.view
	cursor, ok := m.sendOwed(slot, s, m.collect(s, l))
	if !ok {
		return lagBlocked // and has had nothing: it is collected again
	}
	l.cursor = cursor
	switch {
	case cursor < v.pos:
		return lagHasMore
	case v.busy():
		if l.catching == 0 {
			v.catching = append(v.catching, slot)
			l.catching = uint32(len(v.catching))
		}
		return lagWaits
	}
	return lagCaughtUp
}

// sendOwed writes what is pending, and leaves the rest where it becomes too
// large. It returns the cursor behind what was written, and whether that left.
func (m *Members) sendOwed(slot uint32, s *seating, cursor uint64) (uint64, bool) {
	frames, gaps := 0, [NumLossReasons]uint64{}
	m.buf = m.buf[:0]
	for i, p := range m.pending {
		if p.entry == nil {
			if frame := m.hub.enc.Gap(s.format, p.group.sub.pattern, p.why, Cursor{}, Cursor{}); frame != nil {
				m.buf = append(m.buf, frame...)
				frames++
				gaps[p.why]++
			}
			continue
		}
		m.buf = append(m.buf, m.hub.frame(p.entry, s.format)...)
		frames++
		if len(m.buf) >= m.pace.writeBytes && i+1 < len(m.pending) {
			cursor = p.entry.seq
			break
		}
	}
	clear(m.pending)
	m.pending = m.pending[:0]
	if frames == 0 {
		return cursor, true
	}
	if m.to.SendCopy(slot, m.buf) != Sent {
		return 0, false
	}
	for why, n := range gaps {
		m.stats.gaps[why].Add(n)
	}
	m.stats.caughtUp.Add(uint64(frames))
	return cursor, true
}

// owed is a frame that a connection is to get: a message, or a group's gap.
type owed struct {
	entry *entry // nil: a gap
	group *group
	why   LossReason
}

// collect puts into pending what a connection is owed next, in the order of
// the feed, and returns the cursor behind it.
func (m *Members) collect(s *seating, l *lag) (cursor uint64) {
	v := l.view
	f := v.feed
	m.collects++
	f.mu.RLock()
	defer f.mu.RUnlock()
	for _, at := range m.seatsOf(s) {
		g := m.groups[at.group]
		if g.view != v {
			continue
		}
		g.collect, g.after = m.collects, max(l.cursor, g.since, l.joined[g])
		// What the shard has not begun yet is no loss of this member alone.
		if min(g.sub.givenUp(), g.newest) > g.after {
			m.pending = append(m.pending, owed{group: g, why: LossSlow})
		}
	}
	cursor = max(l.cursor, min(f.floor, v.pos))
	for end := min(v.pos, cursor+m.pace.scan); cursor < end && len(m.pending) < m.pace.write; {
		cursor++
		if e := f.at(cursor); e.matched.shards&m.bit != 0 {
			m.owe(s, e)
		}
	}
	return cursor
}

// owe puts one entry into pending, if it concerns a connection.
func (m *Members) owe(s *seating, e *entry) {
	if e.lost {
		for _, at := range m.seatsOf(s) {
			if g := m.groups[at.group]; g.collect == m.collects && e.seq > g.after {
				m.pending = append(m.pending, owed{group: g, why: e.why})
			}
		}
		return
	}
	for _, sub := range e.matched.subs {
		if g := m.groupOf(sub.pattern); g != nil && g.collect == m.collects && e.seq > g.after {
			m.pending = append(m.pending, owed{entry: e})
			return
		}
	}
}
