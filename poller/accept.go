package poller

import (
	"errors"
	"fmt"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ErrWouldBlock says that no connection waits to be accepted.
var ErrWouldBlock = errors.New("poller: no connection waits")

// Accept takes the next connection, as a non-blocking close-on-exec descriptor that is the caller's to close; whose it is
// getpeername says, or AcceptFrom. It never blocks, so the raw syscall spares the scheduler's entry. Errors: ErrWouldBlock; those for which errors.Is with syscall.EMFILE or
// syscall.ENFILE holds, where descriptors have run out and the connection still waits (see Reserve), so a level-triggered
// listener goes on being ready; any other is the kernel short of memory, or a listener that was closed.
func (l *Listener) Accept() (fd int, err error) { return l.accept(nil, nil) }

// AcceptFrom is Accept, and says whose the connection is: IPv4 as such also where it came over an IPv6 socket, and without
// a zone. It allocates nothing.
func (l *Listener) AcceptFrom() (fd int, from netip.Addr, err error) {
	l.fromSize = unix.SizeofSockaddrInet6
	if fd, err = l.accept(&l.from, &l.fromSize); err != nil {
		return fd, from, err
	}
	switch l.from.Family {
	case unix.AF_INET: // its address lies where IPv6 has the flow
		return fd, netip.AddrFrom4((*unix.RawSockaddrInet4)(unsafe.Pointer(&l.from)).Addr), nil
	case unix.AF_INET6:
		return fd, netip.AddrFrom16(l.from.Addr).Unmap(), nil
	}
	return fd, from, nil
}

func (l *Listener) accept(from *unix.RawSockaddrInet6, size *uint32) (fd int, err error) {
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(l.fd), uintptr(unsafe.Pointer(from)), uintptr(unsafe.Pointer(size)),
			unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
		switch {
		case errno == 0:
			return int(n), nil
		case errno == unix.EAGAIN:
			return -1, ErrWouldBlock
		case goneAlready(errno):
			continue
		default:
			return -1, fmt.Errorf("poller: accept on %v: %w%s", l.addr, errno, limitHint(errno))
		}
	}
}

// goneAlready tells errors after which the next connection can be tried at once: a signal, a peer that gave up while it
// waited, and errors of the network, which Linux hands over from the connection that would have been accepted (accept(2)).
func goneAlready(err error) bool {
	switch err {
	case unix.EINTR, unix.ECONNABORTED, unix.ENETDOWN, unix.EPROTO, unix.ENOPROTOOPT, unix.EHOSTDOWN,
		unix.ENONET, unix.EHOSTUNREACH, unix.EOPNOTSUPP, unix.ENETUNREACH:
		return true
	}
	return false
}
