package poller

import (
	"errors"
	"fmt"

	"github.com/mailru/easygo/netpoll"
	"golang.org/x/sys/unix"
)

// easygoSet is the backend on mailru/easygo: its raw Epoll and nothing else of it. (netpoll.New and Handle duplicate the
// descriptor, Resume makes the socket blocking.) Each descriptor costs an entry of a map and a closure.
//
// Epoll calls back on a wait goroutine of its own, which goes on to block in epoll_wait holding its thread: work handed from there to
// another goroutine would wait for milliseconds. So that goroutine is the loop's goroutine: each callback delivers its
// event and makes a turn, right there, while Run only waits for the end. From New to Run it is held in a first callback, the gate.
// So handler, Add, Modify and Remove never run beside it, and that is what makes callbacks that are found by bare
// descriptor safe: Epoll fetches a batch of events and, before any of them is delivered, the callbacks of all of them. A descriptor
// closed and added again while the batch is delivered gets the event of its predecessor under the token of its predecessor, and
// never under its own.
//
// Epoll opens its two descriptors without close-on-exec: a child process inherits them.
type easygoSet struct {
	// Static after newEasygoSet.
	epoll  *netpoll.Epoll
	open   chan struct{} // closed to let the wait goroutine through the gate
	over   chan struct{} // closed by the wait goroutine when the loop has ended
	failed chan error    // has room for the errors of waiting and of closing the set

	// Static after run, which opens the gate.
	loop *Loop

	// Loop-only.
	ended     bool // the loop has ended or will not run: callbacks do nothing
	signalled bool // the loop has made its eventfd ready itself and not yet seen it
}

func newEasygoSet() (*easygoSet, error) {
	s := &easygoSet{
		open:   make(chan struct{}),
		over:   make(chan struct{}),
		failed: make(chan error, 2),
	}
	var err error
	if s.epoll, err = netpoll.EpollCreate(&netpoll.EpollConfig{OnWaitError: s.waitFailed}); err != nil {
		return nil, fmt.Errorf("poller: epoll_create: %w%s", err, limitHint(err))
	}
	if err := s.holdAtGate(); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// holdAtGate brings the wait goroutine into the gate by an eventfd that is ready from the start, and is not needed after.
func (s *easygoSet) holdAtGate() error {
	fd, err := unix.Eventfd(1, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("poller: eventfd: %w%s", err, limitHint(err))
	}
	defer unix.Close(fd)
	reached := make(chan struct{})
	err = s.epoll.Add(fd, netpoll.EPOLLIN, func(netpoll.EpollEvent) {
		close(reached)
		s.gate()
	})
	if err == nil {
		<-reached
	}
	return errors.Join(err, s.epoll.Del(fd))
}

func (s *easygoSet) add(fd int, t Token, mask uint32) error {
	err := s.epoll.Add(fd, netpoll.EpollEvent(mask), func(event netpoll.EpollEvent) {
		s.called(t, uint32(event))
	})
	if err != nil && !errors.Is(err, netpoll.ErrRegistered) {
		// Add leaves the callback behind when the kernel refuses the descriptor, and would then refuse whatever
		// gets its number next.
		_ = s.epoll.Del(fd)
	}
	return errnoOf(err)
}

func (s *easygoSet) modify(fd int, _ Token, mask uint32) error {
	return errnoOf(s.epoll.Mod(fd, netpoll.EpollEvent(mask)))
}

func (s *easygoSet) remove(fd int) error {
	return errnoOf(s.epoll.Del(fd))
}

// closeFD removes first: a callback that is left behind would refuse whoever gets the number next.
func (s *easygoSet) closeFD(fd int) {
	_ = s.epoll.Del(fd)
	_ = unix.Close(fd)
}

// errnoOf gives easygo's errors the names that the kernel has for them, so that both backends answer alike.
func errnoOf(err error) error {
	switch {
	case errors.Is(err, netpoll.ErrRegistered):
		return unix.EEXIST
	case errors.Is(err, netpoll.ErrNotRegistered):
		return unix.ENOENT
	case errors.Is(err, netpoll.ErrClosed):
		return unix.EBADF
	}
	return err
}

func (s *easygoSet) run(l *Loop) error {
	s.loop = l
	close(s.open)
	select {
	case <-s.over:
		return nil
	case err := <-s.failed:
		return err
	}
}

// gate holds the wait goroutine until Run or Close.
func (s *easygoSet) gate() {
	<-s.open
	if !s.ended {
		s.turn() // for what was posted before Run
	}
}

// called is every callback: one event, then a turn. Loop goroutine, except that closing the set calls each callback a
// last time with a mark that is no event of the kernel.
func (s *easygoSet) called(t Token, mask uint32) {
	const closed = 0x20 // netpoll's _EPOLLCLOSED
	if s.ended || mask == closed {
		return
	}
	s.loop.inbox.awake()
	if t == wakeToken {
		s.signalled = false
	}
	s.loop.deliver(t, mask)
	s.turn()
}

func (s *easygoSet) turn() {
	switch s.loop.turn() {
	case idle:
	case busy:
		// Epoll waits without a timeout, so only an event brings the loop back without waiting.
		if !s.signalled {
			s.signalled = true
			s.loop.inbox.signal()
		}
	case ended:
		s.ended = true
		close(s.over)
	}
}

// waitFailed runs on the wait goroutine, which ends then.
func (s *easygoSet) waitFailed(err error) {
	select {
	case s.failed <- err:
	default:
	}
}

// close must not be called on the wait goroutine, for whose end it waits. It is called once, after run or instead of it.
func (s *easygoSet) close() error {
	if s.loop == nil {
		s.ended = true
		close(s.open)
	}
	return s.epoll.Close()
}
