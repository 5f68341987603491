package server

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsflate"

	"github.com/pushd/pushd/internal/config"
	"github.com/pushd/pushd/topics"
)

// offering is a Dialer that offers compression.
func offering() ws.Dialer {
	d := ws.Dialer{Timeout: patience}
	d.Extensions = append(d.Extensions, wsflate.Parameters{ClientMaxWindowBits: 15}.Option())
	return d
}

// dialDeflated opens a WebSocket that takes compressed messages.
func (r *running) dialDeflated(query string) *socket {
	r.t.Helper()
	c, buffered, hs, err := offering().Dial(context.Background(), "ws://"+r.Addr()+"/ws?"+query)
	if err != nil {
		r.t.Fatal(err)
	}
	if len(hs.Extensions) != 1 || string(hs.Extensions[0].Name) != "permessage-deflate" {
		r.t.Fatalf("extensions: %v", hs.Extensions)
	}
	s := &socket{t: r.t, conn: c, read: c}
	if buffered != nil {
		s.read = io.MultiReader(io.LimitReader(buffered, int64(buffered.Buffered())), c)
	}
	r.t.Cleanup(func() { c.Close() })
	return s
}

// inflated reads the next frame, and says whether it was compressed.
func (s *socket) inflated() (payload string, compressed bool) {
	s.t.Helper()
	f := s.next()
	compressed, err := wsflate.IsCompressed(f.Header)
	if err != nil {
		s.t.Fatal(err)
	}
	if compressed {
		if f, err = wsflate.DecompressFrame(f); err != nil {
			s.t.Fatal(err)
		}
	}
	return string(f.Payload), compressed
}

// dataOf is what a message of the json format carries.
func dataOf(t testing.TB, payload string) string {
	t.Helper()
	var m message
	if err := json.Unmarshal([]byte(payload), &m); err != nil || m.Type != "message" {
		t.Fatalf("%.100q: %v, want a message", payload, err)
	}
	return string(m.Data)
}

// document is JSON of about size bytes that compresses.
func document(size, n int) string {
	var b strings.Builder
	fmt.Fprintf(&b, `[{"n":%d}`, n)
	for b.Len() < size {
		fmt.Fprintf(&b, `,{"symbol":"S%03d","price":%d.%02d}`, b.Len()%500, b.Len()*7%400, n%100)
	}
	return b.String() + "]"
}

// However many negotiated it, a message is compressed once, and once more for
// the raw format; those who did not get it as it is.
func TestBroadcastIsCompressedOnce(t *testing.T) {
	const clients, messages = 60, 25
	r := start(t)
	var deflated, plain []*socket
	for range clients {
		s := r.dialDeflated("topic=stocks.AAPL")
		s.want("welcome")
		s.want("subscribed")
		deflated = append(deflated, s)
	}
	for range 5 {
		plain = append(plain, r.subscribed("stocks.*"))
	}
	nc := r.backend()
	send := func() (sent []string) {
		for n := range messages {
			sent = append(sent, document(1000, n))
			nc.Publish("push.stocks.AAPL", []byte(sent[n]))
		}
		return sent
	}
	read := func(sent []string) {
		t.Helper()
		for _, data := range sent {
			for i, s := range deflated {
				payload, compressed := s.inflated()
				if !compressed || dataOf(t, payload) != data {
					t.Fatalf("client %d got %.60q, compressed %v", i, payload, compressed)
				}
			}
			for _, s := range plain {
				s.wantData("stocks.AAPL", data)
			}
		}
	}
	read(send())
	c := r.encoder.deflater.Counts()
	if c.Messages != messages || c.BytesOut*2 > c.BytesIn {
		t.Errorf("%d compressions of %d messages to %d clients: %+v", c.Messages, messages, clients, c)
	}

	raw := r.dialDeflated("format=raw&topic=stocks.AAPL")
	sent := send()
	read(sent)
	for _, data := range sent {
		if payload, compressed := raw.inflated(); !compressed || payload != data {
			t.Fatalf("raw: got %.60q, compressed %v", payload, compressed)
		}
	}
	if n := r.encoder.deflater.Counts().Messages; n != 3*messages {
		t.Errorf("%d compressions of %d messages in one format and %d in two", n, messages, messages)
	}
}

// What is small, of a namespace without compression, a reply or a control frame
// goes to all alike.
func TestWhatIsNotCompressed(t *testing.T) {
	r := start(t, func(c *config.Config) {
		c.Namespaces = map[string]config.Namespace{"as": c.Default, "loud": c.Default}
		as := c.Default
		as.Compression = config.Off
		c.Namespaces["as"] = as
	})
	s := r.dialDeflated("topic=as.is&topic=loud.one&topic=else.x")
	for range 4 {
		if payload, compressed := s.inflated(); compressed {
			t.Errorf("compressed: %s", payload)
		}
	}
	nc := r.backend()
	large, small := document(600, 1), document(300, 2)
	for _, tc := range []struct {
		topic, data string
		want        bool
	}{
		{"as.is", large, false}, {"as.is", small, false}, {"loud.one", large, true}, {"loud.one", small, false},
		{"else.x", large, true}, {"else.x", `"` + strings.Repeat("x", 509) + `"`, false}, {"else.x", `"` + strings.Repeat("x", 510) + `"`, true},
	} {
		nc.Publish("push."+tc.topic, []byte(tc.data))
		if payload, compressed := s.inflated(); compressed != tc.want || dataOf(t, payload) != tc.data {
			t.Errorf("%s with %d bytes: compressed %v, want %v", tc.topic, len(tc.data), compressed, tc.want)
		}
	}
	s.send(fmt.Sprintf(`{"type":"unknown %s"}`, strings.Repeat("x", 600)))
	if payload, compressed := s.inflated(); compressed || !strings.Contains(payload, `"error"`) {
		t.Errorf("got %.100q, compressed %v", payload, compressed)
	}
	long := []byte(strings.Repeat("p", 125))
	s.frame(ws.MaskFrame(ws.NewPingFrame(long)))
	if f := s.next(); f.Header.OpCode != ws.OpPong || f.Header.Rsv != 0 || string(f.Payload) != string(long) {
		t.Errorf("got %+v", f.Header)
	}

	off := start(t, func(c *config.Config) { c.Compression = config.Off })
	c, _, hs, err := offering().Dial(t.Context(), "ws://"+off.Addr()+"/ws?topic=a.b")
	if err != nil || len(hs.Extensions) != 0 {
		t.Fatalf("%v, extensions %v", err, hs.Extensions)
	}
	c.Close()
	if d := off.encoder.deflater; d != nil {
		t.Error("a server without compression has a compressor")
	}
}

