package poller

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// ErrWouldBlock says that no connection waits to be accepted.
var ErrWouldBlock = errors.New("poller: no connection waits")

// Accept takes the next connection, as a non-blocking close-on-exec descriptor that is the caller's to close, and the
// address of its peer. It never blocks. Errors: ErrWouldBlock; those for which errors.Is with syscall.EMFILE or
// syscall.ENFILE holds, where descriptors have run out and the connection still waits (see Reserve), so a level-triggered
// listener goes on being ready; any other is the kernel short of memory, or a listener that was closed.
func (l *Listener) Accept() (fd int, peer netip.AddrPort, err error) {
	for {
		fd, sockaddr, err := unix.Accept4(l.fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		switch {
		case err == nil:
			return fd, addrPort(sockaddr), nil
		case err == unix.EAGAIN:
			return -1, netip.AddrPort{}, ErrWouldBlock
		case goneAlready(err):
			continue
		default:
			return -1, netip.AddrPort{}, fmt.Errorf("poller: accept on %v: %w%s", l.addr, err, limitHint(err))
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
