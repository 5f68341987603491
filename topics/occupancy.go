package topics

import (
	"sync"
	"sync/atomic"
)

// occupancy is how many connections the node's patterns have, for who tells other
// nodes of it: what has changed, and all there is. Nothing is kept for a connection.
type occupancy struct {
	all []*sub // guarded by Hub.mu; each stands at its sub.place

	mu      sync.Mutex
	changed []*sub // guarded by mu; those with sub.noted, once each
}

// Occupied is how many connections are subscribed to exactly that pattern.
type Occupied struct {
	Pattern     string
	Connections int
}

// occupiedSlice is how many patterns are read before others have Hub.mu.
const occupiedSlice = 1024

// counted notes that a pattern's connections are more or less than they were.
func (h *Hub) counted(s *sub) {
	if !h.cfg.Occupancy || s.noted.Load() || s.noted.Swap(true) {
		return
	}
	o := &h.occupancy
	o.mu.Lock()
	o.changed = append(o.changed, s)
	o.mu.Unlock()
}

// enter and drop keep all. Hub.mu must be held.
func (o *occupancy) enter(s *sub) {
	s.place = len(o.all)
	o.all = append(o.all, s)
}

func (o *occupancy) drop(s *sub) {
	end := len(o.all) - 1
	o.all[s.place] = o.all[end]
	o.all[s.place].place = s.place
	o.all[end] = nil
	o.all = shrunk(o.all[:end])
}

// Changes passes on each pattern whose connections have changed since the last
// call, with how many it has now: 0, if nobody is left. One goroutine at a time
// calls it. Without HubConfig.Occupancy there are none.
func (h *Hub) Changes(yield func(Occupied)) {
	o := &h.occupancy
	o.mu.Lock()
	changed := o.changed
	o.changed = nil
	o.mu.Unlock()
	part := make([]Occupied, 0, min(len(changed), occupiedSlice))
	for len(changed) > 0 {
		n := min(len(changed), occupiedSlice)
		part = part[:0]
		h.mu.Lock()
		for _, s := range changed[:n] {
			s.noted.Store(false) // before it is counted: a change from here on is noted again
			part = append(part, Occupied{s.pattern, h.connectionsLocked(s.pattern)})
		}
		h.mu.Unlock()
		changed = changed[n:]
		for _, one := range part {
			yield(one)
		}
	}
}

// Occupied passes on every pattern that has connections, in slices: what changes
// meanwhile is among the Changes of a later call. A pattern may come twice.
func (h *Hub) Occupied(yield func(Occupied)) {
	o := &h.occupancy
	part := make([]Occupied, 0, occupiedSlice)
	// Downwards: one that goes makes place for the last, which has been read.
	for end := -1; end != 0; {
		part = part[:0]
		h.mu.Lock()
		if end < 0 || end > len(o.all) {
			end = len(o.all)
		}
		from := max(0, end-occupiedSlice)
		for _, s := range o.all[from:end] {
			if n := s.members.Load(); n > 0 && !s.feed.ended {
				part = append(part, Occupied{s.pattern, int(n)})
			}
		}
		h.mu.Unlock()
		end = from
		for _, one := range part {
			yield(one)
		}
	}
}

// counting is what a sub has for it.
type counting struct {
	noted atomic.Bool // it is among occupancy.changed
	place int         // in occupancy.all; guarded by Hub.mu
}
