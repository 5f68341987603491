package conn

import (
	"bytes"
	"net/http"
	"strings"
	"testing"

	"github.com/gobwas/ws"

	"github.com/pushd/pushd/poller"
)

// deflateRequest offers compression, as browsers do.
var deflateRequest = strings.Replace(plainRequest, "\r\n\r\n", "\r\nSec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n", 1)

// deflating accepts compression.
func deflating(s *settings) { s.Deflate = true }

// openDeflating upgrades a socket that may send compressed messages.
func (sh *shard) openDeflating() *client {
	sh.t.Helper()
	c := sh.connect()
	c.send(deflateRequest)
	c.wantExtensions(agreed)
	return c
}

func (c *client) wantExtensions(want string) {
	c.t.Helper()
	r, err := http.ReadResponse(c.r, nil)
	if err != nil || r.StatusCode != 101 || r.Header.Get("Sec-WebSocket-Extensions") != want {
		c.t.Fatalf("%+v, %v, want a 101 with extensions %q", r, err, want)
	}
}

func TestDeflateSocket(t *testing.T) {
	onBothBackends(t, func(t *testing.T, backend string) {
		sh := startShard(t, &script{}, deflating, withBackend(backend))
		c := sh.openDeflating()
		long := pattern(60_000)
		for _, text := range []string{"hello", "", long} {
			frame := maskedFrame(zText, zipped(text))
			for _, cut := range []int{len(frame), 1, 7, len(frame) - 1} {
				c.send(frame[:cut], frame[cut:])
				c.wantText(text) // what the script sends is not compressed
			}
		}
		c.send(maskedText("as it is"), masked(ws.OpPing, "p"))
		c.wantText("as it is")
		c.want(ws.OpPong, []byte("p"))
		if n := look(sh, sh.sidesInUse); n != 0 {
			t.Errorf("%d side records for a connection that is idle", n)
		}
		c.send(maskedClose(1000, ""))
		c.wantClose(1000)
	})
}

// zippedBomb is a thousand times larger than it looks: so many times 60,000 bytes.
func zippedBomb(times int) string {
	part := zipped(strings.Repeat("\x00", 60_000))
	return strings.Repeat(part+string(syncTail), times-1) + part
}

// A compressed message ends at the limit for any message: what it would come to
// beyond that costs neither memory nor time. Who has not negotiated it is
// refused by the frame's header.
func TestCompressedBomb(t *testing.T) {
	const times = 600
	bomb := zippedBomb(times)
	if len(bomb) > 60_000 {
		t.Fatalf("the bomb has %d bytes, for %d", len(bomb), times*60_000)
	}
	for _, deflate := range []bool{false, true} {
		sh := startShard(t, &script{}, quickly, func(s *settings) { s.Deflate = deflate })
		other := sh.open()
		var ended uint64
		for _, first := range []byte{0xc1, 0xc2, 0x41, 0xc9, 0xd1, 0xf1} { // RSV1 on text, binary, a fragment, a ping; RSV2, RSV3 too
			c := sh.connect()
			c.send(deflateRequest)
			want, extensions := ws.StatusCode(1002), ""
			if deflate {
				extensions = agreed
				if first&0x3f <= 2 && first&0x30 == 0 {
					want = 1009
				}
			}
			c.wantExtensions(extensions)
			payload := bomb
			if ws.OpCode(first & 0xf).IsControl() {
				payload = payload[:100]
			}
			c.send(maskedFrame(first, payload))
			if first == 0x41 && deflate {
				c.send(maskedFrame(finContinuation, ""))
			}
			if c.wantClose(want); want == 1002 {
				ended++
			}
		}
		sh.wantClosed(ReasonProtocolError, ended)
		if deflate {
			sh.wantClosed(ReasonMessageTooBig, 6-ended)
		}
		other.wantNothing()
	}
}

