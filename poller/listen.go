package poller

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// defaultBacklog is how many connections may wait to be accepted where ListenOptions names no number. The kernel takes
// the lesser of it and sysctl net.core.somaxconn, whose default is the same.
const defaultBacklog = 4096

// ListenOptions says how a listener is made. The zero value is ready to use. What concerns connections is set once on the
// listener: on Linux, accepted sockets inherit it, which saves a system call for each connection.
type ListenOptions struct {
	// ReusePort lets other listeners of the same user share the address (SO_REUSEPORT). ListenGroup sets it itself.
	ReusePort bool

	// Backlog is how many connections may wait to be accepted; default 4096.
	Backlog int

	// NoDelay sends small writes at once (TCP_NODELAY).
	NoDelay bool

	// UserTimeout is how long sent data may stay unacknowledged before the kernel fails the connection
	// (TCP_USER_TIMEOUT), in whole milliseconds; 0 leaves that to retransmission, about 15 minutes.
	UserTimeout time.Duration

	// NotSentLowat is how many unsent bytes the kernel takes before a socket is no longer writable
	// (TCP_NOTSENT_LOWAT); 0 leaves that to the send buffer.
	NotSentLowat int
}

// Listener accepts TCP connections as non-blocking descriptors. It belongs to one goroutine.
type Listener struct {
	fd   int // -1 once closed
	addr netip.AddrPort

	// What AcceptFrom learns, in memory that is there already.
	from     unix.RawSockaddrInet6
	fromSize uint32
}

// Listen listens on address: "host:port", ":port" or "[::]:port" for every address of the machine in IPv6 and IPv4, or port
// 0 for a free one. An address in use is an error that satisfies errors.Is with syscall.EADDRINUSE, except where ReusePort is
// set on both sides.
func Listen(address string, o ListenOptions) (*Listener, error) {
	addr, err := resolve(address)
	if err != nil {
		return nil, fmt.Errorf("poller: listen on %s: %w", address, err)
	}
	l, err := listen(addr, o, false)
	if err != nil {
		return nil, fmt.Errorf("poller: listen on %s: %w%s", address, err, listenHint(err))
	}
	return l, nil
}

// ListenGroup makes n listeners on one address, over which the kernel spreads the connections evenly. Port 0 is one free port
// for all. A group shares its port with nobody: a port on which anything listens already is an error that satisfies
// errors.Is with syscall.EADDRINUSE, even where that would allow sharing.
func ListenGroup(address string, n int, o ListenOptions) ([]*Listener, error) {
	if n < 1 {
		return nil, fmt.Errorf("poller: listen on %s: a group of %d listeners: it takes at least 1", address, n)
	}
	addr, err := resolve(address)
	if err != nil {
		return nil, fmt.Errorf("poller: listen on %s: %w", address, err)
	}
	group := make([]*Listener, 0, n)
	for len(group) < n {
		l, err := listen(addr, o, len(group) == 0)
		if err != nil {
			for _, made := range group {
				err = errors.Join(err, made.Close())
			}
			return nil, fmt.Errorf("poller: listen on %s: %w%s", address, err, listenHint(err))
		}
		group = append(group, l)
		addr = netip.AddrPortFrom(addr.Addr(), l.addr.Port())
		o.ReusePort = true
	}
	return group, nil
}

// FD returns the descriptor, for Loop.Add; -1 once closed.
func (l *Listener) FD() int { return l.fd }

// Addr returns the address, with the real port where port 0 was asked for.
func (l *Listener) Addr() netip.AddrPort { return l.addr }

// Close stops listening. Connections that nobody has accepted are reset: to lose none, accept until ErrWouldBlock first.
// Remove the descriptor from its loop before. A second Close answers net.ErrClosed.
func (l *Listener) Close() error {
	if l.fd < 0 {
		return net.ErrClosed
	}
	fd := l.fd
	l.fd = -1
	return os.NewSyscallError("close", unix.Close(fd))
}

// resolve finds the address to bind to. Without a host it has no Addr, only a port.
func resolve(address string) (netip.AddrPort, error) {
	tcp, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%w; write it as host:port or :port", err)
	}
	addr := tcp.AddrPort()
	return netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port()), nil
}

// listen opens one listener. first: the first of a group, which must find the port free.
func listen(addr netip.AddrPort, o ListenOptions, first bool) (*Listener, error) {
	fd, addr, err := socket(addr)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if err := bindAndListen(fd, addr, o, first); err != nil {
		unix.Close(fd)
		return nil, err
	}
	bound, err := unix.Getsockname(fd)
	if err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("getsockname", err)
	}
	return &Listener{fd: fd, addr: addrPort(bound)}, nil
}

