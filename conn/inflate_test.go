package conn

import (
	"bytes"
	"compress/flate"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/gobwas/ws"
)

// First bytes of frames of compressed messages.
const (
	zText, zBinary = finText | rsv1Bit, finBinary | rsv1Bit
)

// zipped compresses as a client does (RFC 7692, 7.2.1).
func zipped(payload string) string {
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.BestCompression)
	if err != nil {
		panic(err)
	}
	io.WriteString(w, payload)
	w.Flush()
	return string(bytes.TrimSuffix(b.Bytes(), syncTail))
}

// zippedFinal compresses with a last block (7.2.3.4), with nothing behind it.
func zippedFinal(payload string) string {
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.BestCompression)
	if err != nil {
		panic(err)
	}
	io.WriteString(w, payload)
	w.Close()
	return b.String()
}

// stored is a block without compression, which need not be the last.
func stored(payload string) string {
	n := len(payload)
	return string([]byte{0, byte(n), byte(n >> 8), ^byte(n), ^byte(n >> 8)}) + payload
}

func inflateCases() []decodeCase {
	frames := func(frames ...[]byte) [][]byte { return frames }
	const hello = "\xf2\x48\xcd\xc9\xc9\x07\x00" // RFC 7692, 7.2.3.1
	long := strings.Repeat(`{"symbol":"AAPL","price":187.2},`, 200)
	cases := []decodeCase{
		{name: "one block", data: frames(maskedFrame(zText, hello)), want: []string{`text "Hello"`}},
		{name: "in two fragments", data: frames(maskedFrame(zText&notFin, hello[:3]), maskedFrame(finContinuation, hello[3:])), want: []string{`text "Hello"`}},
		{name: "no window is kept", data: frames(maskedFrame(zText, hello), maskedFrame(zText, "\xf2\x00\x11\x00\x00")), want: []string{`text "Hello"`}, fail: 1002}, // 7.2.3.2
		{name: "without compression", data: frames(maskedFrame(zText, "\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00")), want: []string{`text "Hello"`}},              // 7.2.3.3
		{name: "a last block", data: frames(maskedFrame(zText, "\xf3\x48\xcd\xc9\xc9\x07\x00\x00")), want: []string{`text "Hello"`}},                                 // 7.2.3.4
		{name: "a last block, and nothing behind it", data: frames(maskedFrame(zText, "\xf3\x48\xcd\xc9\xc9\x07\x00")), want: []string{`text "Hello"`}},
		{name: "two blocks", data: frames(maskedFrame(zText, "\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00")), want: []string{`text "Hello"`}}, // 7.2.3.5
		{name: "nothing", data: frames(maskedFrame(zText, "\x00"), maskedFrame(zBinary, "\x00")), want: []string{`text ""`, `binary ""`}},              // 7.2.3.6
		{name: "nothing at all", data: frames(maskedFrame(zText, ""), maskedFrame(zText&notFin, ""), maskedFrame(finContinuation, "")), want: []string{`text ""`, `text ""`}},
		{name: "several last blocks", data: frames(maskedFrame(zText, zippedFinal("one, ")+zippedFinal("two, ")+zippedFinal("")+zipped("three"))), want: []string{`text "one, two, three"`}},
		{name: "not compressed, between", data: frames(maskedFrame(finText, "plain"), maskedFrame(zText, hello), maskedFrame(finBinary, "plain")), want: []string{`text "plain"`, `text "Hello"`, `binary "plain"`}},
		{name: "pings between fragments", data: frames(maskedFrame(zText&notFin, hello[:1]), maskedFrame(finPing, "a"), maskedFrame(notFin&finContinuation, hello[1:4]), maskedFrame(finPong, "b"), maskedFrame(finContinuation, hello[4:])),
			want: []string{`ping "a"`, `pong "b"`, `text "Hello"`}},
		{name: "much", data: frames(maskedFrame(zText, zipped(long))), want: []string{`text "` + strings.ReplaceAll(long, `"`, `\"`) + `"`}},
		{name: "bytes", data: frames(maskedFrame(zBinary, zipped("\xff\xfe"))), want: []string{`binary "\xff\xfe"`}},

		{name: "text that is none", data: frames(maskedFrame(zText, zipped("\xff\xfe"))), fail: 1007},
		{name: "text that ends within a rune", data: frames(maskedFrame(zText, zipped("\xe2\x82"))), fail: 1007},
		{name: "compressed bytes are no text", data: frames(maskedFrame(zText, zipped("€"))), want: []string{`text "€"`}},

		{name: "as large as may be", max: 1000, data: frames(maskedFrame(zBinary, zipped(strings.Repeat("x", 1000)))), want: []string{`binary "` + strings.Repeat("x", 1000) + `"`}},
		{name: "one too large", max: 1000, data: frames(maskedFrame(zBinary, zipped(strings.Repeat("x", 1001)))), fail: 1009},
		{name: "a bomb", max: 1000, data: frames(maskedFrame(zText, zipped(strings.Repeat("x", 1<<20)))), fail: 1009},
		{name: "a bomb that ends badly", max: 1000, data: frames(maskedFrame(zText, zipped(strings.Repeat("x", 1<<20))+"\xff\xff")), fail: 1009},
		{name: "larger by being compressed", max: 200, data: frames(maskedFrame(zBinary, stored(strings.Repeat("a", 100))+stored(strings.Repeat("b", 100))+"\x00")),
			want: []string{`binary "` + strings.Repeat("a", 100) + strings.Repeat("b", 100) + `"`}},
		{name: "too large before it is decompressed", max: 200, data: frames(maskedFrame(zBinary, strings.Repeat("\x00", 200+200/deflateSlack+64+1))[:10]), fail: 1009, rest: true},
		{name: "too large over fragments", max: 200, data: frames(maskedFrame(zBinary&notFin, strings.Repeat("\x00", 200)), maskedFrame(finContinuation, strings.Repeat("\x00", 200))), fail: 1009},

		{name: "garbage", data: frames(maskedFrame(zText, "\xff\xff\xff\xff")), fail: 1002},
		{name: "a block of no kind", data: frames(maskedFrame(zText, "\x07")), fail: 1002},
		{name: "lengths that differ", data: frames(maskedFrame(zText, "\x00\x05\x00\x05\x00hello\x00")), fail: 1002},
		{name: "cut short", data: frames(maskedFrame(zText, hello[:4])), fail: 1002},
		{name: "a distance before the start", data: frames(maskedFrame(zText, "\x02\x13\x00\x00")), fail: 1002},

		{name: "a compressed ping", data: frames(maskedFrame(finPing|rsv1Bit, hello)), fail: 1002},
		{name: "a compressed close", data: frames(maskedFrame(finClose|rsv1Bit, "")), fail: 1002},
		{name: "RSV1 on a continuation", data: frames(maskedFrame(zText&notFin, hello[:3]), maskedFrame(finContinuation|rsv1Bit, hello[3:])), fail: 1002},
		{name: "RSV1 on the continuation alone", data: frames(maskedFrame(finText&notFin, "a"), maskedFrame(finContinuation|rsv1Bit, hello)), fail: 1002},
		{name: "RSV1 within a message", data: frames(maskedFrame(zText&notFin, hello[:3]), maskedFrame(zText, hello)), fail: 1002},
		{name: "RSV1 on a reserved opcode", data: frames(maskedFrame(0xc3, hello)), fail: 1002},
	}
	for _, rsv := range []byte{0x20, 0x10, 0x30, 0x60, 0x50, 0x70} {
		cases = append(cases, decodeCase{name: "RSV2 or RSV3", data: frames(maskedFrame(finText|rsv, hello)), fail: 1002})
	}
	return cases
}

