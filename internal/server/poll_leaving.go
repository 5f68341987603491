package server

import (
	"math"
	"time"

	"github.com/pushd/pushd/conn"
	"github.com/pushd/pushd/internal/wire"
)

// A client that polls has no connection that could be closed when its time in a
// drain has come, and between two polls it is not there at all. So a node that is
// drained goes on answering polls, and each answer says how long the client may
// stay: until the time that is its own where its connection is kept, and else one of
// those that are left. The poll that waits at that time is the last.

// stays are the times of those who poll while a shard is drained.
type stays struct {
	from float64 // static: the part of the window at which the first begins, another for each shard

	// Loop-only.
	until map[uint32]time.Time // by slot, of connections that are kept
	given uint32               // to clients that were not there when it began
}

// golden is the part of the rest of a window by which one time is ahead of the one
// given before it, round and round: as many as there are of them, they lie evenly
// over it, and nobody has to know how many will come.
const golden = math.Phi - 1

// next is the time for another client.
func (s *stays) next(now, end time.Time) time.Time {
	s.given++
	_, part := math.Modf(s.from + float64(s.given)*golden)
	return now.Add(time.Duration(part * float64(end.Sub(now))))
}

// pollsUntil says until when the client of a slot may poll in the drain that has
// begun: if that is over, it is answered a last time. again says that it is the one
// that polled before. Who comes when the window is over is not taken.
func (sh *shard) pollsUntil(slot uint32, again, keep bool, now time.Time) (at time.Time, taken bool) {
	s := &sh.stays
	if !again {
		delete(s.until, slot)
	}
	at, known := s.until[slot]
	switch ends := sh.leaving.ends(); {
	case known:
	case !now.Before(ends):
		return at, false
	default:
		if at = s.next(now, ends); keep {
			sh.letStay(slot, at)
		}
	}
	return at, true
}

func (sh *shard) letStay(slot uint32, until time.Time) {
	if sh.stays.until == nil {
		sh.stays.until = make(map[uint32]time.Time)
	}
	sh.stays.until[slot] = until
	sh.server.draining.awaits(until)
}

// tellPollToLeave gives a poll that waited when the drain began its time. Where its
// connection is kept it is answered at once: between two polls it could not be told.
// Else its answer is the end of the connection, and the next poll is another node's:
// so it waits on.
func (sh *shard) tellPollToLeave(p *poll, after time.Duration) {
	if !p.leaves.IsZero() {
		return // it came since, and has one
	}
	p.leaves = time.Now().Add(after)
	if !p.keep {
		sh.waitUntil(p, after)
		return
	}
	sh.letStay(p.id.Slot(), p.leaves)
	p.hurried = true
	sh.lookAt(p)
}

// waitUntil has a poll wait for so long and no longer, by the tick behind that: then
// its time to leave has come too.
func (sh *shard) waitUntil(p *poll, after time.Duration) {
	if until := sh.loop.Now() + sh.ticks(max(0, after)) + 1; int32(until-p.until) < 0 {
		p.until = until
		sh.lookLater(p, until)
	}
}

// advisePoll puts into the last bytes of an answer how long the client may stay.
func (sh *shard) advisePoll(p *poll) {
	if p.leaves.IsZero() {
		return
	}
	left := time.Until(p.leaves)
	sh.tellPoll(p, wire.AppendReconnect(sh.json[:0], max(0, left), wire.ReconnectDraining))
	if left <= 0 && p.closed == conn.ReasonNone {
		p.closed, p.keep = conn.ReasonDraining, false
	}
}
