package conn

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"golang.org/x/sys/unix"

	"github.com/pushd/pushd/poller"
)

func TestClientCloses(t *testing.T) {
	cases := []struct {
		name string
		send []byte
		want ws.StatusCode // 0: no code
	}{
		{"with a code", maskedClose(1000, ""), 1000},
		{"with a reason", maskedClose(1001, "going home"), 1001},
		{"with a code of its own", maskedClose(4999, ""), 4999},
		{"with a code that came later", maskedClose(1012, ""), 1012},
		{"without a code", masked(ws.OpClose, ""), 0},
	}
	ends := []struct {
		name string
		end  func(c *client)
	}{
		{"then waits", func(c *client) {}},
		{"then shuts its half down", func(c *client) { c.CloseWrite() }},
		{"then sends on", func(c *client) { c.send(maskedText("ignored"), masked(ws.OpPing, "ignored")) }},
	}
	onBothBackends(t, func(t *testing.T, backend string) {
		for _, tc := range cases {
			for _, end := range ends {
				t.Run(tc.name+" "+end.name, func(t *testing.T) {
					sh := startShard(t, &script{}, withBackend(backend), quickly)
					c := sh.open()
					c.send(maskedText("before"), tc.send)
					end.end(c)
					c.wantText("before")
					c.wantClose(tc.want)
					sh.wantClosed(ReasonClientClosed, 1)
					sh.wantEmpty() // also where the client keeps its end open: lingering is bounded
				})
			}
		}
	})
}

// Half a client's close frame is none; what it said before is still answered.
func TestClientLeaves(t *testing.T) {
	onBothBackends(t, func(t *testing.T, backend string) {
		for name, leave := range map[string]func(c *client){
			"closing":                   func(c *client) { c.Close() },
			"resetting":                 (*client).reset,
			"closing its half":          func(c *client) { c.CloseWrite() },
			"within a frame":            func(c *client) { c.send(maskedText("hello")[:7]); c.Close() },
			"within a message":          func(c *client) { c.send(fragment(ws.OpText, false, "hello")); c.Close() },
			"within a close frame":      func(c *client) { c.send(maskedClose(1000, "")[:5]); c.Close() },
			"with replies on their way": func(c *client) { c.send(maskedText(pattern(60_000))); c.reset() },
		} {
			t.Run(name, func(t *testing.T) {
				sh := startShard(t, &script{}, withBackend(backend))
				leave(sh.open())
				sh.wantClosed(ReasonClientGone, 1)
				sh.wantEmpty()
			})
		}
	})
}

func TestServerCloses(t *testing.T) {
	answers := []struct {
		name   string
		answer func(c *client)
	}{
		{"answered", func(c *client) { c.send(maskedClose(1008, "")) }},
		{"answered by leaving", func(c *client) { c.Close() }},
		{"answered by a reset", (*client).reset},
		{"never answered", func(c *client) {}},
		{"answered by more messages", func(c *client) { c.send(maskedText("x"), masked(ws.OpPing, "x")) }},
		{"answered by nonsense", func(c *client) { c.send(strings.Repeat("\xff", 100)) }},
	}
	onBothBackends(t, func(t *testing.T, backend string) {
		for _, tc := range answers {
			t.Run(tc.name, func(t *testing.T) {
				sh := startShard(t, &script{}, withBackend(backend), quickly)
				c := sh.open()
				sh.do(func() {
					id := sh.script.newID
					sh.Close(id, ReasonPolicy)
					sh.Close(id, ReasonShutdown) // the first reason stands
					sh.Reply(id, pingFrame)
					if got := sh.Send(id.Slot(), pingFrame); got != Gone {
						t.Errorf("Send to a closing connection: %v, want Gone", got)
					}
				})
				sh.wantClosed(ReasonPolicy, 1) // whatever the client does
				c.wantClose(1008)
				tc.answer(c)
				sh.wantEmpty()
			})
		}
	})
}

func TestCloseReasons(t *testing.T) {
	for why := ReasonNone + 1; why < NumReasons; why++ {
		sh := startShard(t, &script{}, quickly)
		c := sh.open()
		sh.do(func() { sh.Close(sh.script.newID, why) })
		if code := why.Code(); code != 0 {
			c.wantClose(code)
		} else {
			c.wantEnd()
		}
		c.Close()
		sh.wantClosed(why, 1)
		sh.stop()
		if t.Failed() {
			t.Fatal(why)
		}
	}
}

