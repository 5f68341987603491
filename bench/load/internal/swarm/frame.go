package swarm

import (
	"encoding/binary"
	"errors"
)

// The opcodes of RFC 6455 section 5.2.
const (
	opContinuation = 0x0
	opText         = 0x1
	opBinary       = 0x2
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xA
)

// maxFrame bounds what is kept of a frame until it is complete, in bytes.
const maxFrame = 16 << 20

// What a server must not send.
var (
	errMasked   = errors.New("masked frame from the server")             // RFC 6455 section 5.1
	errReserved = errors.New("reserved bits without an extension")       // section 5.2
	errControl  = errors.New("control frame that is cut or too long")    // section 5.5
	errLarge    = errors.New("frame of more than 16 MiB")                // a bound of ours
	errSequence = errors.New("continuation without a beginning, or not") // section 5.4
)

// rsv1 marks the first frame of a message that is compressed (RFC 7692 section 6).
const rsv1 = 0x40

// frame is one frame of a server.
type frame struct {
	opcode  byte
	final   bool
	payload []byte // within the bytes that were cut
	deflate bool   // rsv1
}

// cut returns the first frame of b and its length. The length is 0 where b has
// not all of it yet. Of the reserved bits those of extension may be set, in the first frame of a message.
func cut(b []byte, extension byte) (f frame, n int, err error) {
	if len(b) < 2 {
		return frame{}, 0, nil
	}
	f.opcode, f.final, f.deflate = b[0]&0x0f, b[0]&0x80 != 0, b[0]&rsv1 != 0
	if f.opcode != opText && f.opcode != opBinary {
		extension = 0
	}
	size := uint64(b[1])
	n = 2
	switch {
	case b[0]&0x70&^extension != 0:
		return frame{}, 0, errReserved
	case b[1]&0x80 != 0:
		return frame{}, 0, errMasked
	case f.opcode >= opClose && (!f.final || size > 125):
		return frame{}, 0, errControl
	case size == 126:
		if n = 4; len(b) < n {
			return frame{}, 0, nil
		}
		size = uint64(binary.BigEndian.Uint16(b[2:]))
	case size == 127:
		if n = 10; len(b) < n {
			return frame{}, 0, nil
		}
		size = binary.BigEndian.Uint64(b[2:])
	}
	if size > maxFrame {
		return frame{}, 0, errLarge
	}
	if uint64(len(b)-n) < size {
		return frame{}, 0, nil
	}
	f.payload = b[n : n+int(size)]
	return f, n + int(size), nil
}

// appendFrame appends a whole message in one frame, masked as a client must
// (RFC 6455 section 5.3).
func appendFrame(b []byte, opcode byte, payload []byte, mask uint32) []byte {
	b = append(b, 0x80|opcode)
	switch size := len(payload); {
	case size <= 125:
		b = append(b, 0x80|byte(size))
	case size < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(size))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(size))
	}
	b = binary.BigEndian.AppendUint32(b, mask)
	for i, c := range payload {
		b = append(b, c^byte(mask>>(24-8*(i%4))))
	}
	return b
}
