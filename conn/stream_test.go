package conn

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pushd/pushd/internal/gate"
	"github.com/pushd/pushd/poller"
)

const streamHead = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"

// claiming has paths below /get claimed.
func claiming(s *settings) {
	s.Claims = func(path string) bool { return strings.HasPrefix(path, "/get") }
	s.Beat = []byte(":\n\n")
	s.LastWords = func(dst []byte, why Reason) []byte { return fmt.Appendf(dst, "end: %d %v\n", why.Code(), why) }
}

// streaming is a handler whose GETs are all streams.
func streaming() *script {
	s := &script{}
	s.get = func(id poller.Token, _ *Request) *Refusal {
		s.table.Reply(id, []byte(streamHead))
		s.table.Reply(id, []byte("hello\n"))
		return nil
	}
	return s
}

// ask makes a GET.
func ask(path string, headers ...string) string {
	return "GET " + path + " HTTP/1.1\r\nHost: a\r\n" + strings.Join(append(headers, "\r\n"), "\r\n")
}

// openStream begins a stream, and reads what it begins with.
func (sh *shard) openStream() (*client, uint32) {
	sh.t.Helper()
	c := sh.connect()
	c.send(ask("/get"))
	c.wantBytes(streamHead + "hello\n")
	return c, look(sh, func() uint32 { return sh.script.newID.Slot() })
}

// wantBytes reads exactly that.
func (c *client) wantBytes(want string) {
	c.t.Helper()
	got := make([]byte, len(want))
	if n, err := readFull(c, got); err != nil || string(got) != want {
		c.t.Fatalf("read %q (%v), want %q", got[:n], err, want)
	}
}

func readFull(c *client, p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var m int
		m, err = c.r.Read(p[n:])
		n += m
	}
	return n, err
}

func TestGetRequests(t *testing.T) {
	for _, tc := range []struct {
		name, request string
		status        int    // 0: handed over
		keeps         string // what the handler is told
	}{
		{"HTTP/1.1", ask("/get/a?x"), 200, "true"},
		{"that is the last", ask("/get", "Connection: x, Close"), 200, "false"},
		{"HTTP/1.0", "GET /get HTTP/1.0\r\n\r\n", 200, "false"},
		{"HTTP/1.0 that is kept", "GET /get HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", 200, "true"},
		{"a whole URL", ask("http://b/get"), 200, "true"},
		{"no Host", "GET /get HTTP/1.1\r\n\r\n", 400, ""},
		{"two Hosts", ask("/get", "Host: b"), 400, ""},
		{"another version", "GET /get HTTP/2.0\r\nHost: a\r\n\r\n", 400, ""},
		{"no version", "GET /get\r\n\r\n", 400, ""},
		{"a body", ask("/get", "Content-Length: 3"), 400, ""},
		{"a body in chunks", ask("/get", "Transfer-Encoding: chunked"), 400, ""},
		{"two events", ask("/get", "Last-Event-ID: a", "Last-Event-ID: b"), 400, ""},
		{"a folded line", ask("/get", "X: a\r\n b"), 400, ""},
		{"too much behind it", ask("/get") + strings.Repeat("x", maxBehind+1), 400, ""},
		{"another path", ask("/other"), 0, ""},
		{"another method", "POST" + strings.TrimPrefix(ask("/get"), "GET"), 0, ""},
		{"its head alone", "HEAD" + strings.TrimPrefix(ask("/get"), "GET"), 0, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, keeps := &script{}, make(chan string, 1)
			s.get = func(id poller.Token, r *Request) *Refusal {
				keeps <- fmt.Sprint(r.KeepAlive)
				s.table.Answer(id, response(r.LastEventID), r.KeepAlive)
				return nil
			}
			sh := startShard(t, s, claiming, quickly)
			c := sh.connect()
			c.send(tc.request)
			if tc.status == 0 {
				sh.wantRefused(ReasonHandedOver, 1)
				return
			}
			c.wantStatus(tc.status)
			if tc.keeps != "" {
				if got := <-keeps; got != tc.keeps {
					t.Errorf("KeepAlive %v, want %v", got, tc.keeps)
				}
			}
			if tc.keeps == "true" {
				c.send(ask("/get", "Connection: close", "Last-Event-ID:  17@a.b "))
				if body := c.wantStatus(200); body != "17@a.b" {
					t.Errorf("Last-Event-ID is %q", body)
				}
			}
			c.wantEnd()
		})
	}
}

