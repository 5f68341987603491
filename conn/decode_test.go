package conn

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/gobwas/ws"
	"github.com/valyala/bytebufferpool"
)

const testMaxMessage = 1 << 20

var testMask = [4]byte{0x37, 0xfa, 0x21, 0x3d}

// inboundLog is an inbound that writes down what it is called with.
type inboundLog struct {
	calls  []string
	stopAt int // stop the decoder with this call, counted from 1; 0: never
}

func (r *inboundLog) message(op ws.OpCode, payload []byte) bool {
	kind := map[ws.OpCode]string{ws.OpText: "text", ws.OpBinary: "binary"}[op]
	return r.add(kind, payload)
}

func (r *inboundLog) control(op ws.OpCode, payload []byte) bool {
	kind := map[ws.OpCode]string{ws.OpPing: "ping", ws.OpPong: "pong"}[op]
	return r.add(kind, payload)
}

func (r *inboundLog) closed(code ws.StatusCode, reason []byte) {
	r.add(fmt.Sprintf("close %d", code), reason)
}

func (r *inboundLog) add(kind string, payload []byte) bool {
	r.calls = append(r.calls, fmt.Sprintf("%s %q", kind, payload))
	return len(r.calls) != r.stopAt
}

// feedPieces feeds the pieces to a new decoder as separate reads. Each lies in
// memory of its own that is overwritten after its read, as a read buffer is.
func feedPieces(pieces [][]byte, maxMessage int, in *inboundLog) (d decoder, fail ws.StatusCode) {
	for _, piece := range pieces {
		p := bytes.Clone(piece)
		calls := len(in.calls)
		fail := d.feed(p, maxMessage, nil, in)
		for i := range p {
			p[i] = 0xee
		}
		if fail != 0 || in.ended(calls) {
			return d, fail
		}
	}
	return d, 0
}

// ended reports whether a call since the given one stopped the decoder.
func (r *inboundLog) ended(since int) bool {
	if r.stopAt > since && r.stopAt <= len(r.calls) {
		return true
	}
	return len(r.calls) > since && strings.HasPrefix(r.calls[len(r.calls)-1], "close")
}

// maskedFrame is a masked frame; first is its first byte: FIN, RSV, opcode.
func maskedFrame(first byte, payload string) []byte {
	frame := appendFrameHeader(nil, 0, len(payload))
	frame[0], frame[1] = first, frame[1]|maskBit
	frame = append(frame, testMask[:]...)
	start := len(frame)
	frame = append(frame, payload...)
	ws.Cipher(frame[start:], testMask, 0)
	return frame
}

// First bytes of frames: FIN and opcode.
const (
	finText         = 0x81
	finBinary       = 0x82
	finContinuation = 0x80
	finClose        = 0x88
	finPing         = 0x89
	finPong         = 0x8a
	notFin          = 0x7f // finText & notFin is the first fragment of a text
)

// TestDecode feeds each case in one piece, a frame at a time, cut into single
// bytes, and cut anywhere: the calls and the failure are always the same.
func TestDecode(t *testing.T) {
	for _, test := range decodeCases() {
		t.Run(test.name, func(t *testing.T) {
			maxMessage := test.max
			if maxMessage == 0 {
				maxMessage = testMaxMessage
			}
			whole := bytes.Join(test.data, nil)
			check := func(how string, pieces [][]byte) {
				t.Helper()
				var in inboundLog
				d, fail := feedPieces(pieces, maxMessage, &in)
				if fail != test.fail || !slices.Equal(in.calls, test.want) {
					t.Fatalf("%s: fail %d after %.300q, want %d after %.300q", how, fail, in.calls, test.fail, test.want)
				}
				if test.fail == 0 && d.idle() == test.rest {
					t.Errorf("%s: idle is %v at the end", how, d.idle())
				}
				d.release()
				if d != (decoder{}) {
					t.Errorf("%s: released it is not like new: %+v", how, d)
				}
			}
			check("in one piece", [][]byte{whole})
			check("frame by frame", test.data)
			check("byte by byte", cutPieces(whole, func() int { return 1 }))
			rng := rand.New(rand.NewPCG(1, 2))
			for range 20 {
				check("in pieces", cutPieces(whole, func() int { return rng.IntN(12) }))
			}
			if len(whole) < 300 {
				for i := range whole {
					check(fmt.Sprintf("cut at %d", i), [][]byte{whole[:i], whole[i:]})
				}
			}
		})
	}
}

