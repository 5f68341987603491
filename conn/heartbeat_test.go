package conn

import (
	"testing"
	"time"

	"github.com/gobwas/ws"

	"github.com/pushd/pushd/poller"
)

// beating is a heart fast enough for tests.
func beating(s *settings) {
	s.Heartbeat, s.PongTimeout, s.tick = 50*time.Millisecond, 50*time.Millisecond, 2*time.Millisecond
	s.Linger = 50 * time.Millisecond
}

func TestHeartbeat(t *testing.T) {
	long := masked(ws.OpBinary, pattern(100))
	signs := map[string]func(c *client, i int){
		"a pong":                func(c *client, _ int) { c.send(masked(ws.OpPong, "")) },
		"an unasked pong":       func(c *client, _ int) { c.send(masked(ws.OpPong, "x")) },
		"a ping":                func(c *client, _ int) { c.send(masked(ws.OpPing, "x")); c.want(ws.OpPong, []byte("x")) },
		"a message":             func(c *client, _ int) { c.send(maskedText("x")); c.wantText("x") },
		"one byte of a message": func(c *client, i int) { c.send(long[i : i+1]) },
	}
	onBothBackends(t, func(t *testing.T, backend string) {
		for name, sign := range signs {
			t.Run(name+" is a sign of life", func(t *testing.T) {
				sh := startShard(t, &script{}, withBackend(backend), beating, func(s *settings) {
					s.PongTimeout = 5 * time.Second // the test itself may be held up
				})
				c := sh.open()
				for i := range 4 {
					c.want(ws.OpPing, nil)
					sign(c, i)
					sh.wantUnpinged()
				}
				if n := sh.Counts().Open; n != 1 {
					t.Errorf("%d are open", n)
				}
			})
		}
		t.Run("silence", func(t *testing.T) {
			sh := startShard(t, &script{}, withBackend(backend), beating)
			c := sh.open()
			c.want(ws.OpPing, nil)
			c.wantClose(1001)
			c.Close()
			sh.wantClosed(ReasonSilent, 1)
			sh.wantEmpty()
			if n := sh.Counts().Pings; n != 1 {
				t.Errorf("%d pings, want 1", n)
			}
		})
	})
}

// wantUnpinged waits until the table has seen a sign of life after its ping.
func (sh *shard) wantUnpinged() {
	sh.t.Helper()
	until(sh.t, "the sign is seen", func() bool {
		return look(sh, func() bool { return sh.slab.at(0).pinged == 0 })
	})
}

// Who is sent something needs no ping.
func TestNoPingForThoseWhoGetData(t *testing.T) {
	const enough = 100 // ticks: four heartbeats
	sh := startShard(t, &script{}, beating)
	c, slot := sh.openID()
	data, sent, done := AppendFrame(nil, ws.OpText, []byte("data")), 0, make(chan struct{})
	sh.do(func() {
		sh.onTick = func() {
			if sent < enough {
				sh.Send(slot, data)
				if sent++; sent == enough {
					close(done)
				}
			}
		}
	})
	<-done
	for range enough {
		c.wantText("data")
	}
	c.want(ws.OpPing, nil) // only now
}

// A client that does not read cannot answer a ping that waits behind what it
// does not read: it is the write timeout's.
func TestBlockedIsNotSilent(t *testing.T) {
	onBothBackends(t, func(t *testing.T, backend string) {
		s := pouring()
		sh := startShard(t, s, withBackend(backend), beating, smallBuffers, func(s *settings) { s.WriteTimeout = 300 * time.Millisecond })
		_, slot := sh.openID()
		sh.do(func() {
			s.drained(sh.ID(slot))
			sh.Reply(sh.ID(slot), numbered(0))
		})
		sh.wantClosed(ReasonTooSlow, 1)
	})
}

// The wait for a pong begins when its ping has left.
func TestPongIsAwaitedFromWhenThePingLeft(t *testing.T) {
	table, c := newManual(t, &script{})
	c.shake()
	r := table.slab.at(0)
	r.pinged = 1
	table.sideOf(r).appendOwn(pingFrame)
	table.beat(c.id, r, 1000)
	if r.state != stateOpen {
		t.Fatal("closed for not answering a ping that has not left")
	}
	table.sideOf(r).dropUnsent()
	table.beat(c.id, r, 1000+table.ticks.pong-1)
	if r.state != stateOpen {
		t.Fatal("closed before the pong was due")
	}
	table.beat(c.id, r, 1000+table.ticks.pong)
	if r.state < stateClosing {
		t.Fatal("open after the pong was due")
	}
}

// Those who fell silent at one time are not pinged at one time, and nobody is
// pinged late because the loop was.
func TestHeartbeatIsSpread(t *testing.T) {
	const n = 500
	table, c := newManual(t, &script{})
	c.shake()
	for len(table.script().alive) < n {
		newPeer(t, table).shake()
	}
	sweep := table.ticks.heartbeat / sweepsPerHeartbeat
	table.ticks.pong = 1 << 30 // nobody answers here, and nobody is to be closed for it
	spread := table.ticks.heartbeat / 2
	now, before := uint32(0), uint64(0)
	for table.tally.pings < n {
		now++
		table.sweep(now)
		got := table.tally.pings - before
		before = table.tally.pings
		if got > 3*n/uint64(spread) {
			t.Fatalf("%d pings in one tick for %d connections, want them spread over %d ticks", got, n, spread)
		}
		if now < spread && got > 0 {
			t.Fatalf("%d pings at tick %d, before half the heartbeat of %d", got, now, table.ticks.heartbeat)
		}
		if now > table.ticks.heartbeat+sweep {
			t.Fatalf("only %d pings up to tick %d", before, now)
		}
	}
	for slot := range table.slab.next {
		r := table.slab.at(slot)
		r.pinged, r.received, r.sent = 0, now, now
	}
	table.sweep(now + 3*table.ticks.heartbeat) // the loop was held up
	if got := table.tally.pings - before; got != n {
		t.Errorf("%d pings after the loop was held up, want %d", got, n)
	}
}

func (t *Table) script() *script { return t.handler.(*script) }

// A connection that is closing, in handshake or held is not pinged.
func TestHeartbeatOfOthers(t *testing.T) {
	s, held := holding()
	hold := s.upgrade
	s.upgrade = func(id poller.Token, r *Request) *Refusal {
		if r.Path == "/held" {
			return hold(id, r)
		}
		return nil
	}
	sh := startShard(t, s, beating, func(s *settings) { s.Linger = time.Hour })
	closing, waiting, shaking := sh.open(), sh.connect(), sh.connect()
	sh.do(func() { sh.Close(s.newID, ReasonKicked) })
	waiting.send("GET /held" + plainRequest[len("GET /ws"):])
	shaking.send("GET ")
	<-held
	ticks, done := 0, make(chan struct{})
	sh.do(func() {
		sh.onTick = func() {
			if ticks++; ticks == 100 {
				close(done)
			}
		}
	})
	<-done
	if n := sh.Counts().Pings; n != 0 {
		t.Errorf("%d pings", n)
	}
	closing.wantClose(4003)
}
