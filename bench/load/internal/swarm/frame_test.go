package swarm

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"testing"

	"github.com/gobwas/ws"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestCut(t *testing.T) {
	f := func(text string, want frame, n int, fault error) {
		t.Helper()
		b, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		got, length, err := cut(b, 0)
		if !errors.Is(err, fault) || length != n || got.opcode != want.opcode || got.final != want.final || !bytes.Equal(got.payload, want.payload) {
			t.Errorf("%s: %+v, %d, %v", text, got, length, err)
		}
	}
	f("8105"+"48656c6c6f", frame{opText, true, []byte("Hello"), false}, 7, nil) // RFC 6455 section 5.7
	f("0103"+"48656c", frame{opText, false, []byte("Hel"), false}, 5, nil)
	f("8905"+"48656c6c6f"+"8100", frame{opPing, true, []byte("Hello"), false}, 7, nil)
	f("8200", frame{opBinary, true, nil, false}, 2, nil)
	f("827e0003"+"010203", frame{opBinary, true, []byte{1, 2, 3}, false}, 7, nil)
	f("827f0000000000000003"+"010203", frame{opBinary, true, []byte{1, 2, 3}, false}, 13, nil)
	for _, part := range []string{"", "81", "8105", "810548656c6c", "827e", "827e00", "827f00000000000000", "827e000301"} {
		f(part, frame{}, 0, nil)
	}
	f("c100", frame{}, 0, errReserved)
	f("8185", frame{}, 0, errMasked)
	f("0900", frame{}, 0, errControl)
	f("897e", frame{}, 0, errControl)
	f("827f0000000001000001", frame{}, 0, errLarge)
}

// Whatever is sent, cut finds the frames that a reader of the stream finds.
func FuzzCut(f *testing.F) {
	f.Add([]byte("\x81\x05Hello\x89\x00\x82\x7e\x00\x01x"))
	f.Add([]byte("\x81\x85abcd"))
	f.Add([]byte("\x82\x7f\x00\x00\x00\x00\x00\x00\x00\x01y\x81"))
	f.Fuzz(func(t *testing.T, b []byte) {
		model := bytes.NewReader(b)
		for {
			at := len(b) - model.Len()
			got, n, err := cut(b[at:], 0)
			if err != nil {
				return
			}
			header, fault := ws.ReadHeader(model)
			var payload []byte
			if fault == nil && header.Length <= maxFrame {
				payload = make([]byte, header.Length)
				_, fault = io.ReadFull(model, payload)
			}
			if n == 0 {
				if fault == nil {
					t.Fatalf("cut finds nothing, the model %+v", header)
				}
				return
			}
			if fault != nil || byte(header.OpCode) != got.opcode || header.Fin != got.final || !bytes.Equal(payload, got.payload) || at+n != len(b)-model.Len() {
				t.Fatalf("cut finds %+v of %d bytes, the model %+v, %v", got, n, header, fault)
			}
		}
	})
}

func TestAppendFrame(t *testing.T) {
	for _, size := range []int{0, 1, 125, 126, 1<<16 - 1, 1 << 16} {
		payload := bytes.Repeat([]byte("pushd"), size/5+1)[:size]
		b := appendFrame([]byte("x"), opText, payload, 0xa1b2c3d4)
		f, err := readFrame(bytes.NewReader(b[1:]))
		if err != nil {
			t.Fatalf("size %d: %v", size, err)
		}
		if !f.Header.Fin || f.Header.OpCode != ws.OpText || !bytes.Equal(f.Payload, payload) {
			t.Errorf("size %d: %+v, %q", size, f.Header, f.Payload)
		}
	}
}

func BenchmarkCut(b *testing.B) {
	one := append([]byte{0x81, 126, 0, 200}, make([]byte, 200)...)
	b.ReportAllocs()
	for b.Loop() {
		if _, n, err := cut(one, 0); n == 0 || err != nil {
			b.Fatal(n, err)
		}
	}
}
