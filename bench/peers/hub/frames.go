package hub

import "encoding/binary"

// TextFrame is the one unmasked frame of a text message (RFC 6455, section 5.2), for peers whose library has no
// way of its own to encode a message once for many connections.
func TextFrame(payload []byte) []byte {
	const finText = 0x81
	frame := make([]byte, 0, 10+len(payload))
	switch n := len(payload); {
	case n < 126:
		frame = append(frame, finText, byte(n))
	case n <= 0xffff:
		frame = binary.BigEndian.AppendUint16(append(frame, finText, 126), uint16(n))
	default:
		frame = binary.BigEndian.AppendUint64(append(frame, finText, 127), uint64(n))
	}
	return append(frame, payload...)
}
