package conn

import (
	"runtime"
	"syscall"

	"github.com/valyala/bytebufferpool"
	"golang.org/x/sys/unix"

	"github.com/pushd/pushd/poller"
)

// Two kinds of bytes go to a client. Data (Send, SendCopy) is taken only while
// nothing else waits: a socket that takes no more answers Blocked, and the
// caller keeps a cursor instead of the bytes. Control frames and replies
// (Reply) are always taken, within Config.MaxUnsent, so that a client slow in
// reading data still gets its pongs.

// Result says what became of data.
type Result uint8

const (
	Sent    Result = iota // the kernel has it, or has begun and the rest is kept
	Blocked               // nothing of it was taken; Handler.Drained follows
	Gone                  // the connection is closing or has ended
)

// yieldEvery bounds how many raw writes come between two points at which
// other goroutines may run on this processor.
const yieldEvery = 64

// keepReading is how many bytes of replies may wait before nothing more is
// read of the client that does not take them.
const keepReading = 16 << 10

// maxCork bounds the replies that are gathered for one write.
const maxCork = 16 << 10

// Send sends one or more frames that many connections share. They must stay as
// they are: what the socket does not take is kept by reference.
func (t *Table) Send(slot uint32, frames []byte) Result {
	r, res := t.sendable(slot)
	if res != Sent {
		return res
	}
	return t.send(poller.NewToken(slot, r.generation), r, frames)
}

// send is for a connection for which nothing waits.
func (t *Table) send(id poller.Token, r *record, frames []byte) Result {
	if s := t.secureOf(id.Slot()); s != nil {
		return t.sendSealed(id, r, s, frames)
	}
	return t.lane.send(id, r, frames)
}

// SendCopy is Send for memory that is the caller's again when it returns.
func (t *Table) SendCopy(slot uint32, frames []byte) Result {
	r, res := t.sendable(slot)
	if res != Sent {
		return res
	}
	id := poller.NewToken(slot, r.generation)
	if s := t.secureOf(slot); s != nil {
		return t.sendSealed(id, r, s, frames)
	}
	return t.lane.sendCopy(id, r, frames)
}

// sendable says whether data may be written to a slot now.
func (t *Table) sendable(slot uint32) (*record, Result) {
	r := t.slab.at(slot)
	if r == nil || r.state != stateOpen && !r.state.held() {
		return nil, Gone
	}
	if slot == t.corked && r.state == stateOpen { // the replies before it go before it
		if t.flushCork(poller.NewToken(slot, r.generation), r); r.state != stateOpen {
			return nil, Gone
		}
	}
	if t.settle(r); r.state == stateDead {
		return nil, Gone
	}
	if r.state.held() || t.unsent(r) > 0 {
		r.flags |= flagBlocked
		t.tally.blocked++
		return nil, Blocked
	}
	r.flags &^= flagPaced
	return r, Sent
}

// write gives data to the kernel. Of data that was taken in part the caller
// keeps the rest.
func (t *Table) write(id poller.Token, r *record, p []byte) (int, Result) {
	n, errno := t.writeRaw(r, p)
	switch errno {
	case 0:
		return n, Sent
	case unix.EAGAIN:
		r.flags |= flagBlocked
		t.tally.blocked++
		t.watchWritable(id, r)
		return 0, Blocked
	default:
		t.doom(id, r, reasonOfErrno(errno))
		return 0, Gone
	}
}

func (t *Table) writeRaw(r *record, p []byte) (int, syscall.Errno) {
	if t.sends++; t.sends%yieldEvery == 0 {
		runtime.Gosched()
	}
	var n int
	var errno syscall.Errno
	if r.flags&flagLast == 0 {
		n, errno = rawWrite(int(r.fd), p)
	} else {
		r.flags &^= flagLast
		n, errno = rawWriteLast(int(r.fd), p)
	}
	if n > 0 {
		r.sent = t.loop.Now()
		t.tally.bytesOut += uint64(n)
	}
	return n, errno
}

// reasonOfErrno names a failed read or write.
func reasonOfErrno(errno syscall.Errno) Reason {
	switch errno {
	case unix.EPIPE, unix.ECONNRESET, unix.ETIMEDOUT, unix.EHOSTUNREACH, unix.ENETUNREACH:
		return ReasonClientGone
	}
	return ReasonIOError
}

// Reply sends a control frame or a reply. Replies to what one read brought
// leave together when all of it has been looked at. The bytes are copied.
func (t *Table) Reply(id poller.Token, frame []byte) {
	r := t.live(id)
	if r == nil || r.state >= stateClosing || r.state == stateAnswered {
		return
	}
	t.push(id, r, frame)
}

// push is Reply for a connection known to be there, its close frame included.
func (t *Table) push(id poller.Token, r *record, p []byte) {
	if id.Slot() == t.corked {
		if t.gather(id, r, p) || r.state == stateDead {
			return
		}
	}
	t.settle(r)
	if r.state == stateDead {
		return
	}
	if s := t.secureOf(id.Slot()); s != nil && !r.state.held() {
		t.clear = append(t.clear[:0], p...) // what is handed to crypto/tls escapes: callers' frames would be allocated, without TLS too
		if p = t.seal(id, r, s, t.clear); p == nil {
			return
		}
	}
	t.pushRaw(id, r, p)
}

