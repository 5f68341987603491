package poller

import (
	"errors"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// exhaust lowers the limit of descriptors to what is open, so that the next is refused, until restore is called.
func exhaust(t *testing.T) (restore func()) {
	t.Helper()
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	free, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0) // the lowest number that is free
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(free)
	set := func(limit unix.Rlimit) {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
			t.Fatal(err)
		}
	}
	set(unix.Rlimit{Cur: uint64(free), Max: before.Max})
	restore = func() { set(before) }
	t.Cleanup(restore)
	return restore
}

func TestAcceptWithoutDescriptors(t *testing.T) {
	l := newListener(t, "127.0.0.1:0", ListenOptions{})
	dial(t, l.Addr())
	until(t, "the connection waits", func() bool {
		fds := []unix.PollFd{{Fd: int32(l.FD()), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, 0)
		return err == nil && n == 1
	})
	restore := exhaust(t)
	_, err := l.Accept()
	restore()
	if !errors.Is(err, syscall.EMFILE) {
		t.Errorf("Accept at the limit: %v, want EMFILE", err)
	}
	accept(t, l) // the connection still waits
}

func TestReserveLetsOneIn(t *testing.T) {
	l := newListener(t, "127.0.0.1:0", ListenOptions{})
	r, err := NewReserve()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	clients := []int{dial(t, l.Addr()), dial(t, l.Addr())}
	restore := exhaust(t)
	for range clients {
		if _, err := l.Accept(); !errors.Is(err, syscall.EMFILE) {
			t.Errorf("Accept at the limit: %v, want EMFILE", err)
		}
		if !r.Use(func() {
			fd, err := l.Accept()
			if err != nil {
				t.Errorf("Accept with the reserve given up: %v", err)
				return
			}
			send(t, fd, "sorry")
			unix.Close(fd)
		}) {
			t.Error("the reserve was not there")
		}
	}
	restore()
	for _, client := range clients {
		if n := receive(t, client, 16); n != len("sorry") {
			t.Errorf("a client read %d bytes", n)
		}
	}
}

// TestReserveComesBack takes the number that was given up, as another goroutine might.
func TestReserveComesBack(t *testing.T) {
	r, err := NewReserve()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	restore := exhaust(t)
	var thief int
	if !r.Use(func() {
		if thief, err = unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
			t.Error(err)
		}
	}) {
		t.Error("the reserve was not there the first time")
	}
	if r.Use(func() { t.Error("accept was called without a reserve") }) {
		t.Error("Use says that it had a reserve")
	}
	unix.Close(thief)
	if !r.Use(func() {}) {
		t.Error("the reserve did not come back with a free number")
	}
	restore()
}

func TestNewReserveWithoutDescriptors(t *testing.T) {
	restore := exhaust(t)
	_, err := NewReserve()
	_, loopErr := New(Config{})
	_, easygoErr := New(Config{Backend: "easygo"})
	restore()
	for _, err := range []error{err, loopErr, easygoErr} {
		if !errors.Is(err, syscall.EMFILE) {
			t.Errorf("at the limit: %v, want EMFILE", err)
		}
	}
}
