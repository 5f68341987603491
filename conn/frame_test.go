package conn

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/gobwas/ws"
)

func TestAppendFrame(t *testing.T) {
	for _, op := range []ws.OpCode{ws.OpText, ws.OpBinary, ws.OpPing, ws.OpPong} {
		for _, size := range []int{0, 1, 125, 126, 127, 65535, 65536, 70000} {
			if op.IsControl() && size > ws.MaxControlFramePayloadSize {
				continue
			}
			payload := bytes.Repeat([]byte{'x'}, size)
			want := append([]byte("before"), ws.MustCompileFrame(ws.NewFrame(op, true, payload))...)
			got := AppendFrame([]byte("before"), op, payload)
			if !bytes.Equal(got, want) {
				t.Errorf("frame with opcode %#x and %d bytes of payload starts % x, want % x",
					op, size, got[:min(len(got), 16)], want[:min(len(want), 16)])
			}
			if header := len(got) - len("before") - size; header != frameHeaderSize(size) {
				t.Errorf("frameHeaderSize(%d) = %d, the header has %d", size, frameHeaderSize(size), header)
			}
		}
	}
}

func TestAppendFrameAllocs(t *testing.T) {
	dst, payload := make([]byte, 0, 256), make([]byte, 140)
	if n := testing.AllocsPerRun(100, func() { AppendFrame(dst, ws.OpText, payload) }); n != 0 {
		t.Errorf("a frame that fits dst costs %v allocations, want 0", n)
	}
}

func TestAppendFrameRefusesLongControl(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a ping of 126 bytes was written")
		}
	}()
	AppendFrame(nil, ws.OpPing, make([]byte, 126))
}

func TestAppendClose(t *testing.T) {
	f := func(code ws.StatusCode, reason, wantBody string) {
		t.Helper()
		want := "\x88" + string(rune(len(wantBody))) + wantBody
		if got := AppendClose(nil, code, reason); string(got) != want {
			t.Errorf("AppendClose(%d, %q) = %q, want %q", code, reason, got, want)
		}
	}
	f(1000, "", "\x03\xe8")
	f(4008, "too_slow", "\x0f\xa8too_slow")
	f(0, "not sent", "")
	f(ws.StatusNoStatusRcvd, "not sent", "")

	// 123 bytes of reason fit; a rune is never cut.
	full := strings.Repeat("x", 123)
	f(1000, full, "\x03\xe8"+full)
	f(1000, full+"y", "\x03\xe8"+full)
	f(1000, full[:122]+"é", "\x03\xe8"+full[:122])
	f(1000, full[:121]+"é!", "\x03\xe8"+full[:121]+"é")
	f(1000, full[:120]+"😀", "\x03\xe8"+full[:120])
	f(1000, full[:119]+"😀!", "\x03\xe8"+full[:119]+"😀")
	if got := AppendClose(nil, 1000, strings.Repeat("€", 100)); !utf8.Valid(got[4:]) || len(got) > 2+125 {
		t.Errorf("close frame with a long reason is %q", got)
	}
}

func BenchmarkAppendFrame(b *testing.B) {
	dst, payload := make([]byte, 0, 256), make([]byte, 140)
	b.ReportAllocs()
	for b.Loop() {
		AppendFrame(dst, ws.OpText, payload)
	}
}
