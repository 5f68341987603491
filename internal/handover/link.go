// Package handover is what two processes say to each other when one takes over
// from the other: messages over a unix socket, with the sockets of clients beside
// them (SCM_RIGHTS). What is said when, and who holds what meanwhile, is in
// docs/UPGRADE.md.
package handover

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Version of what is said. Processes of two versions do not hand over: it goes up
// where the meaning of a message changes. A field that is added, and that may be
// left out, needs no other version.
const Version = 1

// Kind says what a message is.
type Kind uint8

const (
	KindHello      Kind = iota + 1 // new to old: its version
	KindOffer                      // old to new: what the node is, and its listeners
	KindNeedStore                  // new to old: it has all that there is before the embedded NATS can be opened
	KindStore                      // old to new: the embedded NATS has been stopped
	KindOpen                       // new to old: NATS is there, and all but the clients
	KindSockets                    // old to new: duplicates of clients' sockets, which come ahead
	KindAhead                      // old to new: that was all of them
	KindBorrowed                   // new to old: it has them
	KindInterests                  // old to new: nothing is read of clients any more, and this is what they are subscribed to
	KindCollecting                 // new to old: all of that comes to it too
	KindFeed                       // old to new: nothing is sent any more; a feed without history
	KindRights                     // old to new: what some clients may do, by a number
	KindClients                    // old to new: connections, with the sockets that did not come ahead
	KindEnd                        // old to new: how many there were
	KindAdopted                    // new to old: it has them all
	KindCommit                     // old to new: they are yours
	KindFailed                     // either: why there is no handover
	numKinds
)

const (
	// MaxFDs is how many sockets go with one message: the kernel takes no more.
	MaxFDs = 253

	// maxPayload bounds one message.
	maxPayload = 1 << 30

	headerSize = 12
	chunk      = 64 << 10
)

// magic begins each message, so that whoever is no pushd is told from one.
var magic = [4]byte{'p', 'u', 's', 'h'}

// Link is one end of the way between two processes. It belongs to one goroutine.
type Link struct {
	c   *net.UnixConn
	fds []int // that have come, and that no message has been given
	oob []byte
}

// Pair makes a way to a process that is to be started: its end is inherited.
func Pair() (*Link, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("handover: socketpair: %w", err)
	}
	theirs := os.NewFile(uintptr(fds[1]), "handover")
	l, err := Join(uintptr(fds[0]))
	if err != nil {
		return nil, nil, errors.Join(err, theirs.Close())
	}
	return l, theirs, nil
}

// Join takes over a descriptor that is an end.
func Join(fd uintptr) (*Link, error) {
	f := os.NewFile(fd, "handover")
	c, err := net.FileConn(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("handover: file descriptor %d is no socket: %w", fd, err)
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return nil, fmt.Errorf("handover: file descriptor %d is no unix socket", fd)
	}
	return &Link{c: u, oob: make([]byte, unix.CmsgSpace(MaxFDs*4))}, nil
}

// SetDeadline bounds what is sent and received from now on; zero: nothing does.
// It may be called from any goroutine.
func (l *Link) SetDeadline(t time.Time) { _ = l.c.SetDeadline(t) }

// Close ends the link, and closes sockets that came and that no message had.
func (l *Link) Close() error {
	for _, fd := range l.fds {
		unix.Close(fd)
	}
	l.fds = nil
	return l.c.Close()
}

// Send sends a message with at most MaxFDs sockets, which stay the caller's.
func (l *Link) Send(k Kind, payload []byte, fds ...int) error {
	if len(fds) > MaxFDs || len(payload) > maxPayload {
		return fmt.Errorf("handover: a message of %d bytes with %d sockets is too large", len(payload), len(fds))
	}
	var header [headerSize]byte
	copy(header[:], magic[:])
	header[4], header[5] = byte(k), byte(len(fds))
	binary.BigEndian.PutUint32(header[8:], uint32(len(payload)))
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	// A stream's sockets go with the first byte that is sent beside them, and all of so few bytes go at once.
	n, _, err := l.c.WriteMsgUnix(header[:], rights, nil)
	if err == nil && n < len(header) {
		err = io.ErrShortWrite
	}
	if err == nil && len(payload) > 0 {
		_, err = l.c.Write(payload)
	}
	if err != nil {
		return fmt.Errorf("handover: sending: %w", err)
	}
	return nil
}

// Receive waits for the next message. Its sockets are the caller's; they are
// closed on exec.
func (l *Link) Receive() (k Kind, payload []byte, fds []int, err error) {
	var header [headerSize]byte
	if err := l.fill(header[:]); err != nil {
		return 0, nil, nil, err
	}
	k = Kind(header[4])
	n, size := int(header[5]), int(binary.BigEndian.Uint32(header[8:]))
	if [4]byte(header[:4]) != magic || k == 0 || k >= numKinds || header[6] != 0 || header[7] != 0 || size > maxPayload || n > MaxFDs {
		return 0, nil, nil, fmt.Errorf("handover: %x is not the head of a message", header)
	}
	if n > len(l.fds) {
		return 0, nil, nil, fmt.Errorf("handover: %d of %d sockets have come (the limit of open files, LimitNOFILE=, may be too low)", len(l.fds), n)
	}
	fds, l.fds = l.fds[:n:n], l.fds[n:]
	for len(payload) < size { // what is announced is not made room for before it comes
		from := len(payload)
		payload = append(payload, make([]byte, min(size-from, max(chunk, from)))...)
		if err := l.fill(payload[from:]); err != nil {
			for _, fd := range fds {
				unix.Close(fd)
			}
			return 0, nil, nil, err
		}
	}
	return k, payload, fds, nil
}

// Expect is Receive of a message of one kind without sockets. That the other side
// says why it fails is an error.
func (l *Link) Expect(want Kind) ([]byte, error) {
	k, payload, fds, err := l.Receive()
	for _, fd := range fds {
		unix.Close(fd)
	}
	switch {
	case err != nil:
		return nil, err
	case k == KindFailed:
		return nil, &Failure{Why: string(payload)}
	case k != want || len(fds) > 0:
		return nil, fmt.Errorf("handover: message %d with %d sockets came in place of %d", k, len(fds), want)
	}
	return payload, nil
}

// Failure is what the other side said.
type Failure struct{ Why string }

func (f *Failure) Error() string { return f.Why }

// fill reads all of p, and what sockets come with it.
func (l *Link) fill(p []byte) error {
	for len(p) > 0 {
		n, oobn, flags, _, err := l.c.ReadMsgUnix(p, l.oob)
		if oobn > 0 {
			if err := l.take(l.oob[:oobn]); err != nil {
				return err
			}
		}
		switch {
		case flags&unix.MSG_CTRUNC != 0:
			return errors.New("handover: some sockets did not come: the limit of open files (ulimit -n, LimitNOFILE=) is too low")
		case err != nil:
			return fmt.Errorf("handover: receiving: %w", err)
		case n == 0:
			return fmt.Errorf("handover: receiving: %w", io.EOF)
		}
		p = p[n:]
	}
	return nil
}

func (l *Link) take(oob []byte) error {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return fmt.Errorf("handover: what came beside a message: %w", err)
	}
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			return fmt.Errorf("handover: what came beside a message: %w", err)
		}
		l.fds = append(l.fds, fds...)
	}
	return nil
}
