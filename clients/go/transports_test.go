package pushd_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	pushd "github.com/pushd/pushd/clients/go"
	"github.com/pushd/pushd/internal/certstest"
	"github.com/pushd/pushd/internal/config"
)

// impatient has a client that does not wait long for what is blocked, nor for
// what may be better.
func impatient(o *pushd.Options) { o.Timeout, o.RetryBetter = time.Second, 200*time.Millisecond }

// opened returns by which transports a client was connected, one after another.
func opened(told *events) (by []pushd.Transport) {
	count(told, func(e *pushd.StateChange) bool {
		if e.State == pushd.Open && (len(by) == 0 || by[len(by)-1] != e.Transport) {
			by = append(by, e.Transport)
		}
		return true
	})
	return by
}

// However a network blocks a transport, the next one takes its place, and
// the best comes back when it can. Nothing is lost meanwhile, and nothing comes twice.
func TestBlockedTransports(t *testing.T) {
	t.Parallel()
	for name, how := range map[string]fault{"refuses": refuses, "strips": strips, "silent": isSilent, "resets": resets} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := start(t)
			p := newProxy(t, n.cfg.Listen)
			direct, _ := connect(t, n.url())
			c, told := connect(t, p.url(), impatient)
			all := subscribe(t, c, "kept.>", pushd.SubscribeOptions{})
			one := subscribe(t, c, "kept.a", pushd.SubscribeOptions{})
			at := 0
			carries := func(by pushd.Transport) {
				t.Helper()
				await(t, string(by), func() bool { return c.Transport() == by })
				from := at
				for ; at < from+20; at++ {
					publish(t, []*pushd.Client{direct, c}[at%2], "kept.a", at)
				}
				wantNumbers(t, all, from, at-1)
				wantNumbers(t, one, from, at-1)
			}
			carries(pushd.WebSocket)
			p.block(how, "/ws")
			carries(pushd.SSE)
			sse := how
			if how == strips {
				sse = refuses
			}
			p.block(sse, "/ws", "/sse")
			carries(pushd.Poll)
			p.block("")
			carries(pushd.WebSocket)
			if n := count[*pushd.Gap](told, nil); n != 0 {
				t.Errorf("%d gaps", n)
			}
		})
	}
}

// A proxy that takes the upgrade, and passes nothing on.
func TestSilentUpgrade(t *testing.T) {
	t.Parallel()
	n := start(t)
	p := newProxy(t, n.cfg.Listen)
	p.block("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", "/ws")
	c, _ := connect(t, p.url(), impatient)
	s := subscribe(t, c, "kept.a", pushd.SubscribeOptions{})
	publish(t, c, "kept.a", 1)
	wantNumbers(t, s, 1, 1)
	if by := c.Transport(); by != pushd.SSE {
		t.Errorf("by %s", by)
	}
}

// Where nothing can be had, and never will be, the client ends with the best
// one's reason; and it goes on where one of them may be had later.
func TestNothingGetsThrough(t *testing.T) {
	t.Parallel()
	n := start(t)
	p := newProxy(t, n.cfg.Listen)
	p.block(refuses, "/ws", "/sse", "/poll", "/healthz")
	c, told := connect(t, p.url(), impatient)
	_, err := c.Subscribe(testContext(t), "kept.a", pushd.SubscribeOptions{})
	if state, _ := c.State(); codeOf(err) != "HTTP 403" || state != pushd.Closed {
		t.Errorf("%v: %v", state, err)
	}
	var tried []pushd.Transport
	count(told, func(e *pushd.StateChange) bool {
		if e.State == pushd.Connecting {
			tried = append(tried, e.Transport)
		}
		return true
	})
	if want := []pushd.Transport{pushd.WebSocket, pushd.SSE, pushd.Poll}; !slices.Equal(tried, want) {
		t.Errorf("tried %v", tried)
	}
	p.block(resets, "/ws", "/sse", "/poll", "/healthz")
	c, told = connect(t, p.url(), impatient)
	await(t, "two rounds", func() bool {
		return count(told, func(e *pushd.StateChange) bool { return e.State == pushd.Waiting }) > 1
	})
	p.block("")
	publish(t, c, "kept.a", 1)
}

// A server that is away is no reason to try another transport.
func TestAwayIsNotBlocked(t *testing.T) {
	t.Parallel()
	_, told := connect(t, "http://127.0.0.1:1")
	await(t, "some attempts", func() bool {
		return count(told, func(e *pushd.StateChange) bool { return e.State == pushd.Waiting }) > 3
	})
	if n := count(told, func(e *pushd.StateChange) bool { return e.State == pushd.Connecting && e.Transport != pushd.WebSocket }); n != 0 {
		t.Errorf("%d attempts by others", n)
	}
}

