package topics

import "time"

// fanout is a run of entries on its way to the members of the one group that
// they concern, all of them in one write; or a mark of loss on its way to each
// group by itself. It goes in slices, so that reads, heartbeats and other feeds
// come between. Meanwhile a member who leaves becomes a hole in its group, and
// one who joins stands behind the share that gets this run. What concerns
// several groups goes by a blend.
type fanout struct {
	run    []*entry // messages with the same match, or one mark; empty: nothing is under way
	shares []share
	at     int // share under way
	next   int // its next member
	sent   int
	frames [MaxFormats][]byte // of the run, as far as needed; of a mark of loss, of the group under way
	began  time.Time
	flush  *group // whose held values these are; nil: entries as they come
	skips  []int  // of a flush: values that each of run replaces
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

func (fan *fanout) idle() bool { return len(fan.run) == 0 }

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
				n += 1 + v.members.effort()
			}
		}
		if fan.next == share.end {
			fan.at, fan.next = fan.at+1, 0
			if fan.run[0].lost {
				clear(fan.frames[:])
			}
		}
	}
	return n
}

// send gives the run to one member, or makes it one that is behind.
func (fan *fanout) send(v *view, g *group, slot uint32) {
	m := v.members
	s := m.at(slot)
	if s.behind && m.lagOf(s, v) != nil {
		return // it will come to these entries by itself
	}
	if first := fan.run[0]; first.lost && first.why == LossRestarted && g.mode == ModeLatest {
		m.beginAnew(slot, s, g, first)
		return
	}
	frame := fan.frames[s.format]
	if frame == nil {
		if frame = fan.frame(m, g, s.format); frame == nil {
			return
		}
		fan.frames[s.format] = frame
	}
	switch first := fan.run[0]; m.to.Send(slot, frame) {
	case Sent:
		fan.sent += len(fan.run)
		if first.lost {
			m.stats.gaps[first.why].Add(1)
		}
	case Blocked:
		if fan.flush == nil {
			m.fellBehind(slot, s, v, first)
		} else {
			m.fellBehindFlush(slot, s, v)
		}
	}
}

// frame is the run as one piece, which everybody shares.
func (fan *fanout) frame(m *Members, g *group, f Format) []byte {
	first := fan.run[0]
	switch {
	case first.lost:
		return m.hub.enc.Gap(f, g.sub.pattern, first.why, first.from, first.to)
	case fan.flush != nil:
		return fan.flushFrame(m, f)
	case len(fan.run) == 1:
		return m.frame(first, f)
	}
	size := 0
	for _, e := range fan.run {
		size += len(m.frame(e, f))
	}
	all := make([]byte, 0, size)
	for _, e := range fan.run {
		all = append(all, m.frame(e, f)...)
	}
	return all
}

// spares reports whether the member at an index of a group does not get the
// entry any more, though the group does: it has had it, or joined too late.
func (fan *fanout) spares(g *group, index uint32) bool {
	return g.busy && (int(g.share) < fan.at || int(index) >= fan.shares[g.share].end)
}

// served reports whether the member at an index of a group has had its turn in
// the share under way. What came of it is known unless it is being served now.
func (fan *fanout) served(g *group, index uint32) bool {
	return g.busy && int(g.share) == fan.at && int(index) < fan.next
}
