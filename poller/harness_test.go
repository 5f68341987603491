package poller

import (
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// patience bounds every wait; it is reached by a failing test only.
const patience = 20 * time.Second

// onBothBackends runs the contract test f for each backend.
func onBothBackends(t *testing.T, f func(t *testing.T, backend string)) {
	for _, backend := range []string{"epoll", "easygo"} {
		t.Run(backend, func(t *testing.T) { f(t, backend) })
	}
}

// probe is a Handler out of functions, each of which may be nil. It fails the test when it is entered twice at a time.
type probe struct {
	t     testing.TB
	ready func(Token, Events)
	tick  func(now uint32)
	turn  func() bool

	inside atomic.Int32
}

func (p *probe) enter() {
	if p.inside.Add(1) != 1 {
		p.t.Error("the handler was called on two goroutines at a time")
	}
}

func (p *probe) leave() { p.inside.Add(-1) }

func (p *probe) Ready(t Token, e Events) {
	p.enter()
	defer p.leave()
	if p.ready != nil {
		p.ready(t, e)
	}
}

func (p *probe) Tick(now uint32) {
	p.enter()
	defer p.leave()
	if p.tick != nil {
		p.tick(now)
	}
}

func (p *probe) Turn() bool {
	p.enter()
	defer p.leave()
	return p.turn != nil && p.turn()
}

// runner is a loop under test and the goroutine in its Run.
type runner struct {
	*Loop
	t     testing.TB
	ended chan struct{}
	err   error // of Run, once ended is closed
}

// newLoop makes a loop whose ticks do not disturb, unless c says otherwise.
func newLoop(t testing.TB, c Config) *Loop {
	t.Helper()
	if c.Tick == 0 {
		c.Tick = time.Hour
	}
	l, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// start runs l until the test ends.
func start(t testing.TB, l *Loop, p *probe) *runner {
	p.t = t
	r := &runner{Loop: l, t: t, ended: make(chan struct{})}
	go r.run(p)
	t.Cleanup(func() {
		r.Stop()
		r.wantEnd()
	})
	return r
}

func startNew(t testing.TB, backend string, p *probe) *runner {
	return start(t, newLoop(t, Config{Backend: backend}), p)
}

func (r *runner) run(p *probe) {
	defer close(r.ended)
	r.err = r.Run(p)
}

func (r *runner) wantEnd() {
	r.t.Helper()
	wait(r.t, r.ended, "the end of Run")
	if r.err != nil {
		r.t.Errorf("Run: %v", r.err)
	}
}

// do calls f on the loop's goroutine and returns when it has.
func (r *runner) do(f func()) {
	r.t.Helper()
	done := make(chan struct{})
	if !r.Post(Func(func() { f(); close(done) })) {
		r.t.Fatal("Post refused a task")
	}
	wait(r.t, done, "a posted task")
}

func (r *runner) add(fd int, t Token, e Events) {
	r.t.Helper()
	r.do(func() {
		if err := r.Add(fd, t, e); err != nil {
			r.t.Error(err)
		}
	})
}

func (r *runner) modify(fd int, t Token, e Events) {
	r.t.Helper()
	r.do(func() {
		if err := r.Modify(fd, t, e); err != nil {
			r.t.Error(err)
		}
	})
}

// wait returns the next value of c.
func wait[T any](t testing.TB, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("gave up waiting for %s", what)
		panic("unreachable")
	}
}

// until waits for a condition that another goroutine brings about without a word.
func until(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("gave up waiting until %s", what)
		}
	}
}

// pair is two connected non-blocking sockets. A test watches mine and acts as the peer with theirs.
type pair struct{ mine, theirs int }

func newPair(t testing.TB) pair {
	t.Helper()
	p := openPair(t)
	t.Cleanup(func() { unix.Close(p.mine); unix.Close(p.theirs) })
	return p
}

// openPair leaves the closing to the test.
func openPair(t testing.TB) pair {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return pair{fds[0], fds[1]}
}

func send(t testing.TB, fd int, data string) {
	t.Helper()
	if _, err := unix.Write(fd, []byte(data)); err != nil {
		t.Errorf("write to fd %d: %v", fd, err)
	}
}

// receive reads at most limit bytes.
func receive(t testing.TB, fd, limit int) int {
	t.Helper()
	n, err := unix.Read(fd, make([]byte, limit))
	if err != nil {
		t.Errorf("read from fd %d: %v", fd, err)
	}
	return n
}

func openDescriptors(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// readRaw and writeRaw are what a shard does with a ready socket: a system call that does not block, without the
// scheduler's entry.

func readRaw(fd int, p []byte) (int, syscall.Errno) {
	n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)))
	return int(n), errno
}

func writeRaw(fd int, p []byte) (int, syscall.Errno) {
	n, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)))
	return int(n), errno
}