// cutPieces makes pieces of the sizes that size says.
func cutPieces(p []byte, size func() int) (pieces [][]byte) {
	for len(p) > 0 {
		n := min(size(), len(p))
		pieces = append(pieces, p[:n])
		p = p[n:]
	}
	return pieces
}

// TestDecodeIdle: something is kept from the first byte of a frame to the last
// of its message, and only then.
func TestDecodeIdle(t *testing.T) {
	for _, stream := range [][]byte{
		maskedFrame(finText, "hello"),
		maskedFrame(finBinary, strings.Repeat("x", 200)),
		maskedFrame(finPing, "ping"),
		maskedFrame(finPong, ""),
		slices.Concat(maskedFrame(finText&notFin, ""), maskedFrame(finPing, "between"), maskedFrame(finContinuation, "")),
	} {
		var d decoder
		for i := range stream {
			if d.idle() != (i == 0) {
				t.Errorf("after %d of % x: idle is %v", i, stream[:min(len(stream), 16)], d.idle())
			}
			if fail := d.feed([]byte{stream[i]}, testMaxMessage, nil, &inboundLog{}); fail != 0 {
				t.Fatalf("fail %d", fail)
			}
		}
		if !d.idle() || d.body != nil || d.control != nil {
			t.Errorf("at the end of % x something is kept: %+v", stream[:min(len(stream), 16)], d)
		}
	}
}

// TestDecodeStops: whoever is called can stop the decoder, and may release it
// within the call; nothing behind that frame is read.
func TestDecodeStops(t *testing.T) {
	stream := slices.Concat(
		maskedFrame(finText, "one"), maskedFrame(finText&notFin, "t"), maskedFrame(finPing, "p"), maskedFrame(finContinuation, "wo"),
		maskedFrame(finBinary, "three"))
	all := []string{`text "one"`, `ping "p"`, `text "two"`, `binary "three"`}
	for stopAt := 1; stopAt <= len(all); stopAt++ {
		for _, size := range []int{1, 5, len(stream)} {
			var d decoder
			in := inboundReleasing{inboundLog: inboundLog{stopAt: stopAt}, d: &d}
			for _, piece := range cutPieces(bytes.Clone(stream), func() int { return size }) {
				if fail := d.feed(piece, testMaxMessage, nil, &in); fail != 0 {
					t.Fatalf("fail %d after %q", fail, in.calls)
				}
				if len(in.calls) >= stopAt {
					break
				}
			}
			if !slices.Equal(in.calls, all[:stopAt]) {
				t.Errorf("stopped at call %d of pieces of %d: %q", stopAt, size, in.calls)
			}
			if !d.idle() {
				t.Errorf("stopped at call %d of pieces of %d: not idle after its release", stopAt, size)
			}
		}
	}
}

// inboundReleasing releases the decoder in the call with which it stops it.
type inboundReleasing struct {
	inboundLog
	d *decoder
}

func (r *inboundReleasing) message(op ws.OpCode, payload []byte) bool {
	goOn := r.inboundLog.message(op, payload)
	if !goOn {
		r.d.release()
	}
	return goOn
}

func (r *inboundReleasing) control(op ws.OpCode, payload []byte) bool {
	goOn := r.inboundLog.control(op, payload)
	if !goOn {
		r.d.release()
	}
	return goOn
}