// TestInflate is TestDecode for a client that negotiated compression.
func TestInflate(t *testing.T) {
	for _, test := range append(inflateCases(), decodeCases()...) {
		if test.name == "RSV without an extension" {
			continue
		}
		t.Run(test.name, func(t *testing.T) {
			limit := test.max
			if limit == 0 {
				limit = testMaxMessage
			}
			whole := bytes.Join(test.data, nil)
			rng := rand.New(rand.NewPCG(1, 2))
			for _, pieces := range [][][]byte{{whole}, test.data, cutPieces(whole, func() int { return 1 + rng.IntN(9) })} {
				var in inboundLog
				d, fail := feedInflating(pieces, limit, &in)
				if fail != test.fail || !slices.Equal(in.calls, test.want) {
					t.Fatalf("%d pieces: fail %d after %.300q, want %d after %.300q", len(pieces), fail, in.calls, test.fail, test.want)
				}
				if d.release(); d != (decoder{}) {
					t.Errorf("released it is not like new: %+v", d)
				}
			}
		})
	}
}

// feedInflating is feedPieces for a client that negotiated compression.
func feedInflating(pieces [][]byte, maxMessage int, in *inboundLog) (d decoder, fail ws.StatusCode) {
	var inf inflater
	for _, piece := range pieces {
		p, calls := bytes.Clone(piece), len(in.calls)
		fail := d.feed(p, maxMessage, &inf, in)
		for d.unread > 0 && fail == 0 && !in.ended(calls) {
			rest := p[len(p)-d.unread:]
			d.inflated, d.unread = 0, 0
			fail = d.feed(rest, maxMessage, &inf, in)
		}
		for i := range p {
			p[i] = 0xee
		}
		if fail != 0 || in.ended(calls) {
			return d, fail
		}
	}
	return d, 0
}

