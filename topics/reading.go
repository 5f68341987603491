package topics

import (
	"maps"
	"slices"
)

// What a shard's connections wait for while the bus reads.

// arrival says that something was read for a view's members.
type arrival struct {
	view *view
	read *read
}

// Run implements Task.
func (a *arrival) Run() {
	m := a.view.members
	slots := slices.Collect(maps.Keys(m.asking[a.read.wanted]))
	delete(m.asking, a.read.wanted)
	if a.view.wants == a.read.wanted && a.view.takePage(a.read) {
		m.enqueue(a.view)
	}
	if len(slots) > 0 {
		m.given = append(m.given, &giving{read: a.read, slots: slots})
	}
}

// giving is something that was read, on its way to those who wait for it.
type giving struct {
	read  *read
	slots []uint32
}

// await notes that a connection waits for something to be read.
func (m *Members) await(slot uint32, w wanted) {
	if m.asking == nil {
		m.asking = make(map[wanted]map[uint32]struct{})
	}
	if m.asking[w] == nil {
		m.asking[w] = make(map[uint32]struct{})
	}
	m.asking[w][slot] = struct{}{}
}

// read returns what was read for a connection, or has it wait for that.
func (m *Members) read(slot uint32, v *view, w wanted, urgency Urgency) *read {
	if m.giving != nil && m.giving.wanted == w {
		return m.giving
	}
	r := m.hub.look(w, v, urgency)
	if r == nil {
		m.await(slot, w)
	}
	return r
}

// failed reports whether what a connection waited for could not be read.
func (m *Members) failed(w wanted) bool {
	return m.giving != nil && m.giving.wanted == w && m.giving.err != nil
}

// tryLater has a connection try again in a while: NATS is away, or a replica lags.
func (m *Members) tryLater(slot uint32) lagState {
	m.later = append(m.later, slot)
	return lagWaits
}

// giveSome passes on what was read, to at most n connections.
func (m *Members) giveSome(n int) (given int) {
	for len(m.given) > 0 && given < n {
		g := m.given[0]
		for len(g.slots) > 0 && given < n {
			slot := g.slots[0]
			g.slots = g.slots[1:]
			given++
			m.giving = g.read
			m.resumeWith(slot, g.read)
			m.Drained(slot)
			m.giving = nil
		}
		if len(g.slots) > 0 {
			break
		}
		m.given[0] = nil
		m.given = m.given[1:]
	}
	return given
}

// retry goes on with what could not be read, after a while.
func (m *Members) retry() {
	for _, v := range m.laterViews {
		m.enqueue(v)
	}
	clear(m.laterViews)
	m.laterViews = m.laterViews[:0]
	n := len(m.later) // more may come meanwhile
	for _, slot := range m.later[:n] {
		s := m.at(slot)
		if s == nil || !s.behind {
			continue
		}
		m.goOn(slot, s)
		for _, l := range slices.Clone(m.extras.all[s.extra].lags) {
			if len(l.view.waiting[slot]) > 0 {
				l.view.tellOne(slot, nil)
			}
		}
	}
	m.later = append(m.later[:0], m.later[n:]...)
}
