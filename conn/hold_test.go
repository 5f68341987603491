package conn

import (
	"bytes"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"github.com/pushd/pushd/poller"
)

// holding makes a script hold every connection back behind one reply.
func holding() (s *script, held chan poller.Token) {
	s, held = &script{}, make(chan poller.Token, 16)
	s.upgrade = func(id poller.Token, _ *Request) *Refusal {
		s.table.Hold(id)
		s.table.Reply(id, AppendFrame(nil, ws.OpText, []byte("welcome")))
		held <- id
		return nil
	}
	return s, held
}

func TestHold(t *testing.T) {
	cases := []struct {
		name      string
		pipelined string // behind the request
		meanwhile string // sent while it is held
		want      []string
	}{
		{"alone", "", "", nil},
		{"frames behind the request", string(join(maskedText("a"), maskedText("b"))), "", []string{"a", "b"}},
		{"frames meanwhile", "", string(maskedText("c")), []string{"c"}},
		{"both", string(maskedText("a")), string(join(maskedText("b"), maskedText("c"))), []string{"a", "b", "c"}},
		{"a frame cut by the hold", string(maskedText("abc"))[:7], string(maskedText("abc"))[7:], []string{"abc"}},
	}
	onBothBackends(t, func(t *testing.T, backend string) {
		for _, tc := range cases {
			t.Run(tc.name, func(t *testing.T) {
				s, held := holding()
				sh := startShard(t, s, withBackend(backend))
				c := sh.connect()
				c.send(plainRequest, tc.pipelined)
				id := <-held
				if tc.meanwhile != "" {
					c.send(tc.meanwhile)
				}
				frame := AppendFrame(nil, ws.OpText, []byte("data"))
				sh.do(func() {
					sh.Reply(id, AppendFrame(nil, ws.OpText, []byte("subscribed")))
					if got := sh.Send(id.Slot(), frame); got != Blocked {
						t.Errorf("Send to a held connection: %v, want Blocked", got)
					}
					if sh.IsOpen(id) {
						t.Error("IsOpen before the 101 has left")
					}
				})
				before := look(sh, func() uint { return sh.sends })
				sh.do(func() {
					sh.Release(id)
					sh.Release(id) // says nothing new
					if n := sh.sends - before; len(tc.want) == 0 && n != 1 {
						t.Errorf("%d writes for what was held, want 1", n)
					}
				})
				c.wantSwitch()
				c.wantText("welcome", "subscribed")
				c.wantText(tc.want...)
				c.wantNothing()
				if n := s.drains.Load(); n != 1 {
					t.Errorf("Drained %d times, want once for what was blocked", n)
				}
				if n := look(sh, sh.sidesInUse); n != 0 {
					t.Errorf("%d side records for a connection that is idle", n)
				}
			})
		}
	})
}

// Send within Upgrade, once held, is Blocked and does not disturb the 101.
func TestHoldThenSend(t *testing.T) {
	s, held := holding()
	hold := s.upgrade
	s.upgrade = func(id poller.Token, r *Request) *Refusal {
		hold(id, r)
		if got := s.table.Send(id.Slot(), pingFrame); got != Blocked {
			t.Errorf("Send: %v, want Blocked", got)
		}
		return nil
	}
	sh := startShard(t, s)
	c := sh.connect()
	c.send(plainRequest)
	id := <-held
	sh.do(func() { sh.Release(id) })
	c.wantSwitch()
	c.wantText("welcome")
	c.wantNothing()
}

// One connection's message may release another, whose pipelined frames then
// must not be read in the middle of it.
func TestReleaseWithinMessage(t *testing.T) {
	s, held := holding()
	hold := s.upgrade
	s.upgrade = func(id poller.Token, r *Request) *Refusal {
		if r.Path == "/ws" {
			return hold(id, r)
		}
		return nil
	}
	var other poller.Token
	s.message = func(id poller.Token, op ws.OpCode, payload []byte) {
		s.table.Reply(id, AppendFrame(nil, op, append([]byte("1:"), payload...)))
		if string(payload) == "release" {
			s.table.Release(other)
		}
		s.table.Reply(id, AppendFrame(nil, op, append([]byte("2:"), payload...)))
	}
	sh := startShard(t, s)
	a, b := sh.connect(), sh.connect()
	b.send("GET /other"+plainRequest[len("GET /ws"):], fragment(ws.OpText, false, "rel"))
	b.wantSwitch()
	a.send(plainRequest, maskedText("x"), maskedText("y"))
	id := <-held
	sh.do(func() { other = id })
	b.send(fragment(ws.OpContinuation, true, "ease"), maskedText("z"))
	b.wantText("1:release", "2:release", "1:z", "2:z")
	a.wantSwitch()
	a.wantText("welcome", "1:x", "2:x", "1:y", "2:y")
}

