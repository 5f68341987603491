package poller

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// eventsPerWait bounds a batch, and so how long tasks and ticks wait behind sockets. Level-triggered descriptors that did
// not fit come first in the next batch, so none starves.
const eventsPerWait = 256

// longAgo is a deadline that has passed.
var longAgo = time.Unix(1, 0)

// epollSet is the default backend: an epoll descriptor of its own, whose event data is the token, so a registered
// descriptor costs no byte of user memory.
//
// The goroutine never blocks in epoll_wait, which would hold a thread and cost the scheduler a hand-over at each wake-up.
// The epoll descriptor is itself registered with the netpoller of the Go runtime, and the goroutine parks there like any
// other. That registration is edge-triggered: descriptors that were left ready make no new edge. Hence the rule of
// wait: park only after having seen the set empty.
type epollSet struct {
	// Static after newEpollSet.
	file *os.File // holds the registration with the netpoller
	raw  syscall.RawConn
	look func(fd uintptr) bool // poll as a value, made once since it would be allocated at each use

	// Loop-only.
	fd     int // -1 once closed
	events [eventsPerWait]unix.EpollEvent
	ready  int           // how many of events the last poll filled
	polls  int           // how often wait has looked; more than once: it has parked
	errno  syscall.Errno // of the last poll
	work   int           // events delivered since the goroutine last let go of its processor
}

func newEpollSet() (*epollSet, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("poller: epoll_create: %w%s", err, limitHint(err))
	}
	// O_NONBLOCK means nothing to epoll; it tells os.NewFile to register the descriptor with the netpoller.
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("poller: make the epoll descriptor non-blocking: %w", err)
	}
	s := &epollSet{fd: fd, file: os.NewFile(uintptr(fd), "epoll")}
	if s.raw, err = s.file.SyscallConn(); err != nil {
		s.file.Close()
		return nil, fmt.Errorf("poller: %w", err)
	}
	s.look = s.poll
	return s, nil
}

func (s *epollSet) add(fd int, t Token, mask uint32) error {
	return s.control(unix.EPOLL_CTL_ADD, fd, t, mask)
}

func (s *epollSet) modify(fd int, t Token, mask uint32) error {
	return s.control(unix.EPOLL_CTL_MOD, fd, t, mask)
}

func (s *epollSet) remove(fd int) error {
	return s.control(unix.EPOLL_CTL_DEL, fd, 0, 0)
}

// closeFD spares the removal, which comes with the close. Neither blocks, so the raw syscall spares the scheduler's entry.
func (s *epollSet) closeFD(fd int) { _, _, _ = unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0) }

// control puts the token in the 64 bits of event data, which x/sys calls Fd and Pad.
func (s *epollSet) control(op, fd int, t Token, mask uint32) error {
	event := unix.EpollEvent{Events: mask, Fd: int32(t.Slot()), Pad: int32(t.Generation())}
	_, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(s.fd), uintptr(op), uintptr(fd), uintptr(unsafe.Pointer(&event)), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

func (s *epollSet) run(l *Loop) error {
	for {
		end := l.turn()
		if end == ended {
			return nil
		}
		if err := s.wait(end == idle); err != nil {
			return err
		}
		l.inbox.awake()
		for i := range s.events[:s.ready] {
			event := &s.events[i]
			l.deliver(NewToken(uint32(event.Fd), uint32(event.Pad)), event.Events)
		}
	}
}

// wait fills events; with park it waits until there is one.
func (s *epollSet) wait(park bool) error {
	s.polls = 0
	if park {
		if err := s.park(); err != nil {
			return err
		}
	} else {
		s.poll(uintptr(s.fd))
	}
	if s.errno != 0 {
		return s.errno
	}
	s.letGo(park)
	return nil
}

// park waits until something is ready, or until wake.
func (s *epollSet) park() error {
	s.ready = 0
	// Read calls look, and parks each time that says false, until it says true.
	err := s.raw.Read(s.look)
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	// Whoever woke the loop has posted before, and the turn that follows finds it: nothing is lost with the deadline.
	if s.polls == 0 {
		s.poll(uintptr(s.fd)) // posts that come fast must not keep it from the sockets
	}
	return s.file.SetReadDeadline(time.Time{})
}

// wake ends a park from any goroutine, by a read deadline in the past. The parked goroutine is then ready on the processor
// of whoever woke it, and often runs there next. Through an eventfd it takes two system calls and a thread that sleeps in
// the kernel.
func (s *epollSet) wake() { _ = s.file.SetReadDeadline(longAgo) } // fails only once the set is closed

// letGo yields the processor when the loop has been at it for a while: under load it never parks, and other goroutines
// would have to wait for the scheduler to interrupt it (10 ms). It does not yield in each turn, for then a turn of one event
// would wait for the full time slice of whoever else computes.
func (s *epollSet) letGo(park bool) {
	s.work += s.ready
	switch {
	case s.polls > 1:
		s.work = 0
	case !park || s.work >= eventsPerWait:
		s.work = 0
		runtime.Gosched()
	}
}

// poll looks at the set without waiting, and reports whether that settles the wait. epoll_wait with a timeout of 0 does
// not block, so the raw syscall spares the scheduler's entry.
func (s *epollSet) poll(fd uintptr) bool {
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, fd,
			uintptr(unsafe.Pointer(&s.events[0])), uintptr(len(s.events)), 0, 0, 0)
		if errno == unix.EINTR {
			continue
		}
		s.polls++
		s.errno = errno
		if errno != 0 {
			s.ready = 0
			return true
		}
		s.ready = int(n)
		return n > 0
	}
}

func (s *epollSet) close() error {
	s.fd = -1
	return s.file.Close()
}
