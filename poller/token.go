package poller

import "golang.org/x/sys/unix"

// Token names a registered descriptor in the events about it. It is the caller's: a slot in the low 32 bits and, in the
// high 32, a generation that the caller changes each time it gives the slot to another connection. So an event that was
// fetched before its connection was replaced is seen for what it is. Generation 0xFFFFFFFF is the loop's own.
type Token uint64

// Tokens of the descriptors that every loop owns.
const (
	loopGeneration = 1<<32 - 1

	wakeToken Token = loopGeneration << 32
	tickToken Token = wakeToken + 1
)

// NewToken joins a slot and its generation.
func NewToken(slot, generation uint32) Token {
	return Token(generation)<<32 | Token(slot)
}

// Slot returns the low 32 bits.
func (t Token) Slot() uint32 { return uint32(t) }

// Generation returns the high 32 bits.
func (t Token) Generation() uint32 { return uint32(t >> 32) }

// Events is what a socket is ready for, or what its owner wants to be told of. Reports are level-triggered: as long as
// bytes are left to be read, Readable comes back in every turn.
type Events uint8

// Events to ask for and to be told of.
const (
	// Readable: there is something to read, end of file included; on a listener, a connection to accept.
	Readable Events = 1 << iota

	// Writable: the kernel takes more bytes.
	Writable

	// HangUp: the peer closed or shut its side down, or the socket failed. It is reported whatever was asked for,
	// and again in every turn until the descriptor is removed; for a peer that shut down only its sending side,
	// IgnoreHalfClose ends that.
	HangUp

	// IgnoreHalfClose is only for Add and Modify: the owner knows that the peer has shut down its sending side, still
	// has bytes for it and does not want to hear of it every turn. A full close and an error are still HangUp.
	IgnoreHalfClose
)

// mask translates what the owner asks for to epoll. The kernel reports EPOLLHUP and EPOLLERR unasked.
func (e Events) mask() uint32 {
	var mask uint32
	if e&Readable != 0 {
		mask |= unix.EPOLLIN
	}
	if e&Writable != 0 {
		mask |= unix.EPOLLOUT
	}
	if e&IgnoreHalfClose == 0 {
		mask |= unix.EPOLLRDHUP
	}
	return mask
}

// eventsOf translates what epoll reports; 0 means that the mask holds nothing an owner could care for.
func eventsOf(mask uint32) Events {
	var e Events
	if mask&unix.EPOLLIN != 0 {
		e |= Readable
	}
	if mask&unix.EPOLLOUT != 0 {
		e |= Writable
	}
	if mask&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		e |= HangUp
	}
	return e
}