// Many bombs, each of all that a connection may send, leave nothing behind, and
// others do not wait for them longer than for any message.
func TestManyBombs(t *testing.T) {
	sh := startShard(t, &script{}, quickly, deflating)
	other := sh.open()
	bomb := maskedFrame(zBinary, zippedBomb(600))
	sh.openDeflating().send(bomb) // what is made once is made now
	sh.wantClosed(ReasonMessageTooBig, 1)
	before := heapInUse()
	const many = 200
	for range many {
		c := sh.openDeflating()
		c.send(bomb)
		c.wantClose(1009)
	}
	sh.wantClosed(ReasonMessageTooBig, many+1)
	other.wantNothing()
	if grown := heapInUse() - before; grown > 1<<20 {
		t.Errorf("%d bytes are left of %d bombs", grown, many)
	}
	// And those whose end does not come: they cost what has come.
	half := sh.openDeflating
	before = heapInUse()
	for range many {
		half().send(bomb[:2000])
	}
	until(t, "all have begun", func() bool { return look(sh, sh.sidesInUse) >= many })
	if grown := heapInUse() - before; grown > many*32<<10 {
		t.Errorf("%d bytes are held for %d clients that have sent 2,000 each", grown, many)
	}
}

// What messages come to counts towards the rate, and not what they were sent as:
// else a client could have a thousand times as much looked at. So does making
// the decompressor begin anew.
func TestInflatedBytesAreThrottled(t *testing.T) {
	for _, tc := range []struct {
		name, payload string
		cost          int
	}{
		{"zeros", zippedBomb(1), 60_000},
		{"last blocks", strings.Repeat(zippedFinal(""), 1000) + "\x00", 1000 * restartCost},
	} {
		t.Run(tc.name, func(t *testing.T) {
			const messages = 60
			sh := startShard(t, &script{message: func(poller.Token, ws.OpCode, []byte) {}}, deflating, func(s *settings) {
				s.ByteRate = tc.cost * messages / 6 // of which four seconds' worth come at once
			})
			other, c := sh.open(), sh.openDeflating()
			c.send(bytes.Repeat(maskedFrame(zBinary, tc.payload), messages))
			until(t, "it is throttled", func() bool { return sh.Counts().Throttled > 0 })
			if n := sh.Counts().Messages; n >= messages {
				t.Errorf("%d messages were looked at before", n)
			}
			other.wantNothing()
			until(t, "all is taken in the end", func() bool { return sh.Counts().Messages == messages })
			if n := look(sh, sh.sidesInUse); n != 0 {
				t.Errorf("%d side records are left", n)
			}
		})
	}
}

// A read full of compressed messages is looked at in parts, in order, with
// others between them; whoever leaves meanwhile has left. So it is over TLS.
func TestInflatedInParts(t *testing.T) {
	a := newAuthority(t)
	for name, change := range map[string]func(*settings){"plain": func(*settings) {}, "TLS": a.withTLS} {
		t.Run(name, func(t *testing.T) {
			const messages = 11 * 26
			got, most, inTurn := 0, 0, 0
			s := &script{}
			s.message = func(id poller.Token, _ ws.OpCode, p []byte) {
				if want := byte('a' + got%26); len(p) != 60_000 || p[0] != want {
					t.Errorf("message %d has %d bytes of %q", got, len(p), p[0])
				}
				got++
				if inTurn++; inTurn > most {
					most = inTurn
				}
				if got == messages {
					s.table.Reply(id, AppendFrame(nil, ws.OpText, []byte("done")))
				}
			}
			sh := startShard(t, s, deflating, quickly, change)
			sh.do(func() { sh.onTurn = func() { inTurn = 0 } })
			open := func() *client {
				if name == "plain" {
					return sh.openDeflating()
				}
				c := sh.connectTLS(a.trust(nil)).client
				c.send(deflateRequest)
				c.wantExtensions(agreed)
				return c
			}
			c := open()
			var all []byte
			for c := range 26 {
				all = append(all, maskedFrame(zBinary, zipped(strings.Repeat(string(rune('a'+c)), 60_000)))...)
			}
			all = bytes.Repeat(all, messages/26)
			c.send(all)
			c.wantText("done")
			if n := look(sh, func() int { return most }); n > 2*(inflateSlice/60_000+1) { // of the read, and of the task that follows it
				t.Errorf("%d messages were looked at in one go", n)
			}
			c.send(maskedClose(1000, ""))
			c.wantClose(1000)
			c.Close()
			sh.do(func() { got = 0 })
			leaver := open()
			leaver.send(all)
			leaver.reset()
			sh.wantEmpty()
		})
	}
}