// A frame that is the same for two shapes is made and kept once, and making one
// costs an allocation (two with the race detector).
func TestShapesShareFrames(t *testing.T) {
	cfg := config.Default()
	e, err := newEncoder(&cfg)
	if err != nil {
		t.Fatal(err)
	}
	small := &topics.Message{Topic: "a.b", Data: []byte(document(300, 1))}
	large := &topics.Message{Topic: "a.b", Data: []byte(document(3000, 1))}
	for _, f := range []struct{ deflated, plain shape }{{deflatedJSON, socketJSON}, {deflatedRaw, socketRaw}} {
		if e.Like(topics.Format(f.deflated), small) != topics.Format(f.plain) || e.Like(topics.Format(f.plain), small) != topics.Format(f.plain) {
			t.Errorf("%v: a small message has two frames", f)
		}
		if e.Like(topics.Format(f.deflated), large) != topics.Format(f.deflated) {
			t.Errorf("%v: a large message has one frame", f)
		}
		if got, want := e.Message(topics.Format(f.deflated), small), e.Message(topics.Format(f.plain), small); string(got) != string(want) {
			t.Errorf("%v: the frames of a small message differ", f)
		}
		for _, s := range []shape{f.deflated, f.plain} {
			least := 100.0
			for range 50 {
				least = min(least, testing.AllocsPerRun(1, func() { e.Message(topics.Format(s), large) }))
			}
			if want := 3.0; least > want { // with the text of the cursor
				t.Errorf("shape %d: %v allocations for a frame, want %v at most", s, least, want)
			}
		}
	}
}

// A client publishes what it compressed.
func TestPublishCompressed(t *testing.T) {
	r := start(t)
	listener := r.subscribed("chat.lobby")
	s := r.dialDeflated("")
	s.want("welcome")
	data := document(40_000, 3)
	f, err := wsflate.CompressFrame(ws.NewTextFrame([]byte(`{"type":"publish","id":1,"topic":"chat.lobby","data":` + data + `}`)))
	if err != nil || len(f.Payload) > 20_000 {
		t.Fatalf("%v, %d bytes", err, len(f.Payload))
	}
	s.frame(ws.MaskFrame(f))
	s.want("published")
	listener.wantData("chat.lobby", data)

	bomb, err := wsflate.CompressFrame(ws.NewTextFrame([]byte(strings.Repeat(" ", 64<<10+1))))
	if err != nil {
		t.Fatal(err)
	}
	s.frame(ws.MaskFrame(bomb))
	if code := s.wantClose(); code != 1009 {
		t.Errorf("closed with %d, want 1009", code)
	}
}

const accepted = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"

// The 101 says that compression was accepted however the request came: at once,
// held while a token is checked, behind other requests, over TLS.
func TestCompressionIsAcceptedEverywhere(t *testing.T) {
	const upgrade = "GET /ws?topic=news.x HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
	const before = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
	data := document(2000, 4)
	try := func(name string, r *running, c net.Conn, kept bool, more string) {
		t.Helper()
		defer c.Close()
		c.SetDeadline(time.Now().Add(patience))
		in := bufio.NewReader(c)
		if kept {
			io.WriteString(c, before)
			resp, err := http.ReadResponse(in, nil)
			if err != nil || resp.StatusCode != 200 {
				t.Fatalf("%s: %v, %v", name, resp, err)
			}
			io.Copy(io.Discard, resp.Body)
		}
		io.WriteString(c, upgrade+more+"\r\n")
		resp, err := http.ReadResponse(in, nil)
		if err != nil || resp.StatusCode != 101 || resp.Header.Get("Sec-WebSocket-Extensions") != accepted {
			t.Fatalf("%s: %+v, %v", name, resp, err)
		}
		s := &socket{t: t, conn: c, read: in}
		s.want("welcome")
		s.want("subscribed")
		r.backend().Publish("push.news.x", []byte(data))
		if payload, compressed := s.inflated(); !compressed || dataOf(t, payload) != data {
			t.Errorf("%s: compressed %v", name, compressed)
		}
	}
	dial := func(r *running) net.Conn {
		c, err := net.Dial("tcp", r.Addr())
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	open, guarded, encrypted := start(t), start(t, func(c *config.Config) { c.TokenSecret = testSecret }), startSecured(t)
	token := "Authorization: Bearer " + tokenFor(t, "alice", may{subscribe: ">"}, time.Hour) + "\r\n"
	for _, kept := range []bool{false, true} {
		try(fmt.Sprintf("plain, kept %v", kept), open, dial(open), kept, "")
		try(fmt.Sprintf("held, kept %v", kept), guarded, dial(guarded), kept, token)
		try(fmt.Sprintf("TLS, kept %v", kept), encrypted.running, encrypted.connect(), kept, "")
	}
}