func TestBothClose(t *testing.T) {
	onBothBackends(t, func(t *testing.T, backend string) {
		sh := startShard(t, &script{}, withBackend(backend))
		c := sh.open()
		c.send(maskedClose(1000, "")[:4])
		until(t, "half of the client's close frame is kept", func() bool { return look(sh, sh.sidesInUse) == 1 })
		sh.do(func() { sh.Close(sh.script.newID, ReasonDraining) })
		c.send(maskedClose(1000, "")[4:])
		c.wantClose(1012) // one close frame, and it is the server's own
		c.Close()
		sh.wantClosed(ReasonDraining, 1)
		sh.wantEmpty()
	})
}

func TestCloseAll(t *testing.T) {
	s, held := holding()
	hold := s.upgrade
	s.upgrade = func(id poller.Token, r *Request) *Refusal {
		if r.Path == "/held" {
			return hold(id, r)
		}
		return nil
	}
	sh := startShard(t, s, quickly)
	open, closing, waiting, shaking := sh.open(), sh.open(), sh.connect(), sh.connect()
	sh.do(func() { sh.Close(s.newID, ReasonKicked) })
	waiting.send("GET /held" + plainRequest[len("GET /ws"):])
	<-held
	shaking.send("GET ")
	until(t, "all are there", func() bool { return look(sh, sh.sidesInUse) == 2 })
	sh.do(func() { sh.CloseAll(ReasonShutdown) })
	open.wantClose(1001)
	closing.wantClose(4003)
	waiting.wantEnd()
	shaking.wantGone()
	sh.wantClosed(ReasonShutdown, 2)
	sh.wantEmpty()
}

// A message of some size is on its way when the server closes: it arrives.
func TestCloseBehindUnsent(t *testing.T) {
	onBothBackends(t, func(t *testing.T, backend string) {
		sh := startShard(t, &script{}, withBackend(backend), func(s *settings) { s.MaxUnsent = 16 << 20 })
		c, slot := sh.openID()
		frame := AppendFrame(nil, ws.OpBinary, []byte(pattern(8<<20)))
		sh.do(func() {
			if got := sh.Send(slot, frame); got != Sent || sh.unsent(sh.slab.at(slot)) == 0 {
				t.Errorf("Send: %v, %d bytes wait; want some", got, sh.unsent(sh.slab.at(slot)))
			}
			sh.Close(sh.ID(slot), ReasonShutdown)
		})
		c.want(ws.OpBinary, frame[10:])
		c.wantClose(1001)
	})
}

// A client that says its last word, shuts its half down and reads, gets all.
func TestHalfCloseBehindUnsent(t *testing.T) {
	onBothBackends(t, func(t *testing.T, backend string) {
		big := pattern(8 << 20)
		sh := startShard(t, &script{}, withBackend(backend), func(s *settings) { s.MaxMessage = len(big) })
		c := sh.open()
		c.send(maskedText(big), maskedClose(1000, ""))
		c.CloseWrite()
		until(t, "the echo fills the socket", func() bool {
			return look(sh, func() bool { return sh.sidesInUse() == 1 && sh.unsent(sh.slab.at(0)) > 0 && sh.fresh.idle() })
		})
		c.want(ws.OpText, []byte(big))
		c.wantClose(1000)
		sh.wantClosed(ReasonClientClosed, 1)
	})
}

// The same where so little waits that reading has not paused.
func TestHalfCloseBehindLittle(t *testing.T) {
	table, c := newManual(t, &script{})
	c.shake()
	frame := numbered(0)
	for table.unsent(table.slab.at(0)) == 0 {
		if table.Send(0, frame) != Sent {
			table.Reply(c.id, frame)
		}
	}
	c.write(maskedClose(1000, ""))
	table.Ready(c.id, poller.Readable)
	if err := unix.Shutdown(c.fd, unix.SHUT_WR); err != nil {
		t.Fatal(err)
	}
	table.Ready(c.id, poller.Readable|poller.HangUp)
	table.Turn()
	var all []byte
	for p := c.read(); p != nil; p = c.read() {
		if all = append(all, p...); len(p) == 0 {
			break
		}
		table.Ready(c.id, poller.Writable)
	}
	if end := AppendClose(nil, 1000, ""); len(all)%len(frame) != len(end) || !bytes.HasSuffix(all, end) {
		t.Errorf("%d bytes came, the last of them %q, want whole frames and %q", len(all), all[max(0, len(all)-10):], end)
	}
}

