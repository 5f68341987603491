package pushd_test

import (
	"bufio"
	"context"
	"net"
	"testing"

	"github.com/gobwas/ws"

	pushd "github.com/pushd/pushd/clients/go"
)

// BenchmarkReceive is what a client can take: a peer that does nothing else
// sends messages of about 100 bytes, 1,000 in a write, and an iterator takes them.
func BenchmarkReceive(b *testing.B) {
	const batch = 1000
	text := []byte(`{"type":"message","topic":"stocks.AAPL","cursor":"k3.42","time":1732212345678,"data":{"price":187.2}}`)
	var frames []byte
	for range batch {
		frame, err := ws.CompileFrame(ws.NewTextFrame(text))
		if err != nil {
			b.Fatal(err)
		}
		frames = append(frames, frame...)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer listener.Close()
	wants, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		if _, err := (ws.Upgrader{Protocol: func(p []byte) bool { return string(p) == "pushd.v1.json" }}).Upgrade(conn); err != nil {
			b.Error(err)
			return
		}
		if err := ws.WriteFrame(conn, ws.NewTextFrame([]byte(`{"type":"welcome"}`))); err != nil {
			b.Error(err)
		}
		if _, err := bufio.NewReader(conn).Peek(1); err != nil { // its command
			return
		}
		if err := ws.WriteFrame(conn, ws.NewTextFrame([]byte(`{"type":"subscribed","id":1,"topic":"stocks.AAPL"}`))); err != nil {
			b.Error(err)
		}
		for range wants {
			if _, err := conn.Write(frames); err != nil {
				return
			}
		}
	}()
	client, err := pushd.New("http://"+listener.Addr().String(), pushd.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { client.Close(); <-ended }()
	defer close(wants)
	sub, err := client.Subscribe(context.Background(), "stocks.AAPL", pushd.SubscribeOptions{})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.SetBytes(int64(len(text)))
	left := 0
	for b.Loop() {
		if left == 0 {
			wants <- struct{}{}
			left = batch
		}
		if _, err := sub.Next(context.Background()); err != nil {
			b.Fatal(err)
		}
		left--
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
}