// The best of a list need not be a WebSocket.
func TestBetterIsSSE(t *testing.T) {
	t.Parallel()
	n := start(t)
	p := newProxy(t, n.cfg.Listen)
	direct, _ := connect(t, n.url())
	p.block(isSilent, "/sse")
	c, told := connect(t, p.url(), impatient, func(o *pushd.Options) { o.Transports = []pushd.Transport{pushd.SSE, pushd.Poll} })
	s := subscribe(t, c, "kept.a", pushd.SubscribeOptions{})
	var running sync.WaitGroup
	const last = 200
	running.Go(func() {
		for k := range last + 1 {
			if publish(t, direct, "kept.a", k); k == 100 {
				await(t, "polls", func() bool { return c.Transport() == pushd.Poll })
				p.blockNew("")
				await(t, "events", func() bool { return c.Transport() == pushd.SSE })
			}
		}
	})
	wantNumbers(t, s, 0, last)
	running.Wait()
	if n := count(told, func(e *pushd.StateChange) bool { return e.State == pushd.Waiting }); n != 0 {
		t.Errorf("%d connections were lost", n)
	}
}

func TestTransportsOption(t *testing.T) {
	for _, bad := range [][]pushd.Transport{{"udp"}, {pushd.SSE, pushd.SSE}} {
		if c, err := pushd.New("http://127.0.0.1:1", pushd.Options{Transports: bad}); err == nil {
			t.Errorf("%v is taken", bad)
			c.Close()
		}
	}
}

// Over HTTP each transport publishes, and says what it cannot.
func TestCommandsOverHTTP(t *testing.T) {
	byEach(t, func(t *testing.T, alone func(*pushd.Options)) {
		n := start(t)
		c, _ := connect(t, n.url(), alone)
		s := subscribe(t, c, "kept.a", pushd.SubscribeOptions{})
		for k, data := range []string{`{"n": 1}`, `text`, "", "\xde\xad", `17`} {
			receipt, err := c.Publish(testContext(t), "kept.a", []byte(data), pushd.PublishOptions{Key: strconv.Itoa(k)})
			if err != nil {
				t.Fatal(err)
			}
			m, err := s.Next(testContext(t))
			if err != nil {
				t.Fatal(err)
			}
			if got, err := m.Bytes(); err != nil || string(got) != data || receipt.Topic != "kept.a" || receipt.Cursor == "" {
				t.Errorf("%q came as %q, %v, with %+v", data, got, err, receipt)
			}
			again, err := c.Publish(testContext(t), "kept.a", []byte("x"), pushd.PublishOptions{Key: strconv.Itoa(k)})
			if err != nil || again != receipt {
				t.Errorf("again: %+v, %v; want %+v", again, err, receipt)
			}
		}
		if _, err := c.Publish(testContext(t), "kept.*", nil, pushd.PublishOptions{}); codeOf(err) != "invalid_topic" {
			t.Errorf("to a pattern: %v", err)
		}
		connections, err := c.Presence(testContext(t), "kept.a")
		var no *pushd.Error
		switch {
		case c.Transport() == pushd.WebSocket:
			if err != nil || connections != 1 {
				t.Errorf("presence: %d, %v", connections, err)
			}
		case !errors.As(err, &no) || no.Code != pushd.Unsupported:
			t.Errorf("presence: %v", err)
		}
	})
}

// A link that was opened before there was anything to subscribe to has not shown
// yet that streams get through.
func TestSubscribeToABlockedStream(t *testing.T) {
	t.Parallel()
	n := start(t)
	p := newProxy(t, n.cfg.Listen)
	p.block(isSilent, "/ws", "/sse")
	c, told := connect(t, p.url(), impatient, func(o *pushd.Options) { o.Timeout, o.RetryBetter = 2*time.Second, time.Hour })
	await(t, "the link", func() bool { return c.Transport() == pushd.SSE })
	s := subscribe(t, c, "kept.a", pushd.SubscribeOptions{})
	publish(t, c, "kept.a", 1)
	wantNumbers(t, s, 1, 1)
	if by, want := opened(told), []pushd.Transport{pushd.SSE, pushd.Poll}; !slices.Equal(by, want) {
		t.Errorf("connected by %v, want %v", by, want)
	}
	if n := count(told, func(e *pushd.StateChange) bool { return e.State == pushd.Waiting }); n != 0 {
		t.Errorf("waited %d times", n)
	}
}

