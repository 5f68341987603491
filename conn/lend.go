package conn

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/pushd/pushd/poller"
)

// Sockets go ahead of what there is to say of their connections: to send and to
// watch them takes longer than all the rest, and clients need not wait for it.
// Until Thaw the table has lent them: each may have a duplicate elsewhere, with
// which it stays in a set, and open, when it is closed here.

// Lend duplicates the sockets of at most so many open connections, in slots from one
// on. The duplicates are the caller's. next is where to go on; at Slots all have
// been looked at. Not all of them can be exported.
func (t *Table) Lend(from uint32, most int) (ids []poller.Token, fds []int, next uint32, err error) {
	if t.secures != nil {
		return nil, nil, t.slab.next, nil
	}
	t.lending = true
	for next = from; next < t.slab.next && len(fds) < most; next++ {
		r := t.slab.at(next)
		if r.state != stateOpen { // it may go elsewhere, and its duplicate would keep its end from the client
			continue
		}
		fd, err := unix.FcntlInt(uintptr(r.fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return ids, fds, next, fmt.Errorf("conn: duplicating a socket: %w (the limit of open files, LimitNOFILE=, may be too low)", err)
		}
		ids, fds = append(ids, poller.NewToken(next, r.generation)), append(fds, fd)
	}
	return ids, fds, next, nil
}

// closeSocket closes the socket of a connection that has ended.
func (t *Table) closeSocket(r *record) {
	if t.lending {
		_ = unix.Shutdown(int(r.fd), unix.SHUT_RDWR) // the client is to see the end now
		t.forget(r)
	}
	t.loop.CloseFD(int(r.fd))
}

// forget takes a socket with duplicates out of the poller's set, which it would
// not leave by being closed.
func (t *Table) forget(r *record) {
	if err := t.loop.Remove(int(r.fd)); err != nil {
		t.cfg.Log.Error("poller refused to forget a socket", "fd", r.fd, "err", err)
	}
}

// Borrow takes the duplicate of a socket that another table has lent, for Import
// to come for: Settle closes it if that did not. It is the table's from here on,
// an error included.
func (t *Table) Borrow(id poller.Token, fd int) error {
	if _, twice := t.borrowed[id]; twice {
		closeFD(fd)
		return fmt.Errorf("%w: its socket was lent twice", ErrCarried)
	}
	if err := t.loop.Add(fd, id, poller.Readable); err != nil {
		closeFD(fd)
		return fmt.Errorf("conn: taking over a socket: %w", err)
	}
	if t.borrowed == nil {
		t.borrowed = make(map[poller.Token]int)
	}
	t.borrowed[id] = fd
	return nil
}

// giveBack closes what was borrowed and no import came for.
func (t *Table) giveBack() {
	for _, fd := range t.borrowed {
		t.forget(&record{fd: int32(fd)})
		closeFD(fd)
	}
	t.borrowed = nil
}