// socket opens a socket for addr. Where that has only a port, it is every address of both families, or of IPv4 on a machine
// without IPv6.
func socket(addr netip.AddrPort) (int, netip.AddrPort, error) {
	const kind = unix.SOCK_STREAM | unix.SOCK_NONBLOCK | unix.SOCK_CLOEXEC
	anywhere := !addr.Addr().IsValid()
	if anywhere {
		addr = netip.AddrPortFrom(netip.IPv6Unspecified(), addr.Port())
	}
	domain := unix.AF_INET6
	if addr.Addr().Is4() {
		domain = unix.AF_INET
	}
	fd, err := unix.Socket(domain, kind, unix.IPPROTO_TCP)
	if anywhere && errors.Is(err, unix.EAFNOSUPPORT) {
		addr = netip.AddrPortFrom(netip.IPv4Unspecified(), addr.Port())
		fd, err = unix.Socket(unix.AF_INET, kind, unix.IPPROTO_TCP)
	}
	return fd, addr, err
}

func bindAndListen(fd int, addr netip.AddrPort, o ListenOptions, first bool) error {
	// SO_REUSEADDR: connections of a predecessor in TIME_WAIT do not keep the port. Listeners still exclude each other.
	options := []option{{unix.SOL_SOCKET, unix.SO_REUSEADDR, 1, "SO_REUSEADDR"}}
	if addr.Addr().Is6() {
		options = append(options, option{unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0, "IPV6_V6ONLY"})
	}
	reusePort := option{unix.SOL_SOCKET, unix.SO_REUSEPORT, 1, "SO_REUSEPORT"}
	if o.ReusePort && !first {
		options = append(options, reusePort)
	}
	if o.NoDelay {
		options = append(options, option{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1, "TCP_NODELAY"})
	}
	if o.UserTimeout > 0 {
		milliseconds := max(1, int(o.UserTimeout.Milliseconds()))
		options = append(options, option{unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, milliseconds, "TCP_USER_TIMEOUT"})
	}
	if o.NotSentLowat > 0 {
		options = append(options, option{unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, o.NotSentLowat, "TCP_NOTSENT_LOWAT"})
	}
	for _, opt := range options {
		if err := opt.set(fd); err != nil {
			return err
		}
	}
	sockaddr, err := sockaddrOf(addr)
	if err != nil {
		return err
	}
	if err := unix.Bind(fd, sockaddr); err != nil {
		return os.NewSyscallError("bind", err)
	}
	if first {
		// A bind with SO_REUSEPORT would join whoever listens there with it. So the first of a group binds without, which
		// fails if the port is in use, and only then lets the others in.
		if err := reusePort.set(fd); err != nil {
			return err
		}
	}
	backlog := o.Backlog
	if backlog <= 0 {
		backlog = defaultBacklog
	}
	return os.NewSyscallError("listen", unix.Listen(fd, backlog))
}

// option is a socket option with an integer value.
type option struct {
	level, name, value int
	label              string
}

func (o option) set(fd int) error {
	return os.NewSyscallError("setsockopt "+o.label, unix.SetsockoptInt(fd, o.level, o.name, o.value))
}

func sockaddrOf(addr netip.AddrPort) (unix.Sockaddr, error) {
	if addr.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()}, nil
	}
	sockaddr := &unix.SockaddrInet6{Port: int(addr.Port()), Addr: addr.Addr().As16()}
	if zone := addr.Addr().Zone(); zone != "" {
		if index, err := strconv.ParseUint(zone, 10, 32); err == nil {
			sockaddr.ZoneId = uint32(index)
			return sockaddr, nil
		}
		device, err := net.InterfaceByName(zone)
		if err != nil {
			return nil, fmt.Errorf("zone %q: %w", zone, err)
		}
		sockaddr.ZoneId = uint32(device.Index)
	}
	return sockaddr, nil
}

// addrPort is the address in sockaddr: IPv4 as such also where it came over an IPv6 socket, and zones as numbers.
func addrPort(sockaddr unix.Sockaddr) netip.AddrPort {
	switch s := sockaddr.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(s.Addr), uint16(s.Port))
	case *unix.SockaddrInet6:
		addr := netip.AddrFrom16(s.Addr).Unmap()
		if s.ZoneId != 0 && addr.Is6() {
			addr = addr.WithZone(strconv.FormatUint(uint64(s.ZoneId), 10))
		}
		return netip.AddrPortFrom(addr, uint16(s.Port))
	}
	return netip.AddrPort{}
}

// listenHint says what to do about err, or nothing.
func listenHint(err error) string {
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return "; something listens there already: stop it or choose another port"
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return "; this machine has no such address"
	case errors.Is(err, unix.EACCES):
		return "; a port below 1024 takes CAP_NET_BIND_SERVICE: choose a higher one"
	}
	return limitHint(err)
}

// Inherit goes on with a listener of another process. fd is the Listener's from here on, an error included.
func Inherit(fd int) (*Listener, error) {
	listening, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	if err == nil && listening == 0 {
		err = unix.EINVAL
	}
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	var bound unix.Sockaddr
	if err == nil {
		bound, err = unix.Getsockname(fd)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("poller: file descriptor %d is not a listener: %w", fd, err)
	}
	return &Listener{fd: fd, addr: addrPort(bound)}, nil
}
