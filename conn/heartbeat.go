package conn

import (
	"github.com/gobwas/ws"

	"github.com/pushd/pushd/poller"
)

// sweepsPerHeartbeat is how often each connection is looked at within one
// heartbeat. So a ping comes late by at most a tenth of it, and the pings of
// those who fell silent at one time are spread over as much.
const sweepsPerHeartbeat = 10

// pingFrame is shared by all: a ping needs no payload to be answered.
var pingFrame = AppendFrame(nil, ws.OpPing, nil)

// sweep looks at the next slice of slots. So the phase of a heartbeat is the
// slot's number, and there is no timer: 3 ns for a connection that is not due.
func (t *Table) sweep(now uint32) {
	n := uint64(t.slab.next)
	period := uint64(max(t.ticks.heartbeat/sweepsPerHeartbeat, 1))
	t.sweepDebt += n * uint64(now-t.sweptAt) // more than one tick, if the loop was held up
	t.sweptAt = now
	slice := t.sweepDebt / period
	t.sweepDebt -= slice * period
	slice = min(slice, n)
	for range slice {
		if t.sweepAt >= t.slab.next {
			t.sweepAt = 0
		}
		if r := t.slab.at(t.sweepAt); r.state == stateOpen {
			t.beat(poller.NewToken(t.sweepAt, r.generation), r, now)
		}
		t.sweepAt++
	}
}

// beat pings a connection over which nothing went for a heartbeat, or has a stream
// show that it is alive, and closes one that has not answered by anything. One to
// which something was sent lately is left alone: whether its host is there TCP
// finds out by itself (TCP_USER_TIMEOUT on the listener).
//
// While bytes wait for the socket, WriteTimeout watches over it: a ping would
// wait behind them, and its pong might wait unread (flagReadPaused).
func (t *Table) beat(id poller.Token, r *record, now uint32) {
	if t.unsent(r) > 0 {
		if r.pinged != 0 {
			r.pinged = max(now, 1) // the wait for the pong begins when the ping has left
		}
		return
	}
	if r.pinged != 0 {
		if !t.frozen && now-r.pinged >= t.ticks.pong && // else the pong may not have been read
			now-r.received >= t.ticks.heartbeat+t.ticks.pong {
			t.Close(id, ReasonSilent)
		}
		return
	}
	frame, patience := pingFrame, t.patience(id, r)
	if r.flags&flagStream != 0 {
		frame = t.cfg.Beat // which nobody answers: whether the client is there TCP finds out
		if now-r.sent < patience || len(frame) == 0 {
			return
		}
	} else {
		if now-r.received < patience || now-r.sent < patience {
			return
		}
		r.pinged = max(now, 1)
	}
	r.flags |= flagPaced
	t.tally.pings++
	if r.flags&flagStaged != 0 || t.send(id, r, frame) == Blocked {
		t.push(id, r, frame) // behind what is there: a ping must not get lost
	}
}

// patience is how many ticks of silence earn a connection a ping. Very many
// fall silent at one time: after a message to all, or when all connected at
// once. So the first ping comes earlier, by up to half a heartbeat, according
// to the slot. Those after it keep the rhythm that has been spread by then.
// Slots that the sweep looks at together are far apart in it.
func (t *Table) patience(id poller.Token, r *record) uint32 {
	if r.flags&flagPaced != 0 {
		return t.ticks.heartbeat
	}
	step := id.Slot() * 2654435769 >> 24 // of 256: multiplying by the golden ratio spreads neighbours evenly
	return t.ticks.heartbeat - t.ticks.heartbeat*step/(2*256)
}
