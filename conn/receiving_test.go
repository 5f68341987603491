package conn

import (
	"bytes"
	"testing"

	"github.com/gobwas/ws"
)

// Very many send the most of a message and no more: those that would take the
// room of all are told 1013, and others still send messages that come in pieces.
func TestHalfMessagesAreBounded(t *testing.T) {
	const most, clients = 1 << 20, 100
	sh := startShard(t, &script{}, func(s *settings) { s.MaxMessage, s.Receiving = 64<<10, NewReceiving(most) })
	message := maskedText(pattern(60_000))
	part := func(c *client, p []byte) {
		read := func() uint64 { return look(sh, func() uint64 { return sh.tally.bytesIn }) }
		before := read()
		c.send(p)
		until(t, "part of a message is read", func() bool { return read() == before+uint64(len(p)) })
	}
	var kept, refused []*client
	for range clients {
		c := sh.open()
		part(c, message[:50_000])
		if n := sh.cfg.Receiving.Kept(); n > most {
			t.Fatalf("%d bytes are kept, of at most %d", n, most)
		}
		if look(sh, func() bool { return sh.Counts().Closed[ReasonReceiveFull] > uint64(len(refused)) }) {
			refused = append(refused, c)
		} else {
			kept = append(kept, c)
		}
	}
	if len(kept) < 8 || len(refused) < clients/2 {
		t.Errorf("%d are kept and %d refused", len(kept), len(refused))
	}
	for _, c := range refused {
		if h, p := c.frame(); h.OpCode != ws.OpClose || string(p) != "\x03\xf5receive_full" { // 1013
			t.Fatalf("opcode %v with %q instead of a close", h.OpCode, p)
		}
	}
	other := sh.open()
	for range 10 {
		for _, size := range []int{100, 3000, 15_000} { // each less than half of what they left
			m := maskedText(pattern(size))
			part(other, m[:size/2])
			other.send(m[size/2:])
			other.wantText(pattern(size))
		}
	}
	for _, c := range kept[1:] {
		c.reset()
	}
	kept[0].send(message[50_000:])
	kept[0].wantText(pattern(60_000))
	until(t, "all room is free again", func() bool { return sh.cfg.Receiving.Kept() == 0 })
}

// Frames behind a request that is held back, as while a token is checked, are
// kept for it, and count as well.
func TestFramesBehindHeldAreBounded(t *testing.T) {
	s, held := holding()
	sh := startShard(t, s, quickly, func(s *settings) { s.Receiving = NewReceiving(128 << 10) })
	frames := maskedText(pattern(30_000))
	var in, out int
	for range 20 {
		c := sh.connect()
		c.send(plainRequest, frames)
		<-held
		if sh.do(func() {}); sh.Counts().Closed[ReasonReceiveFull] > uint64(out) {
			out++
			c.turnedAway(503, "unavailable")
		} else {
			in++
		}
	}
	if in == 0 || out == 0 || sh.cfg.Receiving.Kept() > 128<<10 {
		t.Errorf("%d are held, %d refused, and %d bytes kept", in, out, sh.cfg.Receiving.Kept())
	}
}

// A small read may come to much, and is kept while it is looked at in parts: of
// very many such there are kept as many as there is room for, the others are told
// 1013, and who sends a message in pieces meanwhile is served.
func TestRestsOfReadsAreBounded(t *testing.T) {
	const most, clients = 1 << 20, 60
	s := &script{}
	sh := startShard(t, s, deflating, func(s *settings) {
		s.ByteRate, s.MaxMessage, s.Receiving = 1000, 64<<10, NewReceiving(most)
	})
	highest := int64(0)
	sh.do(func() { sh.onTurn = func() { highest = max(highest, sh.cfg.Receiving.Kept()) } })
	frame := maskedFrame(zBinary, zippedBomb(1))
	burst := bytes.Repeat(frame, 50_000/len(frame))
	var bursting []*client
	for range clients {
		bursting = append(bursting, sh.openDeflating())
	}
	sh.whileItWaits(func() {
		for _, c := range bursting {
			c.send(burst) // which is one read then
		}
	})
	until(t, "all have been read", func() bool {
		n := sh.Counts()
		return n.Throttled == clients && look(sh, func() uint64 { return sh.tally.bytesIn }) >= uint64(clients*len(burst))
	})
	refused := sh.Counts().Closed[ReasonReceiveFull]
	if n := look(sh, func() int64 { return highest }); n > most || n < most*3/4 {
		t.Errorf("up to %d bytes were kept, of at most %d", n, most)
	}
	if refused < clients/2 || refused > clients-8 {
		t.Errorf("%d of %d are refused", refused, clients)
	}
	honest := sh.open()
	m := maskedText(pattern(12_000))
	honest.send(m[:8000])
	until(t, "the first piece is kept", func() bool {
		return look(sh, func() bool { return sh.sides.all[sh.slab.at(s.newID.Slot()).side] != nil })
	})
	honest.send(m[8000:])
	honest.wantText(pattern(12_000))
	for _, c := range bursting {
		c.reset()
	}
	until(t, "all room is free again", func() bool { return sh.cfg.Receiving.Kept() == 0 })
}

// What a client has that is gone through in parts becomes less: it is not refused
// for what others have been given meanwhile.
func TestWhatDoesNotGrowIsNotRefused(t *testing.T) {
	q := NewReceiving(100 << 10)
	q.kept.Add(99 << 10)
	for _, tc := range []struct {
		was, size int
		want      bool
	}{
		{50 << 10, 50 << 10, true},
		{50 << 10, 40 << 10, true},
		{50 << 10, 50<<10 + 1, false},
		{0, 4 << 10, true},
		{0, 4<<10 + 1, false},
	} {
		if got := q.fits(tc.was, tc.size); got != tc.want {
			t.Errorf("%d bytes of one that has %d: %v, want %v", tc.size, tc.was, got, tc.want)
		}
	}
}
