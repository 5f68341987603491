package swarm

import (
	"bytes"
	"errors"
)

// cutEvent returns the first event of a stream (WHATWG HTML, 9.2.6) and its length with the empty line that ends it.
// The length is 0 where b has not all of it yet. Servers that end lines with CR alone are not understood.
func cutEvent(b []byte) (event []byte, n int, err error) {
	for at := 0; ; {
		line := bytes.IndexByte(b[at:], '\n')
		if line < 0 {
			break
		}
		at += line + 1
		switch rest := b[at:]; {
		case len(rest) > 0 && rest[0] == '\n':
			return b[:at], at + 1, nil
		case len(rest) > 1 && rest[0] == '\r' && rest[1] == '\n':
			return b[:at], at + 2, nil
		}
	}
	if len(b) > maxFrame {
		return nil, 0, errLarge
	}
	return nil, 0, nil
}

// takeEvent deals with one event. Of its fields none matters: what is in it is found as in a message of a WebSocket.
func (s *Swarm) takeEvent(c *client, event []byte, now int64) error {
	if event[0] == ':' { // a comment, with which servers keep a stream alive
		s.window.counted.Pings++
		return nil
	}
	return s.message(c, event, now)
}

var errChunk = errors.New("body that is not chunked as it should be")

// chunks takes the chunked coding off a body that comes in pieces (RFC 9112 section 7.1).
type chunks struct {
	left int       // bytes of this chunk that are still to come
	at   chunkPart // where the next byte belongs
}

// chunkPart is a part of a chunk.
type chunkPart byte

const (
	chunkSize chunkPart = iota
	chunkExtension
	chunkData
	chunkEnd
)

// strip returns the content of b, in place.
func (ch *chunks) strip(b []byte) ([]byte, error) {
	content := b[:0]
	for len(b) > 0 {
		if ch.at == chunkData {
			n := min(ch.left, len(b))
			content = append(content, b[:n]...)
			b = b[n:]
			if ch.left -= n; ch.left == 0 {
				ch.at = chunkEnd
			}
			continue
		}
		octet := b[0]
		b = b[1:]
		if err := ch.frame(octet); err != nil {
			return nil, err
		}
	}
	return content, nil
}

// frame takes a byte that is no content.
func (ch *chunks) frame(octet byte) error {
	switch {
	case octet == '\r':
	case octet == '\n' && ch.at == chunkEnd:
		ch.at = chunkSize
	case octet == '\n' && ch.left > 0:
		ch.at = chunkData
	case octet == '\n': // the last chunk has no content, and the end of the connection follows
	case ch.at == chunkEnd:
		return errChunk
	case octet == ';' || ch.at == chunkExtension:
		ch.at = chunkExtension
	default:
		digit := bytes.IndexByte([]byte("0123456789abcdef"), octet|0x20)
		if digit < 0 || ch.left > maxFrame {
			return errChunk
		}
		ch.left = ch.left<<4 | digit
	}
	return nil
}
