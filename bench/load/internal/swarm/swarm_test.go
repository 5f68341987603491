package swarm

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/gobwas/ws"
	"github.com/google/go-cmp/cmp"

	"github.com/pushd/pushd/bench/load/internal/control"
	"github.com/pushd/pushd/bench/load/internal/stamp"
)

// patience is how long a test waits for what must come.
const patience = 30 * time.Second

// driven is a swarm in a goroutine, and the driver's ends of its pipes.
type driven struct {
	t      *testing.T
	stdin  *os.File
	events *json.Decoder
	id     int
	ended  chan error
}

func drive(t *testing.T) *driven {
	t.Helper()
	in, stdin, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(int(in.Fd()), out)
	if err != nil {
		t.Fatal(err)
	}
	d := &driven{t: t, stdin: stdin, events: json.NewDecoder(stdout), ended: make(chan error, 1)}
	go func() {
		err := s.Run()
		in.Close()
		out.Close()
		d.ended <- err
	}()
	t.Cleanup(func() {
		stdin.Close()
		<-d.ended
		stdout.Close()
	})
	return d
}

// ask sends a request and returns its answer, behind which there is no other.
func (d *driven) ask(r control.Request) control.Event {
	d.t.Helper()
	d.id++
	r.ID = d.id
	line, err := json.Marshal(r)
	if err != nil {
		d.t.Fatal(err)
	}
	if _, err := d.stdin.Write(append(line, '\n')); err != nil {
		d.t.Fatal(err)
	}
	for {
		var event control.Event
		if err := d.events.Decode(&event); err != nil {
			d.t.Fatal(err)
		}
		if event.ID == d.id {
			return event
		}
	}
}

// until asks for the status until it is as it should be.
func (d *driven) until(what string, good func(*control.Status) bool) {
	d.t.Helper()
	for deadline := time.Now().Add(patience); ; {
		status := d.ask(control.Request{Verb: control.State}).Status
		if good(status) {
			return
		}
		if time.Now().After(deadline) {
			d.t.Fatalf("never %s: %+v", what, status)
		}
		time.Sleep(time.Millisecond)
	}
}

// untilCounted asks for what was counted until it is as it should be. Topics have no messages that could be missing meanwhile.
func (d *driven) untilCounted(good func(*control.Counted) bool) {
	d.t.Helper()
	for deadline := time.Now().Add(patience); ; {
		counted := d.ask(control.Request{Verb: control.Report, Last: []uint32{0}}).Counted
		if good(counted) {
			return
		}
		if time.Now().After(deadline) {
			d.t.Fatalf("never: %+v", counted)
		}
		time.Sleep(time.Millisecond)
	}
}

// pieces is a server of one client, which sends what it has in pieces of some
// bytes, each by itself.
type pieces struct {
	listener net.Listener
	size     int
	head     string
	send     []byte
	request  *http.Request
	frames   []ws.Frame // of the client, unmasked
	err      error
	done     chan struct{}
}

func newPieces(t *testing.T, size int, send []byte) *pieces {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &pieces{listener: listener, size: size, head: upgraded, send: send, done: make(chan struct{})}
	go p.run()
	t.Cleanup(func() {
		listener.Close()
		<-p.done
	})
	return p
}

// upgraded is the head that a server of WebSockets answers with.
const upgraded = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: right\r\n\r\n"

func (p *pieces) run() {
	defer close(p.done)
	conn, err := p.listener.Accept()
	if err != nil {
		p.err = err
		return
	}
	defer conn.Close()
	p.err = p.serve(conn)
}

func (p *pieces) serve(conn net.Conn) (err error) {
	in := bufio.NewReader(conn)
	if p.request, err = http.ReadRequest(in); err != nil {
		return err
	}
	for rest := append([]byte(p.head), p.send...); len(rest) > 0; rest = rest[min(p.size, len(rest)):] {
		if _, err := conn.Write(rest[:min(p.size, len(rest))]); err != nil {
			return err
		}
	}
	for {
		f, err := readFrame(in)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		p.frames = append(p.frames, f)
	}
}

