package swarm

import (
	"bufio"
	"errors"
	"net"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"github.com/pushd/pushd/bench/load/internal/control"
	"github.com/pushd/pushd/bench/load/internal/stamp"
)

// Clients that are told to stall read nothing: what is sent to them waits at the
// server, but for what two kernels take. Then they read all of it. The others read on.
func TestStall(t *testing.T) {
	const messages, size, window, sendBuffer = 100, 20_000, 32 << 10, 32 << 10
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	var send []byte
	for n := range uint32(messages) {
		payload := stamp.AppendPayload(nil, stamp.Stamp{Run: 1, Sequence: n + 1, Number: n}, size)
		send = append(send, ws.MustCompileFrame(ws.NewTextFrame(payload))...)
	}
	d := drive(t)
	d.ask(control.Request{Verb: control.Prepare, Plan: &control.Plan{
		Run: 1, Address: listener.Addr().String(), Sources: []string{"127.0.0.9"}, Count: 2, Topics: []string{"t.0"}, TopicsPerClient: 1,
		SlowEvery: 2, SlowWindow: window,
		Request: "GET /{client} HTTP/1.1\r\nHost: x\r\n\r\n", Accept: "right", Subscribe: "subscribe", SubscribedMark: "subscribed", HandshakeTime: 30,
	}})
	d.ask(control.Request{Verb: control.Begin, Window: &control.Window{First: []uint32{0}, Stride: 1}})
	d.ask(control.Request{Verb: control.Connect, Pace: &control.Pace{InFlight: 1}})
	var clients [2]net.Conn // they come in their order, one after the other
	for i := range clients {
		if clients[i], err = listener.Accept(); err != nil {
			t.Fatal(err)
		}
		defer clients[i].Close()
		if err := clients[i].(*net.TCPConn).SetWriteBuffer(sendBuffer); err != nil {
			t.Fatal(err)
		}
		if _, err := http.ReadRequest(bufio.NewReader(clients[i])); err != nil {
			t.Fatal(err)
		}
		if _, err := clients[i].Write(append([]byte(upgraded), ws.MustCompileFrame(ws.NewTextFrame([]byte("subscribed")))...)); err != nil {
			t.Fatal(err)
		}
	}
	d.until("ready", func(s *control.Status) bool { return s.Open == 2 && s.Opening == 0 })
	d.ask(control.Request{Verb: control.Stall, On: true})

	steady := make(chan error, 1)
	go func() {
		_, err := clients[1].Write(send)
		steady <- err
	}()
	if err := clients[0].SetWriteDeadline(time.Now().Add(300 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	written, err := clients[0].Write(send)
	if most := 4 * (window + sendBuffer); !errors.Is(err, os.ErrDeadlineExceeded) || written > most {
		t.Errorf("%d bytes of %d went to a client that stalls, want at most %d: %v", written, len(send), most, err)
	}
	if err := <-steady; err != nil {
		t.Error(err)
	}
	d.until("read by the other", func(s *control.Status) bool { return s.Received == messages })
	if others := d.ask(control.Request{Verb: control.State}).Status.Others; others != 0 {
		t.Errorf("the client that stalls has read %d messages", others)
	}

	d.ask(control.Request{Verb: control.Stall})
	if err := clients[0].SetWriteDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := clients[0].Write(send[written:]); err != nil {
		t.Error(err)
	}
	d.until("caught up", func(s *control.Status) bool { return s.Received+s.Others == 2*messages })
}
