package conn

import (
	"net/netip"

	"github.com/valyala/bytebufferpool"
)

// side is what a connection has only at times: bytes of a frame or request
// that a read cut, and bytes that the socket did not take.
type side struct {
	decoder  decoder                    // in the middle of a message
	head     *bytebufferpool.ByteBuffer // an unfinished request; while a response is held or on its way, what came behind its request; with flagBacklog, frames that wait
	client   netip.Addr                 // while requests are read: whose connection it is, where that is not the socket's address
	shared   []byte                     // rest of a frame that other connections share: never written to
	own      *bytebufferpool.ByteBuffer // control frames and replies that leave after shared
	ownSent  int                        // how much of own has left
	received int                        // bytes of decoder and head, as Receiving has counted them
	stalled  uint32                     // while flagWriteWatch is set: tick at which the socket last took some of it
}

// unsent says how many bytes wait for the socket.
func (s *side) unsent() int {
	n := len(s.shared)
	if s.own != nil {
		n += len(s.own.B) - s.ownSent
	}
	return n
}

func (s *side) empty() bool {
	return s.decoder.idle() && s.head == nil && s.shared == nil && s.own == nil && !s.client.IsValid()
}

// appendOwn keeps a copy of p behind everything that waits already.
func (s *side) appendOwn(p []byte) {
	if s.own == nil {
		s.own = getBuffer(len(p))
	}
	if s.ownSent > len(s.own.B)/2 {
		// A client that never reads all of it would make it grow for ever.
		s.own.B = s.own.B[:copy(s.own.B, s.own.B[s.ownSent:])]
		s.ownSent = 0
	}
	s.own.Write(p)
}

func (s *side) dropUnsent() {
	s.shared = nil
	putBuffer(s.own)
	s.own, s.ownSent = nil, 0
}

func (s *side) dropHead() {
	putBuffer(s.head)
	s.head = nil
}

// sides has the side records of a table. Index 0 is nobody's.
type sides struct {
	all   []*side
	spare []uint32
}

// sideOf returns the side record of a connection, giving it one if it has none.
func (t *Table) sideOf(r *record) *side {
	if r.side != 0 {
		return t.sides.all[r.side]
	}
	s := &t.sides
	if n := len(s.spare); n > 0 {
		r.side = s.spare[n-1]
		s.spare = s.spare[:n-1]
		s.all[r.side] = &side{}
		return s.all[r.side]
	}
	if len(s.all) == 0 {
		s.all = append(s.all, nil)
	}
	r.side = uint32(len(s.all))
	s.all = append(s.all, &side{})
	return s.all[r.side]
}

// trimSide takes an empty side record back, unless it says since when a socket
// has taken nothing.
func (t *Table) trimSide(r *record) {
	if r.side != 0 && r.flags&flagWriteWatch == 0 && t.sides.all[r.side].empty() {
		t.dropSide(r)
	}
}

// dropSide takes a side record back with all that is in it.
func (t *Table) dropSide(r *record) {
	if r.side == 0 {
		return
	}
	s := t.sides.all[r.side]
	s.dropUnsent()
	s.dropHead()
	s.decoder.release()
	t.countReceived(r)
	t.sides.all[r.side] = nil
	t.sides.spare = append(t.sides.spare, r.side)
	r.side = 0
}
