package publish

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/gobwas/ws"
)

// wsPublisher is a WebSocket client that publishes. What the server says is
// read, so that it can go on, and pings are answered.
type wsPublisher struct {
	conn   net.Conn
	bodies []body
	buffer bytes.Buffer
	ended  chan struct{} // closed by run, at its end
}

func openWebSocket(ctx context.Context, c Config, topics []string) (Publisher, error) {
	if !strings.Contains(c.Body, "{payload}") {
		return nil, fmt.Errorf("--publish-body %q has no {payload}", c.Body)
	}
	header := http.Header{}
	for _, line := range c.Header {
		name, value, _ := strings.Cut(line, ":")
		header.Add(strings.TrimSpace(name), strings.TrimSpace(value))
	}
	conn, buffered, _, err := ws.Dialer{Header: ws.HandshakeHeaderHTTP(header)}.Dial(ctx, c.URL)
	if err != nil {
		return nil, err
	}
	var in io.Reader = conn
	if buffered != nil {
		in = io.MultiReader(io.LimitReader(buffered, int64(buffered.Buffered())), conn)
	}
	p := &wsPublisher{conn: conn, bodies: newBodies(c.Body, topics), ended: make(chan struct{})}
	go p.run(in)
	return p, nil
}

// run reads until the connection ends.
func (p *wsPublisher) run(in io.Reader) {
	defer close(p.ended)
	for {
		header, err := ws.ReadHeader(in)
		if err != nil {
			return
		}
		switch header.OpCode {
		case ws.OpPing:
			payload := make([]byte, header.Length)
			if _, err = io.ReadFull(in, payload); err == nil {
				err = p.send(ws.NewPongFrame(payload))
			}
		case ws.OpClose:
			return
		default:
			_, err = io.CopyN(io.Discard, in, header.Length)
		}
		if err != nil {
			return
		}
	}
}

// send masks a frame in place and sends it in one write, so that frames of
// both goroutines do not mix.
func (p *wsPublisher) send(f ws.Frame) error {
	b, err := ws.CompileFrame(ws.MaskFrameInPlace(f))
	if err != nil {
		return err
	}
	_, err = p.conn.Write(b)
	return err
}

func (p *wsPublisher) Publish(topic int, payload []byte) error {
	return p.send(ws.NewTextFrame(p.bodies[topic].with(&p.buffer, payload)))
}

func (p *wsPublisher) Flush() error {
	select {
	case <-p.ended:
		return fmt.Errorf("the server has closed the publisher's connection")
	default:
		return nil
	}
}

func (p *wsPublisher) Close() error {
	err := p.conn.Close()
	<-p.ended
	return err
}