// TestDecodeReservesNothing: what a header announces is not allocated before
// it comes, and a large buffer that another message left in the pool is not
// pinned by a few bytes.
func TestDecodeReservesNothing(t *testing.T) {
	const announced = 16 << 20
	bytebufferpool.Put(&bytebufferpool.ByteBuffer{B: make([]byte, 0, announced)})

	frame := append([]byte{finBinary, length64 | maskBit}, binary.BigEndian.AppendUint64(nil, announced)...)
	frame = append(frame, testMask[:]...)
	frame = append(frame, 'x')
	var d decoder
	defer d.release()
	if fail := d.feed(frame, announced, nil, &inboundLog{}); fail != 0 {
		t.Fatalf("fail %d", fail)
	}
	if got := cap(d.body.B); got > maxIdleBuffer {
		t.Errorf("%d bytes are reserved for one that has come, want at most %d", got, maxIdleBuffer)
	}
	if got := d.body.Len(); got != 1 {
		t.Errorf("%d bytes are kept, want 1", got)
	}

	for range 1000 {
		if fail := d.feed(make([]byte, 100), announced, nil, &inboundLog{}); fail != 0 {
			t.Fatalf("fail %d", fail)
		}
	}
	if got, come := cap(d.body.B), 1+1000*100; got > maxSpareFactor*come {
		t.Errorf("%d bytes are reserved for %d that have come", got, come)
	}
}

// TestDecodeLargeBuffersAreNotPooled: one large message does not make every
// buffer of the pool large.
func TestDecodeLargeBuffersAreNotPooled(t *testing.T) {
	large := &bytebufferpool.ByteBuffer{B: make([]byte, 7, maxPooledBuffer+1)}
	putBuffer(large)
	small := &bytebufferpool.ByteBuffer{B: make([]byte, 7, 64)} // the pool learns what is usual, which is never less
	putBuffer(small)
	if large.Len() == 0 || small.Len() != 0 { // Put empties a buffer
		t.Errorf("pooled: large %v, small %v", large.Len() == 0, small.Len() == 0)
	}
}

// inboundCount is an inbound that does nothing.
type inboundCount struct{ messages, controls int }

func (c *inboundCount) message(ws.OpCode, []byte) bool { c.messages++; return true }
func (c *inboundCount) control(ws.OpCode, []byte) bool { c.controls++; return true }
func (c *inboundCount) closed(ws.StatusCode, []byte)   {}

func TestDecodeAllocs(t *testing.T) {
	f := func(name string, frames ...[]byte) {
		t.Helper()
		stream := slices.Concat(frames...)
		p := make([]byte, len(stream))
		var d decoder
		in := &inboundCount{}
		n := testing.AllocsPerRun(200, func() {
			copy(p, stream) // feed has unmasked it
			if fail := d.feed(p, testMaxMessage, nil, in); fail != 0 {
				t.Fatalf("%s: fail %d", name, fail)
			}
		})
		if n != 0 {
			t.Errorf("%s: %v allocations, want 0", name, n)
		}
		if in.messages == 0 && in.controls == 0 {
			t.Errorf("%s: nothing came out", name)
		}
	}
	f("small text", maskedFrame(finText, `{"type":"ping","id":8}`))
	f("64 KiB of binary", maskedFrame(finBinary, strings.Repeat("x", 64<<10)))
	f("pong", maskedFrame(finPong, "12345678"))
	f("several", maskedFrame(finText, "a"), maskedFrame(finPing, "b"), maskedFrame(finBinary, "c"))
}

func BenchmarkDecode(b *testing.B) {
	f := func(name string, frame []byte) {
		b.Run(name, func(b *testing.B) {
			p := make([]byte, len(frame))
			var d decoder
			in := &inboundCount{}
			b.ReportAllocs()
			b.SetBytes(int64(len(frame)))
			for b.Loop() {
				copy(p, frame)
				if fail := d.feed(p, testMaxMessage, nil, in); fail != 0 {
					b.Fatalf("fail %d", fail)
				}
			}
		})
	}
	f("text of 40 bytes", maskedFrame(finText, strings.Repeat("x", 40)))
	f("text of 64 KiB", maskedFrame(finText, strings.Repeat("x", 64<<10)))
	f("pong", maskedFrame(finPong, ""))
}
