package topics

import "time"

// pace is how much is done before others have their turn. Frames that are made
// on the way count as sends: see effort.
type pace struct {
	slice    int // sends of one feed, before the next feed
	turn     int // sends in all, before sockets and other tasks
	catchUps int // writes to connections that are behind, likewise

	blend      int    // pairs of entry and member gathered in one go
	take       int    // entries that a view takes from the ring in one go
	write      int    // frames in one write to a connection that is behind
	writeBytes int    // likewise, one more frame excepted
	scan       uint64 // entries of a ring looked at in one go: the hub cannot append meanwhile
}

// enqueue notes that a view may have something to fan out.
func (m *Members) enqueue(v *view) {
	if !v.queued {
		v.queued = true
		m.runnable = append(m.runnable, v)
	}
}

// Turn does a bounded part of what is to be sent, and reports whether there is
// more. To be called at the end of each of the loop's turns.
func (m *Members) Turn() (more bool) {
	m.catchUpSome()
	m.fanOutSome()
	return len(m.runnable) > 0 || len(m.again) > 0 || len(m.given) > 0
}

// catchUpSome goes on with connections that have more to catch up with. Those
// that have still more line up again.
func (m *Members) catchUpSome() {
	n := min(len(m.again), m.pace.catchUps-m.giveSome(m.pace.catchUps/2))
	effort := 0
	for i, slot := range m.again[:n] {
		if effort += m.effort(); effort > m.pace.turn {
			n = i
			break
		}
		if s := m.at(slot); s.again { // else it left
			s.again = false
			m.Drained(slot)
		}
	}
	left := copy(m.again, m.again[n:])
	m.again = shrunk(m.again[:left])
}

// fanOutSome gives each feed that has entries its slice, in the order in which
// they came. Those that have more line up behind the ones not reached.
func (m *Members) fanOutSome() {
	run, begun, unfinished := m.runnable, 0, 0
	for budget := m.pace.turn; begun < len(run) && budget > 0; begun++ {
		v := run[begun]
		spent, more := v.work(min(m.pace.slice, budget))
		budget -= spent + 1 // so that many views which only wait end the turn too
		if v.queued = more; more {
			run[unfinished] = v
			unfinished++
		}
	}
	added := m.runnable[len(run):] // who caught up with one feed went on with another
	m.runnable = append(append(append(m.resting[:0], run[begun:]...), added...), run[:unfinished]...)
	clear(added)
	clear(run)
	m.resting = run[:0]
}

// Tick is to be called about ten times a second.
func (m *Members) Tick() {
	if m.ticks%4 == 0 {
		m.retry()
	}
	if m.ticks++; m.sweep && m.ticks%8 == 0 {
		m.hub.sweep(time.Now())
	}
}
