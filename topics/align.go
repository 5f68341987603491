package topics

import (
	"cmp"
	"slices"
)

// Those who fall behind do so at different messages, and a page begins at one of
// them. Would each read on from where its own page ended, no two would ever read
// the same. So whoever finds where it is in the middle of another's page goes on
// in that, and from then on they share all.

// pageLine is what pages have in common that come after each other.
type pageLine struct {
	feed    *feed
	pattern string
}

func (w *wanted) line() pageLine { return pageLine{w.feed, w.pattern} }

// nearPages is how many pages that begin before a message are looked at.
const nearPages = 16

// lookWithin is look for a page by one who has had the message with which it is
// to begin: a page that has this in its middle will do. Without r it is told when
// a page is in, which may be that which somebody else waits for.
func (h *Hub) lookWithin(w wanted, v *view, urgency Urgency) (r *read, coming wanted) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if r := h.shared.reads[w]; r == nil || !r.in {
		near, ready := h.shared.pageWith(w)
		if ready {
			h.use(near)
			return near, w
		}
		if r == nil && near != nil {
			w = near.wanted
		}
	}
	return h.lookLocked(w, v, urgency), w
}

// pageWith returns a page that has the message with which another is to begin,
// or one under way that is likely to: nil if there is none.
func (s *shared) pageWith(w wanted) (near *read, ready bool) {
	line := s.pages[w.line()]
	n, _ := slices.BinarySearchFunc(line, w.from, byFrom)
	span := uint64(0)
	for i := n - 1; i >= max(0, n-nearPages); i-- {
		switch r := line[i]; {
		case !r.in && near == nil:
			near = r
		case r.in && r.reachesBeyond(w.from):
			return r, true
		case r.in:
			span = max(span, r.next-r.wanted.from)
		}
	}
	if near != nil && w.from-near.wanted.from > span/2 {
		return nil, false
	}
	return near, false
}

// reachesBeyond reports whether a page has a message, and one behind it.
func (r *read) reachesBeyond(seq uint64) bool {
	n, found := slices.BinarySearchFunc(r.entries, seq, func(e *entry, seq uint64) int { return cmp.Compare(e.seq, seq) })
	return found && n < len(r.entries)-1
}

func byFrom(r *read, from uint64) int { return cmp.Compare(r.wanted.from, from) }

// line notes a page that is being read, and unline that it is forgotten.
func (s *shared) line(r *read) {
	if r.wanted.kind != readPage {
		return
	}
	if s.pages == nil {
		s.pages = make(map[pageLine][]*read)
	}
	line := s.pages[r.wanted.line()]
	n, _ := slices.BinarySearchFunc(line, r.wanted.from, byFrom)
	s.pages[r.wanted.line()] = slices.Insert(line, n, r)
}

func (s *shared) unline(r *read) {
	if r.wanted.kind != readPage {
		return
	}
	line := s.pages[r.wanted.line()]
	if n := slices.Index(line, r); len(line) > 1 {
		s.pages[r.wanted.line()] = slices.Delete(line, n, n+1)
	} else {
		delete(s.pages, r.wanted.line())
	}
}

// readWithin is read for a page, by one who has had the message with which it is
// to begin unless it is checked. It reports whether that is in its middle.
func (m *Members) readWithin(slot uint32, v *view, w wanted, urgency Urgency) (r *read, within bool) {
	given := m.giving
	if given != nil && !w.checked && given.wanted.line() == w.line() && given.wanted != w && given.reachesBeyond(w.from) {
		return given, true
	}
	if w.checked || given != nil { // which did not reach so far: the next is its own
		return m.read(slot, v, w, urgency), false
	}
	r, coming := m.hub.lookWithin(w, v, urgency)
	if r == nil {
		m.await(slot, coming)
		return nil, false
	}
	return r, r.wanted != w
}
