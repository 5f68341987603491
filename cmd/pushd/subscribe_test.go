package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"github.com/pushd/pushd/internal/wire"
)

// fastSubscriber is a subscribe command that does not wait long for anything.
func fastSubscriber(url string, limit int) (s *subscriber, stdout, stderr *output) {
	stdout, stderr = new(output), new(output)
	return &subscriber{
		url:      strings.Replace(url, "http", "ws", 1) + "/ws",
		subs:     newSubscriptions([]string{"a.b"}, nil),
		out:      &messagePrinter{w: bufio.NewWriter(stdout), format: "text"},
		limit:    limit,
		notef:    program{stderr: stderr}.notef,
		patience: testTimeout,
		backoff:  backoff{first: time.Millisecond, most: time.Millisecond},
	}, stdout, stderr
}

func TestSubscribeFormats(t *testing.T) {
	for format, want := range map[string]string{
		"text": "2024-11-21T18:05:45.678Z a.b {\"n\":1}\n2024-11-21T18:05:45.678Z a \"text\"\n2024-11-21T18:05:45.678Z a \"3q2+7w==\"\n",
		"json": `{"type":"message","topic":"a.b","time":1732212345678,"data":{"n":1}}` + "\n" +
			`{"type":"message","topic":"a","time":1732212345678,"data":"text"}` + "\n" +
			`{"type":"message","topic":"a","time":1732212345678,"data":"3q2+7w==","encoding":"base64"}` + "\n",
		"raw": "{\"n\":1}\ntext\n\xde\xad\xbe\xef\n",
	} {
		url := newPeers(t, func(p *peer) {
			p.welcome()
			p.message(1)
			p.send(`{"type":"message","topic":"a","time":1732212345678,"data":"text"}`)
			p.send(`{"type":"message","topic":"a","time":1732212345678,"data":"3q2+7w==","encoding":"base64"}`)
			p.wantClose(ws.StatusNormalClosure)
		})
		if got := runWith(testContext(t), "", "subscribe", "--server", url, "--format", format, "--count=3", "a.b"); got != (result{0, want, ""}) {
			t.Errorf("%s: %+v", format, got)
		}
	}
}

// What is no message is told beside the messages.
func TestSubscribeNotices(t *testing.T) {
	url := newPeers(t, func(p *peer) {
		p.welcome()
		p.send(`{"type":"gap","topic":"a.b","reason":"slow"}`)
		p.send(`{"type":"skipped","topic":"a.b","count":14}`)
		p.send(`{"type":"unsubscribed","topic":"a.b","reason":"forbidden"}`)
		p.send(`{"type":"error","code":"internal","message":"oh"}`)
		p.send(`{"type":"of a later version"}`)
		p.message(1)
		p.wantClose(ws.StatusNormalClosure)
	})
	got := runWith(testContext(t), "", "subscribe", "--server", url, "--count=1", "a.b")
	want := `pushd: gap in a.b: messages were lost (slow)
pushd: 14 older values of a.b skipped
pushd: unsubscribed from a.b (forbidden)
pushd: the server says internal: oh
`
	if got.code != 0 || got.stderr != want {
		t.Errorf("%d %q", got.code, got.stderr)
	}
}

// Frames as RFC 6455 allows them: a ping between fragments.
func TestSubscribeFrames(t *testing.T) {
	url := newPeers(t, func(p *peer) {
		p.welcome()
		first := ws.NewFrame(ws.OpText, false, []byte(`{"type":"message","topic":"a.b",`))
		last := ws.NewFrame(ws.OpContinuation, true, []byte(`"time":0,"data":7}`))
		for _, frame := range []ws.Frame{first, ws.NewPingFrame([]byte("are you there")), last} {
			if err := ws.WriteFrame(p.conn, frame); err != nil {
				p.t.Error(err)
			}
		}
		op, payload, err := p.frame()
		if err != nil || op != ws.OpPong || string(payload) != "are you there" {
			p.t.Errorf("got %v %q, %v; want a pong with the ping's payload", op, payload, err)
		}
		p.wantClose(ws.StatusNormalClosure)
	})
	got := runWith(testContext(t), "", "subscribe", "--server", url, "--count=1", "a.b")
	if want := "1970-01-01T00:00:00.000Z a.b 7\n"; got.code != 0 || got.stdout != want {
		t.Errorf("%+v", got)
	}
}