// Several requests on one connection, as they come and all at once, and then one
// of another kind.
func TestKeptConnection(t *testing.T) {
	others := map[string]struct {
		request string
		check   func(sh *shard, c *client)
	}{
		"a WebSocket": {plainRequest, func(sh *shard, c *client) { c.wantSwitch(); c.wantNothing() }},
		"net/http":    {ask("/other"), func(sh *shard, c *client) { sh.wantRefused(ReasonHandedOver, 1) }},
		"a stream":    {ask("/get/stream"), func(sh *shard, c *client) { c.wantBytes(streamHead) }},
		"nonsense":    {"\x00", func(sh *shard, c *client) { c.wantStatus(400); c.wantEnd() }},
	}
	onBothBackends(t, func(t *testing.T, backend string) {
		for name, other := range others {
			t.Run(name, func(t *testing.T) {
				s, ids := &script{}, make(map[poller.Token]bool)
				s.get = func(id poller.Token, r *Request) *Refusal {
					ids[id] = true
					if r.Path == "/get/stream" {
						s.table.Reply(id, []byte(streamHead))
					} else {
						s.table.Answer(id, response(r.Path), r.KeepAlive)
					}
					return nil
				}
				sh := startShard(t, s, claiming, withBackend(backend), quickly)
				c := sh.connect()
				for i := range 3 {
					c.send(ask(fmt.Sprint("/get/", i)))
					if got := c.wantStatus(200); got != fmt.Sprint("/get/", i) {
						t.Fatalf("answer %d is %q", i, got)
					}
				}
				c.send(ask("/get/a"), ask("/get/b"), ask("/get/c"), other.request)
				for _, want := range []string{"/get/a", "/get/b", "/get/c"} {
					if got := c.wantStatus(200); got != want {
						t.Fatalf("answer to %s is %q", want, got)
					}
				}
				other.check(sh, c)
				sh.wantClosed(ReasonAnswered, 6)
				if n := look(sh, func() int { return len(ids) }); n < 6 {
					t.Errorf("%d ids for 6 requests", n)
				}
			})
		}
	})
}

// A request in pieces, on a connection that was kept.
func TestKeptInPieces(t *testing.T) {
	sh := startShard(t, &script{}, claiming, quickly)
	c := sh.connect()
	for range 2 {
		request := ask("/get")
		for i := range len(request) {
			c.send(request[i : i+1])
			sh.wantRead(int(sh.Counts().BytesIn))
		}
		c.wantStatus(200)
	}
	if n := look(sh, sh.sidesInUse); n != 0 {
		t.Errorf("%d side records for a connection that is idle", n)
	}
}

func TestKeptTooLong(t *testing.T) {
	onBothBackends(t, func(t *testing.T, backend string) {
		sh := startShard(t, &script{}, claiming, withBackend(backend), quickly, func(s *settings) {
			s.IdleTimeout, s.HandshakeTimeout = 40*time.Millisecond, 60*time.Millisecond
		})
		c := sh.connect()
		c.send(ask("/get"))
		c.wantStatus(200)
		c.wantEnd() // it said nothing more
		c = sh.connect()
		c.send(ask("/get"))
		c.wantStatus(200)
		c.send("GET /g")
		c.wantStatus(408) // … or not all of it
		sh.wantEmpty()
	})
}

func TestStream(t *testing.T) {
	onBothBackends(t, func(t *testing.T, backend string) {
		onBothLanes(t, func(t *testing.T, lane func(*Config)) {
			sh := startShard(t, streaming(), claiming, withBackend(backend), quickly, func(s *settings) { lane(&s.Config) })
			c, slot := sh.openStream()
			sh.do(func() {
				sh.Send(slot, []byte("shared\n"))
				sh.SendCopy(slot, []byte("copied\n"))
				sh.Reply(sh.ID(slot), []byte("replied\n"))
			})
			c.wantBytes("shared\ncopied\nreplied\n")
			c.send("ignored")
			sh.wantRead(len(ask("/get")) + len("ignored"))
			sh.do(func() { sh.Close(sh.ID(slot), ReasonKicked) })
			c.wantBytes("end: 4003 kicked\n")
			c.wantEnd()
			sh.wantClosed(ReasonKicked, 1)
			sh.wantEmpty()
		})
	})
}

// A stream that is silent shows that it is alive, and does not ask for the same.
func TestStreamBeat(t *testing.T) {
	sh := startShard(t, streaming(), claiming, beating)
	c, _ := sh.openStream()
	for range 4 { // far beyond the time in which a pong is due
		c.wantBytes(":\n\n")
	}
	if n := sh.Counts().Open; n != 1 {
		t.Errorf("%d are open", n)
	}
}

