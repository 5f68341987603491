package conn

import (
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"github.com/pushd/pushd/poller"
)

// ticks waits until a shard's loop has counted so many more.
func (sh *shard) ticks(n uint32) {
	sh.t.Helper()
	now := func() uint32 { return look(sh, func() uint32 { return sh.loop.Now() }) }
	end := now() + n
	until(sh.t, "time passes", func() bool { return now() >= end })
}

// Who is not read is not late, and has as long afterwards as it had.
func TestFrozenExpiresNobody(t *testing.T) {
	sh := startShard(t, &script{}, claiming, func(s *settings) {
		s.HandshakeTimeout, s.IdleTimeout, s.PongTimeout, s.Heartbeat = time.Second, time.Second, time.Second, 250*time.Millisecond
	})
	arriving, idle, open := sh.connect(), sh.connect(), sh.open()
	arriving.send(plainRequest[:20])
	idle.send(ask("/get"))
	idle.wantStatus(http.StatusOK)
	sh.wantRead(len(plainRequest) + 20 + len(ask("/get")))
	sh.do(sh.Freeze)
	sh.ticks(uint32(2 * time.Second / testTick))
	open.want(ws.OpPing, nil) // and only one
	arriving.send(plainRequest[20:])
	idle.send(ask("/get"))
	open.send(masked(ws.OpPong, ""), maskedText("here"))
	sh.do(sh.Thaw)
	arriving.wantSwitch()
	idle.wantStatus(http.StatusOK)
	open.wantText("here")
}

// A socket with bytes that nobody reads does not keep a frozen loop busy.
func TestFrozenDoesNotSpin(t *testing.T) {
	onBothBackends(t, func(t *testing.T, backend string) {
		sh := startShard(t, &script{}, withBackend(backend))
		c := sh.open()
		var turns atomic.Int64
		sh.do(func() {
			sh.Freeze()
			sh.onTurn = func() { turns.Add(1) }
		})
		c.send(maskedText("waits"))
		var passed uint32
		before := int64(0)
		sh.do(func() { before, passed = turns.Load(), sh.loop.Now() })
		time.Sleep(20 * testTick)
		sh.do(func() {
			passed = sh.loop.Now() - passed
			if n, most := turns.Load()-before, 4*int64(passed+1)*int64(testTick/frozenPause); n > most {
				t.Errorf("%d turns in %d ticks, want at most %d", n, passed, most)
			}
			sh.Thaw()
		})
		c.wantText("waits")
	})
}

// What net/http gives back to a frozen table has no slot before that is thawed.
func TestFrozenParksWhatIsAdopted(t *testing.T) {
	sh := startShard(t, &script{})
	sh.do(sh.Freeze)
	slots := look(sh, sh.Slots)
	c := sh.adopted([]byte(plainRequest))
	if n := look(sh, sh.Slots); n != slots {
		t.Errorf("there are %d slots, want %d", n, slots)
	}
	sh.do(sh.Thaw)
	c.wantSwitch()
	sh.do(sh.Freeze)
	refused := sh.adopted([]byte(plainRequest))
	sh.do(sh.StopAccepting)
	refused.wantStatus(http.StatusServiceUnavailable)
	sh.do(sh.Thaw)
}

// Names that came into use between Reserve and Import are not given out again.
func TestReserveLeavesRoomForAnswers(t *testing.T) {
	to := startShard(t, &script{})
	to.do(func() {
		to.Reserve(1, 7)
		to.Settle()
	})
	to.open()
	if id := look(to, func() poller.Token { return to.script.newID }); id.Slot() != 0 || id.Generation() <= 8 {
		t.Errorf("slot %d has generation %d, which an answer may have made", id.Slot(), id.Generation())
	}
}

// Of a connection that may leave for net/http there is no duplicate: its client
// would not see its end.
func TestLendIsOfOpenConnections(t *testing.T) {
	sh := startShard(t, &script{}, claiming)
	open, arriving, idle := sh.open(), sh.connect(), sh.connect()
	arriving.send("GET /publish HTTP/1.1\r\n")
	idle.send(ask("/get"))
	idle.wantStatus(http.StatusOK)
	sh.do(func() {
		ids, fds, _, err := sh.Lend(0, 10)
		if err != nil || len(ids) != 1 || !sh.IsOpen(ids[0]) {
			t.Errorf("lent %v: %v", ids, err)
		}
		for _, fd := range fds {
			closeFD(fd)
		}
		sh.Thaw()
	})
	arriving.send("Host: a\r\n\r\n")
	arriving.wantGone()
	open.send(maskedText("still here"))
	open.wantText("still here")
}

// A message that the old limit let begin does not end the handover, nor itself.
func TestHandoverToLowerLimit(t *testing.T) {
	limit := func(n int) func(*settings) { return func(s *settings) { s.MaxMessage = n } }
	from, to := startShard(t, &script{}, limit(4000)), startShard(t, &script{}, limit(500))
	c := from.open()
	long := maskedText(pattern(3000))
	c.send(long[:2500])
	from.wantRead(len(plainRequest) + 2500)
	if n := moveAll(from, to); n != 1 {
		t.Fatalf("%d connections moved", n)
	}
	c.send(long[2500:])
	c.wantText(pattern(3000))
	c.send(maskedText(pattern(501)))
	c.wantClose(1009)
}

// A request behind one that is answered while the table is frozen waits, and so
// each slot has one generation more at most.
func TestFrozenKeepsPipelinedRequests(t *testing.T) {
	gets := 0
	s := &script{}
	var held poller.Token
	s.get = func(id poller.Token, r *Request) *Refusal {
		if gets++; gets == 1 {
			held = id
			s.table.Hold(id)
			return nil
		}
		s.table.Answer(id, response(r.Path), r.KeepAlive)
		return nil
	}
	sh := startShard(t, s, claiming)
	c := sh.connect()
	c.send(ask("/get"), ask("/get"), ask("/get"))
	sh.wantRead(3 * len(ask("/get")))
	sh.do(func() {
		sh.Freeze()
		sh.Answer(held, response("first"), true)
	})
	c.wantStatus(http.StatusOK)
	sh.ticks(3)
	sh.do(func() {
		if gets != 1 || sh.Generation() > held.Generation()+1 {
			t.Errorf("%d requests were served, and generation %d given", gets, sh.Generation())
		}
		sh.Thaw()
	})
	c.wantStatus(http.StatusOK)
	c.wantStatus(http.StatusOK)
}
