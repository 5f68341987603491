package conn

import (
	"fmt"
	"strings"
	"testing"

	"github.com/gobwas/ws"

	"github.com/pushd/pushd/poller"
)

func TestEchoSizes(t *testing.T) {
	sizes := []int{0, 1, 125, 126, 127, 4095, 65535, 65536, readSize - 8, readSize, readSize + 1, 200_000, 1 << 20}
	onBothBackends(t, func(t *testing.T, backend string) {
		sh := startShard(t, &script{}, withBackend(backend), func(s *settings) { s.MaxMessage = 1 << 20 })
		c := sh.open()
		for _, n := range sizes {
			text := pattern(n)
			c.send(masked(ws.OpText, text))
			c.want(ws.OpText, []byte(text))

			pieces := [][]byte{fragment(ws.OpBinary, false, text[:n/3]), masked(ws.OpPing, "1"),
				fragment(ws.OpContinuation, false, text[n/3:n/2]), masked(ws.OpPing, "2"), masked(ws.OpPong, "3"),
				fragment(ws.OpContinuation, true, text[n/2:])}
			for _, p := range pieces {
				c.send(p)
			}
			c.want(ws.OpPong, []byte("1"))
			c.want(ws.OpPong, []byte("2"))
			c.want(ws.OpBinary, []byte(text))
			if t.Failed() {
				t.Fatalf("with %d bytes", n)
			}
		}
		// The last echo may still be on its way out of the table's hands.
		until(t, "nothing is kept for an idle connection", func() bool { return look(sh, sh.sidesInUse) == 0 })
	})
}

// What a read cuts is put together again, wherever the cut is.
func TestEchoCutAnywhere(t *testing.T) {
	all := join(maskedText("hello"), fragment(ws.OpText, false, "Grü"), masked(ws.OpPing, "p"),
		fragment(ws.OpContinuation, true, "ße"), masked(ws.OpBinary, pattern(200)))
	onBothBackends(t, func(t *testing.T, backend string) {
		sh := startShard(t, &script{}, withBackend(backend))
		c := sh.open()
		read := look(sh, func() uint64 { return sh.tally.bytesIn })
		for cut := range len(all) + 1 {
			c.send(all[:cut])
			read += uint64(cut)
			until(t, "the first part is read", func() bool { return sh.Counts().BytesIn == read })
			c.send(all[cut:])
			read += uint64(len(all) - cut)
			c.wantText("hello")
			c.want(ws.OpPong, []byte("p"))
			c.wantText("Grüße")
			c.want(ws.OpBinary, []byte(pattern(200)))
		}
		for i := range all {
			c.send(all[i : i+1])
		}
		c.wantText("hello")
	})
}

func TestManyFramesInOneRead(t *testing.T) {
	const n = 2000
	sh := startShard(t, &script{})
	c := sh.open()
	before := look(sh, func() uint { return sh.sends })
	var all []byte
	for i := range n {
		all = append(all, maskedText(fmt.Sprint("message ", i))...)
	}
	c.send(all)
	for i := range n {
		c.wantText(fmt.Sprint("message ", i))
	}
	// Replies to one read leave together; how many reads there are is TCP's affair.
	if writes := look(sh, func() uint { return sh.sends }) - before; writes > n/10 {
		t.Errorf("%d writes for %d replies", writes, n)
	}
	if got := sh.Counts().Messages; got != n {
		t.Errorf("%d messages counted, want %d", got, n)
	}
}

