package peers_test

import (
	"bufio"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

const patience = 10 * time.Second // for one answer or one message

// client is a WebSocket client on a plain socket, so that each byte which a peer sends is seen.
type client struct {
	t    *testing.T
	peer *peer
	conn net.Conn
	in   *bufio.Reader

	answer   string   // the last to a command
	lastID   int      // 1 is that of the hello
	pending  []string // what came with the frame read last, where a frame may hold several
	overtook []string // what came before the answer that was waited for
}

// dial opens a connection. pieces is into how many writes the request and each command are cut, and lines are more of its head.
func (p *peer) dial(t *testing.T, pieces int, lines ...string) *client {
	t.Helper()
	at, err := url.Parse(p.ws)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", at.Host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	c := &client{t: t, peer: p, conn: conn, in: bufio.NewReader(conn), lastID: 1}
	const key = "dGhlIHNhbXBsZSBub25jZQ=="
	c.write([]byte("GET "+at.Path+" HTTP/1.1\r\nHost: "+at.Host+"\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		strings.Join(append([]string{"Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: " + key}, lines...), "\r\n")+"\r\n\r\n"), pieces)
	conn.SetReadDeadline(time.Now().Add(patience))
	response, err := http.ReadResponse(c.in, nil)
	if err != nil {
		t.Fatalf("%s: handshake: %v", p.Name, err)
	}
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	want := base64.StdEncoding.EncodeToString(sum[:])
	if got := response.Header.Get("Sec-WebSocket-Accept"); response.StatusCode != http.StatusSwitchingProtocols || got != want {
		t.Fatalf("%s: handshake: status %d, accept %q, want %q", p.Name, response.StatusCode, got, want)
	}
	if p.Target.Hello != "" {
		const opText = 1
		c.write(maskedFrame(opText, p.Target.Hello), pieces)
		c.next() // its answer
	}
	return c
}

// write cuts p into pieces that the peer most likely reads one by one. Whatever it reads, it has to do the same.
func (c *client) write(p []byte, pieces int) {
	c.t.Helper()
	for ; pieces > 0; pieces-- {
		n := len(p) / pieces
		if _, err := c.conn.Write(p[:n]); err != nil {
			c.t.Fatalf("%s: write: %v", c.peer.Name, err)
		}
		if p = p[n:]; len(p) > 0 {
			time.Sleep(2 * time.Millisecond)
		}
	}
}

func (c *client) subscribe(topic string) {
	c.t.Helper()
	c.command(c.peer.Target.Subscribe, c.peer.Target.SubscribedMark, topic, 1)
}

func (c *client) unsubscribe(topic string) {
	c.t.Helper()
	c.command(c.peer.Target.Unsubscribe, c.peer.Target.UnsubscribedMark, topic, 1)
}

// command sends one and waits for an answer with this mark.
func (c *client) command(template, mark, topic string, pieces int) {
	c.t.Helper()
	c.lastID++
	fill := strings.NewReplacer("{id}", fmt.Sprint(c.lastID), "{topic}", topic)
	const opText = 1
	c.write(maskedFrame(opText, fill.Replace(template)), pieces)
	for {
		got := c.next()
		if strings.Contains(got, mark) {
			c.answer = got
			return
		}
		c.overtook = append(c.overtook, got)
	}
}

// message returns the payload of the next message, which must be one of topic.
func (c *client) message(topic string) string {
	c.t.Helper()
	var got string
	if len(c.overtook) > 0 {
		got, c.overtook = c.overtook[0], c.overtook[1:]
	} else {
		got = c.next()
	}
	before := strings.ReplaceAll(c.peer.Message.Before, "{topic}", topic)
	payload, opened := strings.CutPrefix(got, before)
	payload, closed := strings.CutSuffix(payload, c.peer.Message.After)
	if !opened || !closed {
		c.t.Fatalf("%s: got %.200q, want %q, a payload and %q", c.peer.Name, got, before, c.peer.Message.After)
	}
	return payload
}

// next returns the next text of the server.
func (c *client) next() string {
	c.t.Helper()
	for len(c.pending) == 0 {
		const finText = 0x81
		first, text := c.frame()
		if first != finText {
			c.t.Fatalf("%s: got a frame that begins with %#x, want a text message in one frame", c.peer.Name, first)
		}
		c.pending = []string{text}
		if c.peer.Message.Separator != "" {
			c.pending = strings.Split(text, c.peer.Message.Separator)
		}
	}
	text := c.pending[0]
	c.pending = c.pending[1:]
	return text
}

func (c *client) frame() (first byte, payload string) {
	c.t.Helper()
	c.conn.SetReadDeadline(time.Now().Add(patience))
	read := func(n int) []byte {
		p := make([]byte, n)
		if _, err := io.ReadFull(c.in, p); err != nil {
			c.t.Fatalf("%s: read: %v", c.peer.Name, err)
		}
		return p
	}
	header := read(2)
	length := int(header[1])
	switch length {
	case 126:
		length = int(binary.BigEndian.Uint16(read(2)))
	case 127:
		length = int(binary.BigEndian.Uint64(read(8)))
	}
	return header[0], string(read(length))
}

func maskedFrame(opcode byte, payload string) []byte {
	mask := [4]byte{0x12, 0x34, 0x56, 0x78}
	frame := []byte{0x80 | opcode}
	if n := len(payload); n < 126 {
		frame = append(frame, 0x80|byte(n))
	} else {
		frame = binary.BigEndian.AppendUint16(append(frame, 0x80|126), uint16(n))
	}
	frame = append(frame, mask[:]...)
	for i := range len(payload) {
		frame = append(frame, payload[i]^mask[i%4])
	}
	return frame
}
