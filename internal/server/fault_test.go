package server

import (
	"encoding/json"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/nats-io/nats.go"

	"github.com/pushd/pushd/internal/config"
	"github.com/pushd/pushd/internal/natstest"
)

// TestFrozenReader has one of many subscribers stop reading: the others miss
// nothing, memory stays within its bound, and the frozen one is told what it
// missed when it reads again.
func TestFrozenReader(t *testing.T) {
	const (
		others   = 999
		messages = 250
		ring     = 64
	)
	r := start(t, func(c *config.Config) { c.RingMessages, c.Heartbeat = ring, time.Minute })
	nc := r.backend()
	frozen := r.subscribed("scores.final")
	if err := frozen.conn.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
		t.Fatal(err)
	}

	var readers sync.WaitGroup
	var complete atomic.Int64
	for range others {
		s := r.dial("topic=scores.final")
		readers.Go(func() {
			if err := s.readNumbers(messages); err != nil {
				t.Errorf("a subscriber that reads: %v", err)
				return
			}
			complete.Add(1)
		})
	}
	padding := strings.Repeat("x", 2<<10)
	for i := range messages {
		if err := nc.Publish("push.scores.final", fmt.Appendf(nil, `{"n":%d,"padding":%q}`, i, padding)); err != nil {
			t.Fatal(err)
		}
		// No faster than the others read: this is not about overload.
		eventually(t, "those who read keep up", func() bool {
			return r.delivered() >= uint64(others)*uint64(max(0, i-ring/4))
		})
	}
	readers.Wait()
	if n := complete.Load(); n != others {
		t.Errorf("%d of %d saw all %d messages", n, others, messages)
	}

	if n := r.hub.Counts().RingMessages; n > ring {
		t.Errorf("the rings hold %d messages, want at most %d", n, ring)
	}
	var unsent int64
	for _, c := range r.look(t) {
		unsent += int64(c.UnsentBytes)
	}
	if unsent > 64<<10+4<<10 {
		t.Errorf("%d bytes are kept for the frozen reader, want at most the rest of one write", unsent)
	}

	next, gaps := 0, 0
	for next < messages {
		m := frozen.receive()
		switch m.Type {
		case "gap":
			gaps++
			if m.Topic != "scores.final" || m.Reason != "slow" {
				t.Errorf("told of %+v", m)
			}
			next = -1 // whatever comes first after it
		case "message":
			n := numberOf(m)
			if next >= 0 && n != next {
				t.Fatalf("the frozen reader got %d after %d without a gap", n, next-1)
			}
			next = n + 1
		}
	}
	if gaps != 1 {
		t.Errorf("the frozen reader was told of %d gaps, want 1", gaps)
	}
}

// delivered is how many messages sockets have taken.
func (r *running) delivered() (n uint64) {
	for _, sh := range r.shards {
		n += sh.members.Counts().Deliveries
	}
	return n
}

func numberOf(m message) int {
	var data struct{ N int }
	if err := json.Unmarshal(m.Data, &data); err != nil {
		return -1
	}
	return data.N
}

// readNumbers reads messages 0 to count-1, in order and without a gap.
func (s *socket) readNumbers(count int) error {
	for next := 0; next < count; {
		f, err := s.tryNext(patience)
		if err != nil {
			return err
		}
		// By hand: with a thousand readers and the race detector, encoding/json would be most of the test.
		text := string(f.Payload)
		switch {
		case strings.HasPrefix(text, `{"type":"welcome"`), strings.HasPrefix(text, `{"type":"subscribed"`):
		case strings.HasPrefix(text, `{"type":"message"`) && strings.Contains(text, fmt.Sprintf(`"data":{"n":%d,`, next)):
			next++
		default:
			return fmt.Errorf("got %.200s, want message %d", text, next)
		}
	}
	return nil
}