// modelInflate is what a message comes to, by compress/flate, which reads all of
// it. Where it ends badly, whole is what comes before that.
func modelInflate(payload []byte) (whole []byte, bad bool) {
	if len(payload) == 0 {
		return nil, false
	}
	in := bytes.NewReader(append(bytes.Clone(payload), inflateTail...))
	for {
		part, err := io.ReadAll(flate.NewReader(in))
		whole = append(whole, part...)
		if err != nil {
			var corrupt flate.CorruptInputError
			if !errors.As(err, &corrupt) && !errors.Is(err, io.ErrUnexpectedEOF) {
				panic(err)
			}
			return whole, true
		}
		if n := in.Len(); n == 0 || n == len(inflateTail) {
			return whole, false
		}
	}
}

// FuzzInflate has random bytes as a compressed message, in random fragments with
// pings between them, cut anywhere, and compares with modelInflate and a limit.
func FuzzInflate(f *testing.F) {
	for i, test := range inflateCases() {
		for _, frame := range test.data {
			if h, size, fail := parseHeader(frame, ws.StateServerSide|ws.StateExtended, 1<<20); fail == 0 && size > 0 && len(frame) >= size+int(h.Length) {
				payload := bytes.Clone(frame[size:])
				ws.Cipher(payload, h.Mask, 0)
				if len(payload) < 4096 {
					f.Add(payload, uint64(i), uint16(1000), h.OpCode == ws.OpText)
				}
			}
		}
	}
	f.Fuzz(func(t *testing.T, payload []byte, seed uint64, limit uint16, text bool) {
		whole, bad := modelInflate(payload)
		op, kind := byte(0x02), "binary"
		if text {
			op, kind = 0x01, "text"
		}
		rng := rand.New(rand.NewPCG(seed, 0))
		var stream []byte
		first, rest := op|rsv1Bit, payload
		for rng.IntN(3) > 0 {
			n := rng.IntN(len(rest) + 1)
			stream = append(stream, maskedFrame(first, string(rest[:n]))...)
			stream = append(stream, maskedFrame(finPong, "")...)
			first, rest = 0, rest[n:]
		}
		stream = append(stream, maskedFrame(first|finBit, string(rest))...)
		var in inboundLog
		d, fail := feedInflating(cutPieces(stream, func() int { return 1 + rng.IntN(len(stream)) }), int(limit), &in)
		in.calls = slices.DeleteFunc(in.calls, func(call string) bool { return call == `pong ""` })
		var want ws.StatusCode
		switch {
		case len(payload) > int(limit)+int(limit)/deflateSlack+64, len(whole) > int(limit):
			want = ws.StatusMessageTooBig
		case bad:
			want = ws.StatusProtocolError
		case text && !utf8.Valid(whole):
			want = ws.StatusInvalidFramePayloadData
		default:
			var log inboundLog
			log.add(kind, whole)
			if !slices.Equal(in.calls, log.calls) {
				t.Fatalf("got %.300q, want %.300q", in.calls, log.calls)
			}
		}
		if bad && fail == ws.StatusMessageTooBig {
			want = fail // the one has looked at all of a block's codes before it has the other's first byte
		}
		if fail != want {
			t.Fatalf("fail %d, want %d; the model has %d bytes, bad %v", fail, want, len(whole), bad)
		}
		if want == 0 && d.inflated < len(whole) {
			t.Fatalf("%d bytes were counted for %d", d.inflated, len(whole))
		}
		d.release()
	})
}

// Decompressing costs the decompressor, once, and nothing for each message.
func TestInflateAllocs(t *testing.T) {
	var d decoder
	var inf inflater
	in := discard{}
	frame := maskedFrame(zText, zipped(strings.Repeat(`{"symbol":"AAPL","price":187.2},`, 30)))
	p := make([]byte, len(frame))
	if n := leastAllocs(func() {
		copy(p, frame)
		d.inflated = 0
		if fail := d.feed(p, testMaxMessage, &inf, in); fail != 0 {
			t.Fatal(fail)
		}
	}); n > 0 {
		t.Errorf("%v allocations for a message", n)
	}
}

// discard is an inbound that takes everything.
type discard struct{}

func (discard) message(ws.OpCode, []byte) bool { return true }
func (discard) control(ws.OpCode, []byte) bool { return true }
func (discard) closed(ws.StatusCode, []byte)   {}
