package conn

import "github.com/pushd/pushd/internal/gate"

// state of a connection. Order matters: from stateClosing on nothing is sent
// to it that was not sent before.
type state uint8

const (
	stateFree      state = iota
	stateArriving        // the PROXY header that it has to begin with is being read
	stateIdle            // a request was answered, and the next is awaited
	stateHandshake       // the request's head is being read
	stateHeld            // the 101, or the head of a stream, is ready and waits for Release
	stateAwaiting        // a request waits for Answer
	stateAnswered        // … and its answer is on its way
	stateOpen            // a WebSocket or a stream
	stateClosing         // our close frame or refusal is on its way
	stateLingering       // our side is shut down; waiting for the other side's end
	stateDead            // ends with this turn
)

// held reports whether nothing is read or sent until the handler says so.
func (s state) held() bool { return s == stateHeld || s == stateAwaiting }

type flags uint32

const (
	flagUpgraded    flags = 1 << iota // the handler accepted it and is owed a Closed
	flagToldClosed                    // … and has had it
	flagReadPaused                    // its replies do not drain: nothing is read of it
	flagWriteWatch                    // the poller reports when it is writable
	flagStream                        // it is no WebSocket but a GET: bytes go out as they are, and none are expected
	flagBlocked                       // a Send found no room: the handler is owed a Drained
	flagStaged                        // a frame waits for the lane's next flush
	flagStallListed                   // an entry in deadlines.stalled is its
	flagAdopted                       // it came by Adopt
	flagPaced                         // nothing but pings and pongs went over it since the last ping
	flagEnded                         // the other side has said its last, and all of it has been read
	flagLast                          // what is written next is the last, and leaves with our end
	flagUnlimited                     // its address is one that limits do not concern
	flagProxied                       // its socket is a proxy's: visit has the client's address
	flagThrottled                     // it sent too much: nothing is read of it until that is forgiven
	flagBacklog                       // part of what was read of it waits in its side's head: nothing more is read
	flagAgain                         // it has had an answer, and what is read is another request
	flagDeflates                      // it negotiated permessage-deflate: what it sends may be compressed
	flagOperator                      // it is of who runs the server: neither the quota nor the gate counts it
)

// record is one connection, without a pointer, so that a million of them are
// nothing to the garbage collector.
type record struct {
	fd         int32
	generation uint32
	received   uint32 // tick at which bytes last came
	sent       uint32 // tick at which the socket last took bytes
	pinged     uint32 // tick of a ping that nothing has followed; 0: none
	side       uint32 // index into sides; 0: none
	visit      gate.Visit
	heard      uint32 // bytes and frames that Config.ByteRate has not forgiven at tick received
	flags      flags
	state      state
	why        Reason // once closing or dead
}

const (
	pageBits = 10
	pageSize = 1 << pageBits
)

// slab has the records in pages that never move, so that growing copies
// nothing and a slot is two array accesses away.
type slab struct {
	pages []*[pageSize]record
	next  uint32   // first slot never used
	spare []uint32 // freed slots, last in first out: the warm ones first
	used  int
}

// at returns a slot's record; nil for a slot that was never given out.
func (s *slab) at(slot uint32) *record {
	if slot >= s.next {
		return nil
	}
	return &s.pages[slot>>pageBits][slot%pageSize]
}

// lastGeneration is where the generations of a slot begin again: the loop has
// the highest for itself, and 0 is no connection's. A slot gets there after
// two thousand million connections.
const lastGeneration = 1<<31 - 1

// nextGeneration is the generation of whoever has the slot after this.
func (r *record) nextGeneration() uint32 { return r.generation%lastGeneration + 1 }

// take gives out a slot with a generation that it did not have before.
func (s *slab) take(fd int) (uint32, *record) {
	var slot uint32
	if n := len(s.spare); n > 0 {
		slot = s.spare[n-1]
		s.spare = s.spare[:n-1]
	} else {
		slot = s.next
		if slot>>pageBits == uint32(len(s.pages)) {
			s.pages = append(s.pages, new([pageSize]record))
		}
		s.next++
	}
	s.used++
	r := s.at(slot)
	*r = record{fd: int32(fd), generation: r.nextGeneration()}
	return slot, r
}

func (s *slab) free(slot uint32) {
	r := s.at(slot)
	r.fd, r.state = -1, stateFree
	s.used--
	s.spare = append(s.spare, slot)
}
