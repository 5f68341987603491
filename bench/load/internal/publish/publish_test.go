package publish

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"github.com/pushd/pushd/internal/natstest"
)

func TestMain(m *testing.M) {
	natstest.Main()
	goleak.VerifyTestMain(m)
}

const testTimeout = 30 * time.Second

// send publishes messages to two topics in turn and returns what should come.
func send(t *testing.T, c Config, format string) (want []string) {
	t.Helper()
	p, err := Open(t.Context(), c, topics())
	if err != nil {
		t.Fatal(err)
	}
	return sendBy(t, p, format)
}

func topics() []string { return []string{"a.0", "a.1"} }

func sendBy(t *testing.T, p Publisher, format string) (want []string) {
	t.Helper()
	payload := make([]byte, 0, 100)
	for i := range 10 {
		payload = fmt.Appendf(payload[:0], `{"n":%d}`, i) // a publisher keeps nothing of it
		if err := p.Publish(i%2, payload); err != nil {
			t.Fatal(err)
		}
		want = append(want, strings.NewReplacer("{topic}", topics()[i%2], "{payload}", string(payload)).Replace(format))
	}
	if err := p.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	return want
}

// receive takes as many as came and compares.
func receive(t *testing.T, got <-chan string, want []string) {
	t.Helper()
	var all []string
	deadline := time.After(testTimeout)
	for range want {
		select {
		case message := <-got:
			all = append(all, message)
		case <-deadline:
			t.Fatalf("only %d messages of %d came", len(all), len(want))
		}
	}
	if diff := cmp.Diff(want, all); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestNATS(t *testing.T) {
	server := natstest.Start(t)
	conn, err := nats.Connect(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	got := make(chan string, 100)
	if _, err := conn.Subscribe(">", func(m *nats.Msg) { got <- m.Subject + " " + string(m.Data) }); err != nil {
		t.Fatal(err)
	}
	if err := conn.Flush(); err != nil {
		t.Fatal(err)
	}
	receive(t, got, send(t, Config{URL: server.URL()}, "push.{topic} {payload}"))
	receive(t, got, send(t, Config{URL: server.URL() + "/x.{topic}.y"}, "x.{topic}.y {payload}"))
	if _, err := Open(t.Context(), Config{URL: server.URL() + "/x"}, []string{"a", "b"}); err == nil {
		t.Error("two topics are published to one subject")
	}
}

func TestHTTP(t *testing.T) {
	got := make(chan string, 100)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		if r.URL.Path == "/no" {
			http.Error(w, "not here", http.StatusForbidden)
			return
		}
		got <- r.Method + " " + r.URL.Path + " " + r.Header.Get("X-Key") + " " + string(body)
	}))
	defer server.Close()
	receive(t, got, send(t, Config{URL: server.URL + "/p/{topic}"}, "POST /p/{topic}  {payload}"))
	receive(t, got, send(t, Config{
		URL: server.URL + "/api", Header: []string{"X-Key: secret"}, Body: `{"channel":"{topic}","data":{payload}}`,
	}, `POST /api secret {"channel":"{topic}","data":{payload}}`))
	p, err := Open(t.Context(), Config{URL: server.URL + "/no"}, []string{"a"})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Publish(0, nil); err == nil || !strings.HasSuffix(err.Error(), "403 Forbidden: not here") {
		t.Errorf("a refusal is %v", err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}

func TestTCP(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	got, ended := make(chan string, 100), make(chan error, 1)
	go func() { ended <- takeTCP(listener, got) }()
	receive(t, got, send(t, Config{URL: "tcp://" + listener.Addr().String()}, "{topic} {payload}"))
	if err := <-ended; !errors.Is(err, io.EOF) {
		t.Error(err)
	}
}

func takeTCP(listener net.Listener, got chan<- string) error {
	conn, err := listener.Accept()
	if err != nil {
		return err
	}
	defer conn.Close()
	in := bufio.NewReader(conn)
	for {
		var size uint32
		if err := binary.Read(in, binary.BigEndian, &size); err != nil {
			return err
		}
		rest := make([]byte, size)
		if _, err := io.ReadFull(in, rest); err != nil {
			return err
		}
		got <- string(rest[1:1+rest[0]]) + " " + string(rest[1+rest[0]:])
	}
}

// The publisher over a WebSocket reads what it is told, and answers pings, beside publishing.
func TestWebSocket(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	got, ended := make(chan string, 100), make(chan error, 1)
	go func() { ended <- takeWebSocket(listener, got) }()
	url := "ws://" + listener.Addr().String() + "/ws"
	const format = `{"type":"publish","topic":"{topic}","data":{payload}}`
	p, err := Open(t.Context(), Config{URL: url, Body: format}, topics())
	if err != nil {
		t.Fatal(err)
	}
	receive(t, got, []string{"still there?"})
	receive(t, got, sendBy(t, p, format))
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if _, err := Open(t.Context(), Config{URL: url, Body: "{topic}"}, nil); err == nil {
		t.Error("a message without {payload} is taken")
	}
}

func takeWebSocket(listener net.Listener, got chan<- string) error {
	conn, err := listener.Accept()
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := ws.Upgrade(conn); err != nil {
		return err
	}
	// The greeting comes in the same write as a ping.
	hello := append(ws.MustCompileFrame(ws.NewTextFrame([]byte("hello"))), ws.MustCompileFrame(ws.NewPingFrame([]byte("still there?")))...)
	if _, err := conn.Write(hello); err != nil {
		return err
	}
	for {
		f, err := readFrame(conn)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		got <- string(f.Payload)
	}
}

func TestMistakes(t *testing.T) {
	for _, url := range []string{"", "127.0.0.1:4222", "ftp://x", "nats://127.0.0.1:1", "tcp://127.0.0.1:1", "ws://127.0.0.1:1/"} {
		if _, err := Open(t.Context(), Config{URL: url, Body: "{payload}"}, []string{"a"}); err == nil || !strings.HasPrefix(err.Error(), "--publish") {
			t.Errorf("%q: error %v", url, err)
		}
	}
}

// readFrame reads a frame of a client, which is masked, and takes the mask off.
func readFrame(in io.Reader) (f ws.Frame, err error) {
	if f.Header, err = ws.ReadHeader(in); err != nil {
		return f, err
	}
	if !f.Header.Masked || f.Header.Length > 1<<20 {
		return f, fmt.Errorf("a client sends %+v", f.Header)
	}
	f.Payload = make([]byte, f.Header.Length)
	_, err = io.ReadFull(in, f.Payload)
	return ws.UnmaskFrameInPlace(f), err
}
