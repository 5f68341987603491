package conn

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"golang.org/x/sys/unix"

	"github.com/pushd/pushd/poller"
)

// stuff sends numbered frames to a client that does not read, until the sockets
// of both have no room, and returns how many were taken.
func (sh *shard) stuff(slot uint32, from int, send func(slot uint32, frame []byte) Result) (next int) {
	sh.t.Helper()
	for next = from; ; {
		drains := sh.script.drains.Load()
		sh.do(func() {
			for {
				switch got := send(slot, numbered(next)); got {
				case Sent:
					next++
					continue
				case Blocked:
				default:
					sh.t.Errorf("after %d frames: %v, want Blocked", next, got)
				}
				return
			}
		})
		// A delayed acknowledgement makes room once more.
		for quiet := time.Now().Add(250 * time.Millisecond); sh.script.drains.Load() == drains; time.Sleep(time.Millisecond) {
			if time.Now().After(quiet) {
				return next
			}
		}
	}
}

// numbered is a frame of some size that says which it is.
func numbered(i int) []byte {
	return AppendFrame(nil, ws.OpText, fmt.Appendf(nil, "%08d%s", i, pattern(9992)))
}

func (c *client) wantNumbered(from, to int) {
	c.t.Helper()
	for i := from; i < to; i++ {
		frame := numbered(i)
		c.want(ws.OpText, frame[len(frame)-10_000:])
	}
}

func TestBlockedReader(t *testing.T) {
	sends := map[string]func(*shard) func(uint32, []byte) Result{
		"Send": func(sh *shard) func(uint32, []byte) Result { return sh.Send },
		"SendCopy": func(sh *shard) func(uint32, []byte) Result {
			return func(slot uint32, frame []byte) Result {
				got := sh.SendCopy(slot, frame)
				for i := range frame { // the caller's again
					frame[i] = 0xee
				}
				return got
			}
		},
	}
	onBothBackends(t, func(t *testing.T, backend string) {
		for name, send := range sends {
			t.Run(name, func(t *testing.T) {
				sh := startShard(t, &script{}, withBackend(backend), smallBuffers)
				c, slot := sh.openID()
				n := sh.stuff(slot, 0, send(sh))
				drains := sh.script.drains.Load()
				if got := look(sh, func() int { return sh.unsent(sh.slab.at(slot)) }); got >= 10_004 {
					t.Errorf("%d bytes are kept, want less than one frame", got)
				}
				sh.do(func() { // taken nevertheless
					sh.Reply(sh.ID(slot), AppendFrame(nil, ws.OpText, []byte("a reply")))
				})

				c.wantNumbered(0, n)
				c.wantText("a reply")
				until(t, "Drained", func() bool { return sh.script.drains.Load() > drains })
				if more := look(sh, func() Result { return send(sh)(slot, numbered(n)) }); more != Sent {
					t.Errorf("after Drained: %v, want Sent", more)
				}
				c.wantNumbered(n, n+1)
				c.wantNothing()
				if got := sh.script.drains.Load(); got != drains+1 {
					t.Errorf("Drained %d times, want once", got-drains)
				}
				if n := look(sh, sh.sidesInUse); n != 0 {
					t.Errorf("%d side records for a connection that is idle", n)
				}
			})
		}
	})
}

// Each time that the client falls behind and reads on, Drained comes once; from
// within it, sending goes on where it was refused.
func TestDrainedGoesOn(t *testing.T) {
	const total = 500
	onBothBackends(t, func(t *testing.T, backend string) {
		s := &script{}
		next, episodes := 0, int64(0)
		var sh *shard
		feed := func(slot uint32) {
			for next < total {
				if got := s.table.Send(slot, numbered(next)); got != Sent {
					episodes++
					return
				}
				next++
			}
		}
		s.drained = func(id poller.Token) { feed(id.Slot()) }
		sh = startShard(t, s, withBackend(backend), smallBuffers)
		c, slot := sh.openID()
		sh.do(func() { feed(slot) })
		c.wantNumbered(0, total)
		sh.do(func() {
			if got := s.drains.Load(); got != episodes || episodes == 0 {
				t.Errorf("Drained %d times, blocked %d times", got, episodes)
			}
		})
		if got := sh.Counts().Blocked; got != uint64(episodes) {
			t.Errorf("%d counted as blocked, want %d", got, episodes)
		}
	})
}

// Replies are kept while the client does not read, up to a bound.
func TestRepliesAreBounded(t *testing.T) {
	onBothBackends(t, func(t *testing.T, backend string) {
		const most = 100_000
		sh := startShard(t, &script{}, withBackend(backend), smallBuffers, func(s *settings) { s.MaxUnsent = most })
		c, slot := sh.openID()
		n := sh.stuff(slot, 0, sh.Send)
		sh.do(func() {
			id := sh.ID(slot)
			for i := n; sh.unsent(sh.slab.at(slot))+len(numbered(i)) <= most; i++ {
				sh.Reply(id, numbered(i))
				n++
			}
			if !sh.IsOpen(id) {
				t.Error("closed within the bound")
			}
		})
		c.wantNumbered(0, n)
		sh.stuff(slot, n, sh.Send)
		sh.do(func() {
			id := sh.ID(slot)
			for range most/10_000 + 1 {
				sh.Reply(id, numbered(0))
			}
			if sh.IsOpen(id) {
				t.Error("open beyond the bound")
			}
		})
		sh.wantClosed(ReasonTooSlow, 1)
		sh.wantEmpty()
	})
}

