package hub

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"sync"
)

// TextFrame is the one unmasked frame of a text message (RFC 6455, section 5.2), for peers whose library has no
// way of its own to encode a message once for many connections.
func TextFrame(payload []byte) []byte {
	return frame(finText, payload)
}

// DeflatedFrame is the same of a compressed message, without context takeover (RFC 7692, section 7.2.1), at level 1.
func DeflatedFrame(payload []byte) []byte {
	d, _ := deflaters.Get().(*deflater)
	if d == nil {
		d = new(deflater)
		d.to, _ = flate.NewWriter(&d.packed, flate.BestSpeed) // fails for a wrong level alone
	}
	defer deflaters.Put(d)
	d.packed.Reset()
	d.to.Reset(&d.packed)
	d.to.Write(payload) // into memory
	d.to.Flush()
	const tail = "\x00\x00\xff\xff"
	return frame(finText|rsv1, bytes.TrimSuffix(d.packed.Bytes(), []byte(tail)))
}

// deflater is kept, since a new one is some hundred KiB.
type deflater struct {
	packed bytes.Buffer
	to     *flate.Writer
}

var deflaters sync.Pool // of *deflater

const (
	finText = 0x81
	rsv1    = 0x40
)

func frame(first byte, payload []byte) []byte {
	frame := make([]byte, 0, 10+len(payload))
	switch n := len(payload); {
	case n < 126:
		frame = append(frame, first, byte(n))
	case n <= 0xffff:
		frame = binary.BigEndian.AppendUint16(append(frame, first, 126), uint16(n))
	default:
		frame = binary.BigEndian.AppendUint64(append(frame, first, 127), uint64(n))
	}
	return append(frame, payload...)
}
