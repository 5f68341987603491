package conn

import (
	"encoding/binary"
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/gobwas/ws"
)

// maxCloseReason is how many bytes of a close frame's body are left for the
// reason behind the two of the code (RFC 6455, 5.5 and 5.5.1).
const maxCloseReason = ws.MaxControlFramePayloadSize - 2

// The two first bytes of a frame (RFC 6455, 5.2).
const (
	finBit  = 0x80 // first byte: this is the last fragment
	rsv1Bit = 0x40 // first byte: the message is compressed (RFC 7692, 6)
	maskBit = 0x80 // second byte: a masking key follows the length

	length16 = 126 // second byte: the length is in the next 2 bytes
	length64 = 127 // second byte: the length is in the next 8 bytes

	maxLength7  = 125       // longest payload whose length fits the second byte
	maxLength16 = 1<<16 - 1 // longest payload whose length fits 2 bytes
)

// AppendFrame appends to dst one frame from server to client with the whole
// payload in it: FIN set, no extension, not masked (RFC 6455, 5.1). A control
// frame with more than 125 bytes of payload cannot be written and panics.
func AppendFrame(dst []byte, op ws.OpCode, payload []byte) []byte {
	if op.IsControl() && len(payload) > ws.MaxControlFramePayloadSize {
		panic(fmt.Sprintf("conn: control frame with %d bytes of payload: at most %d are allowed (RFC 6455, 5.5)",
			len(payload), ws.MaxControlFramePayloadSize))
	}
	dst = slices.Grow(dst, frameHeaderSize(len(payload))+len(payload))
	dst = appendFrameHeader(dst, op, len(payload))
	return append(dst, payload...)
}

// AppendClose appends to dst a close frame. The reason must be UTF-8; what is
// more than 123 bytes of it is cut off at the boundary of a rune. A code of 0,
// or of 1005, which is never sent, gives a frame with an empty body (RFC 6455,
// 7.4.1).
func AppendClose(dst []byte, code ws.StatusCode, reason string) []byte {
	if code == 0 || code == ws.StatusNoStatusRcvd {
		return appendFrameHeader(dst, ws.OpClose, 0)
	}
	if len(reason) > maxCloseReason {
		cut := maxCloseReason
		for cut > 0 && !utf8.RuneStart(reason[cut]) {
			cut--
		}
		reason = reason[:cut]
	}
	dst = appendFrameHeader(dst, ws.OpClose, 2+len(reason))
	dst = binary.BigEndian.AppendUint16(dst, uint16(code))
	return append(dst, reason...)
}

// frameHeaderSize is how many bytes stand in front of a payload of n bytes
// that is not masked.
func frameHeaderSize(n int) int {
	switch {
	case n <= maxLength7:
		return 2
	case n <= maxLength16:
		return 4
	default:
		return 10
	}
}

// appendFrameHeader appends the header of a whole message with n bytes of
// payload. The length takes as few bytes as it can (RFC 6455, 5.2).
func appendFrameHeader(dst []byte, op ws.OpCode, n int) []byte {
	dst = append(dst, finBit|byte(op))
	switch {
	case n <= maxLength7:
		return append(dst, byte(n))
	case n <= maxLength16:
		return binary.BigEndian.AppendUint16(append(dst, length16), uint16(n))
	default:
		return binary.BigEndian.AppendUint64(append(dst, length64), uint64(n))
	}
}
