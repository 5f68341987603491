package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"

	pushd "github.com/pushd/pushd/clients/go"
	"github.com/pushd/pushd/internal/peertest"
)

// fastSubscriber is a subscribe command that does not wait long for anything.
func fastSubscriber(url string, limit int) (s *subscriber, stdout, stderr *output) {
	stdout, stderr = new(output), new(output)
	return &subscriber{
		url:     url,
		topics:  positions([]string{"a.b"}, nil),
		options: pushd.Options{Transports: transports("websocket"), Timeout: testTimeout, Backoff: pushd.Backoff{Min: time.Millisecond, Max: time.Millisecond}},
		out:     &messagePrinter{w: bufio.NewWriter(stdout), format: "text"},
		limit:   limit,
		notef:   program{stderr: stderr}.notef,
	}, stdout, stderr
}

func TestSubscribeFormats(t *testing.T) {
	for format, want := range map[string]string{
		"text": "2024-11-21T18:05:45.678Z a.b {\"n\":1}\n2024-11-21T18:05:45.678Z a.b \"text\"\n2024-11-21T18:05:45.678Z a.b \"3q2+7w==\"\n",
		"json": `{"type":"message","topic":"a.b","time":1732212345678,"data":{"n":1}}` + "\n" +
			`{"type":"message","topic":"a.b","time":1732212345678,"data":"text"}` + "\n" +
			`{"type":"message","topic":"a.b","time":1732212345678,"data":"3q2+7w==","encoding":"base64"}` + "\n",
		"raw": "{\"n\":1}\ntext\n\xde\xad\xbe\xef\n",
	} {
		url := peertest.Start(t, func(p *peertest.Peer) {
			p.Welcome()
			p.Message(1)
			p.Send(`{"type":"message","topic":"a.b","time":1732212345678,"data":"text"}`)
			p.Send(`{"type":"message","topic":"a.b","time":1732212345678,"data":"3q2+7w==","encoding":"base64"}`)
			p.WantClose(ws.StatusNormalClosure)
		})
		if got := runWith(testContext(t), "", "subscribe", "--server", url, "--format", format, "--count=3", "a.b"); got != (result{0, want, ""}) {
			t.Errorf("%s: %+v", format, got)
		}
	}
}

// What is no message is told beside the messages.
func TestSubscribeNotices(t *testing.T) {
	url := peertest.Start(t, func(p *peertest.Peer) {
		p.Greet()
		p.Want(`{"type":"subscribe","id":1,"topic":"a.b"}`)
		p.Want(`{"type":"subscribe","id":2,"topic":"c"}`)
		p.Send(`{"type":"subscribed","id":1,"topic":"a.b"}`)
		p.Send(`{"type":"subscribed","id":2,"topic":"c"}`)
		p.Send(`{"type":"gap","topic":"a.b","reason":"slow"}`)
		p.Send(`{"type":"skipped","topic":"a.b","count":14}`)
		p.Send(`{"type":"unsubscribed","topic":"c","reason":"forbidden"}`)
		p.Send(`{"type":"error","code":"internal","message":"oh"}`)
		p.Send(`{"type":"of a later version"}`)
		p.Message(1)
		p.WantClose(ws.StatusNormalClosure)
	})
	got := runWith(testContext(t), "", "subscribe", "--server", url, "--count=1", "a.b", "c")
	want := `pushd: gap in a.b: messages were lost (slow)
pushd: 14 older values of a.b skipped
pushd: unsubscribed from c (forbidden)
pushd: the server says internal: oh
`
	if got.code != 0 || got.stderr != want {
		t.Errorf("%d %q", got.code, got.stderr)
	}
}

// Frames as RFC 6455 allows them: a ping between fragments.
func TestSubscribeFrames(t *testing.T) {
	url := peertest.Start(t, func(p *peertest.Peer) {
		p.Welcome()
		first := ws.NewFrame(ws.OpText, false, []byte(`{"type":"message","topic":"a.b",`))
		last := ws.NewFrame(ws.OpContinuation, true, []byte(`"time":0,"data":7}`))
		for _, frame := range []ws.Frame{first, ws.NewPingFrame([]byte("are you there")), last} {
			if err := ws.WriteFrame(p.Conn, frame); err != nil {
				p.T.Error(err)
			}
		}
		op, payload, err := p.Frame()
		if err != nil || op != ws.OpPong || string(payload) != "are you there" {
			p.T.Errorf("got %v %q, %v; want a pong with the ping's payload", op, payload, err)
		}
		p.WantClose(ws.StatusNormalClosure)
	})
	got := runWith(testContext(t), "", "subscribe", "--server", url, "--count=1", "a.b")
	if want := "1970-01-01T00:00:00.000Z a.b 7\n"; got.code != 0 || got.stdout != want {
		t.Errorf("%+v", got)
	}
}

