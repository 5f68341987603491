package conn

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"golang.org/x/sys/unix"

	"github.com/pushd/pushd/poller"
)

// greeting makes a script reply within Upgrade.
func greeting(texts ...string) *script {
	s := &script{}
	s.upgrade = func(id poller.Token, _ *Request) *Refusal {
		for _, text := range texts {
			s.table.Reply(id, AppendFrame(nil, ws.OpText, []byte(text)))
		}
		return nil
	}
	return s
}

func TestUpgradeLeavesInOneWrite(t *testing.T) {
	onBothBackends(t, func(t *testing.T, backend string) {
		long := strings.Repeat("x", 2*maxCork) // beyond what replies are gathered for later
		sh := startShard(t, greeting("welcome", long, "subscribed"), withBackend(backend))
		c := sh.connect()
		c.send(plainRequest)
		c.wantSwitch()
		c.wantText("welcome", long, "subscribed")
		if n := look(sh, func() uint { return sh.sends }); n != 1 {
			t.Errorf("%d writes, want 1", n)
		}
	})
}

func TestUpgradeSocket(t *testing.T) {
	cases := []struct {
		name string
		send func(sh *shard, c *client)
	}{
		{"at once", func(_ *shard, c *client) { c.send(plainRequest) }},
		{"byte at a time", func(_ *shard, c *client) {
			for _, b := range []byte(plainRequest) {
				c.send([]byte{b})
			}
		}},
		{"cut within the blank line", func(sh *shard, c *client) {
			c.send(plainRequest[:len(plainRequest)-1])
			sh.wantRead(len(plainRequest) - 1)
			c.send(plainRequest[len(plainRequest)-1:])
		}},
	}
	frames := join(maskedText("one"), masked(ws.OpPing, "p"), fragment(ws.OpText, false, "tw"), fragment(ws.OpContinuation, true, "o"))
	onBothBackends(t, func(t *testing.T, backend string) {
		for _, tc := range cases {
			t.Run(tc.name, func(t *testing.T) {
				sh := startShard(t, &script{}, withBackend(backend))
				c := sh.connect()
				tc.send(sh, c)
				c.wantSwitch()
				c.send(maskedText("hello"))
				c.wantText("hello")
				if n := look(sh, sh.sidesInUse); n != 0 {
					t.Errorf("%d side records for a connection that is idle", n)
				}
			})
		}
		for cut := range len(frames) + 1 {
			sh := startShard(t, &script{}, withBackend(backend))
			c := sh.connect()
			c.send(plainRequest, frames[:cut]) // pipelined
			c.wantSwitch()
			c.send(frames[cut:])
			c.wantText("one")
			c.want(ws.OpPong, []byte("p"))
			c.wantText("two")
			c.Close()
			sh.wantClosed(ReasonClientGone, 1)
			if t.Failed() {
				t.Fatalf("with %d bytes of frames behind the request", cut)
			}
		}
	})
}

