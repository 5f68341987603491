package conn

import (
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"golang.org/x/sys/unix"

	"github.com/pushd/pushd/poller"
)

// patience bounds every wait; only a test that fails reaches it.
const patience = 20 * time.Second

// testTick is short, so that deadlines of a few ticks make no slow tests.
const testTick = 5 * time.Millisecond

// onBothBackends runs f for each backend of the poller.
func onBothBackends(t *testing.T, f func(t *testing.T, backend string)) {
	for _, backend := range []string{"epoll", "easygo"} {
		t.Run(backend, func(t *testing.T) { f(t, backend) })
	}
}

// script is a Handler out of functions. What is nil does the simplest: every
// request is upgraded, every message comes back as it is. It fails the test
// where the table breaks the contract of Handler.
type script struct {
	upgrade    func(id poller.Token, r *Request) *Refusal
	get        func(id poller.Token, r *Request) *Refusal
	message    func(id poller.Token, op ws.OpCode, payload []byte)
	drained    func(id poller.Token)
	closed     func(id poller.Token, why Reason)
	notUpgrade func(fd int, read []byte, h Handed)

	// Static after startShard.
	t     testing.TB
	table *Table

	// Loop-only.
	alive map[poller.Token]bool // upgraded and not told closed
	frame []byte
	newID poller.Token // the one upgraded last

	// Atomic.
	drains atomic.Int64
}

func (s *script) Upgrade(id poller.Token, r *Request) *Refusal {
	if s.alive[id] {
		s.t.Errorf("Upgrade of %#x, which is open", id)
	}
	if s.upgrade != nil {
		if refused := s.upgrade(id, r); refused != nil {
			return refused
		}
	}
	s.alive[id], s.newID = true, id
	return nil
}

// Get answers a request for which there is no function with its path.
func (s *script) Get(id poller.Token, r *Request) *Refusal {
	if s.alive[id] {
		s.t.Errorf("Get of %#x, which is open", id)
	}
	if s.get != nil {
		if refused := s.get(id, r); refused != nil {
			return refused
		}
	} else {
		s.table.Answer(id, response(r.Path), r.KeepAlive)
	}
	s.alive[id], s.newID = true, id
	return nil
}

