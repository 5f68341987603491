package swarm

import (
	"bytes"
	"compress/flate"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/gobwas/ws"
	"github.com/google/go-cmp/cmp"

	"github.com/pushd/pushd/bench/load/internal/control"
	"github.com/pushd/pushd/bench/load/internal/stamp"
)

// deflate compresses as a server does that forgets its window with each message.
func deflate(t *testing.T, plain string) []byte {
	t.Helper()
	var b bytes.Buffer
	to, err := flate.NewWriter(&b, flate.BestSpeed)
	if err == nil {
		_, err = to.Write([]byte(plain))
	}
	if err == nil {
		err = to.Flush()
	}
	if err != nil {
		t.Fatal(err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\x00\x00\xff\xff"))
}

// Messages that come again, and others that take their place, are read as what they are.
func TestInflate(t *testing.T) {
	f := newInflater()
	for i := range 200 {
		plain := strings.Repeat(fmt.Sprint("message ", i%150, ","), 20)
		for range 2 {
			got, err := f.inflate(deflate(t, plain))
			if err != nil || string(got) != plain {
				t.Fatalf("got %q, %v; want %q", got, err, plain)
			}
		}
	}
	for range 2 { // what failed is not remembered
		if got, err := f.inflate([]byte("\xff\xff")); err == nil || errors.Is(err, errLarge) {
			t.Errorf("no DEFLATE data: %q, %v", got, err)
		}
		if got, err := f.inflate(deflate(t, strings.Repeat("x", maxFrame+1))); !errors.Is(err, errLarge) {
			t.Errorf("a message beyond the bound: %d bytes, %v", len(got), err)
		}
	}
	if got, err := f.inflate([]byte{0}); err != nil || len(got) > 0 {
		t.Errorf("an empty message: %q, %v", got, err)
	}
}

// Compressed messages are read beside others, in one frame and in several.
func TestDeflatedPieces(t *testing.T) {
	message := func(sequence uint32) string {
		return string(stamp.AppendTick(nil, stamp.Stamp{Run: 1, Sequence: sequence, Number: sequence - 1}, 1_000))
	}
	var send bytes.Buffer
	frame := func(f ws.Frame, reserved byte) {
		f.Header.Rsv = reserved
		send.Write(ws.MustCompileFrame(f))
	}
	const first = 4 // RSV1, as gobwas has it
	frame(ws.NewTextFrame([]byte("subscribed")), 0)
	frame(ws.NewTextFrame(deflate(t, message(1))), first)
	frame(ws.NewTextFrame([]byte(message(2))), 0)
	third := deflate(t, message(3))
	frame(ws.NewFrame(ws.OpText, false, third[:50]), first)
	frame(ws.NewPingFrame(nil), 0)
	frame(ws.NewFrame(ws.OpContinuation, true, third[50:]), 0)
	for _, size := range []int{1, 7, 1 << 20} {
		server := newPieces(t, size, send.Bytes())
		server.head = strings.Replace(upgraded, "\r\n\r\n", "\r\nSec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover\r\n\r\n", 1)
		d := drive(t)
		plan := server.plan()
		plan.Deflate = true
		d.ask(control.Request{Verb: control.Prepare, Plan: plan})
		d.ask(control.Request{Verb: control.Begin, Window: &control.Window{First: []uint32{0}}})
		d.ask(control.Request{Verb: control.Connect, Pace: &control.Pace{InFlight: 1}})
		d.until("complete", func(s *control.Status) bool { return s.Open == 1 && s.Received == 3 })
		counted := d.ask(control.Request{Verb: control.Report, Last: []uint32{3}}).Counted
		if diff := cmp.Diff(control.Counts{Received: 3}, counted.Steady); diff != "" || counted.Deflated != 2 {
			t.Errorf("%d were compressed; -want +got:\n%s", counted.Deflated, diff)
		}
		d.ask(control.Request{Verb: control.End})
	}
}

// Reserved bits stand where an extension has them, and a server that declines it is a failure.
func TestExtension(t *testing.T) {
	for text, want := range map[string]error{
		"\xc1\x00": nil, "\xc2\x00": nil, "\x41\x00": nil,
		"\xc0\x00": errReserved, "\xc9\x00": errReserved, "\xe1\x00": errReserved, "\x91\x00": errReserved,
	} {
		if f, _, err := cut([]byte(text), rsv1); !errors.Is(err, want) || err == nil && !f.deflate {
			t.Errorf("%x: %+v, %v", text, f, err)
		}
	}
	for head, want := range map[string]error{
		"": errDeclined, "Sec-WebSocket-Extensions: permessage-deflate": errDeclined,
		"Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover": nil,
	} {
		if err := checkExtension([]byte(head)); !errors.Is(err, want) {
			t.Errorf("%q: %v", head, err)
		}
	}
}