func TestUpgradeRefused(t *testing.T) {
	refusing := &script{upgrade: func(id poller.Token, r *Request) *Refusal {
		if r.Path == "/no" {
			return &Refusal{Status: 403, Code: "forbidden", Message: "not here"}
		}
		return nil
	}}
	cases := []struct {
		name    string
		request string
		status  int
		message string // in the body
		why     Reason
	}{
		{"by the handler", strings.Replace(plainRequest, "/ws", "/no", 1), 403, "not here", ReasonHandshakeRefused},
		{"by the handler, with frames behind it", strings.Replace(plainRequest, "/ws", "/no", 1) + string(maskedText("x")), 403, "not here", ReasonHandshakeRefused},
		{"no key", strings.Replace(plainRequest, "Sec-WebSocket-Key", "Sec-WebSocket-Kee", 1), 400, "Sec-WebSocket-Key", ReasonHandshakeRefused},
		{"another version", strings.Replace(plainRequest, "Version: 13", "Version: 8", 1), 426, "13", ReasonHandshakeRefused},
		{"head without end", "GET / HTTP/1.1\r\nX: " + strings.Repeat("x", maxHead), 431, "8192", ReasonHeadTooLarge},
		{"many lines", "GET / HTTP/1.1\r\n" + strings.Repeat("X: y\r\n", maxHead/4), 431, "8192", ReasonHeadTooLarge},
		{"TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "HTTP", ReasonNotHTTP},
		{"garbage", "\x00\xff\x00\xff", 400, "HTTP", ReasonNotHTTP},
	}
	onBothBackends(t, func(t *testing.T, backend string) {
		for _, tc := range cases {
			t.Run(tc.name, func(t *testing.T) {
				sh := startShard(t, &script{upgrade: refusing.upgrade}, withBackend(backend))
				c := sh.connect()
				c.send(tc.request)
				body := c.wantStatus(tc.status)
				var answer struct{ Code, Message string }
				if err := json.Unmarshal([]byte(body), &answer); err != nil || !strings.Contains(answer.Message, tc.message) {
					t.Errorf("body %q (%v), want a message with %q", body, err, tc.message)
				}
				c.wantEnd()
				c.Close()
				sh.wantRefused(tc.why, 1)
				sh.wantEmpty()
				if c := sh.Counts(); c.Upgraded != 0 || c.Open != 0 {
					t.Errorf("%d upgraded, %d open", c.Upgraded, c.Open)
				}
			})
		}
	})
}

func TestHandshakeTimeout(t *testing.T) {
	cases := []struct {
		name   string
		send   string
		status int // 0: nothing is said
	}{
		{"silent", "", 0},
		{"one byte", "G", 408},
		{"all but the blank line", plainRequest[:len(plainRequest)-2], 408},
	}
	onBothBackends(t, func(t *testing.T, backend string) {
		sh := startShard(t, &script{}, withBackend(backend), quickly, func(s *settings) { s.HandshakeTimeout = 30 * time.Millisecond })
		served := sh.open()
		for i, tc := range cases {
			c := sh.connect()
			if tc.send != "" {
				c.send(tc.send)
			}
			if tc.status != 0 {
				c.wantStatus(tc.status)
			}
			c.wantEnd()
			if n := look(sh, sh.sidesInUse); n != 0 {
				t.Error("a request that was refused is kept")
			}
			c.Close()
			sh.wantRefused(ReasonHandshakeTimeout, uint64(i+1))
			if t.Failed() {
				t.Fatal(tc.name)
			}
		}
		served.wantNothing() // the deadline of its handshake is long past
	})
}

func TestNotUpgrade(t *testing.T) {
	const body = "0123456789"
	request := "POST /publish/a HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n" + body
	onBothBackends(t, func(t *testing.T, backend string) {
		type handed struct {
			fd   int
			read []byte
		}
		got := make(chan handed, 1)
		s := &script{notUpgrade: func(fd int, read []byte, _ Handed) { got <- handed{fd, bytes.Clone(read)} }}
		for _, cut := range []int{1, 20, len(request) - len(body), len(request) - 1, len(request)} {
			sh := startShard(t, &script{notUpgrade: s.notUpgrade}, withBackend(backend))
			c := sh.connect()
			c.send(request[:cut])
			c.send(request[cut:])
			h := <-got
			sh.wantRefused(ReasonHandedOver, 1)
			if n := look(sh, sh.Len); n != 0 {
				t.Errorf("the table keeps %d sockets", n)
			}
			// Every byte is either in read or still in the socket.
			if err := unix.SetNonblock(h.fd, false); err != nil {
				t.Fatal(err)
			}
			rest := make([]byte, len(request)-len(h.read))
			if len(rest) > 0 {
				if _, err := io.ReadFull(fdReader(h.fd), rest); err != nil {
					t.Fatal(err)
				}
			}
			if all := string(h.read) + string(rest); all != request {
				t.Errorf("cut at %d: the handler got %q", cut, all)
			}
			unix.Write(h.fd, []byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
			c.wantStatus(200)
			unix.Close(h.fd)
			c.wantEnd()
		}
	})
}

type fdReader int

func (fd fdReader) Read(p []byte) (int, error) { return unix.Read(int(fd), p) }

// A handler may call the table about the socket that it is being handed.
func TestNotUpgradeMayCallTheTable(t *testing.T) {
	s := &script{}
	s.notUpgrade = func(fd int, _ []byte, _ Handed) {
		s.table.CloseAll(ReasonShutdown)
		s.table.Reply(s.table.ID(0), pingFrame)
		unix.Close(fd)
	}
	sh := startShard(t, s)
	c := sh.connect()
	c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	c.wantEnd()
	sh.wantRefused(ReasonHandedOver, 1)
	if n := sh.Counts().Refused[ReasonShutdown]; n != 0 {
		t.Error("a socket that was handed over was counted as closed too")
	}
}

// Upgrade may find that a connection is not to be.
func TestCloseWithinUpgrade(t *testing.T) {
	s := &script{}
	s.upgrade = func(id poller.Token, _ *Request) *Refusal {
		s.table.Close(id, ReasonKicked)
		s.table.Close(id, ReasonKicked)
		return nil
	}
	sh := startShard(t, s)
	c := sh.connect()
	c.send(plainRequest, maskedText("x"))
	c.wantGone()
	sh.wantClosed(ReasonKicked, 1)
	sh.wantEmpty()
}

func TestQuota(t *testing.T) {
	onBothBackends(t, func(t *testing.T, backend string) {
		const most = 3
		sh := startShard(t, &script{}, withBackend(backend), func(s *settings) { s.Quota = NewQuota(most) })
		open := []*client{sh.open(), sh.open(), sh.open()}
		for range 2 {
			c := sh.connect()
			c.send(plainRequest)
			if body := c.wantStatus(503); !strings.Contains(body, "unavailable") {
				t.Errorf("body %q", body)
			}
			c.wantEnd()
			c.Close()
		}
		sh.wantRefused(ReasonOverloaded, 2)
		for _, c := range open {
			c.wantNothing()
		}
		open[0].Close()
		sh.wantClosed(ReasonClientGone, 1)
		sh.open().wantNothing()
	})
}

// Beyond those few who are still heard, sockets are answered without a record.
func TestQuotaOfSockets(t *testing.T) {
	sh := startShard(t, &script{}, func(s *settings) { s.Quota = NewQuota(1) })
	sh.open()
	for range quotaSlack {
		sh.connect()
	}
	until(t, "all are accepted", func() bool { return sh.Counts().Sockets == 1+quotaSlack })
	c := sh.connect()
	c.wantStatus(503)
	c.wantEnd()
	until(t, "it is counted", func() bool { return sh.Counts().Shed == 1 })
}

func TestAdopt(t *testing.T) {
	cases := []struct {
		name       string
		read, rest string
	}{
		{"all of the request", plainRequest, ""},
		{"frames behind it", plainRequest + string(maskedText("one")), ""},
		{"half of it", plainRequest[:30], plainRequest[30:]},
		{"nothing", "", plainRequest},
	}
	onBothBackends(t, func(t *testing.T, backend string) {
		for _, tc := range cases {
			t.Run(tc.name, func(t *testing.T) {
				sh := startShard(t, greeting("welcome"), withBackend(backend))
				c := sh.adopted([]byte(tc.read))
				c.send(tc.rest, maskedText("two"))
				c.wantSwitch()
				c.wantText("welcome")
				if strings.Contains(tc.read, "\xa1\x7c") {
					c.wantText("one")
				}
				c.wantText("two")
			})
		}
	})
}

func TestAdoptWhenStopping(t *testing.T) {
	sh := startShard(t, &script{})
	sh.do(sh.StopAccepting)
	c := sh.adopted([]byte(plainRequest))
	if body := c.wantStatus(503); !strings.Contains(body, "shutting down") {
		t.Errorf("body %q", body)
	}
	c.wantEnd()
}

// adopted connects a client to a listener that is not the table's.
func (sh *shard) adopted(read []byte) *client {
	sh.t.Helper()
	c, fd := sh.accepted()
	sh.do(func() { sh.Adopt(fd, read, Handed{}) })
	return c
}

// accepted is both ends of a connection that no table has.
func (sh *shard) accepted() (*client, int) {
	sh.t.Helper()
	l, err := poller.Listen("127.0.0.1:0", poller.ListenOptions{NoDelay: true})
	if err != nil {
		sh.t.Fatal(err)
	}
	defer l.Close()
	conn, err := connectTo(l.Addr().String())
	if err != nil {
		sh.t.Fatal(err)
	}
	sh.t.Cleanup(func() { conn.Close() })
	fd := -1
	until(sh.t, "the connection can be accepted", func() bool {
		fd, err = l.Accept()
		return err == nil
	})
	return &client{TCPConn: conn, t: sh.t, r: bufio.NewReader(net.Conn(conn))}, fd
}