// The table of close codes says whether a client comes back.
func TestSubscribeCloseCodes(t *testing.T) {
	for _, test := range []struct {
		code  ws.StatusCode
		again bool
		told  string // on stderr, or the error where there is no coming back
	}{
		{1000, false, ""},
		{1001, true, "the server closed the connection: 1001 bye"},
		{1002, false, "the server closed the connection: 1002 bye"},
		{1003, false, "the server closed the connection: 1003 bye"},
		{1005, true, "the server closed the connection: 1005 (no code given)"},
		{1007, false, "the server closed the connection: 1007 bye"},
		{1009, false, "the server closed the connection: 1009 bye"},
		{1011, true, "the server closed the connection: 1011 bye"},
		{1012, true, "the server closed the connection: 1012 bye"},
		{4001, false, "the server closed the connection: 4001 bye: give a token with --token-file, or in PUSHD_TOKEN"},
		{4003, false, "the server closed the connection: 4003 bye"},
		{4008, true, "the server closed the connection: 4008 bye"},
		{4999, true, "the server closed the connection: 4999 bye"},
	} {
		t.Run(fmt.Sprint(test.code), func(t *testing.T) {
			sessions := []func(p *peertest.Peer){func(p *peertest.Peer) {
				p.Welcome()
				p.Message(1)
				p.Close(test.code, "bye")
			}}
			if test.again {
				sessions = append(sessions, func(p *peertest.Peer) {
					p.Welcome()
					p.Message(2)
					p.WantClose(ws.StatusNormalClosure)
				})
			}
			s, stdout, stderr := fastSubscriber(peertest.Start(t, sessions...), 2)
			err := s.run(testContext(t))
			told := ""
			if err != nil {
				told = err.Error()
			}
			if test.again {
				told, _, _ = strings.Cut(strings.TrimPrefix(stderr.String(), "pushd: "), ";")
			}
			if told != test.told || test.again && err != nil {
				t.Errorf("told %q, %v; want %q", told, err, test.told)
			}
			if n := strings.Count(stdout.String(), "\n"); n != len(sessions) {
				t.Errorf("%d messages, want %d: %s", n, len(sessions), stdout)
			}
		})
	}
}

// A connection that breaks, at whatever point, is replaced.
func TestSubscribeReconnects(t *testing.T) {
	s, stdout, stderr := fastSubscriber(peertest.Start(t,
		func(p *peertest.Peer) {}, // before the end of the handshake
		func(p *peertest.Peer) { p.Welcome() },
		func(p *peertest.Peer) { // in the middle of a frame
			p.Welcome()
			p.Message(1)
			if err := ws.WriteHeader(p.Conn, ws.Header{Fin: true, OpCode: ws.OpText, Length: 1000}); err != nil {
				p.T.Error(err)
			}
		},
		func(p *peertest.Peer) { p.Welcome(); p.Send("no JSON"); p.Discard() },
		func(p *peertest.Peer) { // NATS is away: later it may be back
			p.Send(`{"type":"welcome"}`)
			p.Want(`{"type":"subscribe","id":1,"topic":"a.b"}`)
			p.Send(`{"type":"error","id":1,"code":"unavailable","message":"NATS is away"}`)
			p.Want(`{"type":"subscribe","id":2,"topic":"a.b"}`)
		},
		func(p *peertest.Peer) { p.Welcome(); p.Message(2); p.WantClose(ws.StatusNormalClosure) },
	), 2)
	if err := s.run(testContext(t)); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(stdout.String(), "\n"); n != 2 {
		t.Errorf("%d messages, want 2", n)
	}
	if n := strings.Count(stderr.String(), "; connecting again in "); n != 5 {
		t.Errorf("%d reconnects told, want 5: %s", n, stderr)
	}
}

