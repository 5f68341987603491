package swarm

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http/httputil"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pushd/pushd/bench/load/internal/control"
	"github.com/pushd/pushd/bench/load/internal/stamp"
)

func TestCutEvent(t *testing.T) {
	f := func(text, event string, n int) {
		t.Helper()
		got, length, err := cutEvent([]byte(text))
		if string(got) != event || length != n || err != nil {
			t.Errorf("%q: %q, %d, %v; want %q, %d", text, got, length, err, event, n)
		}
	}
	f("", "", 0)
	f("data: x", "", 0)
	f("data: x\n", "", 0)
	f("data: x\r\n\r", "", 0)
	f("data: x\n\n", "data: x\n", 9)
	f("data: x\n\ndata: y\n\n", "data: x\n", 9)
	f("id: 1\ndata: x\n\n", "id: 1\ndata: x\n", 15)
	f("data: x\r\n\r\n", "data: x\r\n", 11)
	f(":\n\n", ":\n", 3)
	f("\r\ndata: x\n\n", "\r\ndata: x\n", 11) // an empty line ahead of the first event ends none
	if _, _, err := cutEvent(make([]byte, maxFrame+1)); err != errLarge {
		t.Errorf("an event without end: %v", err)
	}
}

// Whatever is sent in whatever chunks, and however it is cut on its way, it is read as what it was.
func TestChunks(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	for range 200 {
		var want, coded bytes.Buffer
		to := httputil.NewChunkedWriter(&coded)
		for range random.IntN(8) {
			part := bytes.Repeat([]byte("a\r\n0"), 1+random.IntN(200))
			want.Write(part)
			if _, err := to.Write(part); err != nil {
				t.Fatal(err)
			}
		}
		if err := to.Close(); err != nil {
			t.Fatal(err)
		}
		var ch chunks
		var got []byte
		for rest := coded.Bytes(); len(rest) > 0; {
			n := min(len(rest), 1+random.IntN(1+random.IntN(300)))
			content, err := ch.strip(bytes.Clone(rest[:n]))
			if err != nil {
				t.Fatal(err)
			}
			got, rest = append(got, content...), rest[n:]
		}
		if !bytes.Equal(got, want.Bytes()) {
			t.Fatalf("got %q, want %q", got, want.Bytes())
		}
	}
	for _, wrong := range []string{"x\r\n", "1\r\nab", "fffffffffffffffffff\r\n"} {
		if content, err := new(chunks).strip([]byte(wrong)); err != errChunk {
			t.Errorf("%q: %q, %v", wrong, content, err)
		}
	}
	if content, err := new(chunks).strip([]byte("1;name=\"2\"\r\na\r\n")); string(content) != "a" || err != nil {
		t.Errorf("a chunk with an extension: %q, %v", content, err)
	}
}

// However the bytes of a stream are cut, chunked or not, its events are read as what they are.
func TestEventPieces(t *testing.T) {
	message := func(sequence uint32, size int) []byte {
		return stamp.AppendPayload(nil, stamp.Stamp{Run: 1, Sequence: sequence, Number: sequence - 1}, size)
	}
	var send bytes.Buffer
	fmt.Fprintf(&send, "retry: 2000\nevent: welcome\ndata: {}\n\nevent: subscribed\ndata: subscribed\n\n")
	for sequence := uint32(1); sequence < 4; sequence++ {
		fmt.Fprintf(&send, "id: %d\ndata: %s\n\n", sequence, message(sequence, 200))
	}
	fmt.Fprintf(&send, ":\n\ndata: %s\r\n\r\ndata: gap\n\n", message(4, 70_000)) // larger than the buffer
	const head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
	var chunked bytes.Buffer
	to := httputil.NewChunkedWriter(&chunked)
	for rest := send.Bytes(); len(rest) > 0; rest = rest[min(len(rest), 150):] {
		if _, err := to.Write(rest[:min(len(rest), 150)]); err != nil {
			t.Fatal(err)
		}
	}
	for _, size := range []int{3, 100, 1 << 20} {
		for name, body := range map[string][]byte{"\r\n": send.Bytes(), "Transfer-Encoding: chunked\r\n\r\n": chunked.Bytes()} {
			t.Run(fmt.Sprint(size, name), func(t *testing.T) {
				server := newPieces(t, size, body)
				server.head = head + name
				d := drive(t)
				plan := server.plan()
				plan.Events, plan.InRequest, plan.Hello, plan.Subscribe, plan.Echo = true, true, "", "", ""
				d.ask(control.Request{Verb: control.Prepare, Plan: plan})
				d.ask(control.Request{Verb: control.Begin, Window: &control.Window{First: []uint32{0}}})
				d.ask(control.Request{Verb: control.Connect, Pace: &control.Pace{InFlight: 1}})
				d.until("complete", func(s *control.Status) bool { return s.Open == 1 && s.Received == 4 })
				d.untilCounted(func(c *control.Counted) bool { return c.Steady.Gaps == 1 })
				counted := d.ask(control.Request{Verb: control.Report, Last: []uint32{4}}).Counted
				if diff := cmp.Diff(control.Counts{Received: 4, Gaps: 1}, counted.Steady); diff != "" {
					t.Errorf("-want +got:\n%s", diff)
				}
				if counted.Pings != 1 || len(counted.Problems) != 0 {
					t.Errorf("%d pings, problems %v", counted.Pings, counted.Problems)
				}
				d.ask(control.Request{Verb: control.End})
				<-server.done
				if server.err != nil || len(server.frames) > 0 || server.request.URL.Path != "/t.0" {
					t.Errorf("the client asks for %v and says %v (%v)", server.request.URL, server.frames, server.err)
				}
			})
		}
	}
}