func TestProtocolErrors(t *testing.T) {
	const max = 1000
	bad := func(first byte, payload string) []byte {
		f := maskedText(payload)
		f[0] = first
		return f
	}
	cases := []struct {
		name string
		send []byte
		code ws.StatusCode
		why  Reason
	}{
		{"no mask", ws.MustCompileFrame(ws.NewTextFrame([]byte("x"))), 1002, ReasonProtocolError},
		{"reserved bit", bad(0xc1, "x"), 1002, ReasonProtocolError},
		{"reserved opcode", bad(0x83, "x"), 1002, ReasonProtocolError},
		{"reserved control opcode", bad(0x8b, "x"), 1002, ReasonProtocolError},
		{"fragmented ping", bad(0x09, "x"), 1002, ReasonProtocolError},
		{"long ping", bad(0x89, strings.Repeat("x", 126)), 1002, ReasonProtocolError},
		{"continuation of nothing", bad(0x80, "x"), 1002, ReasonProtocolError},
		{"a message within a message", join(fragment(ws.OpText, false, "x"), maskedText("y")), 1002, ReasonProtocolError},
		{"length not minimal", []byte{0x81, 0xfe, 0, 5, 1, 2, 3, 4}, 1002, ReasonProtocolError},
		{"length beyond 63 bits", []byte{0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0}, 1002, ReasonProtocolError},
		{"text is not UTF-8", maskedText("\xff"), 1007, ReasonBadUTF8},
		{"text cut within a rune", maskedText("\xe2\x82"), 1007, ReasonBadUTF8},
		{"text is bad before its frame is there", maskedText("ab\xff" + strings.Repeat("x", 500))[:12], 1007, ReasonBadUTF8},
		{"too big", maskedText(strings.Repeat("x", max+1)), 1009, ReasonMessageTooBig},
		{"announced too big", maskedText(strings.Repeat("x", max+1))[:4], 1009, ReasonMessageTooBig},
		{"fragments too big together", join(fragment(ws.OpText, false, pattern(max)), fragment(ws.OpContinuation, true, "x")), 1009, ReasonMessageTooBig},
		{"close with one byte", masked(ws.OpClose, "x"), 1002, ReasonProtocolError},
		{"close with a reserved code", maskedClose(1005, ""), 1002, ReasonProtocolError},
		{"close reason is not UTF-8", maskedClose(1000, "\xff"), 1007, ReasonBadUTF8},
	}
	onBothBackends(t, func(t *testing.T, backend string) {
		sh := startShard(t, &script{}, withBackend(backend), func(s *settings) { s.MaxMessage = max })
		ended := map[Reason]uint64{}
		for _, tc := range cases {
			// What comes before and after the fault: the one is answered, the other is not.
			c := sh.open()
			c.send(maskedText("before"), tc.send, maskedText("after"), masked(ws.OpPing, "after"))
			c.wantText("before")
			c.wantClose(tc.code)
			c.Close()
			ended[tc.why]++
			sh.wantClosed(tc.why, ended[tc.why])
			if t.Failed() {
				t.Fatal(tc.name)
			}
		}
		sh.wantEmpty()
	})
}

// A fault within a message gives back what was kept of it.
func TestProtocolErrorWithinMessage(t *testing.T) {
	sh := startShard(t, &script{})
	c := sh.open()
	c.send(fragment(ws.OpText, false, pattern(3000)))
	until(t, "the fragment is kept", func() bool { return look(sh, sh.sidesInUse) == 1 })
	c.send(maskedText("x"))
	c.wantClose(1002)
	until(t, "nothing of it is kept", func() bool { return look(sh, sh.sidesInUse) == 0 })
}

// The handler may close within Message: nothing that came with it is read.
func TestCloseWithinMessage(t *testing.T) {
	s := &script{}
	s.message = func(id poller.Token, _ ws.OpCode, payload []byte) {
		if string(payload) != "one" {
			t.Errorf("message %q behind the close", payload)
		}
		s.table.Reply(id, AppendFrame(nil, ws.OpText, []byte("reply")))
		s.table.Close(id, ReasonPolicy)
		s.table.Reply(id, pingFrame)
		if got := s.table.Send(id.Slot(), pingFrame); got != Gone {
			t.Errorf("Send to a closing connection: %v, want Gone", got)
		}
	}
	sh := startShard(t, s)
	c := sh.open()
	c.send(fragment(ws.OpText, false, "on"), fragment(ws.OpContinuation, true, "e"), maskedText("two"), masked(ws.OpPing, ""))
	c.wantText("reply")
	c.wantClose(1008)
	sh.wantClosed(ReasonPolicy, 1)
}

// Replies and data of one connection stay in the order in which they were sent.
func TestDataWithinMessage(t *testing.T) {
	s := &script{}
	text := func(s string) []byte { return AppendFrame(nil, ws.OpText, []byte(s)) }
	s.message = func(id poller.Token, _ ws.OpCode, _ []byte) {
		s.table.Reply(id, text("1"))
		s.table.Send(id.Slot(), text("2"))
		s.table.Reply(id, text("3"))
		s.table.SendCopy(id.Slot(), text("4"))
		s.table.Reply(id, text("4a"))
		s.table.Reply(id, text(strings.Repeat("5", 2*maxCork)))
		s.table.Reply(id, text("6"))
	}
	sh := startShard(t, s)
	c := sh.open()
	c.send(maskedText("x"), masked(ws.OpPing, "7"))
	c.wantText("1", "2", "3", "4", "4a", strings.Repeat("5", 2*maxCork), "6")
	c.want(ws.OpPong, []byte("7"))
}