// look is what /connections shows.
func (r *running) look(t testing.TB) []connectionInfo {
	t.Helper()
	status, _, body := r.request("GET", "http://"+r.AdminAddr()+"/connections?limit=10000", "", "")
	var seen struct{ Connections []connectionInfo }
	if err := json.Unmarshal([]byte(body), &seen); status != 200 || err != nil {
		t.Fatalf("/connections: %d, %v", status, err)
	}
	return seen.Connections
}

// TestNATSRestarts kills NATS under load: clients stay, are told of the gap,
// and go on.
func TestNATSRestarts(t *testing.T) {
	process := natstest.Start(t)
	r := start(t, func(c *config.Config) { c.NATS = []string{process.URL()} })
	backend, err := nats.Connect(process.URL(), nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond), nats.ReconnectBufSize(-1))
	if err != nil {
		t.Fatal(err)
	}
	defer backend.Close()
	stop := make(chan struct{})
	var publishing sync.WaitGroup
	publishing.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
				backend.Publish("push.scores.final", fmt.Appendf(nil, `{"n":%d}`, n)) // while NATS is away nobody has it
			}
		}
	})
	defer publishing.Wait()
	defer close(stop)

	clients := make([]*follower, 50)
	for i := range clients {
		s := r.subscribed("scores.final")
		clients[i] = &follower{s, numberOf(s.want("message"))}
	}
	for round := range 2 {
		process.Kill()
		eventually(t, "the node is not ready", func() bool {
			status, _, _ := r.http("GET", "/readyz", "", "")
			return status == 503
		})
		if status, header, body := r.http("POST", "/publish/a.b", "", "1"); status != 503 || header.Get("Retry-After") == "" || !strings.Contains(body, `"unavailable"`) {
			t.Errorf("publishing without NATS: %d %v %s", status, header, body)
		}
		late := r.dial("topic=scores.final&topic=other.ns")
		late.want("welcome") // subscribing is taken while NATS is away
		late.want("subscribed")
		late.want("subscribed")
		process.Restart()
		for i, c := range clients {
			if err := c.readOverOutage(); err != nil {
				t.Fatalf("round %d, client %d: %v", round, i, err)
			}
		}
		told := map[string]bool{} // it joined when messages were being lost already
		for len(told) < 2 {
			if m := late.receive(); m.Type == "gap" && m.Reason == "upstream" {
				told[m.Topic] = true
			}
		}
		late.conn.Close()
	}
	if n := r.quota.Open(); n < len(clients) {
		t.Errorf("%d clients are connected, want the %d that were all along", n, len(clients))
	}
}

// follower is a client that knows which message it had last.
type follower struct {
	*socket
	last int
}

// readOverOutage reads on until messages have been missed, the client has been
// told, and more have come. The gap may come shortly after the first message
// behind it: not before, since more could have been lost then.
func (c *follower) readOverOutage() error {
	missed, told := false, false
	for after := 0; !missed || !told || after < 3; {
		m, err := c.tryReceive()
		switch {
		case err != nil:
			return err
		case m.Type == "gap" && m.Reason == "upstream" && m.Topic == "scores.final" && !told:
			told = true
		case m.Type != "message":
			return fmt.Errorf("got %+v", m)
		default:
			n := numberOf(m)
			if n != c.last+1 {
				if missed {
					return fmt.Errorf("got %d after %d, and had missed some before", n, c.last)
				}
				missed = true
			}
			c.last = n
			if missed {
				after++
			}
			if after > 5000 {
				return fmt.Errorf("not told of the loss %d messages later", after)
			}
		}
	}
	return nil
}

func TestShutdownTellsClients(t *testing.T) {
	r := start(t)
	nc := r.backend()
	clients := []*socket{r.subscribed("a.b"), r.subscribed(), r.dial("topic=a.b&format=raw")}
	nc.Publish("push.a.b", []byte("1"))
	clients[0].wantData("a.b", "1")
	ended := make(chan error, 1)
	go func() { ended <- r.stop() }()
	for i, s := range clients {
		if code := s.wantClose(); code != ws.StatusGoingAway {
			t.Errorf("client %d: closed with %d, want 1001", i, code)
		}
		s.frame(ws.MaskFrame(ws.NewCloseFrame(ws.NewCloseFrameBody(1001, ""))))
		if _, err := s.tryNext(patience); err == nil {
			t.Errorf("client %d: something came after the close frame", i)
		}
		s.conn.Close()
	}
	if err := <-ended; err != nil {
		t.Errorf("Run: %v", err)
	}
	if c, err := net.Dial("tcp", r.Addr()); err == nil {
		c.Close()
		t.Error("the port still answers")
	}
}