// pushRaw is push for what goes to the socket as it is.
func (t *Table) pushRaw(id poller.Token, r *record, p []byte) {
	if r.state.held() || t.unsent(r) > 0 {
		s := t.sideOf(r)
		s.appendOwn(p)
		t.boundUnsent(id, r, s)
		return
	}
	n, errno := t.writeRaw(r, p)
	if errno != 0 && errno != unix.EAGAIN {
		t.doom(id, r, reasonOfErrno(errno))
		return
	}
	if n < len(p) {
		s := t.sideOf(r)
		s.appendOwn(p[n:])
		t.boundUnsent(id, r, s)
		t.watchWritable(id, r)
	}
}

// boundUnsent ends a connection that makes us keep too much for it, and stops
// reading of one that is on the way there.
func (t *Table) boundUnsent(id poller.Token, r *record, s *side) {
	n := s.unsent()
	if n > t.cfg.MaxUnsent {
		t.doom(id, r, ReasonTooSlow)
		return
	}
	if n > keepReading && r.state == stateOpen && r.flags&flagReadPaused == 0 {
		t.watch(id, r, false, r.flags&flagWriteWatch != 0)
	}
}

func (t *Table) unsent(r *record) int {
	if r.side == 0 {
		return 0
	}
	return t.sides.all[r.side].unsent()
}

// cork gathers the replies to one connection until uncork.
func (t *Table) cork(id poller.Token) { t.corked = id.Slot() }

// gather keeps a copy of p for the write that uncork makes. It answers false
// where that would be too much; then what was gathered before has been sent.
// What belongs to the 101 is gathered whatever it comes to.
func (t *Table) gather(id poller.Token, r *record, p []byte) bool {
	if r.state == stateOpen {
		if t.out != nil && len(t.out.B)+len(p) > maxCork {
			t.flushCork(id, r)
		}
		if len(p) > maxCork || r.state == stateDead {
			return false
		}
	}
	if t.out == nil {
		t.out = bytebufferpool.Get()
	}
	t.out.Write(p)
	return true
}

func (t *Table) uncork(id poller.Token, r *record) {
	t.flushCork(id, r)
	t.corked = noSlot
	if r.state == stateClosing {
		t.closeOurSide(id, r)
	}
}

// flushCork sends what was gathered and leaves the cork in.
func (t *Table) flushCork(id poller.Token, r *record) {
	out := t.out
	if out == nil {
		return
	}
	t.out = nil
	slot := t.corked
	t.corked = noSlot
	if r.state != stateDead {
		t.push(id, r, out.B)
	}
	t.corked = slot
	putBuffer(out)
}

// writable goes on with what a socket did not take before.
func (t *Table) writable(id poller.Token, r *record) {
	if r.side != 0 && !t.sendRest(id, r, t.sides.all[r.side]) {
		return
	}
	t.watch(id, r, true, false)
	t.trimSide(r)
	switch {
	case r.state == stateAnswered:
		t.answered(id, r)
		return
	case r.state >= stateClosing:
		t.closeOurSide(id, r)
		return
	}
	if r.flags&flagBlocked != 0 {
		r.flags &^= flagBlocked
		t.handler.Drained(id)
	}
}

// sendRest reports whether everything that waited has left.
func (t *Table) sendRest(id poller.Token, r *record, s *side) bool {
	for s.unsent() > 0 {
		p := s.shared
		if len(p) == 0 {
			p = s.own.B[s.ownSent:]
		}
		n, errno := t.writeRaw(r, p)
		if errno == unix.EAGAIN {
			return false
		}
		if errno != 0 {
			t.doom(id, r, reasonOfErrno(errno))
			return false
		}
		s.stalled = t.loop.Now()
		if len(s.shared) > 0 {
			s.shared = s.shared[n:]
		} else {
			s.ownSent += n
		}
	}
	s.dropUnsent()
	t.answerLeft(id.Slot())
	return true
}

// watchWritable asks the poller for room, and notes since when there is none.
func (t *Table) watchWritable(id poller.Token, r *record) {
	if r.flags&flagWriteWatch != 0 || r.state == stateDead {
		return
	}
	t.watch(id, r, r.flags&flagReadPaused == 0, true)
	t.sideOf(r).stalled = t.loop.Now()
	t.listStalled(id, r)
}

// watch tells the poller what to report of a connection.
func (t *Table) watch(id poller.Token, r *record, read, write bool) {
	read = read && r.flags&flagThrottled == 0 && (r.flags&flagBacklog == 0 || r.state != stateOpen)
	want := r.flags &^ (flagReadPaused | flagWriteWatch)
	var e poller.Events
	if read {
		e |= poller.Readable
	} else {
		want |= flagReadPaused
		if !r.state.held() {
			e |= poller.IgnoreHalfClose // it may have said its last and still read
		}
	}
	if write {
		e |= poller.Writable
		want |= flagWriteWatch
	}
	if want == r.flags {
		return
	}
	r.flags = want
	if err := t.loop.Modify(int(r.fd), id, e); err != nil {
		t.cfg.Log.Error("poller refused a socket", "fd", r.fd, "err", err)
		t.doom(id, r, ReasonInternal)
	}
}
