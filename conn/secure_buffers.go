package conn

import (
	"bytes"
	"crypto/tls"
	"reflect"
	"slices"
	"unsafe"
)

// A tls.Conn keeps two buffers for ever that are as large as the largest record
// and handshake message it ever read: 4 KiB after a usual handshake, which is as
// much as all the rest of it, and 16 KiB and more after a large message. An idle
// connection needs neither, and crypto/tls has no call that gives them up. So
// its two fields are reached for here, and nowhere else: an empty bytes.Buffer
// is as good as another. Where a release of Go has them no more under these names
// and types, nothing is reached for, and connections cost what they do elsewhere
// (a test tells).
type tlsBuffers struct {
	rawInput, hand uintptr // offsets in a tls.Conn
	known          bool
}

var buffersOfTLS = findBuffers(reflect.TypeFor[tls.Conn]())

func findBuffers(conn reflect.Type) (b tlsBuffers) {
	for _, f := range []struct {
		name   string
		offset *uintptr
	}{{"rawInput", &b.rawInput}, {"hand", &b.hand}} {
		field, ok := conn.FieldByName(f.name)
		if !ok || field.Type != reflect.TypeFor[bytes.Buffer]() {
			return tlsBuffers{}
		}
		*f.offset = field.Offset
	}
	b.known = true
	return b
}

func bufferAt(c *tls.Conn, offset uintptr) *bytes.Buffer {
	return (*bytes.Buffer)(unsafe.Add(unsafe.Pointer(c), offset))
}

// lentSize is for two records of the largest kind. Reads into it take the most
// that the socket had at a time.
const lentSize = 36 << 10

// lend gives a connection the table's buffer for records, if it has nothing in
// its own.
func (s *secure) lend(t *Table) {
	if !buffersOfTLS.known {
		return
	}
	if raw := bufferAt(s.tls, buffersOfTLS.rawInput); raw.Len() == 0 {
		if t.lent == nil {
			t.lent = make([]byte, 0, lentSize)
		}
		*raw = *bytes.NewBuffer(t.lent)
	}
}

// takeBack is to follow lend when Read has told that nothing more has come:
// crypto/tls has no plaintext in the buffer then. What a read has cut is copied.
func (s *secure) takeBack() {
	if !buffersOfTLS.known {
		return
	}
	raw, hand := bufferAt(s.tls, buffersOfTLS.rawInput), bufferAt(s.tls, buffersOfTLS.hand)
	var kept []byte
	if raw.Len() > 0 {
		kept = slices.Clone(raw.Bytes())
	}
	*raw = *bytes.NewBuffer(kept)
	if hand.Len() == 0 {
		*hand = bytes.Buffer{}
	}
}