// TestShutdownBesideHTTP has a request that does not end: clients are told all
// the same, at once.
func TestShutdownBesideHTTP(t *testing.T) {
	r := start(t, func(c *config.Config) { c.ShutdownTimeout = time.Minute })
	c, err := net.Dial("tcp", r.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "POST /publish/a.b HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf")
	eventually(t, "the request is being served", func() bool { return r.plain.open.Load() == 1 })
	s := r.subscribed("a.b")
	go r.stop()
	if code := s.wantClose(); code != ws.StatusGoingAway {
		t.Errorf("closed with %d, want 1001", code)
	}
	s.conn.Close()
	fmt.Fprint(c, "and rest") // so that the test need not wait for half a minute
}

// TestFrozenForLong has a client that does not read for longer than a silent
// one would be kept: it is told of its gap when it reads on.
func TestFrozenForLong(t *testing.T) {
	t.Parallel()
	r := start(t, func(c *config.Config) {
		c.Heartbeat, c.WriteTimeout, c.RingMessages = time.Second, time.Minute, 16
	})
	nc := r.backend()
	s := r.subscribed("a.b")
	if err := s.conn.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
		t.Fatal(err)
	}
	behind := func() (n int64) {
		for _, sh := range r.shards {
			n += sh.members.Counts().Behind
		}
		return n
	}
	data := []byte(`"` + strings.Repeat("x", 30<<10) + `"`)
	eventually(t, "the client is behind", func() bool {
		nc.Publish("push.a.b", data)
		nc.Flush()
		return behind() == 1
	})
	for range 50 { // out of the ring
		nc.Publish("push.a.b", data)
	}
	nc.Flush()
	time.Sleep(13 * time.Second) // more than heartbeat + 10 s: this is about what happens in the meantime
	for {
		if m := s.receive(); m.Type == "gap" {
			break
		}
	}
}

// TestShutdownIsBounded has a client that does nothing about being told.
func TestShutdownIsBounded(t *testing.T) {
	r := start(t, func(c *config.Config) { c.ShutdownTimeout = time.Second })
	r.subscribed("a.b")
	began := time.Now()
	if err := r.stop(); err != nil {
		t.Errorf("Run: %v", err)
	}
	if took := time.Since(began); took > patience {
		t.Errorf("the end took %v", took)
	}
}

// TestStartErrors holds each error at start to one line that names the cure.
func TestStartErrors(t *testing.T) {
	other := start(t)
	natsPort := strings.TrimPrefix(other.NATSURL(), "nats://")
	gone := natstest.Start(t)
	gone.Kill()
	f := func(name string, change func(*config.Config), mentions ...string) {
		t.Helper()
		cfg := config.Default()
		cfg.Listen, cfg.Admin, cfg.NATSListen, cfg.Store = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", "memory"
		change(&cfg)
		s, err := New(cfg, other.log)
		if err == nil {
			s.release()
			t.Errorf("%s: started", name)
			return
		}
		for _, m := range mentions {
			if !strings.Contains(err.Error(), m) {
				t.Errorf("%s: %q does not mention %q", name, err, m)
			}
		}
		if strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: more than one line: %q", name, err)
		}
	}
	f("port in use", func(c *config.Config) { c.Listen = other.Addr() }, other.Addr(), "in use", "--listen")
	f("admin port in use", func(c *config.Config) { c.Admin = other.AdminAddr() }, other.AdminAddr(), "in use", "--admin")
	f("NATS port in use", func(c *config.Config) { c.NATSListen = natsPort }, natsPort, "in use", "--nats-listen")
	f("NATS away", func(c *config.Config) { c.NATS = []string{gone.URL()} }, gone.Addr(), "--nats")
	f("store is no folder", func(c *config.Config) { c.Store = "/dev/null/x" }, "/dev/null/x", "--store")
	f("beyond loopback", func(c *config.Config) { c.Listen = "0.0.0.0:0" }, "--open")
	f("too many connections", func(c *config.Config) { c.MaxConnections = 5_000_000 }, "--max-connections", "ulimit -n")
}