// Release within the Upgrade that holds is a hold of no length.
func TestReleaseWithinUpgrade(t *testing.T) {
	s := &script{}
	s.upgrade = func(id poller.Token, _ *Request) *Refusal {
		s.table.Hold(id)
		s.table.Release(id)
		s.table.Reply(id, AppendFrame(nil, ws.OpText, []byte("welcome")))
		return nil
	}
	sh := startShard(t, s)
	c := sh.connect()
	c.send(plainRequest, maskedText("x"))
	c.wantSwitch()
	c.wantText("welcome", "x")
}

// What was held may be more than the socket takes.
func TestReleaseOfMuch(t *testing.T) {
	welcome := AppendFrame(nil, ws.OpText, []byte(pattern(500_000)))
	s := &script{}
	s.upgrade = func(id poller.Token, _ *Request) *Refusal {
		s.table.Hold(id)
		s.table.Reply(id, welcome)
		return nil
	}
	table, c := newManual(t, s)
	c.write(join(plainRequest[len("GET"):], maskedText("x")))
	table.Ready(c.id, poller.Readable)
	table.Release(c.id)
	if table.slab.at(0).flags&flagWriteWatch == 0 {
		t.Error("nobody waits for room")
	}
	var all []byte
	for p := c.read(); len(p) > 0; p = c.read() {
		all = append(all, p...)
		table.Ready(c.id, poller.Writable)
	}
	_, frames, _ := bytes.Cut(all, []byte("\r\n\r\n"))
	if want := join(welcome, AppendFrame(nil, ws.OpText, []byte("x"))); !bytes.Equal(frames, want) {
		t.Errorf("%d bytes behind the 101, want %d", len(frames), len(want))
	}
}

func TestHeldClientLeaves(t *testing.T) {
	onBothBackends(t, func(t *testing.T, backend string) {
		for name, leave := range map[string]func(c *client){
			"by closing":               func(c *client) { c.Close() },
			"by a reset":               (*client).reset,
			"by closing its half":      func(c *client) { c.CloseWrite() },
			"by closing, after frames": func(c *client) { c.send(maskedText("x")); c.Close() },
		} {
			t.Run(name, func(t *testing.T) {
				s, held := holding()
				sh := startShard(t, s, withBackend(backend))
				c := sh.connect()
				c.send(plainRequest, maskedText("x"))
				id := <-held
				leave(c)
				sh.wantClosed(ReasonClientGone, 1)
				sh.do(func() { sh.Release(id) }) // comes too late
				sh.wantEmpty()
			})
		}
	})
}

func TestHeldTooLong(t *testing.T) {
	onBothBackends(t, func(t *testing.T, backend string) {
		s, held := holding()
		sh := startShard(t, s, withBackend(backend), quickly, func(s *settings) { s.HandshakeTimeout = 30 * time.Millisecond })
		c := sh.connect()
		c.send(plainRequest, maskedText("x"))
		id := <-held
		c.wantStatus(503)
		c.wantEnd()
		c.Close()
		sh.wantClosed(ReasonHandshakeTimeout, 1)
		sh.do(func() { sh.Release(id) })
		sh.wantEmpty()
	})
}

func TestHeldIsClosed(t *testing.T) {
	s, held := holding()
	sh := startShard(t, s)
	c := sh.connect()
	c.send(plainRequest, maskedText("x"))
	id := <-held
	sh.do(func() { sh.Close(id, ReasonShutdown) })
	c.wantGone() // the 101 has not left, so there is no frame to send
	sh.wantClosed(ReasonShutdown, 1)
}
