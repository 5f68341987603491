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

// stuff sends numbered frames to a client that does not read, until one is
// refused, and returns how many were taken.
func (sh *shard) stuff(slot uint32, send func(slot uint32, frame []byte) Result) (taken int) {
	sh.t.Helper()
	sh.do(func() {
		for {
			switch got := send(slot, numbered(taken)); got {
			case Sent:
				taken++
				continue
			case Blocked:
			default:
				sh.t.Errorf("after %d frames: %v, want Blocked", taken, got)
			}
			return
		}
	})
	return taken
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
				got := sh.SendCopy(slot, frame, 1)
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
				sh := startShard(t, &script{}, withBackend(backend))
				c, slot := sh.openID()
				n := sh.stuff(slot, send(sh))
				if again := sh.stuff(slot, send(sh)); again != 0 {
					t.Errorf("%d more frames were taken behind one that was refused", again)
				}
				if got := look(sh, func() int { return sh.unsent(sh.slab.at(slot)) }); got >= 10_004 {
					t.Errorf("%d bytes are kept, want less than one frame", got)
				}
				pong := AppendFrame(nil, ws.OpText, []byte("a reply"))
				sh.do(func() { sh.Reply(sh.ID(slot), pong) }) // taken nevertheless

				c.wantNumbered(0, n)
				c.wantText("a reply")
				until(t, "Drained", func() bool { return sh.script.drains.Load() > 0 })
				if more := look(sh, func() Result { return sh.Send(slot, numbered(n)) }); more != Sent {
					t.Errorf("Send after Drained: %v", more)
				}
				c.wantNumbered(n, n+1)
				c.wantNothing()
				if got := sh.script.drains.Load(); got != 1 {
					t.Errorf("Drained %d times, want once", got)
				}
				if n := look(sh, sh.sidesInUse); n != 0 {
					t.Errorf("%d side records for a connection that is idle", n)
				}
				if got := sh.Counts().Frames; got != uint64(n)+1 {
					t.Errorf("%d frames counted, want %d", got, n+1)
				}
			})
		}
	})
}

// Each time that the client falls behind and reads on, Drained comes once; from
// within it, sending goes on where it was refused.
func TestDrainedGoesOn(t *testing.T) {
	const total = 3000 // 30 MB: more than the kernel has room for at a time
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
		sh = startShard(t, s, withBackend(backend))
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
		sh := startShard(t, &script{}, withBackend(backend), func(s *settings) { s.MaxUnsent = most })
		c, slot := sh.openID()
		n := sh.stuff(slot, sh.Send)
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
		sh.stuff(slot, sh.Send)
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
		const n = 3000
		sh := startShard(t, &script{}, withBackend(backend))
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

func TestWriteTimeout(t *testing.T) {
	cases := []struct {
		name string
		stay func(sh *shard, c *client, slot uint32) // keeps the connection
	}{
		{"nothing is read", nil},
		// A message that ends must not make the table forget since when it waits.
		{"nothing is read, but sent", func(sh *shard, c *client, slot uint32) {
			c.send(fragment(ws.OpText, false, "a"))
			until(t, "it is read", func() bool {
				return look(sh, func() bool { return !sh.sides.all[sh.slab.at(slot).side].decoder.idle() })
			})
			c.send(fragment(ws.OpContinuation, true, ""))
		}},
	}
	onBothBackends(t, func(t *testing.T, backend string) {
		for _, tc := range cases {
			t.Run(tc.name, func(t *testing.T) {
				s := &script{message: func(poller.Token, ws.OpCode, []byte) {}}
				sh := startShard(t, s, withBackend(backend), func(s *settings) { s.WriteTimeout = 100 * time.Millisecond })
				c, slot := sh.openID()
				sh.stuff(slot, sh.Send)
				if tc.stay != nil {
					tc.stay(sh, c, slot)
				}
				sh.wantClosed(ReasonTooSlow, 1)
				sh.wantEmpty()
			})
		}
	})
}

// A socket that refused a frame at its boundary keeps no byte, but the time
// from which it counts must outlive whatever else its side record was for.
func TestStalledSinceIsKept(t *testing.T) {
	table, c := newManual(t, &script{})
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
		"SendCopy": func(t *Table, slot uint32) { t.SendCopy(slot, numbered(0), 1) },
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
