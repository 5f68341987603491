// Package peertest is a server of which a test says each word, for clients of
// the protocol: what no server would do, and what one does rarely.
package peertest

import (
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"github.com/pushd/pushd/internal/wire"
)

// Timeout bounds whatever a session waits for. It is no expectation: each thing
// takes milliseconds on an idle machine.
const Timeout = 30 * time.Second

// Peer is the server's end of one connection.
type Peer struct {
	Conn net.Conn
	T    testing.TB
}

// Start starts a server that gives each connection to the next of sessions,
// after its handshake, and closes it when that returns. It wants exactly as
// many connections as there are sessions.
func Start(t testing.TB, sessions ...func(p *Peer)) (url string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	served := 0
	running.Go(func() {
		for ; ; served++ {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			if served < len(sessions) {
				serve(t, conn, sessions[served])
			}
			conn.Close()
		}
	})
	t.Cleanup(func() {
		listener.Close()
		running.Wait()
		if served != len(sessions) {
			t.Errorf("%d connections, want %d", served, len(sessions))
		}
	})
	return "http://" + listener.Addr().String()
}

func serve(t testing.TB, conn net.Conn, session func(p *Peer)) {
	if err := conn.SetDeadline(time.Now().Add(Timeout)); err != nil {
		t.Error(err)
	}
	upgrader := ws.Upgrader{Protocol: func(p []byte) bool { return string(p) == wire.JSON.Subprotocol() }}
	joined := &joinedConn{Conn: conn, hold: true}
	if _, err := upgrader.Upgrade(joined); err != nil {
		t.Errorf("handshake: %v", err)
		return
	}
	joined.hold = false
	session(&Peer{joined, t})
}

// joinedConn sends the answer to the handshake together with what follows, as
// pushd does.
type joinedConn struct {
	net.Conn
	hold bool
	held []byte
}

func (c *joinedConn) Write(p []byte) (int, error) {
	c.held = append(c.held, p...)
	if c.hold {
		return len(p), nil
	}
	_, err := c.Conn.Write(c.held)
	c.held = nil
	return len(p), err
}

// Send sends one message.
func (p *Peer) Send(format string, args ...any) {
	if err := wsutil.WriteServerText(p.Conn, fmt.Appendf(nil, format, args...)); err != nil {
		p.T.Errorf("send: %v", err)
	}
}

// Greet says welcome, with which the answer to the handshake leaves.
func (p *Peer) Greet() { p.Send(`{"type":"welcome","protocol":1}`) }

// Welcome says welcome, takes the command that subscribes to a.b, and answers it.
func (p *Peer) Welcome() {
	p.Send(`{"type":"welcome","protocol":1,"client":"c_1","heartbeat":25000,"max_message":65536}`)
	p.Want(`{"type":"subscribe","id":1,"topic":"a.b"}`)
	p.Send(`{"type":"subscribed","id":1,"topic":"a.b"}`)
}

// Message sends one to a.b, of a namespace without history.
func (p *Peer) Message(n int) {
	p.Send(`{"type":"message","topic":"a.b","time":%d,"data":{"n":%d}}`, 1732212345678, n)
}

// Keep sends a message of a namespace that keeps history.
func (p *Peer) Keep(topic, cursor string) {
	p.Send(`{"type":"message","topic":"%s","cursor":"%s","time":0,"data":1}`, topic, cursor)
}

// Want reads one command.
func (p *Peer) Want(command string) {
	p.T.Helper()
	got, op, err := wsutil.ReadClientData(p.Conn)
	if err != nil || op != ws.OpText || string(got) != command {
		p.T.Errorf("got %q, %v; want %q", got, err, command)
	}
}

// Close ends the connection the proper way, and waits for the client's half.
func (p *Peer) Close(code ws.StatusCode, reason string) {
	var body []byte
	if code != ws.StatusNoStatusRcvd {
		body = ws.NewCloseFrameBody(code, reason)
	}
	if err := ws.WriteFrame(p.Conn, ws.NewCloseFrame(body)); err != nil {
		p.T.Errorf("close: %v", err)
	}
	p.WantClose(code)
}

// WantClose reads until the client closes with the code.
func (p *Peer) WantClose(code ws.StatusCode) {
	p.T.Helper()
	for {
		op, payload, err := p.Frame()
		if err != nil {
			p.T.Errorf("got %v, want a close frame", err)
			return
		}
		if op != ws.OpClose {
			continue
		}
		got := ws.StatusNoStatusRcvd
		if len(payload) > 0 {
			got, _ = ws.ParseCloseFrameData(payload)
		}
		if got != code {
			p.T.Errorf("closed with %d, want %d", got, code)
		}
		return
	}
}

// Frame reads one frame of the client, which must be masked.
func (p *Peer) Frame() (ws.OpCode, []byte, error) {
	header, err := ws.ReadHeader(p.Conn)
	if err != nil {
		return 0, nil, err
	}
	if !header.Masked {
		p.T.Error("a frame of the client is not masked (RFC 6455 section 5.3)")
	}
	payload := make([]byte, header.Length)
	if _, err := io.ReadFull(p.Conn, payload); err != nil {
		return 0, nil, err
	}
	ws.Cipher(payload, header.Mask, 0)
	return header.OpCode, payload, nil
}

// Discard reads what comes until the client is gone.
func (p *Peer) Discard() { _, _ = io.Copy(io.Discard, p.Conn) }
