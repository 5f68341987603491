package topics

import "slices"

// A member whose socket took no more is behind: what it has is a cursor, and
// when the socket drains it is fed from the ring until it has caught up. Where
// the ring does not reach back so far, and there is history, it is fed from that
// (below.go). Whatever it misses, it costs no more than that.
//
// One that comes back with a cursor of its own is behind from there (resume.go).

// lag is where a connection stands in a feed in which it is behind.
type lag struct {
	view     *view
	cursor   uint64            // newest entry that it has had
	from     map[*group]uint64 // where this is higher, or the subscription is to begin before its time: what comes after it is for that
	back     map[*group]uint64 // subscriptions that began before their time: what comes up to here is of that
	hasty    map[*group]bool   // subscriptions that lack more than what is held back, and get all there is
	replay   uint64            // up to here there may be entries that are older than the subscriptions that want them
	anchor   uint64            // its newest message, or the first that it lacks: where history begins there, nothing is missing; 0: not known
	topic    string            // of the anchor
	marked   uint64            // marks of loss up to here that the ring has given up are told
	page     wanted            // of history, that has been sent in part
	pageAt   uint64            // … up to here
	held     uint32            // questions that must be answered before anything is sent
	catching uint32            // its place in view.catching, from 1; 0: none
	skipped  map[string]int    // values left out, by topic, since the last one that was sent
	fresh    uint64            // values up to here are of a time before it, and not left out
}

// after is where a group begins for the connection.
func (l *lag) after(g *group) uint64 {
	seq, ok := l.from[g]
	switch {
	case ok && g.pace != nil:
		return seq
	case ok:
		return max(l.cursor, seq)
	}
	return max(l.cursor, g.since)
}

// begins has a subscription begin after an entry, wherever it began before.
func (l *lag) begins(g *group, seq uint64) {
	if l.from == nil {
		l.from = make(map[*group]uint64)
	}
	l.from[g] = seq
}

// came is the newest entry that is older than the connection's subscription.
func (l *lag) came(g *group) uint64 { return max(l.back[g], g.since) }

func (l *lag) leaves(g *group) {
	delete(l.from, g)
	delete(l.back, g)
	delete(l.hasty, g)
}

// limit is up to where a group may have entries now. One with max_rate that
// lacks what others have had, since it is new or slow, gets the newest there
// is, and then waits for the next flush.
func (l *lag) limit(g *group) uint64 {
	if g.pace == nil || l.hasty[g] {
		return g.view.pos
	}
	end := g.horizon()
	if l.after(g) < end {
		if l.hasty == nil {
			l.hasty = make(map[*group]bool)
		}
		l.hasty[g] = true
		return g.view.pos
	}
	return end
}

// skip counts a value that is left out for a newer one.
func (m *Members) skip(l *lag, e *entry) {
	if l.skipped == nil {
		l.skipped = make(map[string]int)
	}
	l.skipped[e.Topic]++
	m.skips = append(m.skips, e)
}

// unskip takes back what was counted of entries that come again.
func (m *Members) unskip(l *lag, after uint64) {
	for _, e := range m.skips {
		if e.seq <= after {
			continue
		}
		if l.skipped[e.Topic]--; l.skipped[e.Topic] <= 0 {
			delete(l.skipped, e.Topic)
		}
	}
	clear(m.skips)
	m.skips = m.skips[:0]
}

// dropSkips forgets what was left out for a subscription that has ended: who
// wants all that comes is not told of it.
func (m *Members) dropSkips(s *seating, l *lag) {
	for topic := range l.skipped {
		wanted := slices.ContainsFunc(m.seatsOf(s), func(at seat) bool {
			g := m.groups[at.group]
			return g.view == l.view && g.mode == ModeLatest && Match(g.sub.pattern, topic)
		})
		if !wanted {
			delete(l.skipped, topic)
		}
	}
}

// lagOf returns a connection's place in a feed in which it is behind, nil if it is not.
func (m *Members) lagOf(s *seating, v *view) *lag {
	if !s.behind {
		return nil
	}
	for _, l := range m.extras.all[s.extra].lags {
		if l.view == v {
			return l
		}
	}
	return nil
}

// dropLag ends a connection's being behind in a feed: it has no subscription there any more.
func (m *Members) dropLag(s *seating, l *lag) {
	l.stopCatching()
	x := m.extras.all[s.extra]
	at := slices.Index(x.lags, l)
	x.lags = slices.Delete(x.lags, at, at+1)
	m.stats.behind.Add(-1)
	if len(x.lags) == 0 {
		s.behind = false
		m.trimExtra(s)
	}
}

func (l *lag) stopCatching() {
	if l.catching != 0 {
		l.view.catching[l.catching-1] = noSlot
	}
}