// TestOutOfFiles runs pushd with fewer files than clients want: those it has
// are served on, new ones are answered or shed, it does not spin, and it
// recovers.
func TestOutOfFiles(t *testing.T) {
	t.Parallel()
	b := startShipped(t, "--max-connections=290", "--heartbeat=10m")
	setFileLimit(t, b, 300)
	served := b.subscribed("a.b")
	var crowded []*socket
	refused := 0
	for range 400 {
		s, err := b.tryDial("topic=a.b")
		if err != nil {
			refused++
			continue
		}
		crowded = append(crowded, s)
	}
	if refused < 100 || len(crowded) < 100 {
		t.Fatalf("%d connected and %d refused of 400", len(crowded), refused)
	}
	before := cpuTime(t, b.cmd)
	time.Sleep(time.Second) // of rest: whatever it uses now, it spins with
	if used := cpuTime(t, b.cmd) - before; used > 500*time.Millisecond {
		t.Errorf("%v of CPU in a second in which nothing happened", used)
	}
	served.send(`{"type":"publish","topic":"a.b","data":1}`)
	for _, s := range append(crowded, served) {
		for {
			if m := s.receive(); m.Type == "message" {
				break
			}
		}
	}
	for _, s := range crowded {
		s.conn.Close()
	}
	eventually(t, "new clients are taken again", func() bool {
		s, err := b.tryDial("topic=a.b")
		if err == nil {
			s.conn.Close()
		}
		return err == nil
	})
}

// setFileLimit lowers how many files a running pushd may open.
func setFileLimit(t testing.TB, b *shipped, n uint64) {
	t.Helper()
	limit := syscall.Rlimit{Cur: n, Max: n}
	if err := prlimit(b.cmd.Process.Pid, &limit); err != nil {
		t.Fatal(err)
	}
}

func cpuTime(t testing.TB, cmd *exec.Cmd) time.Duration {
	t.Helper()
	d, err := processCPU(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestDeniedByNATS has an account that may not subscribe to one namespace: a
// client is refused there, and not left to wait for ever.
func TestDeniedByNATS(t *testing.T) {
	process := natstest.Start(t, natstest.Config(`
		authorization: { default_permissions: { publish: ">", subscribe: { allow: ["push.>", "_INBOX_push.>"], deny: ["push.secret", "push.secret.>"] } }, users: [ { user: u, password: p } ] }`))
	r := start(t, func(c *config.Config) { c.NATS = []string{strings.Replace(process.URL(), "nats://", "nats://u:p@", 1)} })
	s := r.subscribed("public.x")
	for range 2 { // it is asked anew each time
		s.send(`{"type":"subscribe","id":1,"topic":"secret.x"}`)
		if m := s.want("error"); m.Code != "forbidden" || string(m.ID) != "1" {
			t.Errorf("got %+v", m)
		}
	}
	q := r.dial("topic=secret.x&topic=public.x")
	q.want("welcome")
	for range 2 {
		if m := q.receive(); m.Type+m.Code != "errorforbidden" && m.Type != "subscribed" {
			t.Errorf("got %+v", m)
		}
	}
	if _, err := r.tryDial("topic=secret.x&format=raw"); err != ws.StatusError(403) {
		t.Errorf("raw: %v, want 403", err)
	}
	s.send(`{"type":"publish","id":2,"topic":"public.x","data":1}`)
	for range 2 {
		if m := s.receive(); m.Type != "published" && m.Type != "message" {
			t.Errorf("got %+v", m)
		}
	}
}
