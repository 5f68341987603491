package server

import (
	"math/bits"
	"time"

	"github.com/pushd/pushd/conn"
	"github.com/pushd/pushd/internal/wire"
)

// leavingTick is how often a shard's clients leave: with each of its loop's ticks.
const leavingTick = 100 * time.Millisecond

// leaving is how far a shard's part of a drain has come. Its clients leave in the
// order of their slots, one after the other in equal parts of the window. It keeps
// a bit for each slot and nothing for a connection: who goes by himself leaves a
// gap, and hurries nobody.
type leaving struct {
	begins time.Time // zero: there is no drain
	window time.Duration

	there  []uint64 // the slots that had a client when it began, a bit for each; nil: it has not
	many   uint32   // of them
	atOnce uint32   // how many may be closed in one tick
	told   march    // who have had their `reconnect`
	closed march    // who have been closed
}

// march is how far one has come through the slots.
type march struct {
	slot uint32 // the next
	rank uint32 // how many had a client of those before it
}

func (l *leaving) begun(now time.Time) bool { return !l.begins.IsZero() && !now.Before(l.begins) }

// ends is when nobody may be left.
func (l *leaving) ends() time.Time { return l.begins.Add(l.window) }

// until is how long the client of a rank may stay, less than nothing if it is late.
func (l *leaving) until(rank uint32, now time.Time) time.Duration {
	return time.Duration(float64(l.window)*float64(rank+1)/float64(l.many)) - now.Sub(l.begins)
}

// inOneTick is how many of so many may be closed in one tick. A loop that was late
// does not make up for it: those who leave come to another node, which was promised
// a pace.
func (l *leaving) inOneTick(many uint32) uint32 {
	if l.window < leavingTick {
		return tellAtOnce
	}
	parts := uint32(l.window / leavingTick)
	return min(tellAtOnce, (many+parts-1)/parts)
}

// next moves on to a slot that had a client, and reports false where there is none.
func (l *leaving) next(m *march) bool {
	for ; m.slot < uint32(len(l.there))*64; m.slot++ {
		word := l.there[m.slot/64] >> (m.slot % 64)
		if word == 0 {
			m.slot |= 63
			continue
		}
		m.slot += uint32(bits.TrailingZeros64(word))
		return true
	}
	return false
}

// pass leaves the slot that next has found.
func (m *march) pass() {
	m.slot++
	m.rank++
}

// drain goes on with a drain that has begun: it is called every tick.
func (sh *shard) drain(now time.Time) {
	l := &sh.leaving
	if !l.begun(now) {
		return
	}
	if l.there == nil {
		sh.beginLeaving(now)
	}
	for end := l.told.rank + tellAtOnce; l.told.rank < end && l.next(&l.told); l.told.pass() {
		sh.tellToLeave(l.told.slot, l.until(l.told.rank, now))
	}
	for end := l.closed.rank + l.atOnce; l.closed.rank < min(l.told.rank, end) && l.until(l.closed.rank, now) <= 0; l.closed.pass() {
		l.next(&l.closed)
		id := sh.table.ID(l.closed.slot)
		if p := sh.poll(id); p == nil || !now.Before(p.leaves) { // else it is another's, who came since
			sh.disconnect(id, conn.ReasonDraining)
		}
	}
	if l.closed.rank == l.many && !now.Before(l.ends()) && sh.table.Counts().Open > 0 { // those whose 101 had to wait for NATS
		l.there = nil
	}
}

// beginLeaving notes who is there, and begins anew with telling and closing.
func (sh *shard) beginLeaving(now time.Time) {
	l := &sh.leaving
	slots := sh.table.Slots()
	*l = leaving{begins: l.begins, window: l.window, atOnce: l.atOnce, there: make([]uint64, slots/64+1)}
	for slot := range slots {
		id := sh.table.ID(slot)
		if p := sh.poll(id); p != nil && now.Before(p.leaves) {
			continue // it came since, and has been given its time
		}
		if (sh.table.IsOpen(id) || sh.table.IsHeld(id)) && !sh.isOperator(slot) {
			l.there[slot/64] |= 1 << (slot % 64)
			l.many++
		}
	}
	l.atOnce = max(l.atOnce, l.inOneTick(l.many))
}

func (sh *shard) tellToLeave(slot uint32, after time.Duration) {
	id := sh.table.ID(slot)
	if p := sh.poll(id); p != nil {
		sh.tellPollToLeave(p, after)
		return
	}
	if sh.table.IsOpen(id) && sh.client(slot).shape.tells() {
		sh.reply(id, wire.AppendReconnect(sh.json[:0], max(0, after), wire.ReconnectDraining))
	}
}
