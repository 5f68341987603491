package conn

import (
	"fmt"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/pushd/pushd/poller"
)

// lane is a way in which data gets to sockets.
type lane interface {
	// send takes frames for a connection for which nothing waits. They must
	// stay as they are. Sent means that it is on its way or will be with the next
	// flush; what the socket does not take of it is kept.
	send(id poller.Token, r *record, frames []byte) Result

	// sendCopy is send for memory that is the caller's again when it returns.
	sendCopy(id poller.Token, r *record, frames []byte) Result

	// flush sends all that was put by.
	flush()

	name() string
	close()
}

// Lanes by the name that Config.Lane has for them.
const (
	LaneAuto  = "auto"  // LaneURing where the kernel allows it
	LaneWrite = "write" // a write for each frame
	LaneURing = "uring" // many sends in one system call, by io_uring
)

// newLane makes the lane of a table.
func (t *Table) newLane(name string) (lane, error) {
	switch name {
	case LaneWrite, "":
		return writeLane{t}, nil
	case LaneSink:
		return sinkLane{t}, nil
	case LaneAuto, LaneURing:
	default:
		return nil, fmt.Errorf("conn: Config.Lane is %q: it must be %q, %q or %q", name, LaneAuto, LaneWrite, LaneURing)
	}
	ring, err := newURing(sendsAtATime)
	switch {
	case err == nil:
		return &uringLane{table: t, ring: ring, staged: make([]staged, 0, sendsAtATime)}, nil
	case name == LaneURing:
		return nil, fmt.Errorf("io_uring cannot be used here (--send=%s): %w", name, err)
	}
	t.cfg.Log.Info("io_uring cannot be used here: each frame is a write", "err", err)
	return writeLane{t}, nil
}

// writeLane sends at once. It knows right away when a socket takes nothing.
type writeLane struct{ table *Table }

func (l writeLane) send(id poller.Token, r *record, frames []byte) Result {
	n, res := l.table.write(id, r, frames)
	if res == Sent && n < len(frames) {
		l.table.sideOf(r).shared = frames[n:]
		l.table.watchWritable(id, r)
	}
	return res
}

func (l writeLane) sendCopy(id poller.Token, r *record, frames []byte) Result {
	n, res := l.table.write(id, r, frames)
	if res == Sent && n < len(frames) {
		l.table.sideOf(r).appendOwn(frames[n:])
		l.table.watchWritable(id, r)
	}
	return res
}

func (writeLane) flush()       {}
func (writeLane) close()       {}
func (writeLane) name() string { return LaneWrite }

const (
	// sendsAtATime is how many sends go into one system call. It cannot be
	// preempted, so it bounds what it takes: about 0.6 ms. Larger batches
	// gained nothing.
	sendsAtATime = 128

	// worthARing is how many sends must have come together for the ring to be
	// cheaper than as many writes.
	worthARing = 16
)

// uringLane puts frames by until there are enough, or the turn ends. A
// connection has at most one send there, since two that were cut
// independently could not be put together again.
type uringLane struct {
	table  *Table
	ring   *uring
	staged []staged
	copies []byte // what sendCopy has put by; it does not move while something is staged
}

// staged is a send that waits for the next flush.
type staged struct {
	id     poller.Token
	frames []byte
	copied bool // frames lie in copies
}

// copiesSize is how much sendCopy puts by: what is larger goes at once.
const copiesSize = 256 << 10

func (l *uringLane) send(id poller.Token, r *record, frames []byte) Result {
	l.stage(r, staged{id: id, frames: frames})
	return Sent
}

func (l *uringLane) sendCopy(id poller.Token, r *record, frames []byte) Result {
	if len(frames) > copiesSize {
		return writeLane{l.table}.sendCopy(id, r, frames)
	}
	if len(l.copies)+len(frames) > copiesSize {
		l.flush()
	}
	if l.copies == nil {
		l.copies = make([]byte, 0, copiesSize)
	}
	from := len(l.copies)
	l.copies = append(l.copies, frames...)
	l.stage(r, staged{id: id, frames: l.copies[from:], copied: true})
	return Sent
}

func (l *uringLane) stage(r *record, s staged) {
	r.flags |= flagStaged
	l.staged = append(l.staged, s)
	if len(l.staged) == cap(l.staged) {
		l.flush()
	}
}

func (l *uringLane) flush() {
	if len(l.staged) == 0 {
		return
	}
	t := l.table
	if len(l.staged) < worthARing {
		for i := range l.staged {
			n, errno := rawWrite(int(t.slab.at(l.staged[i].id.Slot()).fd), l.staged[i].frames)
			l.done(i, n, errno)
		}
	} else {
		for i := range l.staged {
			l.ring.add(t.slab.at(l.staged[i].id.Slot()).fd, l.staged[i].frames)
		}
		if err := l.ring.submit(l.result); err != nil {
			// Which of them left is not known any more: nothing can be put right.
			panic("conn: " + err.Error())
		}
		runtime.Gosched()
	}
	clear(l.staged)
	l.staged, l.copies = l.staged[:0], l.copies[:0]
}

func (l *uringLane) result(i int, result int32) {
	if result < 0 {
		l.done(i, 0, syscall.Errno(-result))
		return
	}
	l.done(i, int(result), 0)
}

// done notes what became of one send. Nothing of it is lost where the socket
// took none: it is kept as the rest of a cut one would be.
func (l *uringLane) done(i, n int, errno syscall.Errno) {
	t, s := l.table, l.staged[i]
	r := t.slab.at(s.id.Slot())
	r.flags &^= flagStaged
	if errno != 0 && errno != unix.EAGAIN {
		t.doom(s.id, r, reasonOfErrno(errno))
		return
	}
	if n > 0 {
		r.sent = t.loop.Now()
		t.tally.bytesOut += uint64(n)
	}
	if n == len(s.frames) || r.state == stateDead {
		return
	}
	if s.copied {
		t.sideOf(r).appendOwn(s.frames[n:])
	} else {
		t.sideOf(r).shared = s.frames[n:]
	}
	t.watchWritable(s.id, r)
}

func (l *uringLane) close()       { l.ring.close() }
func (l *uringLane) name() string { return LaneURing }

// settle sends what was put by for a connection, before something else is
// done with it.
func (t *Table) settle(r *record) {
	if r.flags&flagStaged != 0 {
		t.lane.flush()
	}
}
