package conn

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"golang.org/x/sys/unix"

	"github.com/pushd/pushd/poller"
)

// lendAll has one table lend its sockets to another, as long before a handover.
func lendAll(from, to *shard) {
	from.t.Helper()
	from.do(func() {
		for next := uint32(0); next < from.Slots(); {
			ids, fds, upTo, err := from.Lend(next, 7)
			if err != nil {
				from.t.Error(err)
				return
			}
			next = upTo
			to.do(func() {
				for i, id := range ids {
					if err := to.Borrow(id, fds[i]); err != nil {
						from.t.Error(err)
					}
				}
			})
		}
	})
}

// moveLent is moveAll of sockets that were lent.
func moveLent(from, to *shard) (moved int) {
	from.t.Helper()
	from.do(func() { moved = moveHere(from, to, func(int) (int, error) { return Borrowed, nil }) })
	return moved
}

// randomMessage is the frames of a message, compressed or not, in fragments with
// control frames between them, and what comes back of it.
func randomMessage(rnd *rand.Rand, n int) (sent []byte, back []byte) {
	text := fmt.Sprintf("%d é %s", n, pattern(rnd.IntN(3000)))
	op, payload, rsv := ws.OpText, []byte(text), byte(0)
	if rnd.IntN(2) == 0 {
		payload, rsv = []byte(zipped(text)), ws.Rsv(true, false, false)
	}
	back = []byte(text)
	for first := true; ; first = false {
		size := rnd.IntN(len(payload) + 1)
		if rnd.IntN(2) == 0 {
			size = len(payload)
		}
		f := ws.NewFrame(op, size == len(payload), bytes.Clone(payload[:size]))
		if payload = payload[size:]; first {
			f.Header.Rsv = rsv
		}
		sent = append(sent, ws.MustCompileFrame(ws.MaskFrameInPlaceWith(f, [4]byte{byte(n), 2, 3, byte(size)}))...)
		if f.Header.Fin {
			return sent, back
		}
		op = ws.OpContinuation
		if rnd.IntN(3) == 0 {
			sent = append(sent, masked(ws.OpPong, "unasked")...)
		}
	}
}

// What clients send is cut anywhere, and they are handed over between any two
// pieces, from table to table, what was read and what was not: all of it comes
// back, and what was counted of it is counted where the client is.
func TestHandoverModel(t *testing.T) {
	const clients, tables = 12, 4
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 9))
			var shards []*shard
			for range tables {
				shards = append(shards, startShard(t, &script{}, deflating, func(s *settings) {
					s.Receiving, s.MaxMessage = NewReceiving(16<<20), 8<<10
					if seed%2 == 1 {
						s.ByteRate = 8 << 10 // some are throttled for a while
					}
				}))
			}
			var all []*client
			left, want := make([][]byte, clients), make([][][]byte, clients)
			for i := range clients {
				all = append(all, shards[0].openDeflating())
				for n := range 8 {
					sent, back := randomMessage(rnd, n)
					left[i] = append(left[i], sent...)
					want[i] = append(want[i], back)
				}
			}
			for n, sh := range shards {
				for i, c := range all {
					cut := rnd.IntN(len(left[i]) + 1)
					if n == tables-1 {
						cut = len(left[i])
					}
					c.send(left[i][:cut])
					left[i] = left[i][cut:]
				}
				if n == tables-1 {
					break
				}
				next, move := shards[n+1], moveAll
				if rnd.IntN(2) == 0 {
					lendAll(sh, next)
					move = moveLent
				}
				if moved := move(sh, next); moved != clients {
					t.Fatalf("%d of %d connections moved", moved, clients)
				}
				if kept := sh.cfg.Receiving.Kept(); kept != 0 {
					t.Errorf("%d bytes are counted of those who have left", kept)
				}
			}
			for i, c := range all {
				for _, p := range want[i] {
					c.want(ws.OpText, p)
				}
			}
			last := shards[tables-1]
			until(t, "nothing is kept any more", func() bool {
				return last.cfg.Receiving.Kept() == 0 && look(last, last.sidesInUse) == 0
			})
		})
	}
}

// A connection whose socket was lent and that ends before it is handed over ends
// for its client at once, and leaves nothing behind.
func TestHandoverLentAndClosed(t *testing.T) {
	onBothBackends(t, func(t *testing.T, backend string) {
		from, to := startShard(t, &script{}, withBackend(backend)), startShard(t, &script{}, withBackend(backend))
		stays, ends, reset := from.open(), from.open(), from.open()
		lendAll(from, to)
		ends.send(maskedClose(1000, ""))
		ends.wantClose(1000)
		ends.wantEnd()
		reset.reset()
		from.wantClosed(ReasonClientGone, 1)
		from.do(func() {})
		late := from.open() // its socket was not lent
		if moved := moveLentAnd(from, to, late); moved != 1 {
			t.Fatalf("%d connections moved, want 1", moved)
		}
		stays.send(maskedText("hello"))
		stays.wantText("hello")
		if n := look(to, func() int { return len(to.borrowed) }); n != 0 {
			t.Errorf("%d sockets are still lent", n)
		}
	})
}

