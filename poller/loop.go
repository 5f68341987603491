package poller

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// defaultTick is the length of a tick where Config names none.
const defaultTick = 100 * time.Millisecond

// Handler is what a shard does with what its loop finds. All methods are called on the loop's goroutine, never two at a
// time, so they may touch everything the shard owns, and may call every method of the loop.
type Handler interface {
	// Ready says that the descriptor added with t is ready for e. A token whose descriptor was removed may still
	// come once, in the batch in which it was removed: compare the generation before anything else.
	Ready(t Token, e Events)

	// Tick comes about once each Config.Tick. now is the number of ticks since the loop was made; after the loop was
	// held up it moves by more than one, and the ticks between are not told one by one.
	Tick(now uint32)

	// Turn ends each turn, after its events, tasks and tick. more: work is left, so come back without sleeping, once
	// the sockets have been looked at.
	Turn() (more bool)
}

// Config says how a loop is made. The zero value is ready to use.
type Config struct {
	// Backend is "epoll" (default), pushd's own, or "easygo", which runs on the raw netpoll.Epoll of mailru/easygo.
	Backend string

	// Tick is the length of a tick; default 100 ms.
	Tick time.Duration
}

// Loop reports the readiness of the descriptors of one shard. Make it with New, and run it once.
type Loop struct {
	// Static after New; handler: after Run.
	set     backend
	inbox   *inbox
	clock   *clock
	handler Handler

	// Atomic.
	started atomic.Bool // by Run or by Close, whichever came first; that one releases the loop
}

// backend is a set of descriptors that can be waited for. Masks are those of epoll.
type backend interface {
	add(fd int, t Token, mask uint32) error
	modify(fd int, t Token, mask uint32) error
	remove(fd int) error
	closeFD(fd int) // remove and close, of a descriptor that is held once

	// run calls turn once, and from then on deliver for each ready descriptor and turn after some of them, all on one
	// goroutine, until turn answers ended or waiting fails.
	run(l *Loop) error

	// close releases the set. The descriptors in it stay open. No call may follow but those that answer an error.
	close() error
}

// turnEnd is how a turn ended, and so what the backend does next.
type turnEnd uint8

const (
	idle  turnEnd = iota // wait for events; whoever posts wakes the loop
	busy                 // look for events, but do not wait
	ended                // the loop is over
)

// New makes a loop, which counts its ticks from now on. It is to be ended by Run, or by Close where Run is never called.
func New(c Config) (*Loop, error) {
	if c.Tick < 0 {
		return nil, fmt.Errorf("poller: Config.Tick is %v: it must be positive, or 0 for %v", c.Tick, defaultTick)
	}
	if c.Tick == 0 {
		c.Tick = defaultTick
	}
	l := &Loop{}
	if err := l.open(c); err != nil {
		return nil, errors.Join(err, l.release())
	}
	return l, nil
}

func (l *Loop) open(c Config) (err error) {
	switch c.Backend {
	case "", "epoll":
		l.set, err = newEpollSet()
	case "easygo":
		l.set, err = newEasygoSet()
	default:
		err = fmt.Errorf("poller: Config.Backend is %q: it must be \"epoll\" or \"easygo\"", c.Backend)
	}
	if err != nil {
		l.set = nil // and not an interface around a nil pointer
		return err
	}
	if l.inbox, err = newInbox(); err != nil {
		return err
	}
	if set, ok := l.set.(*epollSet); ok {
		l.inbox.wake = set.wake
	}
	if l.clock, err = newClock(c.Tick); err != nil {
		return err
	}
	if err = l.set.add(l.inbox.wakeFD, wakeToken, unix.EPOLLIN|unix.EPOLLET); err != nil {
		return controlError("add the wake-up eventfd", l.inbox.wakeFD, err)
	}
	if err = l.set.add(l.clock.fd, tickToken, unix.EPOLLIN); err != nil {
		return controlError("add the tick timerfd", l.clock.fd, err)
	}
	return nil
}

// release closes what open has opened, however far it came. The set goes first: nothing can be delivered any more then.
func (l *Loop) release() error {
	var errs []error
	if l.set != nil {
		errs = append(errs, l.set.close())
	}
	if l.inbox != nil {
		errs = append(errs, l.inbox.release())
	}
	if l.clock != nil {
		errs = append(errs, l.clock.release())
	}
	return errors.Join(errs...)
}

// Run calls h until Stop, then runs every task that Post has accepted, calls h.Turn a last time, releases the loop and
// returns nil. An error means that waiting for events failed; accepted tasks have run then too. Descriptors that were added
// are the caller's to close, after Run.
func (l *Loop) Run(h Handler) error {
	if !l.started.CompareAndSwap(false, true) {
		return errors.New("poller: Run on a loop that has run or is closed")
	}
	l.handler = h
	err := l.set.run(l)
	if err != nil {
		err = fmt.Errorf("poller: wait for events: %w", err)
		l.finish()
	}
	return errors.Join(err, l.release())
}