func TestStreamThatTalks(t *testing.T) {
	for name, pieces := range map[string][]string{
		"in small pieces": strings.SplitAfter(strings.Repeat("0123456789abcde\n", maxBehind/16+1), "\n"),
		"much at once":    {strings.Repeat("x", 1<<16)},
		"requests":        {strings.Repeat(ask("/get"), maxBehind/len(ask("/get"))+1)},
	} {
		t.Run(name, func(t *testing.T) {
			sh := startShard(t, streaming(), claiming, quickly)
			c, _ := sh.openStream()
			for _, p := range pieces {
				if _, err := c.Write([]byte(p)); err != nil {
					break // it has been cut off
				}
			}
			c.wantBytes("end: 1003 unsupported_data\n")
			c.wantGone()
			sh.wantClosed(ReasonUnsupportedData, 1)
		})
	}
}

// A stream that is held begins with what it was held for, and what came of its
// client meanwhile is ignored.
func TestHeldStream(t *testing.T) {
	s, held := streaming(), make(chan poller.Token, 1)
	begin := s.get
	s.get = func(id poller.Token, r *Request) *Refusal {
		s.table.Hold(id)
		held <- id
		return begin(id, r)
	}
	sh := startShard(t, s, claiming, quickly, func(s *settings) { s.HandshakeTimeout = 100 * time.Millisecond })
	c := sh.connect()
	c.send(ask("/get"), "behind")
	id := <-held
	sh.do(func() {
		if got := sh.Send(id.Slot(), []byte("x")); got != Blocked {
			t.Errorf("Send while held: %v", got)
		}
		sh.Reply(id, []byte("more\n"))
		sh.Release(id)
	})
	c.wantBytes(streamHead + "hello\nmore\n")
	if n := look(sh, sh.sidesInUse); n != 0 {
		t.Errorf("%d side records for a stream that is idle", n)
	}
	other := sh.connect()
	other.send(ask("/get"))
	<-held
	other.wantStatus(503) // nothing of the stream has left
	other = sh.connect()
	other.send(ask("/get"))
	id = <-held
	sh.do(func() { sh.Refuse(id, &Refusal{Status: 401, Code: "unauthorized", Message: "no"}) })
	other.wantStatus(401)
}

// An answer may take longer than a handshake, and be more than the socket takes.
func TestAwait(t *testing.T) {
	onBothBackends(t, func(t *testing.T, backend string) {
		s, waiting := &script{}, make(chan poller.Token, 8)
		s.get = func(id poller.Token, r *Request) *Refusal {
			if r.Path == "/get/held" {
				s.table.Hold(id)
			}
			s.table.Await(id)
			waiting <- id
			return nil
		}
		sh := startShard(t, s, claiming, withBackend(backend), quickly, smallBuffers, func(s *settings) {
			s.HandshakeTimeout = 30 * time.Millisecond
		})
		c := sh.connect()
		c.send(ask("/get"), ask("/get/held"))
		first := <-waiting
		time.Sleep(60 * time.Millisecond) // more than the handshake timeout
		large := pattern(500_000)
		sh.do(func() {
			sh.Await(first)
			sh.Answer(first, response(large), true)
			sh.Answer(first, response("once more"), true) // says nothing
			sh.Reply(first, []byte("nor this"))
		})
		if got := c.wantStatus(200); got != large {
			t.Fatalf("an answer of %d bytes, want %d", len(got), len(large))
		}
		second := <-waiting
		sh.do(func() {
			sh.Answer(first, response("of another request"), true)
			sh.Answer(second, response("second"), false)
		})
		if got := c.wantStatus(200); got != "second" {
			t.Fatalf("the second answer is %q", got)
		}
		c.wantEnd()
		sh.wantClosed(ReasonAnswered, 2)

		for name, leave := range map[string]func(c *client){
			"by closing": func(c *client) { c.Close() }, "by a reset": (*client).reset, "by closing its half": func(c *client) { c.CloseWrite() },
		} {
			before := sh.Counts().Closed[ReasonClientGone]
			c = sh.connect()
			c.send(ask("/get"))
			id := <-waiting
			leave(c)
			until(t, "a client that leaves "+name+" is noticed", func() bool { return sh.Counts().Closed[ReasonClientGone] == before+1 })
			sh.do(func() { sh.Answer(id, response("too late"), true) })
		}
		c = sh.connect()
		c.send(ask("/get"))
		id := <-waiting
		sh.do(func() { sh.Refuse(id, &Refusal{Status: 503, Code: "unavailable", Message: "no"}) })
		c.wantStatus(503)
		c.wantEnd()
	})
}