// moveLentAnd moves those whose sockets were lent; one that came late ends first.
func moveLentAnd(from, to *shard, late *client) int {
	id := look(from, func() poller.Token { return from.script.newID })
	to.do(func() {
		c := Carried{ID: id, Stage: StageOpen}
		if err := to.Import(&c, Borrowed); err == nil {
			from.t.Error("a connection was imported whose socket was not lent")
		}
	})
	late.send(maskedClose(1000, ""))
	late.wantClose(1000)
	late.wantEnd()
	from.wantClosed(ReasonClientClosed, 2)
	return moveLent(from, to)
}

// What was read and is still to be looked at is handed over, and counted; while
// nothing is read nothing of it is looked at, and a table that goes on does.
func TestHandoverBacklog(t *testing.T) {
	const clients, messages = 20, 30
	counting := func() (*script, map[poller.Token]int) {
		got := make(map[poller.Token]int)
		return &script{message: func(id poller.Token, _ ws.OpCode, _ []byte) { got[id]++ }}, got
	}
	for name, rate := range map[string]int{"in line": 0, "throttled": 1 << 20} {
		t.Run(name, func(t *testing.T) {
			limits := func(s *settings) {
				s.MaxMessage, s.ByteRate, s.Receiving = 64<<10, rate, NewReceiving(64<<20)
			}
			first, had := counting()
			second, has := counting()
			from, to := startShard(t, first, deflating, limits), startShard(t, second, deflating, limits)
			burst := bytes.Repeat(maskedFrame(zBinary, zippedBomb(1)), messages)
			var all []*client
			for range clients {
				all = append(all, from.openDeflating())
			}
			from.whileItWaits(func() {
				for _, c := range all {
					c.send(burst)
				}
				from.loop.Post(poller.Func(from.Freeze)) // what is in line by then waits
			})
			sum := func(got map[poller.Token]int) (n int) {
				for _, of := range got {
					n += of
				}
				return n
			}
			waits := look(from, func() int { return sum(had) })
			time.Sleep(2 * testTick)
			if n := look(from, func() int { return sum(had) }); n != waits {
				t.Errorf("%d messages were looked at of a frozen table", n-waits)
			}
			from.do(from.Thaw)
			until(t, "some are looked at", func() bool { return look(from, func() bool { return sum(had) > waits }) })
			moveAll(from, to)
			if kept := from.cfg.Receiving.Kept(); kept != 0 {
				t.Errorf("%d bytes are counted of those who have left", kept)
			}
			until(t, "all are looked at", func() bool {
				before := look(from, func() int { return sum(had) })
				return before+look(to, func() int { return sum(has) }) == clients*messages
			})
			for _, c := range all {
				c.send(maskedText("and read on"))
			}
			until(t, "all are read on", func() bool { return look(to, func() bool { return sum(has)+sum(had) == clients*(messages+1) }) })
		})
	}
}

// A pong that was not read since nothing was is waited for anew, here and there.
func TestHandoverWaitsForPongs(t *testing.T) {
	beats := func(s *settings) {
		s.Heartbeat, s.PongTimeout, s.tick = 20*time.Millisecond, 20*time.Second, 2*time.Millisecond
	}
	from, to := startShard(t, &script{}, beats), startShard(t, &script{}, beats)
	c := from.open()
	c.want(ws.OpPing, nil)
	var id poller.Token
	longAgo := func() { // more than anybody is waited for
		r := from.live(id)
		r.pinged, r.received = from.loop.Now()-1<<20, from.loop.Now()-1<<20
	}
	from.do(func() {
		from.Freeze()
		id = from.script.newID
		longAgo()
	})
	c.send(masked(ws.OpPong, ""))
	time.Sleep(20 * time.Millisecond) // some ticks
	from.do(func() {
		if from.live(id) == nil {
			t.Fatal("it was closed while nothing was read")
		}
		from.Thaw()
		from.sweep(from.loop.Now() + 10)
		if from.live(id) == nil {
			t.Fatal("it was closed before its pong was read")
		}
		from.Freeze()
		longAgo()
	})
	moveAll(from, to)
	c.send(maskedText("alive"))
	for {
		if h, p := c.frame(); h.OpCode == ws.OpText {
			if string(p) != "alive" {
				t.Errorf("got %q", p)
			}
			break
		} else if h.OpCode != ws.OpPing {
			t.Fatalf("got opcode %v", h.OpCode)
		}
	}
}

// A request that came right behind another is read where the connection is.
func TestHandoverOfPipelinedRequest(t *testing.T) {
	from, to := startShard(t, &script{}, claiming), startShard(t, &script{}, claiming)
	c := from.connect()
	moved := make(chan int, 1)
	from.do(func() {
		from.onTurn = func() {
			for slot := range from.Slots() {
				if r := from.slab.at(slot); r.state == stateAnswered && r.side != 0 && from.sides.all[r.side].head != nil {
					from.onTurn = nil
					from.Table.Turn() // it is idle then, and what is behind is looked at in the next turn
					moved <- moveHere(from, to, unix.Dup)
					return
				}
			}
		}
	})
	c.send(ask("/get/1"), ask("/get/2"))
	for n := 1; n <= 2; n++ {
		if body := c.wantStatus(200); body != "/get/"+strconv.Itoa(n) {
			t.Fatalf("answered with %q", body)
		}
	}
	if n := <-moved; n != 1 {
		t.Errorf("%d connections moved", n)
	}
	from.wantEmpty()
}