// Close releases a loop that will never run. After Run it does nothing. Tasks that were posted are dropped.
func (l *Loop) Close() error {
	if !l.started.CompareAndSwap(false, true) {
		return nil
	}
	l.inbox.close()
	return l.release()
}

// Stop makes Run return, and Post refuse from now on. It does not wait. It may be called on any goroutine, more than once,
// and before Run.
func (l *Loop) Stop() { l.inbox.close() }

// Post hands t to the loop's goroutine; tasks of one poster run in the order in which it posted them. It may be called on
// any goroutine and never blocks. It reports false after Stop, and t will not run then. A task posted before Run waits for it.
//
// The queue has no bound of its own: who posts on behalf of others bounds what they can have under way.
func (l *Loop) Post(t Task) bool { return l.inbox.post(t) }

// Add reports fd from now on under t. Only for the loop's goroutine, or before Run. fd must be non-blocking and not in the set.
func (l *Loop) Add(fd int, t Token, e Events) error {
	if t.Generation() == loopGeneration {
		return fmt.Errorf("poller: add fd %d: generation %#x is the loop's own", fd, t.Generation())
	}
	if err := l.set.add(fd, t, e.mask()); err != nil {
		return controlError("add", fd, err)
	}
	return nil
}

// Modify changes what fd is watched for. t must be the token it was added with. Only for the loop's goroutine, or before Run.
func (l *Loop) Modify(fd int, t Token, e Events) error {
	if err := l.set.modify(fd, t, e.mask()); err != nil {
		return controlError("modify", fd, err)
	}
	return nil
}

// Remove ends the reports of fd. Call it before the descriptor is closed, since a set forgets only sockets that nobody else
// holds open. Only for the loop's goroutine, or before Run.
func (l *Loop) Remove(fd int) error {
	if err := l.set.remove(fd); err != nil {
		return controlError("remove", fd, err)
	}
	return nil
}

// CloseFD ends the reports of fd and closes it, whatever the kernel answers: Linux frees the descriptor in any case. Only for a
// descriptor that nobody else holds, by dup or in a child process, since the epoll backend leaves it to the kernel to forget
// it. Only for the loop's goroutine, or before Run.
func (l *Loop) CloseFD(fd int) { l.set.closeFD(fd) }

// Now returns the current tick. Only for the loop's goroutine, or before Run.
func (l *Loop) Now() uint32 { return l.clock.now }

// CatchUp has Now count what has passed since New. A loop does so by itself while it runs, so this is for before Run.
func (l *Loop) CatchUp() { l.clock.advance() }

// TickLength returns the length of a tick.
func (l *Loop) TickLength() time.Duration { return l.clock.tick }

// Lag returns how late the loop noticed its last tick: the longest that anything had to wait for the loop just then.
// It may be called on any goroutine.
func (l *Loop) Lag() time.Duration { return time.Duration(l.clock.lag.Load()) }

// deliver passes on one event. Loop goroutine only.
func (l *Loop) deliver(t Token, mask uint32) {
	switch t {
	case wakeToken: // the turn that follows looks into the inbox
	case tickToken:
		l.clock.advance()
	default:
		if e := eventsOf(mask); e != 0 {
			l.handler.Ready(t, e)
		}
	}
}

// turn does what comes after the events. Loop goroutine only.
func (l *Loop) turn() turnEnd {
	left := l.inbox.runSome()
	if l.clock.due {
		l.clock.due = false
		l.handler.Tick(l.clock.now)
	}
	more := l.handler.Turn()

	asleep, closed := l.inbox.rest(!left && !more)
	switch {
	case closed:
		l.finish()
		return ended
	case asleep:
		return idle
	default:
		return busy
	}
}

// finish keeps the promise that what Post accepted is run.
func (l *Loop) finish() {
	l.inbox.close()
	l.inbox.runAll()
	l.handler.Turn()
}

// controlError says which descriptor the set refused, and what to do where the reason is a limit of the machine.
func controlError(operation string, fd int, err error) error {
	return fmt.Errorf("poller: %s fd %d: %w%s", operation, fd, err, limitHint(err))
}

// limitHint names the limit behind err, or nothing.
func limitHint(err error) string {
	switch {
	case errors.Is(err, unix.EMFILE):
		return " (raise the limit of this process: ulimit -n)"
	case errors.Is(err, unix.ENFILE):
		return " (raise the limit of the machine: sysctl fs.file-max)"
	case errors.Is(err, unix.ENOSPC):
		return " (raise the limit of this user: sysctl fs.epoll.max_user_watches)"
	}
	return ""
}
