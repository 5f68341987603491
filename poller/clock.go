package poller

import (
	"fmt"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// clock counts the ticks of one loop with a timerfd, which is one more descriptor in the set and needs no Go timer.
type clock struct {
	// Static after newClock.
	fd    int
	tick  time.Duration
	start time.Time

	// Loop-only.
	now uint32 // ticks since start
	due bool   // now has moved, and the handler has not been told

	// Atomic.
	lag atomic.Int64 // nanoseconds
}

func newClock(tick time.Duration) (*clock, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("poller: timerfd: %w%s", err, limitHint(err))
	}
	c := &clock{fd: fd, tick: tick, start: time.Now()}
	period := unix.NsecToTimespec(tick.Nanoseconds())
	if err := unix.TimerfdSettime(fd, 0, &unix.ItimerSpec{Interval: period, Value: period}, nil); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("poller: timer of %v: %w", tick, err)
	}
	return c, nil
}

// advance reads how many ticks have passed since it was last called, so that a loop that was held up still counts right.
func (c *clock) advance() {
	var passed uint64
	_, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(c.fd), uintptr(unsafe.Pointer(&passed)), unsafe.Sizeof(passed))
	if errno != 0 || passed == 0 {
		return // EAGAIN: nothing has passed
	}
	expected := time.Duration(c.now+1) * c.tick
	c.lag.Store(int64(max(0, time.Since(c.start)-expected)))
	c.now += uint32(passed)
	c.due = true
}

func (c *clock) release() error { return unix.Close(c.fd) }
