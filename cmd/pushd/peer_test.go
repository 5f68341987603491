package main

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

// peer is the server's end of one connection.
type peer struct {
	t    *testing.T
	conn net.Conn
}

// newPeers starts a server that gives each connection to the next of sessions,
// after its handshake, and closes it when that returns. It wants exactly as
// many connections as there are sessions.
func newPeers(t *testing.T, sessions ...func(p *peer)) (url string) {
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

func serve(t *testing.T, conn net.Conn, session func(p *peer)) {
	if err := conn.SetDeadline(time.Now().Add(testTimeout)); err != nil {
		t.Error(err)
	}
	upgrader := ws.Upgrader{Protocol: func(p []byte) bool { return string(p) == wire.JSON.Subprotocol() }}
	joined := &joinedConn{Conn: conn, hold: true}
	if _, err := upgrader.Upgrade(joined); err != nil {
		t.Errorf("handshake: %v", err)
		return
	}
	joined.hold = false
	session(&peer{t, joined})
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

func (p *peer) send(format string, args ...any) {
	if err := wsutil.WriteServerText(p.conn, fmt.Appendf(nil, format, args...)); err != nil {
		p.t.Errorf("send: %v", err)
	}
}

// welcome takes the subscribe command and answers as a server does.
func (p *peer) welcome() {
	p.send(`{"type":"welcome","protocol":1,"client":"c_1","heartbeat":25000,"max_message":65536}`)
	p.want(`{"type":"subscribe","id":1,"topics":["a.b"]}`)
	p.send(`{"type":"subscribed","id":1,"topic":"a.b"}`)
}

func (p *peer) message(n int) {
	p.send(`{"type":"message","topic":"a.b","time":%d,"data":{"n":%d}}`, 1732212345678, n)
}

func (p *peer) want(command string) {
	p.t.Helper()
	got, op, err := wsutil.ReadClientData(p.conn)
	if err != nil || op != ws.OpText || string(got) != command {
		p.t.Errorf("got %q, %v; want %q", got, err, command)
	}
}

// close ends the connection the proper way, and waits for the client's half.
func (p *peer) close(code ws.StatusCode, reason string) {
	var body []byte
	if code != ws.StatusNoStatusRcvd {
		body = ws.NewCloseFrameBody(code, reason)
	}
	if err := ws.WriteFrame(p.conn, ws.NewCloseFrame(body)); err != nil {
		p.t.Errorf("close: %v", err)
	}
	p.wantClose(code)
}

// wantClose reads until the client closes with the code.
func (p *peer) wantClose(code ws.StatusCode) {
	p.t.Helper()
	for {
		op, payload, err := p.frame()
		if err != nil {
			p.t.Errorf("got %v, want a close frame", err)
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
			p.t.Errorf("closed with %d, want %d", got, code)
		}
		return
	}
}

// frame reads one frame of the client, which must be masked.
func (p *peer) frame() (ws.OpCode, []byte, error) {
	header, err := ws.ReadHeader(p.conn)
	if err != nil {
		return 0, nil, err
	}
	if !header.Masked {
		p.t.Error("a frame of the client is not masked (RFC 6455 section 5.3)")
	}
	payload := make([]byte, header.Length)
	if _, err := io.ReadFull(p.conn, payload); err != nil {
		return 0, nil, err
	}
	ws.Cipher(payload, header.Mask, 0)
	return header.OpCode, payload, nil
}

// discard reads what comes until the client is gone.
func (p *peer) discard() { _, _ = io.Copy(io.Discard, p.conn) }
