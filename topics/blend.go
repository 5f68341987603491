package topics

import "time"

// blend is several entries on their way to the members of one shard, turned
// around: gathered by connection first, so that each gets all it is due in one
// write. Writes are nearly all that a delivery costs, and this is how there are
// fewer of them when messages come faster than they leave. It also serves
// entries for several groups that overlap: each connection gets them once.
//
// Gathering is done in one go. So nobody minds who joins or leaves while the
// writes go out in slices: whoever leaves is found to have left, and whoever
// changes its subscriptions gets what it is due first.
type blend struct {
	view    *view // whose batch it is; nil: none
	entries []*entry
	due     []due    // by connection, in the order in which they were met
	links   []link   // what each is due
	heard   []uint32 // by entry: how many were due it; made where somebody follows one
	next    int      // in due
	sent    int
	began   time.Time
}

// due is what one connection gets: a chain of links.
type due struct {
	slot        uint32
	first, last uint32
}

type link struct {
	entry uint32 // in blend.entries
	next  uint32 // in blend.links; 0: none, for no chain leads to the first link
}

// gather fills an empty blend from the front of entries: all of them, up to a
// mark of loss and the limits on pairs of entry and member, and on what a slice
// can encode. It returns how many.
func (b *blend) gather(v *view, entries []*entry) int {
	b.view, b.began = v, time.Now()
	bytes := 0
	for _, e := range entries {
		if e.lost || len(b.links) > v.members.pace.blend || bytes > v.members.pace.slice*encodedPerSend {
			break
		}
		bytes += len(e.Data)
		for _, s := range e.matched.subs {
			for g := v.members.groupOf(s.pattern); g != nil; g = g.sibling {
				if g.sub != s || g.pace != nil || e.seq <= g.since {
					continue
				}
				g.newest = e.seq
				for i := range g.members {
					b.add(v, g.members[i].slot)
				}
			}
		}
		b.entries = append(b.entries, e)
	}
	return len(b.entries)
}

// add has a connection get the entry that is being gathered.
func (b *blend) add(v *view, slot uint32) {
	m := v.members
	s := m.at(slot)
	if s.behind && m.lagOf(s, v) != nil {
		return // it will come to this entry by itself
	}
	e := uint32(len(b.entries))
	at := uint32(len(b.links))
	if s.due == 0 {
		b.due = append(b.due, due{slot, at, at})
		b.links = append(b.links, link{entry: e})
		s.due = uint32(len(b.due))
		return
	}
	d := &b.due[s.due-1]
	if b.links[d.last].entry == e {
		return // by another of its subscriptions
	}
	b.links = append(b.links, link{entry: e})
	b.links[d.last].next = at
	d.last = at
}

func (b *blend) done() bool { return b.next == len(b.due) }

// step writes to at most budget connections.
func (b *blend) step(budget int) (n int) {
	for ; n < budget && !b.done(); n++ {
		i := b.next
		b.next++
		if s := b.view.members.at(b.due[i].slot); s.due == uint32(i+1) { // else it has left, or has had it
			s.due = 0
			b.send(s, b.due[i])
			n += b.view.members.effort()
		}
	}
	return n
}

// settle gives a connection what it is due now, because its subscriptions
// are about to change.
func (b *blend) settle(s *seating, v *view) {
	if b.view == v && s.due != 0 {
		d := b.due[s.due-1]
		s.due = 0
		b.send(s, d)
	}
}

// send writes a chain, or makes the connection one that is behind from the
// first entry that its socket did not take.
func (b *blend) send(s *seating, d due) {
	m := b.view.members
	first := b.entries[b.links[d.first].entry]
	if d.first == d.last {
		b.count(s, d.slot, first, m.to.Send(d.slot, m.frame(first, s.format)), 1)
		return
	}
	frames := 0
	m.buf = m.buf[:0]
	for at := d.first; ; at = b.links[at].next {
		e := b.entries[b.links[at].entry]
		frame := m.frame(e, s.format)
		if frames > 0 && len(m.buf)+len(frame) > m.pace.writeBytes {
			if !b.count(s, d.slot, first, m.to.SendCopy(d.slot, m.buf), frames) {
				return
			}
			m.buf, frames, first = m.buf[:0], 0, e
		}
		m.buf = append(m.buf, frame...)
		frames++
		if at == d.last {
			break
		}
	}
	b.count(s, d.slot, first, m.to.SendCopy(d.slot, m.buf), frames)
}

// count notes what became of a write that began with an entry, and reports
// whether it was taken.
func (b *blend) count(s *seating, slot uint32, first *entry, o Outcome, frames int) bool {
	switch o {
	case Sent:
		b.sent += frames
		return true
	case Blocked:
		b.view.members.fellBehind(slot, s, b.view, first)
	}
	return false
}

// finish ends the blend, and keeps its room.
func (b *blend) finish() {
	m := b.view.members
	m.stats.deliveries.Add(uint64(b.sent))
	m.to.FannedOut(b.sent, time.Since(b.began))
	b.handed()
	clear(b.entries)
	*b = blend{entries: b.entries[:0], due: shrunk(b.due)[:0], links: shrunk(b.links)[:0], heard: shrunk(b.heard)[:0]}
}