// A client that sends and does not read is not read either, until it does.
func TestReadingPauses(t *testing.T) {
	onBothBackends(t, func(t *testing.T, backend string) {
		const n = 500
		sh := startShard(t, &script{}, withBackend(backend), smallBuffers)
		c, slot := sh.openID()
		done := make(chan error, 1)
		go func() {
			var err error
			for i := 0; i < n && err == nil; i++ {
				_, err = c.Write(maskedText(string(numbered(i)[4:])))
			}
			done <- err
		}()
		until(t, "reading pauses", func() bool {
			paused := false
			sh.do(func() { sh.Each(0, func(i Info) bool { paused = !i.Reading; return false }) })
			return paused
		})
		if got := look(sh, func() int { return sh.unsent(sh.slab.at(slot)) }); got > keepReading+readSize {
			t.Errorf("%d bytes are kept", got)
		}
		c.wantNumbered(0, n)
		if err := <-done; err != nil {
			t.Errorf("client: %v", err)
		}
		c.wantNothing()
		if look(sh, func() bool { return sh.slab.at(slot).flags&(flagReadPaused|flagWriteWatch) != 0 }) {
			t.Error("still paused")
		}
	})
}

// Replies that drain as fast as new ones come do not add up.
func TestRepliesThatNeverRunEmpty(t *testing.T) {
	s := &side{}
	defer s.dropUnsent()
	model := []byte{}
	for i := range 10_000 {
		p := fmt.Appendf(nil, "reply %d;", i)
		s.appendOwn(p)
		model = append(model, p...)
		if i > 100 { // the socket takes as much
			n := min(len(p), len(model))
			if got := s.own.B[s.ownSent:][:n]; !bytes.Equal(got, model[:n]) {
				t.Fatalf("%q leaves, want %q", got, model[:n])
			}
			s.ownSent += n
			model = model[n:]
		}
	}
	if s.unsent() != len(model) || cap(s.own.B) > 16<<10 {
		t.Errorf("%d bytes wait in %d, want %d", s.unsent(), cap(s.own.B), len(model))
	}
}

// pouring makes a script send whenever there is room.
func pouring() *script {
	s, frame := &script{}, numbered(0)
	s.drained = func(id poller.Token) {
		for s.table.Send(id.Slot(), frame) == Sent {
		}
	}
	return s
}

func TestWriteTimeout(t *testing.T) {
	onBothBackends(t, func(t *testing.T, backend string) {
		s := pouring()
		sh := startShard(t, s, withBackend(backend), smallBuffers, func(s *settings) { s.WriteTimeout = 100 * time.Millisecond })
		_, slot := sh.openID()
		sh.do(func() { s.drained(sh.ID(slot)) })
		sh.wantClosed(ReasonTooSlow, 1)
		sh.wantEmpty()
	})
}

// A socket that refused a frame at its boundary keeps no byte, but the time
// from which it counts must outlive whatever else its side record was for.
func TestStalledSinceIsKept(t *testing.T) {
	table, c := newManual(t, &script{message: func(poller.Token, ws.OpCode, []byte) {}})
	c.shake()
	id := table.ID(0)
	r := table.slab.at(0)
	frame := make([]byte, 1<<10)
	for table.Send(0, frame) == Sent {
	}
	table.sideOf(r).dropUnsent() // as if it had been refused between two frames
	table.sideOf(r).stalled = 77
	c.write(fragment(ws.OpText, false, "a"))
	table.Ready(id, poller.Readable)
	c.write(fragment(ws.OpContinuation, true, "b"))
	table.Ready(id, poller.Readable)
	if r.side == 0 || table.sides.all[r.side].stalled != 77 {
		t.Error("the time since which the socket takes nothing is forgotten")
	}
}

// A write that fails ends the connection, whatever was being sent.
func TestSendToOneWhoHasLeft(t *testing.T) {
	for name, send := range map[string]func(*Table, uint32){
		"Send":     func(t *Table, slot uint32) { t.Send(slot, numbered(0)) },
		"SendCopy": func(t *Table, slot uint32) { t.SendCopy(slot, numbered(0)) },
		"Reply":    func(t *Table, slot uint32) { t.Reply(t.ID(slot), numbered(0)) },
		"Close":    func(t *Table, slot uint32) { t.Close(t.ID(slot), ReasonKicked) },
	} {
		t.Run(name, func(t *testing.T) {
			s := &script{}
			ended := ReasonNone
			s.closed = func(_ poller.Token, why Reason) { ended = why }
			table, c := newManual(t, s)
			c.shake()
			unix.Close(c.fd)
			c.fd = -1
			send(table, 0)
			if table.live(table.ID(0)) != nil {
				t.Error("still live")
			}
			if got := table.Send(0, pingFrame); got != Gone {
				t.Errorf("Send afterwards: %v, want Gone", got)
			}
			table.Turn()
			if ended != ReasonClientGone {
				t.Errorf("ended as %v", ended)
			}
		})
	}
}
