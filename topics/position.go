package topics

import (
	"math/rand/v2"
	"strconv"
	"strings"
	"time"
)

// A client that polls is a subscriber for as long as it waits. When it leaves it
// is told where each of its subscriptions stands, and comes back with that: what
// it has not had comes after it, whether a fan-out had reached it or not. Where
// there is no history, the place is one in the ring of this node's feed, which
// goes on collecting for it for a while.

// Position is where a subscription stands.
type Position struct {
	Cursor Cursor    // where the namespace keeps history
	Ring   RingPlace // where it keeps none
}

// RingPlace is an entry in the ring of one feed. The zero value is no place.
type RingPlace struct {
	Life  uint64 // for which the ring has collected for the pattern: each has another, on each node
	Entry uint64
}

// IsZero reports whether r is no place.
func (r RingPlace) IsZero() bool { return r.Life == 0 }

// ringMark stands in the text of a place in a ring, and in none of a Cursor.
const ringMark = "_"

// Append appends what clients keep: the text of the Cursor, or "3w5e11264sgsf_41"
// of a place in a ring. It needs no escaping in a URL, and has no comma.
func (p Position) Append(dst []byte) []byte {
	if p.Ring.IsZero() {
		return p.Cursor.Append(dst)
	}
	dst = strconv.AppendUint(dst, p.Ring.Life, cursorBase)
	return strconv.AppendUint(append(dst, ringMark...), p.Ring.Entry, cursorBase)
}

// ParsePosition reads what Append has made, and nothing else; ErrBadCursor means
// that it was never made.
func ParsePosition(s string) (p Position, err error) {
	life, entry, inRing := strings.Cut(s, ringMark)
	if !inRing {
		p.Cursor, err = ParseCursor(s)
		return p, err
	}
	l, errL := strconv.ParseUint(life, cursorBase, 64)
	e, errE := strconv.ParseUint(entry, cursorBase, 64)
	p.Ring = RingPlace{l, e}
	if errL != nil || errE != nil || string(p.Append(nil)) != s {
		return Position{}, ErrBadCursor
	}
	return p, nil
}

// Position says up to where a subscription has had what there is. It is for a
// connection that leaves next: until then it gets nothing more of that feed
// but what it was due before, of which it may get some during the call. Without
// ok there is no such subscription, or it does not stand yet.
func (m *Members) Position(slot uint32, pattern string) (p Position, ok bool) {
	s, g, _ := m.find(slot, pattern)
	if g == nil || !g.view.ready || g.awaits(slot) {
		return p, false
	}
	if g.view.feed.kept == nil {
		g.sub.polled.Store(m.hub.since(time.Now()))
	}
	return m.positionOf(slot, s, g), true
}

func (m *Members) positionOf(slot uint32, s *seating, g *group) Position {
	m.goBehind(slot, s, g.view)
	return g.view.feed.positionAt(g, m.lagOf(s, g.view).after(g))
}

// positionAt is an entry as those know it who come back.
func (f *feed) positionAt(g *group, at uint64) Position {
	if f.kept == nil {
		return Position{Ring: RingPlace{g.sub.life, at}}
	}
	f.mu.RLock()
	defer f.mu.RUnlock()
	if at <= f.kept.begin { // it has not been told that history began anew, and is when it comes with a cursor of another life
		return Position{Cursor: Cursor{Epoch: ^f.kept.epoch, Seq: at}}
	}
	return Position{Cursor: f.cursorAt(at)}
}

// GoesOn reports whether the next Turn has more for a connection that is behind.
func (m *Members) GoesOn(slot uint32) bool {
	s := m.at(slot)
	return s != nil && s.again
}

// awaits reports whether a connection waits to be told that a subscription stands.
func (g *group) awaits(slot uint32) bool {
	for _, a := range g.view.waiting[slot] {
		if a.group == g {
			return true
		}
	}
	return false
}

// resumeInRing has a subscription go on from a place in its feed's ring.
func (m *Members) resumeInRing(slot uint32, s *seating, g *group, from RingPlace) Standing {
	f := g.view.feed
	f.mu.RLock()
	last, lost := f.last, g.sub.givenUp()
	f.mu.RUnlock()
	st := Standing{Resumed: Recovered}
	switch {
	case from.Life != g.sub.life || from.Entry > last: // of another node, or too late: nothing was collected any more
		from.Entry, st = last, Standing{Resumed: NotRecovered, Why: LossRestarted} // what is there it may have had
	case lost > from.Entry:
		from.Entry, st = lost, Standing{Resumed: NotRecovered, Why: LossSlow}
	}
	return m.beginAt(slot, s, g, from.Entry, st)
}

// newLife is for a pattern. What a client sends back may be of another node.
func newLife() uint64 { return 1 + rand.Uint64N(1<<64-1) }

// since is a time as sub.polled has it: never 0.
func (h *Hub) since(now time.Time) int64 { return int64(now.Sub(h.began)) + 1 }

// maxPolled bounds the patterns that are kept for those who poll: they could
// invent topics faster than they are forgotten.
const maxPolled = 4096

// polledSub is a pattern that somebody polled, and nobody is subscribed to. It is
// void if sub.lingers has another number by now.
type polledSub struct {
	sub    *sub
	number uint64
	since  time.Time
}

// keepForPolls keeps a pattern that has no member any more, where somebody is
// likely to come back for what the ring has for it. mu must be held.
func (h *Hub) keepForPolls(s *sub) bool {
	now, polled := time.Now(), s.polled.Load()
	if polled == 0 || s.feed.ended || time.Duration(h.since(now)-polled) > h.cfg.PollLinger {
		return false
	}
	h.lingered++
	h.lingerers++
	s.lingers = h.lingered
	h.lingering = append(h.lingering, polledSub{s, h.lingered, now})
	for h.lingerers > maxPolled {
		h.endOldestPolled()
	}
	return true
}

// stopLingering is of a pattern that somebody came back to, or that ends.
func (h *Hub) stopLingering(s *sub) {
	if s.lingers != 0 {
		s.lingers = 0
		h.lingerers--
	}
}

// sweepPolled forgets the patterns to which nobody came back in time.
func (h *Hub) sweepPolled(now time.Time) {
	for len(h.lingering) > 0 && now.Sub(h.lingering[0].since) >= h.cfg.PollLinger {
		h.endOldestPolled()
	}
}

func (h *Hub) endOldestPolled() {
	first := h.lingering[0]
	h.lingering[0] = polledSub{}
	h.lingering = h.lingering[1:]
	if s := first.sub; s.lingers == first.number {
		h.stopLingering(s)
		s.feed.forget(s.pattern)
		h.drop(s)
	}
}