// A server that is busy says when to come back, and is not asked by other means before.
func TestBusyIsNotBlocked(t *testing.T) {
	t.Parallel()
	n := start(t)
	p := newProxy(t, n.cfg.Listen)
	for _, status := range []string{"429 Too Many Requests", "503 Service Unavailable"} {
		for best, path := range map[pushd.Transport]string{pushd.WebSocket: "/ws", pushd.SSE: "/sse"} {
			p.block(fault("HTTP/1.1 "+status+"\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n"), path, "/healthz")
			ctx, cancel := context.WithCancel(testContext(t))
			c, told := connect(t, p.url(), func(o *pushd.Options) {
				o.Transports = []pushd.Transport{best, pushd.Poll}
				o.Backoff = pushd.Backoff{Min: time.Hour, Max: time.Hour} // which is for those who were told no time
			})
			var running sync.WaitGroup
			running.Go(func() { _, _ = c.Subscribe(ctx, "kept.a", pushd.SubscribeOptions{}) })
			await(t, "the wait", func() bool {
				return count(told, func(e *pushd.StateChange) bool {
					return e.State == pushd.Waiting && e.Wait >= 7*time.Second && e.Wait <= 8*time.Second
				}) == 1
			})
			if n := count(told, func(e *pushd.StateChange) bool { return e.State == pushd.Connecting && e.Transport == pushd.Poll }); n != 0 {
				t.Errorf("%s: %s gave way to polls", status, best)
			}
			cancel()
			running.Wait()
			c.Close()
		}
	}
}

// busy is a refusal that names a time, in seconds.
func busy(seconds string) fault {
	return fault("HTTP/1.1 503 Service Unavailable\r\nRetry-After: " + seconds + "\r\nContent-Length: 0\r\n\r\n")
}

// A refusal that breaks off is one all the same, and other transports would be
// refused too.
func TestRefusalBreaksOff(t *testing.T) {
	t.Parallel()
	p := newProxy(t, start(t).cfg.Listen)
	p.block("HTTP/1.1 503 Service Unavailable\r\nRetry-Af", "/ws")
	_, told := connect(t, p.url())
	await(t, "some attempts", func() bool { return p.times("/ws") > 3 })
	if by := opened(told); len(by) > 0 {
		t.Errorf("connected by %v", by)
	}
}

// Who is told when to come takes that place by the transport that was told, and
// wastes no time on one that does not get through.
func TestTurnIsTaken(t *testing.T) {
	t.Parallel()
	p := newProxy(t, start(t).cfg.Listen)
	p.block(refuses, "/ws")
	c, told := connect(t, p.url(), func(o *pushd.Options) { o.RetryBetter = time.Hour })
	s := subscribe(t, c, "kept.a", pushd.SubscribeOptions{})
	p.mu.Lock()
	p.blocks["/sse"] = busy("1")
	p.mu.Unlock()
	p.cut()
	await(t, "the refusal", func() bool {
		return count(told, func(e *pushd.StateChange) bool { return e.State == pushd.Waiting && e.Wait >= time.Second }) > 0
	})
	before := p.times("/ws")
	p.mu.Lock()
	delete(p.blocks, "/sse")
	p.mu.Unlock()
	publish(t, c, "kept.a", 1)
	wantNumbers(t, s, 1, 1)
	if n := p.times("/ws") - before; n > 0 {
		t.Errorf("the WebSocket was tried %d times before", n)
	}
}

// A better transport that is to be had later is not tried before.
func TestTurnOfTheBetter(t *testing.T) {
	t.Parallel()
	p := newProxy(t, start(t).cfg.Listen)
	p.block(refuses, "/ws")
	c, _ := connect(t, p.url(), func(o *pushd.Options) { o.RetryBetter = time.Millisecond })
	await(t, "some looks", func() bool { return p.times("/ws") > 3 })
	p.blockNew(busy("600"), "/ws")
	before := p.times("/ws")
	await(t, "one more look", func() bool { return p.times("/ws") > before })
	for range 100 {
		publish(t, c, "kept.a", 1)
	}
	if n := p.times("/ws") - before; n > 2 { // one was under way
		t.Errorf("%d looks, and the first was told to come in 600 s", n)
	}
}

