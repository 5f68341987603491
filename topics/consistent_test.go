package topics

import (
	"math/bits"
	"slices"
)

// wantConsistent checks that what points at each other does, in all of a rig.
func (r *rig) wantConsistent() {
	r.t.Helper()
	shards := make(map[*sub]uint64)
	members := make(map[*sub]int64)
	for _, sh := range r.shards {
		m := sh.members
		subscriptions, behind := int64(0), int64(0)
		for page := range m.pages {
			for i := range pageSize {
				slot := uint32(page*pageSize + i)
				s := m.at(slot)
				if s == nil {
					continue
				}
				if s.behind != (m.Behind(slot) > 0) {
					r.t.Fatalf("slot %d: behind is %v, with %d lags", slot, s.behind, m.Behind(slot))
				}
				behind += int64(m.Behind(slot))
				if (s.extra != 0) != (s.behind || s.count > inlineSeats) {
					r.t.Fatalf("slot %d: extra %d, with %d seats and behind %v", slot, s.extra, s.count, s.behind)
				}
				if s.again && !slices.Contains(m.again, slot) {
					r.t.Fatalf("slot %d is marked as in again, and is not", slot)
				}
				if s.behind {
					for _, l := range m.extras.all[s.extra].lags {
						if len(l.from) > int(s.count) {
							r.t.Fatalf("slot %d: %d notes of joining for %d seats", slot, len(l.from), s.count)
						}
					}
				}
				for place, at := range m.seatsOf(s) {
					g := m.groups[at.group]
					if got, want := g.members[at.index], (member{slot, uint32(place)}); got != want {
						r.t.Fatalf("seat of slot %d: the group %s has %v there, want %v", slot, g.sub.pattern, got, want)
					}
					members[g.sub]++
					subscriptions++
				}
			}
		}
		groups, patterns := 0, 0
		for i, g := range m.groups {
			if g == nil {
				continue
			}
			groups++
			if m.groupOf(g.sub.pattern) == g {
				patterns++
			}
			holes := uint32(0)
			for _, to := range g.members {
				if to.slot == noSlot {
					holes++
				}
			}
			first := m.groupOf(g.sub.pattern)
			for first != nil && first != g {
				first = first.sibling
			}
			if int(g.index) != i || first != g || g.view.groups[g.at] != g || holes != g.holes || holes > 0 && !g.busy {
				r.t.Fatalf("group %s is not where it should be, or has %d holes, counted %d", g.sub.pattern, holes, g.holes)
			}
			shards[g.sub] |= m.bit
		}
		if patterns != m.byPattern.len() || groups+len(m.spare) != len(m.groups) {
			r.t.Fatalf("%d groups of %d patterns, %d by pattern, %d places of which %d spare", groups, patterns, m.byPattern.len(), len(m.groups), len(m.spare))
		}
		if c := m.Counts(); c.Subscriptions != subscriptions || c.Behind != behind {
			r.t.Fatalf("counts say %d subscriptions and %d behind, there are %d and %d", c.Subscriptions, c.Behind, subscriptions, behind)
		}
	}
	r.wantHubConsistent(shards, members)
	r.wantWakers()
}

func (r *rig) wantHubConsistent(shards map[*sub]uint64, members map[*sub]int64) {
	r.t.Helper()
	h := r.hub
	var entries, weight int64
	for e := h.oldest; e != nil; e = e.newer {
		entries++
		weight += e.weight() + e.excess(e.encoded.Load())
	}
	var feeds, subs, inRings, pending int64
	for _, all := range [...]table[string, *feed]{h.namespaces, h.topics} {
		for _, f := range all.entries {
			feeds++
			for _, s := range f.list {
				subs++
				if s.shards != shards[s] || s.members.Load() != members[s] {
					r.t.Fatalf("%s: hub has shards %b and %d members, there are %b and %d",
						s.pattern, s.shards, s.members.Load(), shards[s], members[s])
				}
			}
			if f.kept != nil {
				for i := range f.kept.pend {
					pending += f.kept.pend[i].pendingWeight()
				}
			}
			n := f.ring.count
			inRings += int64(n)
			if n > f.most || n > len(f.ring.slots) || len(f.ring.slots) > 0 && bits.OnesCount(uint(len(f.ring.slots))) != 1 {
				r.t.Fatalf("ring of %s: %d entries in %d places, at most %d", f.in.Name, n, len(f.ring.slots), f.most)
			}
			for i, before := 0, f.floor; f.kept != nil && f.in.Namespace && i < n; i++ {
				e := f.ring.nth(i)
				if e.seq != before+1 && !e.lost {
					r.t.Fatalf("ring of %s: %d comes after %d, and nothing says what is missing", f.in.Name, e.seq, before)
				}
				before = e.seq
			}
			if len(f.ring.slots) > 4*max(n, minRing) {
				r.t.Fatalf("ring of %s: %d places for %d entries", f.in.Name, len(f.ring.slots), n)
			}
		}
	}
	c := h.Counts()
	if entries != inRings || entries != c.RingMessages || weight != c.RingBytes || feeds != c.Feeds || subs != c.Patterns {
		r.t.Fatalf("hub: %d entries of weight %d linked, %d in %d rings, %d subs; counts say %+v", entries, weight, inRings, feeds, subs, c)
	}
	if pending != h.pending {
		r.t.Fatalf("messages of %d bytes wait to be passed on, counted %d", pending, h.pending)
	}
	if weight > h.cfg.RingMemory && entries > 1 {
		r.t.Fatalf("rings weigh %d, of at most %d", weight, h.cfg.RingMemory)
	}
	h.wantSharedConsistent(r)
}

// wantEmpty checks that nothing is left once everybody has gone.
func (r *rig) wantEmpty() {
	r.t.Helper()
	for _, sh := range r.shards {
		m := sh.members
		for _, g := range m.groups {
			if g != nil {
				r.t.Errorf("group %s is left", g.sub.pattern)
			}
		}
		for _, x := range m.extras.all {
			if x != nil {
				r.t.Errorf("an extra is left: %+v", x)
			}
		}
		if len(m.runnable)+len(m.again)+m.byPattern.len() != 0 || m.blend.view != nil {
			r.t.Errorf("left to do: %d views, %d slots; %d groups by pattern; blend of %v", len(m.runnable), len(m.again), m.byPattern.len(), m.blend.view)
		}
	}
	if c := r.hub.Counts(); c.Feeds != 0 || c.Patterns != 0 || c.RingMessages != 0 || c.RingBytes != 0 || r.hub.oldest != nil || r.hub.newest != nil {
		r.t.Errorf("the hub still has %+v", c)
	}
	if len(r.bus.standing) != 0 {
		r.t.Errorf("the bus still has %v", r.bus.standing)
	}
}