func (p *pieces) plan() *control.Plan {
	return &control.Plan{
		Run: 1, Address: p.listener.Addr().String(), Sources: []string{"127.0.0.9"}, Count: 1, Topics: []string{"t.0"}, TopicsPerClient: 1,
		Request: "GET /{topic} HTTP/1.1\r\nHost: x\r\n\r\n", Accept: "right", Hello: "hello",
		Subscribe: `subscribe {topic} {id}`, SubscribedMark: "subscribed", GapMark: "gap", Echo: "{}", HandshakeTime: 30,
	}
}

// However the bytes of a server are cut, they are read as what they are.
func TestPieces(t *testing.T) {
	message := func(sequence uint32) []byte {
		return stamp.AppendPayload(nil, stamp.Stamp{Run: 1, Sequence: sequence, Number: sequence - 1}, 200)
	}
	var send bytes.Buffer
	frame := func(f ws.Frame) { send.Write(ws.MustCompileFrame(f)) }
	frame(ws.NewTextFrame([]byte("subscribed")))
	frame(ws.NewTextFrame(message(1)))
	second := message(2)
	frame(ws.NewFrame(ws.OpText, false, second[:40])) // within the stamp
	frame(ws.NewPingFrame([]byte("between")))
	frame(ws.NewFrame(ws.OpContinuation, false, second[40:41]))
	frame(ws.NewFrame(ws.OpContinuation, true, second[41:]))
	frame(ws.NewTextFrame(append(append(message(3), '\n'), message(4)...))) // a server that batches within messages
	frame(ws.NewBinaryFrame(append(make([]byte, 70_000), message(5)...)))   // larger than the buffer
	frame(ws.NewTextFrame([]byte("gap")))
	frame(ws.NewTextFrame([]byte("{}")))
	frame(ws.NewTextFrame(append([]byte("{}\n"), message(5)...))) // which comes the second time
	frame(ws.NewPongFrame(nil))
	frame(ws.NewTextFrame(message(6)))
	frame(ws.NewTextFrame(nil))
	for _, size := range []int{1, 2, 3, 7, 100, 1 << 20} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			server := newPieces(t, size, send.Bytes())
			d := drive(t)
			d.ask(control.Request{Verb: control.Prepare, Plan: server.plan()})
			d.ask(control.Request{Verb: control.Begin, Window: &control.Window{First: []uint32{0}, Stride: 1}})
			d.ask(control.Request{Verb: control.Connect, Pace: &control.Pace{InFlight: 1}})
			d.until("complete", func(s *control.Status) bool { return s.Open == 1 && s.Received == 6 })
			counted := d.ask(control.Request{Verb: control.Report, Last: []uint32{6}}).Counted
			// The client connected after the window began, so nothing is expected of it.
			if diff := cmp.Diff(control.Counts{Received: 6, Duplicate: 1, Gaps: 1}, counted.Steady); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if counted.Pings != 3 || len(counted.Problems) != 0 {
				t.Errorf("%d pings, problems %v", counted.Pings, counted.Problems)
			}
			if h, err := hdrhistogram.Decode(counted.Latency); err != nil || h.TotalCount() != 6 {
				t.Errorf("latencies: %v, %v", h, err)
			}
			if arrivals, err := control.MergeArrivals(nil, counted.Arrivals); err != nil || len(arrivals) != 6 || arrivals[5].Count != 1 {
				t.Errorf("arrivals: %v, %v", arrivals, err)
			}
			d.ask(control.Request{Verb: control.End})
			<-server.done
			server.check(t)
		})
	}
}

// check says that the client asked and answered as it should.
func (p *pieces) check(t *testing.T) {
	t.Helper()
	if p.err != nil {
		t.Error(p.err)
		return
	}
	if p.request.URL.Path != "/t.0" {
		t.Errorf("request for %s", p.request.URL)
	}
	var got []string
	for _, f := range p.frames {
		got = append(got, fmt.Sprint(f.Header.OpCode, " ", string(f.Payload)))
	}
	want := []string{"1 hello", "1 subscribe t.0 2", "10 between", "1 {}", "1 {}"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("frames of the client: -want +got:\n%s", diff)
	}
}