// fallBehind notes that a connection has not had what comes after cursor.
func (m *Members) fallBehind(slot uint32, s *seating, v *view, cursor uint64) *lag {
	l := &lag{view: v, cursor: cursor}
	for _, at := range m.seatsOf(s) {
		g := m.groups[at.group]
		switch {
		case g.view != v:
		case v.fan.spares(g, at.index):
			l.begins(g, v.pos)
		case g.pace != nil && (v.fan.idle() || !v.fan.run[0].lost || !g.hears(v.fan.run[0])):
			m.lower(s, l, g, g.horizon()) // what is held back leaves without the connection
		}
	}
	x := m.extraOf(s)
	x.lags = append(x.lags, l)
	s.behind = true
	m.stats.behind.Add(1)
	return l
}

// fellBehind is fallBehind of one whose socket did not take an entry.
func (m *Members) fellBehind(slot uint32, s *seating, v *view, first *entry) {
	l := m.fallBehind(slot, s, v, first.before())
	if !first.lost {
		l.anchor, l.topic = first.seq, first.Topic
	}
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
		switch m.catchUp(slot, s, x.lags[i]) {
		case lagCaughtUp:
			x.lags[i].stopCatching() // it may have ended the subscription for which it waited
			end := len(x.lags) - 1
			x.lags[i] = x.lags[end]
			x.lags[end] = nil
			x.lags = x.lags[:end]
			m.stats.behind.Add(-1)
		case lagWaits:
			i++
		case lagHasMore:
			m.goOn(slot, s)
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

// goOn has a connection go on in the next turn.
func (m *Members) goOn(slot uint32, s *seating) {
	if !s.again {
		s.again = true
		m.again = append(m.again, slot)
	}
}

type lagState uint8

const (
	lagCaughtUp lagState = iota
	lagWaits             // for the end of what is under way, else it would get that twice; or for an answer
	lagHasMore           // in the next turn, so that others come between
	lagBlocked
)

// catchUp feeds a connection, in one write.
func (m *Members) catchUp(slot uint32, s *seating, l *lag) lagState {
	v := l.view
	if l.held > 0 {
		return lagWaits
	}
	if v.feed.kept != nil {
		if state, below := m.catchUpBelow(slot, s, l); below {
			return state
		}
	}
	cursor, ok := m.collect(s, l)
	if !ok {
		return lagHasMore
	}
	last, all, ok := m.sendOwed(slot, s, l)
	if !ok {
		m.unskip(l, 0)
		return lagBlocked // and has had nothing: it is collected again
	}
	if !all {
		cursor = last.seq
	}
	m.unskip(l, cursor)
	m.advance(s, l, cursor)
	if last != nil {
		l.anchor, l.topic = last.seq, last.Topic
	}
	switch {
	case cursor < v.pos:
		return lagHasMore
	case v.busy() || v.pos < l.replay || m.isAhead(s, l):
		m.enqueue(v) // it may not have been told of what concerns nobody else
		if l.catching == 0 {
			v.catching = append(v.catching, slot)
			l.catching = uint32(len(v.catching))
		}
		return lagWaits
	}
	return lagCaughtUp
}

// isAhead reports whether a subscription of the connection has had entries that
// are still to come to its shard: it would get them twice.
func (m *Members) isAhead(s *seating, l *lag) bool {
	if len(l.from) == 0 {
		return false
	}
	for _, at := range m.seatsOf(s) {
		if g := m.groups[at.group]; g.view == l.view && l.after(g) > max(g.horizon(), g.since) {
			return true
		}
	}
	return false
}

// owed is a frame that a connection is to get: a message, with the values that
// it replaces, or a group's gap.
type owed struct {
	entry   *entry // nil: a gap
	skipped int    // of the entry's topic; unknownSkipped: some
	group   *group
	why     LossReason
	from    Cursor
	to      Cursor
}

const unknownSkipped = -1

// sendOwed writes what is pending, and leaves the rest where it becomes too
// large. It returns the last message that was written, whether all were, and
// whether that left.
func (m *Members) sendOwed(slot uint32, s *seating, l *lag) (last *entry, all, ok bool) {
	frames, n, gaps := 0, 0, [NumLossReasons]uint64{}
	m.buf = m.buf[:0]
	enc := m.hub.enc
	for n < len(m.pending) {
		p := m.pending[n]
		n++
		if p.entry == nil {
			if frame := enc.Gap(s.format, p.group.sub.pattern, p.why, p.from, p.to); frame != nil {
				m.buf = append(m.buf, frame...)
				frames++
				gaps[p.why]++
			}
			continue
		}
		if p.skipped != 0 {
			m.buf = append(m.buf, enc.Skipped(s.format, p.entry.Topic, max(0, p.skipped))...)
		}
		m.buf = append(m.buf, m.frame(p.entry, s.format)...)
		frames++
		if last = p.entry; len(m.buf) >= m.pace.writeBytes {
			break
		}
	}
	all = n == len(m.pending)
	ok = frames == 0 || m.to.SendCopy(slot, m.buf) == Sent
	if ok {
		for why, n := range gaps {
			m.stats.gaps[why].Add(n)
		}
		m.stats.caughtUp.Add(uint64(frames))
		for _, p := range m.pending[:n] {
			if p.skipped > 0 {
				delete(l.skipped, p.entry.Topic)
			}
		}
	}
	clear(m.pending)
	m.pending = m.pending[:0]
	return last, all, ok
}

// collect puts into pending what a connection is owed next from the ring, in
// the order of the feed, and returns the cursor behind it. Without ok the ring
// has just given up what comes next, and history has it.
func (m *Members) collect(s *seating, l *lag) (cursor uint64, ok bool) {
	v := l.view
	f := v.feed
	m.collects++
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.kept != nil && l.cursor < min(f.floor, v.pos) {
		return 0, false
	}
	start := v.pos
	for _, at := range m.seatsOf(s) {
		g := m.groups[at.group]
		if g.view != v {
			continue
		}
		g.collect, g.after = m.collects, l.after(g)
		// What the shard has not begun yet is no loss of this member alone.
		g.limit = l.limit(g)
		begun := max(g.newest, g.since) // what is older than the group nobody else is to tell it of
		if l.hasty[g] {
			begun = v.pos // it does not wait for what is held back
		}
		if lost := min(g.sub.givenUp(), begun); f.kept == nil && lost > g.after {
			m.pending = append(m.pending, owed{group: g, why: LossSlow})
			g.after = lost
		}
		if g.after < g.limit {
			start = min(start, g.after)
		}
	}
	cursor = max(start, min(f.floor, v.pos))
	n := f.ring.upTo(cursor, f.floor)
	for end := min(f.ring.upTo(v.pos, f.floor), n+int(m.pace.scan)); n < end && len(m.pending) < m.pace.write; n++ {
		e := f.ring.nth(n)
		cursor = e.seq
		if e.matched.shards&m.bit != 0 || e.seq <= l.replay {
			m.owe(s, l, e)
		}
	}
	if n == f.ring.upTo(v.pos, f.floor) && len(m.pending) < m.pace.write {
		cursor = max(cursor, v.pos)
	}
	return cursor, true
}

// owe puts one entry into pending, if it concerns a connection.
func (m *Members) owe(s *seating, l *lag, e *entry) {
	if e.lost {
		for _, at := range m.seatsOf(s) {
			if g := m.groups[at.group]; g.collect == m.collects && e.seq > g.after && g.hears(e) {
				m.pending = append(m.pending, owed{group: g, why: e.why, from: e.from, to: e.to})
			}
		}
		return
	}
	f := l.view.feed
	switch m.wantedBy(s, l, e) {
	case wantedNewest:
		if f.newestOf(e, l.view.pos) != e.seq {
			if e.seq > l.fresh {
				m.skip(l, e)
			}
			return
		}
		fallthrough
	case wantedAll:
		m.pending = append(m.pending, owed{entry: e, skipped: l.skipped[e.Topic]})
	}
}

type wanting uint8

const (
	wantedNot wanting = iota
	wantedNewest
	wantedAll
)

// wantedBy says how the subscriptions that are being collected want an entry.
func (m *Members) wantedBy(s *seating, l *lag, e *entry) (w wanting) {
	note := func(g *group) {
		switch {
		case g.collect != m.collects || e.seq <= g.after || e.seq > g.limit:
		case g.mode == ModeLatest:
			w = max(w, wantedNewest)
		default:
			w = wantedAll
		}
	}
	for _, sub := range e.matched.subs {
		for g := m.groupOf(sub.pattern); g != nil; g = g.sibling {
			if e.seq > g.since {
				note(g)
			}
		}
	}
	if e.seq <= l.replay && w != wantedAll {
		for _, at := range m.seatsOf(s) {
			if g := m.groups[at.group]; g.view == l.view && e.seq <= g.since && Match(g.sub.pattern, e.Topic) {
				note(g)
			}
		}
	}
	return w
}

// advance notes that a connection has had all up to an entry, but for what is
// held back for it.
func (m *Members) advance(s *seating, l *lag, reached uint64) {
	if l.view.paced == 0 {
		l.cursor = max(l.cursor, reached)
		return
	}
	for _, at := range m.seatsOf(s) {
		g := m.groups[at.group]
		switch {
		case g.view != l.view:
		case g.pace != nil:
			l.begins(g, max(g.after, min(reached, g.limit)))
			if reached >= l.view.pos {
				delete(l.hasty, g)
			}
		default:
			l.begins(g, max(l.after(g), reached))
		}
	}
	m.moveCursor(s, l, reached)
}

// moveCursor raises a lag's cursor to where the first of its subscriptions stands.
func (m *Members) moveCursor(s *seating, l *lag, most uint64) {
	lowest := most
	for _, at := range m.seatsOf(s) {
		if g := m.groups[at.group]; g.view == l.view {
			lowest = min(lowest, l.after(g))
		}
	}
	l.cursor = max(l.cursor, lowest)
	if len(l.from) > 0 {
		for g, seq := range l.from {
			if g.pace == nil && seq <= l.cursor && l.cursor >= g.since {
				delete(l.from, g)
			}
		}
	}
}