// A publication that is to be made later is made then, and not after a backoff
// for which the caller may not wait.
func TestTurnOfAPublication(t *testing.T) {
	t.Parallel()
	p := newProxy(t, start(t).cfg.Listen)
	p.block(busy("1"), "/publish")
	c, _ := connect(t, p.url(), func(o *pushd.Options) {
		o.Transports, o.Backoff = []pushd.Transport{pushd.Poll}, pushd.Backoff{Min: time.Hour, Max: time.Hour}
	})
	var running sync.WaitGroup
	running.Go(func() { publish(t, c, "kept.a", 1) })
	await(t, "the refusal", func() bool { return p.times("/publish") == 1 })
	p.blockNew("")
	running.Wait()
}

// A proxy that passes on no more than it knows of has a client that only publishes.
func TestPublishWithoutHealth(t *testing.T) {
	for _, status := range []string{"404 Not Found", "401 Unauthorized", "302 Found"} {
		t.Run(status, func(t *testing.T) {
			t.Parallel()
			p := newProxy(t, start(t).cfg.Listen)
			p.block(fault("HTTP/1.1 "+status+"\r\nContent-Length: 0\r\n\r\n"), "/healthz")
			c, told := connect(t, p.url(), func(o *pushd.Options) { o.Transports = []pushd.Transport{pushd.SSE, pushd.Poll} })
			publish(t, c, "kept.a", 1)
			if by := opened(told); !slices.Equal(by, []pushd.Transport{pushd.SSE}) {
				t.Errorf("connected by %v", by)
			}
		})
	}
}

// Answers to polls are a sign that things go well, also where they are empty.
func TestQuietPollsEndTheBackoff(t *testing.T) {
	t.Parallel()
	p := newProxy(t, start(t).cfg.Listen)
	const first = time.Microsecond // and after 16 failures up to 65 ms
	c, told := connect(t, p.url(), func(o *pushd.Options) {
		o.Transports, o.Backoff = []pushd.Transport{pushd.Poll}, pushd.Backoff{Min: first, Max: time.Second}
	})
	waits := func(is func(wait time.Duration) bool) int {
		return count(told, func(e *pushd.StateChange) bool { return e.State == pushd.Waiting && is(e.Wait) })
	}
	any := func(time.Duration) bool { return true }
	const away = fault("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
	p.block(away, "/poll")
	var running sync.WaitGroup
	running.Go(func() { subscribe(t, c, "quiet.a", pushd.SubscribeOptions{}) })
	await(t, "failures", func() bool { return waits(any) >= 16 })
	p.blockNew("")
	running.Wait()
	before, short := waits(any), waits(func(wait time.Duration) bool { return wait <= first })
	p.block(away, "/poll")
	await(t, "the end of a poll", func() bool { return waits(any) > before })
	if waits(func(wait time.Duration) bool { return wait <= first }) == short {
		t.Error("the wait after it was not the first of a backoff")
	}
}

// A server that closes connections before their TLS handshake is busy, and no
// reason for another transport.
func TestClosedBeforeTLS(t *testing.T) {
	byEach(t, func(t *testing.T, alone func(*pushd.Options)) {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		var running sync.WaitGroup
		running.Go(func() {
			for {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				conn.Close()
			}
		})
		t.Cleanup(func() { listener.Close(); running.Wait() })
		_, told := connect(t, "https://"+listener.Addr().String(), alone, func(o *pushd.Options) {
			if o.Transports[0] != pushd.Poll {
				o.Transports = append(o.Transports, pushd.Poll)
			}
		})
		await(t, "some attempts", func() bool {
			return count(told, func(e *pushd.StateChange) bool { return e.State == pushd.Waiting }) > 3
		})
		if n := count(told, func(e *pushd.StateChange) bool { return e.State == pushd.Connecting && e.Err != nil }); n != 0 {
			t.Errorf("%d attempts by others", n)
		}
	})
}

// All transports reach a server over TLS, and none a server that nobody vouches for.
func TestTLS(t *testing.T) {
	a := certstest.New(t)
	cert, key := a.Files(a.Server())
	n := start(t, func(cfg *config.Config) { cfg.TLSCert, cfg.TLSKey = []string{cert}, []string{key} })
	url := "https://" + n.cfg.Listen
	byEach(t, func(t *testing.T, alone func(*pushd.Options)) {
		c, _ := connect(t, url, alone, func(o *pushd.Options) { o.TLS = &tls.Config{RootCAs: a.Pool} })
		s := subscribe(t, c, "kept.a", pushd.SubscribeOptions{})
		publish(t, c, "kept.a", 1)
		if _, err := s.Next(testContext(t)); err != nil {
			t.Error(err)
		}
		stranger, _ := connect(t, url, alone)
		await(t, "the refusal of its certificate", func() bool {
			_, err := stranger.State()
			var unknown x509.UnknownAuthorityError
			return errors.As(err, &unknown)
		})
	})
}
