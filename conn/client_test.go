package conn

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gobwas/ws"
)

// plainRequest is an upgrade as small as it can be.
const plainRequest = "GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
	"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"

// client is the other end, with nothing between the test and the bytes.
type client struct {
	*net.TCPConn
	over io.Writer // TLS; nil: none
	t    testing.TB
	r    *bufio.Reader
}

// connect opens a socket and says nothing.
func (sh *shard) connect() *client {
	sh.t.Helper()
	c, err := connectTo(sh.addr)
	if err != nil {
		sh.t.Fatal(err)
	}
	sh.t.Cleanup(func() { c.Close() })
	return &client{TCPConn: c, t: sh.t, r: bufio.NewReader(c)}
}

func connectTo(addr string) (*net.TCPConn, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), c.SetDeadline(time.Now().Add(patience))
}

// open upgrades a socket.
func (sh *shard) open() *client {
	sh.t.Helper()
	c := sh.connect()
	c.send(plainRequest)
	c.wantSwitch()
	return c
}

// openID is open, and the connection's name in the table.
func (sh *shard) openID() (*client, uint32) {
	sh.t.Helper()
	c := sh.open()
	return c, look(sh, func() uint32 { return sh.script.newID.Slot() })
}

// send writes all of its pieces at once.
func (c *client) send(pieces ...any) {
	c.t.Helper()
	var w io.Writer = c.TCPConn
	if c.over != nil {
		w = c.over
	}
	if _, err := w.Write(join(pieces...)); err != nil {
		c.t.Fatalf("client: %v", err)
	}
}

func join(pieces ...any) (all []byte) {
	for _, p := range pieces {
		switch p := p.(type) {
		case string:
			all = append(all, p...)
		case []byte:
			all = append(all, p...)
		}
	}
	return all
}

func (c *client) wantSwitch() {
	c.t.Helper()
	c.wantStatus(http.StatusSwitchingProtocols)
}

// wantStatus reads a response and returns its body.
func (c *client) wantStatus(status int) string {
	c.t.Helper()
	r, err := http.ReadResponse(c.r, nil)
	if err != nil {
		c.t.Fatalf("instead of a response: %v", err)
	}
	body := []byte(nil)
	if r.StatusCode != http.StatusSwitchingProtocols {
		if body, err = io.ReadAll(r.Body); err != nil {
			c.t.Fatalf("body of the response: %v", err)
		}
	}
	if r.StatusCode != status {
		c.t.Fatalf("status %d %s, want %d", r.StatusCode, body, status)
	}
	return string(body)
}

// frame reads the next frame.
func (c *client) frame() (ws.Header, []byte) {
	c.t.Helper()
	h, err := ws.ReadHeader(c.r)
	if err != nil {
		c.t.Fatalf("instead of a frame: %v", err)
	}
	if h.Masked || !h.Fin || h.Rsv != 0 {
		c.t.Fatalf("a server sends no such frame: %+v", h)
	}
	payload := make([]byte, h.Length)
	if _, err := io.ReadFull(c.r, payload); err != nil {
		c.t.Fatalf("payload: %v", err)
	}
	return h, payload
}

func (c *client) want(op ws.OpCode, payload []byte) {
	c.t.Helper()
	h, got := c.frame()
	if h.OpCode != op || !bytes.Equal(got, payload) {
		c.t.Fatalf("got %v of %d bytes (%.40q), want %v of %d (%.40q)", h.OpCode, len(got), got, op, len(payload), payload)
	}
}

func (c *client) wantText(texts ...string) {
	c.t.Helper()
	for _, text := range texts {
		c.want(ws.OpText, []byte(text))
	}
}

// wantClose reads a close frame with a code, 0 meaning none, and then the end.
func (c *client) wantClose(code ws.StatusCode) {
	c.t.Helper()
	h, body := c.frame()
	if h.OpCode != ws.OpClose {
		c.t.Fatalf("got %v %q, want a close frame", h.OpCode, body)
	}
	got := ws.StatusCode(0)
	if len(body) >= 2 {
		got = ws.StatusCode(binary.BigEndian.Uint16(body))
	}
	if got != code {
		c.t.Fatalf("closed with %d %q, want %d", got, body, code)
	}
	c.wantEnd()
}

// wantEnd reads the end of the stream, and no byte before it.
func (c *client) wantEnd() {
	c.t.Helper()
	if n, err := io.Copy(io.Discard, c.r); n != 0 || err != nil {
		c.t.Fatalf("%d bytes and %v, want the end of the stream", n, err)
	}
}

// wantGone is wantEnd where a reset will do.
func (c *client) wantGone() {
	c.t.Helper()
	_, err := io.Copy(io.Discard, c.r)
	if err != nil && !errors.Is(err, syscall.ECONNRESET) {
		c.t.Fatalf("%v, want the end of the stream", err)
	}
}

// wantNothing makes sure that nothing has come: what a ping brings is its pong.
func (c *client) wantNothing() {
	c.t.Helper()
	c.send(masked(ws.OpPing, "anything else?"))
	c.want(ws.OpPong, []byte("anything else?"))
}

// reset closes with a RST.
func (c *client) reset() {
	c.SetLinger(0)
	c.Close()
}

// masked is a whole message, or a control frame.
func masked(op ws.OpCode, payload string) []byte { return fragment(op, true, payload) }

// fragment is one frame of a message.
func fragment(op ws.OpCode, fin bool, payload string) []byte {
	f := ws.NewFrame(op, fin, []byte(payload))
	return ws.MustCompileFrame(ws.MaskFrameInPlaceWith(f, [4]byte{0xa1, 0x7c, 0, 0x33}))
}

func maskedText(text string) []byte { return masked(ws.OpText, text) }

// maskedClose is a close frame.
func maskedClose(code uint16, reason string) []byte {
	return masked(ws.OpClose, string(binary.BigEndian.AppendUint16(nil, code))+reason)
}

// pattern is n bytes of text of which no two stretches are equal for long.
func pattern(n int) string {
	var b strings.Builder
	for i := 0; b.Len() < n; i++ {
		b.WriteString("0123456789abcdef"[i%16:][:1])
		b.WriteByte('A' + byte(i/16%26))
		b.WriteByte('a' + byte(i/416%26))
	}
	return b.String()[:n]
}