// The server's advice replaces the backoff; a client leaves at its time where
// the server has not closed by then.
func TestSubscribeAdvice(t *testing.T) {
	for name, end := range map[string]func(p *peertest.Peer){
		"closed by the server": func(p *peertest.Peer) { p.Close(1012, "") },
		"left in time":         func(p *peertest.Peer) { p.WantClose(ws.StatusNormalClosure) },
	} {
		t.Run(name, func(t *testing.T) {
			const after = 50 * time.Millisecond
			var advised, back time.Time
			s, _, stderr := fastSubscriber(peertest.Start(t,
				func(p *peertest.Peer) {
					p.Welcome()
					advised = time.Now()
					p.Send(`{"type":"reconnect","after":%d,"reason":"draining"}`, after.Milliseconds())
					end(p)
				},
				func(p *peertest.Peer) {
					back = time.Now()
					p.Welcome()
					p.Message(1)
					p.WantClose(ws.StatusNormalClosure)
				},
			), 1)
			s.options.Backoff = pushd.Backoff{Min: time.Hour, Max: time.Hour} // would exceed the test
			if err := s.run(testContext(t)); err != nil {
				t.Fatal(err)
			}
			if early := after - back.Sub(advised); early > 0 {
				t.Errorf("connected %v before the time advised", early)
			}
			if !strings.Contains(stderr.String(), "(draining)") {
				t.Errorf("not told: %s", stderr)
			}
		})
	}
}

// A server that is silent for two heartbeats is asked for a pong, and left
// where none comes.
func TestSubscribeDeadServer(t *testing.T) {
	const heartbeat = `{"type":"welcome","heartbeat":10}`
	s, _, stderr := fastSubscriber(peertest.Start(t,
		func(p *peertest.Peer) {
			p.Send(heartbeat)
			p.Want(`{"type":"subscribe","id":1,"topic":"a.b"}`)
			p.Want(`{"type":"ping"}`)
			p.Send(`{"type":"pong"}`) // alive
			p.Want(`{"type":"ping"}`)
			p.Discard() // dead
		},
		func(p *peertest.Peer) {
			p.Welcome()
			p.Message(1)
			p.WantClose(ws.StatusNormalClosure)
		},
	), 1)
	s.options.Timeout = 300 * time.Millisecond
	if err := s.run(testContext(t)); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(stderr.String(), pushd.ErrDead.Error()) {
		t.Errorf("not told: %s", stderr)
	}
}

// Refused subscriptions end the program when none is left.
func TestSubscribeRefused(t *testing.T) {
	const refusal = `{"type":"error","id":%d,"code":"invalid_topic","message":"no"}`
	url := peertest.Start(t,
		func(p *peertest.Peer) {
			p.Greet()
			p.Want(`{"type":"subscribe","id":1,"topic":"a.b"}`)
			p.Want(`{"type":"subscribe","id":2,"topic":"b"}`)
			p.Send(refusal, 1)
			p.Send(refusal, 2)
			p.WantClose(ws.StatusNormalClosure)
		},
		func(p *peertest.Peer) {
			p.Greet()
			p.Want(`{"type":"subscribe","id":1,"topic":"a.b"}`)
			p.Want(`{"type":"subscribe","id":2,"topic":"b"}`)
			p.Send(refusal, 2)
			p.Send(`{"type":"subscribed","id":1,"topic":"a.b"}`)
			p.Message(1)
			p.WantClose(ws.StatusNormalClosure)
		},
	)
	args := []string{"subscribe", "--server", url, "--count=1", "a.b", "b"}
	if got, want := runWith(testContext(t), "", args...), (result{1, "", "pushd: invalid_topic: no\npushd: invalid_topic: no\n"}); got != want {
		t.Errorf("both refused: %+v", got)
	}
	if got := runWith(testContext(t), "", args...); got.code != 0 || got.stderr != "pushd: invalid_topic: no\n" || got.stdout == "" {
		t.Errorf("one refused: %+v", got)
	}
}