// response is a complete one with a body.
func response(body string) []byte {
	return fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

func (s *script) Message(id poller.Token, op ws.OpCode, payload []byte) {
	if !s.alive[id] {
		s.t.Errorf("Message of %#x, which is not open", id)
	}
	if s.message != nil {
		s.message(id, op, payload)
		return
	}
	s.frame = AppendFrame(s.frame[:0], op, payload)
	s.table.Reply(id, s.frame)
}

func (s *script) Drained(id poller.Token) {
	if !s.alive[id] {
		s.t.Errorf("Drained of %#x, which is not open", id)
	}
	s.drains.Add(1)
	if s.drained != nil {
		s.drained(id)
	}
}

func (s *script) Closed(id poller.Token, why Reason) {
	if !s.alive[id] {
		s.t.Errorf("Closed of %#x (%v), which is not open", id, why)
	}
	delete(s.alive, id)
	if s.closed != nil {
		s.closed(id, why)
	}
}

func (s *script) NotUpgrade(fd int, read []byte, h Handed) {
	if s.notUpgrade != nil {
		s.notUpgrade(fd, read, h)
		return
	}
	unix.Close(fd)
}

// shard is a table on a loop of its own, behind a listener.
type shard struct {
	*Table
	t      testing.TB
	script *script
	loop   *poller.Loop
	addr   string
	ended  chan struct{} // closed at the end of run
	err    error         // of run, once ended is closed
	onTick func()        // loop-only; before the table's own
	onTurn func()        // likewise
}

// settings changes how a shard is made.
type settings struct {
	Config
	backend string
	tick    time.Duration
	listen  poller.ListenOptions

	// sendBuffer is what the kernel takes for a client that does not read, in
	// bytes and roughly; 0: some megabytes.
	sendBuffer int
}

// startShard runs a shard until the test ends, and checks then that nothing of
// its connections is left.
func startShard(t testing.TB, s *script, change ...func(*settings)) *shard {
	t.Helper()
	set := settings{tick: testTick, listen: poller.ListenOptions{NoDelay: true}}
	set.Log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	for _, f := range change {
		f(&set)
	}
	loop, err := poller.New(poller.Config{Backend: set.backend, Tick: set.tick})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := poller.Listen("127.0.0.1:0", set.listen)
	if err != nil {
		t.Fatal(err)
	}
	if set.sendBuffer > 0 { // accepted sockets inherit it
		if err := unix.SetsockoptInt(listener.FD(), unix.SOL_SOCKET, unix.SO_SNDBUF, set.sendBuffer); err != nil {
			t.Fatal(err)
		}
	}
	s.t, s.alive = t, make(map[poller.Token]bool)
	table, err := NewTable(set.Config, loop, listener, s)
	if err != nil {
		t.Fatal(err)
	}
	s.table = table
	sh := &shard{Table: table, t: t, script: s, loop: loop, addr: listener.Addr().String(), ended: make(chan struct{})}
	go sh.run()
	t.Cleanup(sh.stop)
	return sh
}

// withBackend is a change for startShard.
func withBackend(backend string) func(*settings) {
	return func(s *settings) { s.backend = backend }
}

// quickly shortens everything that a test has to wait for.
func quickly(s *settings) {
	s.Linger, s.CloseTimeout = 50*time.Millisecond, 50*time.Millisecond
}

// smallBuffers lets a client that does not read be noticed after few bytes.
func smallBuffers(s *settings) { s.sendBuffer = 16 << 10 }

func (sh *shard) run() {
	defer close(sh.ended)
	sh.err = sh.loop.Run(sh)
}

// Tick and Turn are the poller's; Ready is the table's own.
func (sh *shard) Tick(now uint32) {
	if sh.onTick != nil {
		sh.onTick()
	}
	sh.Table.Tick(now)
}

func (sh *shard) Turn() (more bool) {
	if sh.onTurn != nil {
		sh.onTurn()
	}
	sh.Table.Turn()
	return false
}

func (sh *shard) stop() {
	sh.loop.Post(poller.Func(sh.Table.Shutdown))
	sh.loop.Stop()
	<-sh.ended
	if sh.err != nil {
		sh.t.Errorf("Run: %v", sh.err)
	}
	if n := len(sh.script.alive); n != 0 {
		sh.t.Errorf("%d connections were never told closed", n)
	}
	sh.checkEmpty()
}

// checkEmpty is for the loop's goroutine, or after its end.
func (sh *shard) checkEmpty() {
	sh.t.Helper()
	if n := sh.slab.used; n != 0 {
		sh.t.Errorf("%d records are left", n)
	}
	if n := sh.sidesInUse(); n != 0 {
		sh.t.Errorf("%d side records are left", n)
	}
	if n := sh.cfg.Quota.sockets.Load(); n != 0 {
		sh.t.Errorf("the quota still counts %d sockets", n)
	}
	if n := sh.cfg.Quota.Open(); n != 0 {
		sh.t.Errorf("the quota still counts %d connections", n)
	}
	if n := sh.cfg.Quota.Operators(); n != 0 {
		sh.t.Errorf("the quota still counts %d operators", n)
	}
	if n := sh.cfg.Receiving.Kept(); n != 0 {
		sh.t.Errorf("%d bytes of messages are still counted", n)
	}
	if len(sh.unread) != 0 || len(sh.pages) != 0 {
		sh.t.Errorf("%d answers and %d pages are left", len(sh.unread), len(sh.pages))
	}
	if n := sh.cfg.Answering.Kept(); n != 0 {
		sh.t.Errorf("%d bytes of answers are still counted", n)
	}
	if sh.secures != nil {
		for slot := range sh.slab.next {
			if sh.secures.at(slot) != nil {
				sh.t.Errorf("slot %d has TLS left", slot)
			}
		}
		if active, waiting := sh.cfg.Handshakes.Counts(); active != 0 || waiting != 0 {
			sh.t.Errorf("%d TLS handshakes are still under way, and %d wait", active, waiting)
		}
	}
	if !sh.fresh.idle() || sh.corked != noSlot || sh.out != nil {
		sh.t.Error("the decoder or the cork is left in use")
	}
}

func (t *Table) sidesInUse() (n int) {
	for _, s := range t.sides.all {
		if s != nil {
			n++
		}
	}
	return n
}

// do calls f on the loop's goroutine, after which the turn ends, and returns
// when f has.
func (sh *shard) do(f func()) {
	sh.t.Helper()
	done := make(chan struct{})
	if !sh.loop.Post(poller.Func(func() { defer close(done); f() })) {
		sh.t.Fatal("the loop has ended")
	}
	select {
	case <-done:
	case <-time.After(patience):
		sh.t.Fatal("the loop does not answer")
	}
}

// whileItWaits calls f while the loop does nothing, so that the kernel has all
// that f sends before any of it is read.
func (sh *shard) whileItWaits(f func()) {
	sh.t.Helper()
	waits, goOn := make(chan struct{}), make(chan struct{})
	if !sh.loop.Post(poller.Func(func() { close(waits); <-goOn })) {
		sh.t.Fatal("the loop has ended")
	}
	defer close(goOn)
	<-waits
	f()
}

// look returns what f finds on the loop's goroutine.
func look[T any](sh *shard, f func() T) (v T) {
	sh.t.Helper()
	sh.do(func() { v = f() })
	return v
}

// until waits for what comes about by itself.
func until(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("gave up waiting until %s", what)
		}
	}
}

// wantClosed waits until n upgraded connections have ended for a reason.
func (sh *shard) wantClosed(why Reason, n uint64) {
	sh.t.Helper()
	until(sh.t, "a connection ends as "+why.String(), func() bool { return sh.Counts().Closed[why] >= n })
	if c := sh.Counts(); c.Closed[why] != n {
		sh.t.Errorf("%d connections ended as %v, want %d: %v", c.Closed[why], why, n, c.Closed)
	}
}

// wantRefused waits until n sockets that were not upgraded have ended for a reason.
func (sh *shard) wantRefused(why Reason, n uint64) {
	sh.t.Helper()
	until(sh.t, "a socket is refused as "+why.String(), func() bool { return sh.Counts().Refused[why] >= n })
}

// wantEmpty waits until every socket is gone.
func (sh *shard) wantEmpty() {
	sh.t.Helper()
	until(sh.t, "all sockets are closed", func() bool { return sh.Counts().Sockets == 0 })
}

// wantRead waits until n bytes have been read of all clients together.
func (sh *shard) wantRead(n int) {
	sh.t.Helper()
	until(sh.t, "what was sent is read", func() bool { return sh.Counts().BytesIn >= uint64(n) })
}