func TestAnswerThatIsNotTaken(t *testing.T) {
	s := &script{}
	s.get = func(id poller.Token, _ *Request) *Refusal {
		s.table.Answer(id, response(pattern(1_000_000)), true)
		return nil
	}
	sh := startShard(t, s, claiming, smallBuffers, func(s *settings) { s.WriteTimeout = 100 * time.Millisecond })
	c := sh.connect()
	c.send(ask("/get"))
	sh.wantClosed(ReasonTooSlow, 1)
	sh.wantEmpty()
	c.Close()

	c = sh.connect() // one whose answer is on its way when the table closes all
	c.send(ask("/get"))
	until(t, "it is asked", func() bool { return sh.Counts().Open == 1 })
	sh.do(func() { sh.CloseAll(ReasonShutdown) })
	c.wantStatus(200)
	c.wantEnd()
}

func TestSecureGet(t *testing.T) {
	a := newAuthority(t)
	s := streaming()
	begin := s.get
	s.get = func(id poller.Token, r *Request) *Refusal {
		if r.Path == "/get" {
			return begin(id, r)
		}
		s.table.Answer(id, response(r.Path), r.KeepAlive)
		return nil
	}
	sh := startShard(t, s, claiming, a.withTLS, quickly)
	c := sh.connectTLS(a.trust(nil))
	c.send(ask("/get/1"))
	c.wantStatus(200)
	c.send(ask("/get/2"), ask("/get"))
	c.wantStatus(200)
	c.wantBytes(streamHead + "hello\n")
	slot := look(sh, func() uint32 { return sh.script.newID.Slot() })
	sh.do(func() { sh.Send(slot, []byte("data\n")) })
	c.wantBytes("data\n")
	c.send("garbage")
	sh.do(func() { sh.Close(sh.ID(slot), ReasonShutdown) })
	c.wantBytes("end: 1001 shutdown\n")
	c.wantEnd() // with close_notify
	c = sh.connectTLS(a.trust(nil))
	c.send(ask("/get"))
	c.wantBytes(streamHead)
	for range 2 * maxBehind / 1024 {
		if _, err := c.tls.Write(make([]byte, 1024)); err != nil {
			break
		}
	}
	sh.wantClosed(ReasonUnsupportedData, 1)
}

// The requests of one connection of a proxy may be those of several clients, who
// are counted each for themselves, and not any more when theirs is answered.
func TestKeptBehindProxy(t *testing.T) {
	change, g := gated(t, gate.Limits{Connections: 1})
	s := &script{}
	s.get = func(id poller.Token, r *Request) *Refusal {
		s.table.Answer(id, response(fmt.Sprint(r.Address)), r.KeepAlive)
		return nil
	}
	var handed atomic.Pointer[Handed]
	s.notUpgrade = func(fd int, _ []byte, h Handed) { unix.Close(fd); handed.Store(&h) }
	sh := startShard(t, s, claiming, change, func(s *settings) {
		s.TrustForwarded = networksOf("127.0.0.2/32")
		s.ProxyProtocol = networksOf("127.0.0.3/32")
	})
	c := sh.connectFrom("127.0.0.2")
	for _, client := range []string{"203.0.113.1", "203.0.113.2", "203.0.113.1"} {
		c.send(ask("/get", "X-Forwarded-For: "+client))
		if got := c.wantStatus(http.StatusOK); got != client {
			t.Errorf("the request of %s is that of %s", client, got)
		}
	}
	until(t, "nobody is counted", func() bool { g.Sweep(); return g.Addresses() == 0 })
	c.send(ask("/other"))
	until(t, "it is handed over", func() bool { return handed.Load() != nil })
	if h := handed.Swap(nil); h.Client.String() != "127.0.0.2" || h.Visit != 0 {
		t.Errorf("handed over as %+v", *h)
	}

	c = sh.connectFrom("127.0.0.3") // whose connections are of one client each
	c.send("PROXY TCP4 203.0.113.9 192.0.2.1 1 2\r\n")
	for range 2 {
		c.send(ask("/get"))
		if got := c.wantStatus(http.StatusOK); got != "203.0.113.9" {
			t.Errorf("its client is %s", got)
		}
	}
	c.send(ask("/other"))
	until(t, "it is handed over", func() bool { return handed.Load() != nil })
	h := handed.Load()
	if h.Client.String() != "203.0.113.9" || h.Visit == 0 {
		t.Errorf("handed over as %+v", *h)
	}
	g.Leave(h.Visit)
}
