package conn

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
	"unicode/utf8"

	"github.com/gobwas/ws"
)

// modelDecode is the decoder in its plainest form: it has all of the input,
// and reads it with ws. Where the input ends within a frame, the model says
// what can be known so far, since the decoder is to fail at once.
func modelDecode(input []byte, maxMessage int, in inbound) (fail ws.StatusCode) {
	var (
		message []byte
		op      ws.OpCode // 0: no message under way
	)
	r := bytes.NewReader(input)
	for r.Len() > 0 {
		start := input[len(input)-r.Len():]
		state := ws.StateServerSide
		if op != 0 {
			state |= ws.StateFragmented
		}
		h, err := ws.ReadHeader(r)
		cutShort := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if cutShort {
			if len(start) < 2 {
				return 0
			}
			// As if zeros followed: what is missing is not looked at below.
			h, err = ws.ReadHeader(bytes.NewReader(append(start[:len(start):len(start)], make([]byte, ws.MaxHeaderSize)...)))
		}
		first := h
		first.Length = int64(start[1] & 0x7f)
		if ws.CheckHeader(first, state) != nil {
			return ws.StatusProtocolError
		}
		lengthSize := map[byte]int{126: 2, 127: 8}[start[1]&0x7f]
		if len(start) >= 2+lengthSize {
			if errors.Is(err, ws.ErrHeaderLengthMSB) || lengthSize == 2 && h.Length < 126 || lengthSize == 8 && h.Length < 1<<16 {
				return ws.StatusProtocolError
			}
			if h.OpCode.IsData() && int64(len(message))+h.Length > int64(maxMessage) {
				return ws.StatusMessageTooBig
			}
		}
		if cutShort {
			return 0
		}

		payload := make([]byte, min(int(h.Length), r.Len()))
		io.ReadFull(r, payload)
		ws.Cipher(payload, h.Mask, 0)
		complete := len(payload) == int(h.Length)

		switch {
		case h.OpCode == ws.OpClose:
			if !complete {
				return 0
			}
			return modelClose(payload, in)
		case h.OpCode.IsControl():
			if complete && !in.control(h.OpCode, payload) {
				return 0
			}
		default:
			if h.OpCode != ws.OpContinuation {
				op = h.OpCode
			}
			message = append(message, payload...)
			if op == ws.OpText && !canBecomeUTF8(message) {
				return ws.StatusInvalidFramePayloadData
			}
			if complete && h.Fin {
				if op == ws.OpText && !utf8.Valid(message) {
					return ws.StatusInvalidFramePayloadData
				}
				if !in.message(op, message) {
					return 0
				}
				message, op = nil, 0
			}
		}
	}
	return 0
}

// modelClose has the close codes as a list (RFC 6455, 7.4, and IANA).
func modelClose(body []byte, in inbound) ws.StatusCode {
	if len(body) == 0 {
		in.closed(ws.StatusNoStatusRcvd, nil)
		return 0
	}
	if len(body) == 1 {
		return ws.StatusProtocolError
	}
	code := binary.BigEndian.Uint16(body)
	known := []uint16{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014}
	if !slices.Contains(known, code) && (code < 3000 || code > 4999) {
		return ws.StatusProtocolError
	}
	if !utf8.Valid(body[2:]) {
		return ws.StatusInvalidFramePayloadData
	}
	in.closed(ws.StatusCode(code), body[2:])
	return 0
}

// FuzzDecode compares with modelDecode, for the input in one piece and for a
// split drawn from seed; stopAt is the call that stops the decoder.
func FuzzDecode(f *testing.F) {
	for i, test := range decodeCases() {
		if whole := bytes.Join(test.data, nil); len(whole) < 4096 {
			f.Add(whole, uint64(i), uint16(test.max), uint8(0))
			f.Add(whole, uint64(i), uint16(8), uint8(i%4))
		}
	}
	f.Fuzz(func(t *testing.T, input []byte, seed uint64, maxMessage uint16, stopAt uint8) {
		size := int(maxMessage)
		if size == 0 {
			size = testMaxMessage
		}
		want := inboundLog{stopAt: int(stopAt)}
		wantFail := modelDecode(bytes.Clone(input), size, &want)

		rng := rand.New(rand.NewPCG(seed, 0))
		largest := 1 + rng.IntN(40)
		for _, pieces := range [][][]byte{
			{input},
			cutPieces(input, func() int { return rng.IntN(largest + 1) }),
		} {
			got := inboundLog{stopAt: int(stopAt)}
			d, fail := feedPieces(pieces, size, &got)
			if fail != wantFail || !slices.Equal(got.calls, want.calls) {
				t.Fatalf("in %d pieces: fail %d after %q, the model has %d after %q",
					len(pieces), fail, got.calls, wantFail, want.calls)
			}
			d.release()
		}
	})
}
