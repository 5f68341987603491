package conn

import "github.com/pushd/pushd/poller"

// LaneSink takes everything and sends nothing. It is for Simulate.
const LaneSink = "sink"

// Simulate adds an open connection that has no socket, for measurements of what
// a machine has no sockets for. The table's lane must be LaneSink; such a
// connection is sent to, pinged and found silent like any other.
func (t *Table) Simulate() poller.Token {
	slot, r := t.slab.take(-1)
	r.state = stateOpen
	r.flags = flagUpgraded | flagToldClosed // nobody was asked, so nobody is told
	r.received, r.sent = t.loop.Now(), t.loop.Now()
	t.tally.open++
	return poller.NewToken(slot, r.generation)
}

// sinkLane is where the sends to simulated connections go.
type sinkLane struct{ table *Table }

func (l sinkLane) send(_ poller.Token, r *record, frames []byte) Result {
	r.sent = l.table.loop.Now()
	l.table.tally.bytesOut += uint64(len(frames))
	return Sent
}

func (l sinkLane) sendCopy(id poller.Token, r *record, frames []byte) Result {
	return l.send(id, r, frames)
}

func (sinkLane) flush()       {}
func (sinkLane) close()       {}
func (sinkLane) name() string { return LaneSink }
