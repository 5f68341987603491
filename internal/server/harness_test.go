package server

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/pushd/pushd/internal/config"
	"github.com/pushd/pushd/internal/natstest"
)

func TestMain(m *testing.M) {
	if spec := os.Getenv(crowdVariable); spec != "" {
		os.Exit(crowdMain(spec))
	}
	if spec := os.Getenv(nodeVariable); spec != "" {
		os.Exit(nodeMain(spec))
	}
	if spec := os.Getenv(mobVariable); spec != "" {
		os.Exit(mobMain(spec))
	}
	natstest.Main()
	// A process that was upgraded leaves the next one, which is waited for here.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		panic(err)
	}
	// Tests that run beside others wait for most of their time, whatever the number of processors.
	if err := flag.Set("test.parallel", "4"); err != nil { // the command line has the last word
		panic(err)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if dir := built.Load(); dir != nil {
			os.RemoveAll(*dir)
		}
		os.Exit(code)
	}))
}

// patience is how long a test waits for what must come. It is no measurement:
// a test that needs this long has failed.
const patience = 20 * time.Second

// running is a server under test.
type running struct {
	*Server
	t    testing.TB
	stop func() error // SIGTERM, as it were; waits for the end
}

// start runs a server on free ports, with NATS in its own process memory
// unless change says otherwise, until the test ends.
func start(t testing.TB, change ...func(*config.Config)) *running {
	t.Helper()
	cfg := config.Default()
	cfg.Listen, cfg.Admin, cfg.NATSListen = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	cfg.Store = "memory"
	cfg.Shards = 2
	for _, f := range change {
		f(&cfg)
	}
	var log io.Writer = io.Discard
	if testing.Verbose() {
		log = t.Output()
	}
	r, err := launch(t, cfg, log)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	return r
}