// What a server must not do ends the connection, and has a name.
func TestViolations(t *testing.T) {
	subscribed := ws.MustCompileFrame(ws.NewTextFrame([]byte("subscribed")))
	compile := func(frames ...ws.Frame) []byte {
		b := bytes.Clone(subscribed)
		for _, f := range frames {
			b = append(b, ws.MustCompileFrame(f)...)
		}
		return b
	}
	f := func(send []byte, want string) {
		t.Helper()
		server := newPieces(t, 1<<20, send)
		d := drive(t)
		plan := server.plan()
		d.ask(control.Request{Verb: control.Prepare, Plan: plan})
		d.ask(control.Request{Verb: control.Connect, Pace: &control.Pace{InFlight: 1}})
		d.until("over", func(s *control.Status) bool { return s.Lost == 1 && s.Open == 0 })
		problems := d.ask(control.Request{Verb: control.Report, Last: []uint32{0}}).Counted.Problems
		if diff := cmp.Diff(map[string]int{"lost: " + want: 1}, problems); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		d.ask(control.Request{Verb: control.End})
	}
	f(compile(ws.NewFrame(ws.OpContinuation, true, nil)), errSequence.Error())
	f(compile(ws.NewFrame(ws.OpText, false, nil), ws.NewTextFrame(nil)), errSequence.Error())
	f(compile(ws.MaskFrame(ws.NewTextFrame([]byte("x")))), errMasked.Error())
	f(compile(ws.NewFrame(0x3, true, nil)), errReserved.Error())
	f(compile(ws.NewCloseFrame(ws.NewCloseFrameBody(4008, "slow"))), "close frame with code 4008")
	f(compile(ws.NewCloseFrame(nil)), "close frame without a code")
}

// An answer that is no upgrade is a failure, and says which.
func TestRefused(t *testing.T) {
	f := func(answer, want string) {
		t.Helper()
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
				_, _ = io.WriteString(conn, answer) // the client may have left already
			}
		}()
		d := drive(t)
		plan := (&pieces{listener: listener}).plan()
		d.ask(control.Request{Verb: control.Prepare, Plan: plan})
		d.ask(control.Request{Verb: control.Connect, Pace: &control.Pace{InFlight: 1}})
		d.until("over", func(s *control.Status) bool { return s.Failed == 1 && s.Opening == 0 })
		problems := d.ask(control.Request{Verb: control.Report, Last: []uint32{0}}).Counted.Problems
		if diff := cmp.Diff(map[string]int{"failed: " + want: 1}, problems); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		d.ask(control.Request{Verb: control.End})
		<-ended
	}
	f("HTTP/1.1 503 Service Unavailable\r\n\r\n", `upgrade: answer "HTTP/1.1 503 Service Unavailable"`)
	f("HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: wrong\r\n\r\n", "upgrade: no right Sec-WebSocket-Accept in the answer")
	f(strings.Repeat("x", maxResponse+1), "upgrade: no end of the answer")
	f("", "closed without a close frame")
}

// A driver that goes away ends the swarm.
func TestOrphan(t *testing.T) {
	d := drive(t)
	d.stdin.Close()
	err := <-d.ended
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("ended with %v", err)
	}
	d.ended <- err
}

// Requests out of order and with mistakes are answered with what is wrong.
func TestRequests(t *testing.T) {
	d := drive(t)
	f := func(r control.Request, want string) {
		t.Helper()
		if got := d.ask(r).Error; !strings.Contains(got, want) {
			t.Errorf("%s: error %q, want %q", r.Verb, got, want)
		}
	}
	f(control.Request{Verb: control.State}, "the first request is prepare")
	f(control.Request{Verb: control.Prepare, Plan: &control.Plan{Address: "nowhere"}}, "address of the server")
	f(control.Request{Verb: control.Prepare, Plan: &control.Plan{Address: "127.0.0.1:1", Sources: []string{"x"}}}, "address to connect from")
	good := &control.Plan{Address: "127.0.0.1:1", Count: 1, Topics: []string{"t"}, TopicsPerClient: 1}
	if got := d.ask(control.Request{Verb: control.Prepare, Plan: good}).Error; got != "" {
		t.Error(got)
	}
	f(control.Request{Verb: control.Prepare, Plan: good}, "the first request is prepare, and only the first")
	f(control.Request{Verb: control.Report}, "report on 0 topics, but there are 1")
	f(control.Request{Verb: "dance"}, `"dance" is no request`)
	d.ask(control.Request{Verb: control.End})
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
