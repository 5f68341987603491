package poller

import (
	"fmt"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Task is work for a loop's goroutine. It is an interface and not a func so that a hot path can post an object it already
// has, and allocate nothing.
type Task interface{ Run() }

// Func makes a closure a Task.
type Func func()

// Run calls f.
func (f Func) Run() { f() }

const (
	// tasksPerTurn bounds what a turn runs of a long queue, so that sockets and ticks come between.
	tasksPerTurn = 256

	// tasksKept is the capacity above which a drained slice is left to the garbage collector instead of being
	// reused: one burst must not hold its memory for ever.
	tasksKept = 16 << 10
)

// inbox holds the tasks posted to one loop, and wakes the loop for them.
//
// No wake-up is lost. The loop sets asleep only in rest, under mu, having found waiting empty there; from then on the
// first post takes asleep away and wakes. Between rest and parking the loop looks at its epoll set once more, and at its
// deadline, so the wake-up is either seen there or finds the loop parked. Whoever finds asleep unset has appended to
// waiting before a rest that is still to come, and that rest will not find it empty.
type inbox struct {
	// Static after newInbox.
	wakeFD int    // eventfd, registered edge-triggered: each write is an event, and nobody need read it
	wake   func() // of the backend, or signal

	// Atomic. Set by the loop alone, under mu; cleared by anybody.
	asleep atomic.Bool

	// mu guards the following fields, and keeps wakeFD open while closed is unset.
	mu      sync.Mutex
	waiting []Task
	closed  bool

	// Loop-only.
	running []Task // swapped with waiting when it is used up
	next    int    // first task of running that has not run
}

func newInbox() (*inbox, error) {
	fd, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("poller: eventfd: %w%s", err, limitHint(err))
	}
	b := &inbox{wakeFD: fd}
	b.wake = b.signal
	return b, nil
}

// post appends t and wakes the loop if it sleeps. It reports false when the inbox is closed.
func (b *inbox) post(t Task) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	b.waiting = append(b.waiting, t)
	b.wakeLocked()
	return true
}

// close refuses further tasks and wakes the loop so that it notices.
func (b *inbox) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return
	}
	b.wakeLocked()
	b.closed = true
}

// wakeLocked writes while mu is held: after close the loop may release wakeFD at any time, and its number may then name
// somebody's socket.
func (b *inbox) wakeLocked() {
	if b.asleep.Load() && b.asleep.CompareAndSwap(true, false) {
		b.wake()
	}
}

// signal makes wakeFD readable. The raw syscall spares the scheduler's entry: a non-blocking eventfd never blocks, and
// its counter cannot be full in the life of a machine.
func (b *inbox) signal() {
	one := uint64(1)
	_, _, _ = unix.RawSyscall(unix.SYS_WRITE, uintptr(b.wakeFD), uintptr(unsafe.Pointer(&one)), unsafe.Sizeof(one))
}

// runSome runs at most tasksPerTurn tasks in the order of their posting, and reports whether it knows of more.
func (b *inbox) runSome() (left bool) {
	if b.next == len(b.running) && !b.swap() {
		return false
	}
	batch := b.running[b.next:]
	if len(batch) > tasksPerTurn {
		batch = batch[:tasksPerTurn]
	}
	b.next += len(batch)
	for i, t := range batch {
		batch[i] = nil // the task may be large, and the slice is kept
		t.Run()
	}
	return b.next < len(b.running)
}

// swap takes what has been posted, and reports whether that is anything.
func (b *inbox) swap() bool {
	empty := b.running[:0]
	if cap(empty) > tasksKept {
		empty = nil
	}
	b.mu.Lock()
	b.running, b.waiting = b.waiting, empty
	b.mu.Unlock()
	b.next = 0
	return len(b.running) > 0
}

// runAll runs every task left. It ends, because it is called on a closed inbox only.
func (b *inbox) runAll() {
	for b.runSome() || b.swap() {
	}
}

// rest ends a turn. With tired set it marks the loop asleep if nothing is waiting.
func (b *inbox) rest(tired bool) (asleep, closed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if tired && !b.closed && len(b.waiting) == 0 {
		b.asleep.Store(true)
		asleep = true
	}
	return asleep, b.closed
}

// awake spares posters the wake-up while the loop is up: it will look into waiting before it sleeps again.
func (b *inbox) awake() { b.asleep.Store(false) }

func (b *inbox) release() error { return unix.Close(b.wakeFD) }