// A refusal before the upgrade is told with the server's words.
func TestSubscribeRefusedHandshake(t *testing.T) {
	answer := func(text string) *subscriber {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			for {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				if _, err := http.ReadRequest(bufio.NewReader(conn)); err != nil {
					t.Error(err)
				}
				io.WriteString(conn, text)
				conn.Close()
			}
		}()
		t.Cleanup(func() { listener.Close(); <-done })
		s, _, _ := fastSubscriber("http://"+listener.Addr().String(), 1)
		return s
	}
	const body = "Content-Type: application/json\r\nContent-Length: 34\r\n\r\n" + `{"code":"forbidden","message":"x"}`
	s := answer("HTTP/1.1 403 Forbidden\r\n" + body)
	if err := s.run(testContext(t)); err == nil || err.Error() != "forbidden: x" {
		t.Errorf("got %v", err)
	}
	s = answer("HTTP/1.1 503 Service Unavailable\r\nRetry-After: 7\r\n" + body)
	ctx, stop := context.WithCancel(testContext(t))
	var note string
	s.notef = func(format string, args ...any) { note = fmt.Sprintf(format, args...); stop() }
	if err := s.run(ctx); err != nil || !strings.HasPrefix(note, "forbidden: x; connecting again in 7") {
		t.Errorf("got %v, told %q", err, note)
	}
	s = answer("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
	if err := s.run(testContext(t)); err == nil || err.Error() != "HTTP 404: Not Found" {
		t.Errorf("got %v", err)
	}
}

// An interrupt ends it cleanly, wherever it waits.
func TestSubscribeInterrupted(t *testing.T) {
	t.Run("connected", func(t *testing.T) {
		ctx, stop := context.WithCancel(testContext(t))
		url := peertest.Start(t, func(p *peertest.Peer) {
			p.Welcome()
			p.Message(1)
			stop()
			p.WantClose(ws.StatusNormalClosure)
		})
		if got := runWith(ctx, "", "subscribe", "--server", url, "a.b"); got.code != 0 || got.stderr != "" {
			t.Errorf("%+v", got)
		}
	})
	t.Run("waiting to connect", func(t *testing.T) {
		ctx, stop := context.WithCancel(testContext(t))
		s, _, _ := fastSubscriber("http://127.0.0.1:1", 0) // nobody listens there
		s.options.Backoff = pushd.Backoff{Min: time.Hour, Max: time.Hour}
		s.notef = func(string, ...any) { stop() } // told just before the wait
		if err := s.run(ctx); err != nil {
			t.Error(err)
		}
	})
}

// Whoever reads the output and goes away ends the program.
func TestSubscribeOutputGone(t *testing.T) {
	s, _, _ := fastSubscriber(peertest.Start(t, func(p *peertest.Peer) { p.Welcome(); p.Message(1); p.Discard() }), 0)
	r, w := io.Pipe()
	r.Close()
	s.out.w = bufio.NewWriter(w)
	if err := s.run(testContext(t)); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("got %v", err)
	}
}

// Messages come by the transport that was asked for, and by no other.
func TestSubscribeTransport(t *testing.T) {
	t.Chdir(t.TempDir())
	writeFile(t, "pushd.yaml", "namespaces: {orders: {delivery: all, history: {age: 1h}}}\n")
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	free.Close()
	stop := serveAt(t, address)
	defer stop()
	var mu sync.Mutex
	asked := map[string][]string{} // paths, by the first part of each
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: address})
	proxy.FlushInterval = -1
	proxy.ErrorLog = log.New(io.Discard, "", 0) // clients leave
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who, path, _ := strings.Cut(r.URL.Path[1:], "/")
		mu.Lock()
		asked[who] = append(asked[who], path)
		mu.Unlock()
		r.URL.Path = "/" + path
		proxy.ServeHTTP(w, r)
	}))
	defer front.Close()
	if got := runWith(testContext(t), "", "publish", "--server", "http://"+address, "orders.a", "1"); got.code != 0 {
		t.Fatalf("publish: %+v", got)
	}
	for transport, want := range map[string]string{"auto": "ws", "websocket": "ws", "sse": "sse", "poll": "poll"} {
		got := runWith(testContext(t), "", "subscribe", "--server", front.URL+"/"+transport, "--transport", transport, "--mode=latest", "--format=raw", "--count=1", "orders.a")
		if got != (result{0, "1\n", ""}) {
			t.Errorf("%s: %+v", transport, got)
		}
		mu.Lock()
		others := slices.DeleteFunc(slices.Clone(asked[transport]), func(path string) bool { return path == want || path == "healthz" })
		if len(others) > 0 || !slices.Contains(asked[transport], want) {
			t.Errorf("%s: asked for %v", transport, asked[transport])
		}
		mu.Unlock()
	}
	if got := runWith(testContext(t), "", "subscribe", "--transport=udp", "a"); got.code == 0 || !strings.Contains(got.stderr, "--transport") {
		t.Errorf("%+v", got)
	}
}
