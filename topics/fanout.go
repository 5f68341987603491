package topics

import "time"

// fanout is one entry on its way to the members of one shard. It goes in
// slices, so that reads, heartbeats and other feeds come between. Meanwhile a
// member who leaves becomes a hole in its group, and one who joins stands
// behind the share that gets this entry.
type fanout struct {
	entry  *entry // nil: none is under way
	shares []share
	at     int  // share under way
	next   int  // its next member
	once   bool // groups overlap: stamp each slot that has had it
	sent   int
	frames [MaxFormats][]byte // of entry, as far as needed; of a mark of loss, of the group under way
	began  time.Time
}

// share is the members that a group had when the fan-out began.
type share struct {
	group *group
	end   int
}

// add adds a group, unless the entry came before its time.
func (fan *fanout) add(g *group, e *entry) {
	if e.seq > g.since {
		fan.shares = append(fan.shares, share{g, len(g.members)})
	}
}

func (fan *fanout) done() bool { return fan.at == len(fan.shares) }

// reset forgets the entry, and keeps the room for shares.
func (fan *fanout) reset() {
	clear(fan.shares)
	*fan = fanout{shares: shrunk(fan.shares)[:0]}
}

// step sends to at most budget members. It allocates nothing for a member that keeps up.
func (fan *fanout) step(v *view, budget int) int {
	n := 0
	for fan.at < len(fan.shares) && n < budget {
		share := fan.shares[fan.at]
		for fan.next < share.end && n < budget {
			to := share.group.members[fan.next]
			fan.next++
			if to.slot != noSlot {
				fan.send(v, share.group, to.slot)
				n++
			}
		}
		if fan.next == share.end {
			fan.at, fan.next = fan.at+1, 0
			if fan.entry.lost {
				clear(fan.frames[:])
			}
		}
	}
	return n
}

// send gives the entry to one member, or makes it one that is behind.
func (fan *fanout) send(v *view, g *group, slot uint32) {
	m := v.members
	s := m.at(slot)
	if fan.once {
		if s.stamp == m.stamp {
			return
		}
		s.stamp = m.stamp
	}
	if s.behind && m.lagOf(s, v) != nil {
		return // it will come to this entry by itself
	}
	frame := fan.frames[s.format]
	if frame == nil {
		if frame = fan.frame(m, g, s.format); frame == nil {
			return
		}
		fan.frames[s.format] = frame
	}
	switch m.to.Send(slot, frame) {
	case Sent:
		fan.sent++
		if fan.entry.lost {
			m.stats.gaps[fan.entry.why].Add(1)
		}
	case Blocked:
		m.fallBehind(slot, s, v)
	}
}

func (fan *fanout) frame(m *Members, g *group, f Format) []byte {
	if fan.entry.lost {
		return m.hub.enc.Gap(f, g.sub.pattern, fan.entry.why)
	}
	return fan.entry.frame(m.hub.enc, f)
}

// spares reports whether the member at an index of a group does not get the
// entry any more, though the group does: it has had it, or joined too late.
func (fan *fanout) spares(g *group, index uint32) bool {
	return g.busy && (int(g.share) < fan.at || int(index) >= fan.shares[g.share].end)
}
