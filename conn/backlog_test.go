package conn

import (
	"bytes"
	"testing"

	"github.com/gobwas/ws"

	"github.com/pushd/pushd/poller"
)

// Very many whose reads come to much are forgiven in the same tick: a turn looks
// at no more of all of them than of one, each has its part before any has two, and
// what else is posted to the loop is done in the turn that follows.
func TestBacklogsTakeTurns(t *testing.T) {
	const clients = 300 // more than the tasks of one turn
	const size = 60_000 // of a zippedBomb
	const part = inflateSlice/size + 1
	var inTurn, most int
	got := make(map[poller.Token]int)
	s := &script{message: func(id poller.Token, _ ws.OpCode, _ []byte) {
		got[id]++
		inTurn++
	}}
	sh := startShard(t, s, deflating, func(s *settings) { s.ByteRate, s.MaxMessage = 1000, 64<<10 }) // throttled after each part
	burst := bytes.Repeat(maskedFrame(zBinary, zippedBomb(1)), 3*part)
	var all []*client
	for range clients {
		all = append(all, sh.openDeflating())
	}
	sh.whileItWaits(func() {
		for _, c := range all {
			c.send(burst)
		}
	})
	until(t, "all are throttled", func() bool { return sh.Counts().Throttled == clients })
	var waits, longest int
	waiting := false
	sh.do(func() {
		for id := range got {
			sh.slab.at(id.Slot()).heard = 0
		}
		sh.onTurn = func() {
			most, inTurn = max(most, inTurn), 0
			if waits++; waiting {
				longest = max(longest, waits)
				return
			}
			waiting, waits = true, 0
			sh.loop.Post(poller.Func(func() { waiting = false }))
		}
		inTurn = 0
	})
	until(t, "all are throttled again", func() bool { return sh.Counts().Throttled == 2*clients })
	sh.do(func() {
		sh.onTurn = nil
		unequal := 0
		for _, n := range got {
			if n != 2*part {
				unequal++
			}
		}
		if unequal > 0 || len(got) != clients {
			t.Errorf("%d of %d have not had two parts", unequal, len(got))
		}
	})
	if most > 2*part {
		t.Errorf("%d messages were looked at in one turn, want at most %d", most, 2*part)
	}
	if longest > 0 {
		t.Errorf("a task waited for %d turns", longest)
	}
}

// What came right behind the request of a client that a proxy has named may be
// looked at in parts as well, and nothing is kept for the client after that.
func TestBacklogBehindRequest(t *testing.T) {
	s := &script{message: func(poller.Token, ws.OpCode, []byte) {}}
	sh := startShard(t, s, deflating, func(s *settings) { s.ProxyProtocol = networksOf("127.0.0.2/32") })
	const messages = 20
	c := sh.connectFrom("127.0.0.2")
	c.send(join([]byte(proxyV1Header+deflateRequest), bytes.Repeat(maskedFrame(zBinary, zippedBomb(1)), messages)))
	c.wantExtensions(agreed)
	until(t, "all is looked at", func() bool { return sh.Counts().Messages == messages })
	if n := look(sh, sh.sidesInUse); n != 0 {
		t.Errorf("%d side records for a connection that is idle", n)
	}
}
