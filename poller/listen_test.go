package poller

import (
	"errors"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func newListener(t testing.TB, address string, o ListenOptions) *Listener {
	t.Helper()
	l, err := Listen(address, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// dial connects a blocking socket, whose connect returns once the listener's queue has the connection.
func dial(t testing.TB, addr netip.AddrPort) int {
	t.Helper()
	domain := unix.AF_INET6
	if addr.Addr().Is4() {
		domain = unix.AF_INET
	}
	fd, err := unix.Socket(domain, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	connect(t, fd, addr)
	return fd
}

func connect(t testing.TB, fd int, addr netip.AddrPort) {
	t.Helper()
	sockaddr, err := sockaddrOf(addr)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Connect(fd, sockaddr); err != nil {
		t.Fatalf("connect to %v: %v", addr, err)
	}
}

// accept takes the connection that waits, and closes it when the test ends.
func accept(t testing.TB, l *Listener) (int, netip.AddrPort) {
	t.Helper()
	var fd int
	until(t, "a connection can be accepted", func() bool {
		var err error
		fd, err = l.Accept()
		if err != nil && !errors.Is(err, ErrWouldBlock) {
			t.Fatal(err)
		}
		return err == nil
	})
	t.Cleanup(func() { unix.Close(fd) })
	peer, err := unix.Getpeername(fd)
	if err != nil {
		t.Fatal(err)
	}
	return fd, addrPort(peer)
}

// connectedPair is a pair over TCP.
func connectedPair(t testing.TB, l *Listener) pair {
	t.Helper()
	theirs := dial(t, l.Addr())
	mine, _ := accept(t, l)
	return pair{mine, theirs}
}

func TestListenAddresses(t *testing.T) {
	f := func(address, dialled string) {
		t.Helper()
		l := newListener(t, address, ListenOptions{})
		port := l.Addr().Port()
		if port == 0 {
			t.Fatalf("listen on %s: Addr is %v", address, l.Addr())
		}
		to := netip.AddrPortFrom(netip.MustParseAddr(dialled), port)
		client := dial(t, to)
		fd, peer := accept(t, l)
		name, err := unix.Getsockname(client)
		if err != nil {
			t.Fatal(err)
		}
		if peer != addrPort(name) {
			t.Errorf("listen on %s, dial %v: peer is %v, want %v", address, to, peer, addrPort(name))
		}
		status, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
		if err != nil || status&unix.O_NONBLOCK == 0 {
			t.Errorf("accepted descriptor is not non-blocking (%#x, %v)", status, err)
		}
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		if err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("accepted descriptor is not close-on-exec (%#x, %v)", flags, err)
		}
	}
	f("127.0.0.1:0", "127.0.0.1")
	f("localhost:0", "127.0.0.1")
	f("0.0.0.0:0", "127.0.0.1")
	f(":0", "127.0.0.1")
	if hasIPv6() {
		f("[::1]:0", "::1")
		f(":0", "::1")
		f("[::]:0", "::1")
		f("[::]:0", "127.0.0.1")
		f("[::1%lo]:0", "::1")
	}
}

// hasIPv6 asks the standard library, which is not under test here.
func hasIPv6() bool {
	l, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		return false
	}
	l.Close()
	return true
}

func TestListenErrorsSayWhatToDo(t *testing.T) {
	taken := newListener(t, "127.0.0.1:0", ListenOptions{})
	f := func(address string, cause error, words string) {
		t.Helper()
		l, err := Listen(address, ListenOptions{})
		if err == nil {
			l.Close()
			t.Errorf("listen on %q succeeded", address)
			return
		}
		if cause != nil && !errors.Is(err, cause) {
			t.Errorf("listen on %q: %v, want %v", address, err, cause)
		}
		for _, word := range []string{address, words} {
			if !strings.Contains(err.Error(), word) {
				t.Errorf("listen on %q: %q does not say %q", address, err, word)
			}
		}
	}
	f(taken.Addr().String(), syscall.EADDRINUSE, "choose another port")
	f("192.0.2.1:0", syscall.EADDRNOTAVAIL, "no such address") // TEST-NET-1, RFC 5737
	f("127.0.0.1", nil, "host:port")
	f("127.0.0.1:123456", nil, "host:port")
	f("[fe80::1%nosuchdevice]:0", nil, "nosuchdevice")
}

func TestAcceptedSocketsInherit(t *testing.T) {
	f := func(o ListenOptions, level, name, want int) {
		t.Helper()
		l := newListener(t, "127.0.0.1:0", o)
		got, err := unix.GetsockoptInt(connectedPair(t, l).mine, level, name)
		if err != nil || got != want {
			t.Errorf("%+v: option %d of an accepted socket is %d (%v), want %d", o, name, got, err, want)
		}
	}
	f(ListenOptions{NoDelay: true}, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	f(ListenOptions{}, unix.IPPROTO_TCP, unix.TCP_NODELAY, 0)
	f(ListenOptions{UserTimeout: 12345 * time.Millisecond}, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 12345)
	f(ListenOptions{UserTimeout: time.Microsecond}, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 1)
	f(ListenOptions{NotSentLowat: 16384}, unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, 16384)
}

func TestAcceptWithNobodyThere(t *testing.T) {
	l := newListener(t, "127.0.0.1:0", ListenOptions{})
	if _, err := l.Accept(); !errors.Is(err, ErrWouldBlock) {
		t.Errorf("Accept: %v, want ErrWouldBlock", err)
	}
}

func TestListenerClosesOnce(t *testing.T) {
	l := newListener(t, "127.0.0.1:0", ListenOptions{})
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if err := l.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("second Close: %v, want net.ErrClosed", err)
	}
	if l.FD() != -1 {
		t.Errorf("FD is %d after Close, want -1", l.FD())
	}
	if _, err := l.Accept(); err == nil || errors.Is(err, ErrWouldBlock) {
		t.Errorf("Accept after Close: %v, want an error", err)
	}
}

func newGroup(t *testing.T, address string, n int) []*Listener {
	t.Helper()
	group, err := ListenGroup(address, n, ListenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, l := range group {
			l.Close()
		}
	})
	return group
}

func TestGroupSharesConnections(t *testing.T) {
	const listeners, connections = 4, 400
	group := newGroup(t, "127.0.0.1:0", listeners)
	for _, l := range group {
		if l.Addr() != group[0].Addr() {
			t.Fatalf("the group listens on %v and %v", group[0].Addr(), l.Addr())
		}
	}
	for range connections {
		dial(t, group[0].Addr())
	}
	total := 0
	for i, l := range group {
		share := 0
		for {
			fd, err := l.Accept()
			if errors.Is(err, ErrWouldBlock) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			unix.Close(fd)
			share++
		}
		// The kernel chooses by a hash of the addresses: that one of 4 gets none of 400 has a probability of 1e-50.
		if share == 0 {
			t.Errorf("listener %d got no connection", i)
		}
		total += share
	}
	if total != connections {
		t.Errorf("the group got %d connections, want %d", total, connections)
	}
}

func TestGroupSharesItsPortWithNobody(t *testing.T) {
	group := newGroup(t, "127.0.0.1:0", 2)
	sharing := newListener(t, "127.0.0.1:0", ListenOptions{ReusePort: true})
	f := func(address string, n int) {
		t.Helper()
		got, err := ListenGroup(address, n, ListenOptions{ReusePort: true})
		for _, l := range got {
			l.Close()
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			t.Fatalf("a group of %d on a port in use: %v, want EADDRINUSE", n, err)
		}
		if !strings.Contains(err.Error(), address) {
			t.Errorf("%q does not name %s", err, address)
		}
	}
	f(group[0].Addr().String(), 1)
	f(group[0].Addr().String(), 2)
	f(sharing.Addr().String(), 2)
	f(":"+strconv.Itoa(int(sharing.Addr().Port())), 2)

	before := openDescriptors(t)
	f(group[0].Addr().String(), 2)
	if after := openDescriptors(t); after != before {
		t.Errorf("a refused group left %d descriptors open", after-before)
	}
	if _, err := ListenGroup("127.0.0.1:0", 0, ListenOptions{}); err == nil {
		t.Error("a group of none was made")
	}
}

// TestGroupReopens binds a port again whose connections were closed by this end, and so are in TIME_WAIT.
func TestGroupReopens(t *testing.T) {
	group := newGroup(t, "127.0.0.1:0", 2)
	addr := group[0].Addr()
	client := dial(t, addr)
	until(t, "either listener has the connection", func() bool {
		for _, l := range group {
			if fd, err := l.Accept(); err == nil {
				unix.Close(fd)
				return true
			}
		}
		return false
	})
	if err := unix.Shutdown(client, unix.SHUT_RDWR); err != nil {
		t.Fatal(err)
	}
	for _, l := range group {
		l.Close()
	}
	newGroup(t, addr.String(), 2)
}