// A client that has said its last is not waited for, unless more of what it
// said is still to be read: closing then would reset the connection.
func TestCloseWithoutLinger(t *testing.T) {
	leaving := maskedClose(1000, "")
	for _, tc := range []struct {
		name   string
		sent   []byte
		events poller.Events
		left   int // records after one event
	}{
		{"and ends", leaving, poller.Readable | poller.HangUp, 0},
		{"and is silent", leaving, poller.Readable, 1},
		{"and ends behind more than a read takes", append(bytes.Clone(leaving), make([]byte, readSize)...), poller.Readable | poller.HangUp, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			table, c := newManual(t, &script{})
			c.shake()
			c.write(tc.sent)
			table.Ready(c.id, tc.events)
			table.Turn()
			if n := table.Len(); n != tc.left {
				t.Errorf("%d connections are left, want %d", n, tc.left)
			}
			if got, want := c.read(), AppendClose(nil, 1000, ""); !bytes.Equal(got, want) {
				t.Errorf("the client got %q, want %q", got, want)
			}
		})
	}
}

// The close frame and the end of the stream are one packet.
func TestCloseIsOnePacket(t *testing.T) {
	segments := func(c *client) (n uint32) {
		raw, err := c.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		err = raw.Control(func(fd uintptr) {
			info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
			if err != nil {
				t.Fatal(err)
			}
			n = info.Segs_in
		})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	sh := startShard(t, &script{})
	c := sh.open()
	before := segments(c)
	sh.do(func() { sh.Close(sh.script.newID, ReasonPolicy) })
	c.wantClose(1008)
	c.wantEnd()
	if n := segments(c) - before; n != 1 {
		t.Errorf("%d packets came for the close, want 1", n)
	}
}

// A client that does not read cannot hold up its own end.
func TestCloseIsBounded(t *testing.T) {
	onBothBackends(t, func(t *testing.T, backend string) {
		sh := startShard(t, &script{}, withBackend(backend), quickly, func(s *settings) { s.MaxUnsent = 16 << 20 })
		_, slot := sh.openID()
		frame := AppendFrame(nil, ws.OpBinary, make([]byte, 8<<20))
		sh.do(func() {
			sh.Send(slot, frame)
			sh.Close(sh.ID(slot), ReasonShutdown)
		})
		sh.wantClosed(ReasonShutdown, 1)
		sh.wantEmpty()
	})
}

// One that keeps sending cannot either.
func TestLingerIsBounded(t *testing.T) {
	sh := startShard(t, &script{}, quickly)
	c := sh.open()
	sh.do(func() { sh.Close(sh.script.newID, ReasonPolicy) })
	done := make(chan struct{})
	go func() {
		defer close(done)
		noise := make([]byte, 64<<10)
		for {
			if _, err := c.Write(noise); err != nil {
				return
			}
		}
	}()
	sh.wantEmpty()
	<-done
}

// Closed may end other connections, which are then told in the same turn.
func TestCloseWithinClosed(t *testing.T) {
	s := &script{}
	var told []poller.Token
	s.closed = func(id poller.Token, _ Reason) {
		told = append(told, id)
		s.table.CloseAll(ReasonKicked)
		s.table.Close(id, ReasonKicked)
	}
	sh := startShard(t, s, quickly)
	a, b := sh.open(), sh.open()
	a.Close()
	b.wantClose(4003)
	sh.wantEmpty()
	if n := len(look(sh, func() []poller.Token { return slices.Clone(told) })); n != 2 {
		t.Errorf("%d were told closed, want 2", n)
	}
}

func TestStopAccepting(t *testing.T) {
	onBothBackends(t, func(t *testing.T, backend string) {
		sh := startShard(t, &script{}, withBackend(backend))
		c := sh.open()
		sh.do(func() { sh.StopAccepting(); sh.StopAccepting() })
		if late, err := connectTo(sh.addr); err == nil {
			late.Close()
			t.Error("a connection was taken after StopAccepting")
		}
		c.wantNothing()
	})
}

func TestShutdown(t *testing.T) {
	sh := startShard(t, &script{}, func(s *settings) { s.Linger, s.CloseTimeout = time.Hour, time.Hour })
	open, closing, shaking := sh.open(), sh.open(), sh.connect()
	sh.do(func() { sh.Close(sh.script.newID, ReasonKicked) })
	shaking.send("GET ")
	until(t, "all are there", func() bool { return sh.Counts().Sockets == 3 })
	sh.stop()
	open.wantGone()
	closing.wantClose(4003)
	shaking.wantGone()
	if c := sh.Counts(); c.Closed[ReasonShutdown] != 1 || c.Closed[ReasonKicked] != 1 || c.Refused[ReasonShutdown] != 1 || c.Sockets != 0 {
		t.Errorf("counts: %+v", c)
	}
}