// launch runs a server until the test ends; log gets what it says. The error is New's.
func launch(t testing.TB, cfg config.Config, log io.Writer) (*running, error) {
	s, err := New(cfg, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	r := &running{Server: s, t: t}
	r.stop = func() error {
		cancel()
		err := <-ended
		ended <- err
		return err
	}
	t.Cleanup(func() {
		if err := r.stop(); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return r, nil
}

// backend connects to the server's NATS as a publisher does.
func (r *running) backend() *nats.Conn {
	r.t.Helper()
	nc, err := nats.Connect(r.NATSURL())
	if err != nil {
		r.t.Fatalf("NATS: %v", err)
	}
	r.t.Cleanup(nc.Close)
	return nc
}

// socket is a client of the kind that anybody could write.
type socket struct {
	t    testing.TB
	conn net.Conn
	read io.Reader // the connection, behind what came with the 101
}

// dial opens a WebSocket; query may be empty.
func (r *running) dial(query string) *socket {
	r.t.Helper()
	s, err := r.tryDial(query)
	if err != nil {
		r.t.Fatalf("dial %q: %v", query, err)
	}
	return s
}

func (r *running) tryDial(query string) (*socket, error) {
	url := "ws://" + r.Addr() + "/ws"
	if query != "" {
		url += "?" + query
	}
	c, buffered, _, err := ws.Dialer{Timeout: patience}.Dial(context.Background(), url)
	if err != nil {
		return nil, err
	}
	s := &socket{t: r.t, conn: c, read: c}
	if buffered != nil {
		s.read = io.MultiReader(io.LimitReader(buffered, int64(buffered.Buffered())), c)
	}
	r.t.Cleanup(func() { c.Close() })
	return s, nil
}

// send sends one command.
func (s *socket) send(command string) {
	s.t.Helper()
	s.frame(ws.MaskFrame(ws.NewTextFrame([]byte(command))))
}

func (s *socket) frame(f ws.Frame) {
	s.t.Helper()
	if err := ws.WriteFrame(s.conn, f); err != nil {
		s.t.Fatalf("send: %v", err)
	}
}

// next reads one frame, answering pings on the way.
func (s *socket) next() ws.Frame {
	s.t.Helper()
	f, err := s.tryNext(patience)
	if err != nil {
		s.t.Fatalf("waiting for a frame: %v", err)
	}
	return f
}

// tryNext waits so long for a frame, however many pings come meanwhile.
func (s *socket) tryNext(wait time.Duration) (ws.Frame, error) {
	if err := s.conn.SetReadDeadline(time.Now().Add(wait)); err != nil {
		return ws.Frame{}, err
	}
	for {
		var f ws.Frame
		var err error
		if f.Header, err = ws.ReadHeader(s.read); err != nil {
			return f, err
		}
		f.Payload = make([]byte, f.Header.Length)
		if _, err := io.ReadFull(s.read, f.Payload); err != nil {
			return f, err
		}
		if f.Header.OpCode != ws.OpPing {
			return f, nil
		}
		if err := ws.WriteFrame(s.conn, ws.MaskFrame(ws.NewPongFrame(f.Payload))); err != nil {
			return ws.Frame{}, err
		}
	}
}

// message is any message of the server.
type message struct {
	Type, Topic, Code, Message, Reason, Client, Cursor, Encoding string
	ID                                                           json.RawMessage
	Data                                                         json.RawMessage
	Time                                                         int64
	Connections                                                  int
	Recovered                                                    *bool
	From, To                                                     string
	Count                                                        int
	Heartbeat                                                    int `json:"heartbeat"`
	MaxMessage                                                   int `json:"max_message"`
	Expires, After                                               int64
}

// receive reads the next message.
func (s *socket) receive() message {
	s.t.Helper()
	f := s.next()
	if f.Header.OpCode != ws.OpText {
		s.t.Fatalf("received opcode %v with %q, want a text", f.Header.OpCode, f.Payload)
	}
	var m message
	if err := json.Unmarshal(f.Payload, &m); err != nil {
		s.t.Fatalf("received %q: %v", f.Payload, err)
	}
	return m
}

// want reads the next message, which is to be of a type.
func (s *socket) want(typ string) message {
	s.t.Helper()
	m := s.receive()
	if m.Type != typ {
		s.t.Fatalf("received %+v, want a %s", m, typ)
	}
	return m
}

// wantData reads the next message, which is to carry data.
func (s *socket) wantData(topic, data string) {
	s.t.Helper()
	if m := s.want("message"); m.Topic != topic || string(m.Data) != data {
		s.t.Fatalf("received %s = %s, want %s = %s", m.Topic, m.Data, topic, data)
	}
}

// wantClose reads up to the close frame and returns its code.
func (s *socket) wantClose() ws.StatusCode {
	s.t.Helper()
	for {
		if f := s.next(); f.Header.OpCode == ws.OpClose {
			code, _ := ws.ParseCloseFrameData(f.Payload)
			return code
		}
	}
}

// subscribed opens a WebSocket and subscribes it.
func (r *running) subscribed(topics ...string) *socket {
	r.t.Helper()
	s := r.dial("")
	s.want("welcome")
	for _, topic := range topics {
		s.subscribe(topic)
	}
	return s
}

func (s *socket) subscribe(topic string) {
	s.t.Helper()
	s.send(fmt.Sprintf(`{"type":"subscribe","topic":%q}`, topic))
	if m := s.want("subscribed"); m.Topic != topic {
		s.t.Fatalf("subscribed to %q, want %q", m.Topic, topic)
	}
}

// http makes a request of the public listener.
func (r *running) http(method, path, contentType, body string) (status int, header http.Header, answer string) {
	r.t.Helper()
	return r.request(method, "http://"+r.Addr()+path, contentType, body)
}

func (r *running) request(method, url, contentType, body string, headers ...string) (int, http.Header, string) {
	r.t.Helper()
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Add(headers[i], headers[i+1])
	}
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		r.t.Fatalf("%s %s: %v", method, url, err)
	}
	defer resp.Body.Close()
	var b bytes.Buffer
	if _, err := b.ReadFrom(resp.Body); err != nil {
		r.t.Fatalf("%s %s: %v", method, url, err)
	}
	return resp.StatusCode, resp.Header, b.String()
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("still waiting: %s", what)
		}
	}
}