// The table of close codes says whether a client comes back.
func TestSubscribeCloseCodes(t *testing.T) {
	for _, info := range wire.CloseCodes() {
		t.Run(info.Name, func(t *testing.T) {
			end := (&session{subscriber: &subscriber{}}).closed(wsutil.ClosedError{Code: ws.StatusCode(info.Code)})
			if end.again != info.Reconnect || end.least != info.Wait || (end.err == nil) != (info.Code == wire.CloseNormal) {
				t.Errorf("%+v, want %+v", end, info)
			}
		})
	}
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
			sessions := []func(p *peer){func(p *peer) {
				p.welcome()
				p.message(1)
				p.close(test.code, "bye")
			}}
			if test.again {
				sessions = append(sessions, func(p *peer) {
					p.welcome()
					p.message(2)
					p.wantClose(ws.StatusNormalClosure)
				})
			}
			s, stdout, stderr := fastSubscriber(newPeers(t, sessions...), 2)
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
	s, stdout, stderr := fastSubscriber(newPeers(t,
		func(p *peer) {}, // before the end of the handshake
		func(p *peer) { p.welcome() },
		func(p *peer) { // in the middle of a frame
			p.welcome()
			p.message(1)
			if err := ws.WriteHeader(p.conn, ws.Header{Fin: true, OpCode: ws.OpText, Length: 1000}); err != nil {
				p.t.Error(err)
			}
		},
		func(p *peer) { p.welcome(); p.send("no JSON"); p.discard() },
		func(p *peer) { // NATS is away: later it may be back
			p.send(`{"type":"welcome"}`)
			p.send(`{"type":"error","id":1,"code":"unavailable","message":"NATS is away"}`)
			p.discard()
		},
		func(p *peer) { p.welcome(); p.message(2); p.wantClose(ws.StatusNormalClosure) },
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
	if s.backoff.failures != 0 {
		t.Errorf("the backoff is at %d failures after a success", s.backoff.failures)
	}
}

// The server's advice replaces the backoff; a client leaves at its time where
// the server has not closed by then.
func TestSubscribeAdvice(t *testing.T) {
	for name, end := range map[string]func(p *peer){
		"closed by the server": func(p *peer) { p.close(1012, "") },
		"left in time":         func(p *peer) { p.wantClose(ws.StatusNormalClosure) },
	} {
		t.Run(name, func(t *testing.T) {
			const after = 50 * time.Millisecond
			var advised, back time.Time
			s, _, stderr := fastSubscriber(newPeers(t,
				func(p *peer) {
					p.welcome()
					advised = time.Now()
					p.send(`{"type":"reconnect","after":%d,"reason":"draining"}`, after.Milliseconds())
					end(p)
				},
				func(p *peer) {
					back = time.Now()
					p.welcome()
					p.message(1)
					p.wantClose(ws.StatusNormalClosure)
				},
			), 1)
			s.backoff = backoff{first: time.Hour, most: time.Hour} // would exceed the test
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
	s, _, stderr := fastSubscriber(newPeers(t,
		func(p *peer) {
			p.send(heartbeat)
			p.want(`{"type":"subscribe","id":1,"topics":["a.b"]}`)
			p.want(`{"type":"ping"}`)
			p.send(`{"type":"pong"}`) // alive
			p.want(`{"type":"ping"}`)
			p.discard() // dead
		},
		func(p *peer) {
			p.send(`{"type":"welcome","heartbeat":25000}`)
			p.message(1)
			p.wantClose(ws.StatusNormalClosure)
		},
	), 1)
	s.patience = 300 * time.Millisecond
	if err := s.run(testContext(t)); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(stderr.String(), errDead.Error()) {
		t.Errorf("not told: %s", stderr)
	}
}

// Refused subscriptions end the program when none is left.
func TestSubscribeRefused(t *testing.T) {
	const refusal = `{"type":"error","id":1,"code":"invalid_topic","message":"no"}`
	url := newPeers(t,
		func(p *peer) { p.send(refusal); p.send(refusal); p.wantClose(ws.StatusNormalClosure) },
		func(p *peer) {
			p.send(refusal)
			p.send(`{"type":"subscribed","id":1,"topic":"b"}`)
			p.message(1)
			p.wantClose(ws.StatusNormalClosure)
		},
		func(p *peer) {
			p.send(`{"type":"error","id":1,"code":"bad_request","message":"too many"}`)
			p.wantClose(ws.StatusNormalClosure)
		},
	)
	args := []string{"subscribe", "--server", url, "--count=1", "a", "b"}
	if got, want := runWith(testContext(t), "", args...), (result{1, "", "pushd: invalid_topic: no\npushd: invalid_topic: no\n"}); got != want {
		t.Errorf("both refused: %+v", got)
	}
	if got := runWith(testContext(t), "", args...); got.code != 0 || got.stderr != "pushd: invalid_topic: no\n" || got.stdout == "" {
		t.Errorf("one refused: %+v", got)
	}
	if got, want := runWith(testContext(t), "", args...), (result{1, "", "pushd: bad_request: too many\n"}); got != want {
		t.Errorf("the command refused: %+v", got)
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
	if end := s.connection(testContext(t)); !end.again || end.least != 7*time.Second || end.err == nil {
		t.Errorf("got %+v", end)
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
		url := newPeers(t, func(p *peer) {
			p.welcome()
			p.message(1)
			stop()
			p.wantClose(ws.StatusNormalClosure)
		})
		if got := runWith(ctx, "", "subscribe", "--server", url, "a.b"); got.code != 0 || got.stderr != "" {
			t.Errorf("%+v", got)
		}
	})
	t.Run("waiting to connect", func(t *testing.T) {
		ctx, stop := context.WithCancel(testContext(t))
		s, _, _ := fastSubscriber("http://127.0.0.1:1", 0) // nobody listens there
		s.backoff = backoff{first: time.Hour, most: time.Hour}
		s.notef = func(string, ...any) { stop() } // told just before the wait
		if err := s.run(ctx); err != nil {
			t.Error(err)
		}
	})
}

// Whoever reads the output and goes away ends the program.
func TestSubscribeOutputGone(t *testing.T) {
	s, _, _ := fastSubscriber(newPeers(t, func(p *peer) { p.welcome(); p.message(1); p.discard() }), 0)
	r, w := io.Pipe()
	r.Close()
	s.out.w = bufio.NewWriter(w)
	if err := s.run(testContext(t)); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("got %v", err)
	}
}
