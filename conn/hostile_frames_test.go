package conn

import (
	"encoding/binary"
	"runtime"
	"testing"
	"time"

	"github.com/gobwas/ws"
)

// A length costs nothing before there are bytes, and what is too long is
// refused by its header.
func TestHugeLengths(t *testing.T) {
	sh := startShard(t, &script{}, quickly, func(s *settings) { s.MaxMessage = 1 << 20 })
	long := func(opcode ws.OpCode, n uint64) []byte {
		header := binary.BigEndian.AppendUint64([]byte{0x80 | byte(opcode), 0x80 | 127}, n)
		return append(header, 1, 2, 3, 4)
	}
	for _, tc := range []struct {
		opcode ws.OpCode
		length uint64
		want   ws.StatusCode
	}{
		{ws.OpText, 1<<20 + 1, 1009},
		{ws.OpBinary, 1 << 31, 1009},
		{ws.OpText, 1 << 40, 1009},
		{ws.OpText, 1<<63 - 1, 1009},
		{ws.OpText, 1 << 63, 1002}, // RFC 6455, 5.2
		{ws.OpText, 1<<64 - 1, 1002},
		{ws.OpPing, 1 << 20, 1002}, // 5.5
	} {
		c := sh.open()
		c.send(long(tc.opcode, tc.length))
		c.wantClose(tc.want)
	}
	// The longest that is allowed, announced and begun by many: it is not reserved.
	const many = 200
	before := heapInUse()
	for range many {
		sh.open().send(long(ws.OpText, 1<<20), "x")
	}
	until(t, "all have begun", func() bool { return look(sh, sh.sidesInUse) == many })
	if grown := heapInUse() - before; grown > many*32<<10 {
		t.Errorf("%d bytes are held for %d clients that have sent a byte each", grown, many)
	}
}

// A frame that comes a byte at a time costs what has come, delays nobody, and
// when nothing more comes its client is as silent as any other.
func TestSlowFrames(t *testing.T) {
	sh := startShard(t, &script{}, func(s *settings) {
		s.Heartbeat, s.PongTimeout = 200*time.Millisecond, 100*time.Millisecond
	})
	frames := [][]byte{maskedText(pattern(200)), fragment(ws.OpText, false, pattern(200)), masked(ws.OpPing, pattern(100))}
	var slow []*client
	for range 30 {
		slow = append(slow, sh.open())
	}
	other := sh.open()
	goroutines := runtime.NumGoroutine()
	for i := range 60 {
		for k, c := range slow {
			c.send(frames[k%len(frames)][i : i+1])
		}
		other.wantNothing()
	}
	if n := runtime.NumGoroutine(); n > goroutines {
		t.Errorf("%d goroutines, %d before", n, goroutines)
	}
	for k, c := range slow[:3] { // slow, and served
		c.send(frames[k][60:])
	}
	slow[0].wantText(pattern(200))
	slow[2].want(ws.OpPong, []byte(pattern(100)))
	sh.wantClosed(ReasonSilent, uint64(len(slow)+1))
}
