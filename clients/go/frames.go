package pushd

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/gobwas/ws"
)

// Bounds of a message from the server, in bytes.
const (
	maxIncoming = 256 << 20 // beyond what any server is configured for
	readStep    = 1 << 20   // memory beyond it comes with the bytes: a frame only claims a length
)

// frameReader takes messages from the frames of a connection, and leaves
// control frames to whoever reads.
type frameReader struct {
	in      *bufio.Reader
	header  [ws.MaxHeaderSize]byte
	control func(op ws.OpCode, payload []byte) error
}

// protocolError is a mistake of the server.
type protocolError struct {
	code int // with which the connection is closed
	what string
}

func (e *protocolError) Error() string { return "the server sent " + e.what }

// next returns one message. Its bytes are the caller's to keep.
func (r *frameReader) next() ([]byte, error) {
	var message []byte
	for begun := false; ; {
		header, err := ws.ReadHeaderBuffer(r.in, r.header[:2])
		if err != nil {
			return nil, err
		}
		if err := r.check(&header, begun, len(message)); err != nil {
			return nil, err
		}
		if header.OpCode.IsControl() { // also between fragments (RFC 6455 section 5.4)
			payload := make([]byte, header.Length)
			if _, err := io.ReadFull(r.in, payload); err != nil {
				return nil, err
			}
			if err := r.control(header.OpCode, payload); err != nil {
				return nil, err
			}
			continue
		}
		begun = true
		if message, err = r.payload(message, int(header.Length)); err != nil {
			return nil, err
		}
		if header.Fin {
			if !utf8.Valid(message) { // (section 8.1)
				return nil, &protocolError{closeBadUTF8, "a text message that is not UTF-8"}
			}
			return message, nil
		}
	}
}

// check obeys the rules of RFC 6455 section 5 for a frame of a server.
func (r *frameReader) check(h *ws.Header, begun bool, sofar int) error {
	switch {
	case h.Rsv != 0 || h.Masked:
		return &protocolError{closeProtocol, "a frame with reserved bits or a mask"}
	case h.OpCode.IsControl() && (!h.Fin || h.Length > ws.MaxControlFramePayloadSize):
		return &protocolError{closeProtocol, "a control frame that is fragmented or too long"}
	case h.OpCode.IsControl():
		return nil
	case h.OpCode == ws.OpBinary:
		return &protocolError{closeUnsupported, "a binary message"}
	case begun != (h.OpCode == ws.OpContinuation) || !begun && h.OpCode != ws.OpText:
		return &protocolError{closeProtocol, fmt.Sprintf("a frame with opcode %d where it has no place", h.OpCode)}
	case h.Length > maxIncoming-int64(sofar):
		return &protocolError{closeTooBig, fmt.Sprintf("a message of more than %d bytes", maxIncoming)}
	}
	return nil
}

// payload appends n bytes to message.
func (r *frameReader) payload(message []byte, n int) ([]byte, error) {
	for n > 0 {
		start, step := len(message), min(n, readStep)
		if cap(message)-start < step {
			grown := make([]byte, start, max(start+step, min(2*start, start+n)))
			copy(grown, message)
			message = grown
		}
		message = message[:start+step]
		if _, err := io.ReadFull(r.in, message[start:]); err != nil {
			return nil, err
		}
		n -= step
	}
	return message, nil
}

// appendFrame appends a frame of a client, which is masked (RFC 6455 section 5.3).
func appendFrame(to []byte, op ws.OpCode, payload []byte) []byte {
	to = append(to, 0x80|byte(op))
	switch n := len(payload); {
	case n <= 125:
		to = append(to, 0x80|byte(n))
	case n <= 0xffff:
		to = binary.BigEndian.AppendUint16(append(to, 0x80|126), uint16(n))
	default:
		to = binary.BigEndian.AppendUint64(append(to, 0x80|127), uint64(n))
	}
	mask := ws.NewMask()
	to = append(to, mask[:]...)
	to = append(to, payload...)
	ws.Cipher(to[len(to)-len(payload):], mask, 0)
	return to
}

// appendClose appends a close frame; code closeNoStatus leaves the code out.
func appendClose(to []byte, code int) []byte {
	var body []byte
	if code != closeNoStatus {
		body = binary.BigEndian.AppendUint16(nil, uint16(code))
	}
	return appendFrame(to, ws.OpClose, body)
}
