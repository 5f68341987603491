package conn

import (
	"bytes"
	"io"

	"github.com/gobwas/ws"
	"github.com/klauspost/compress/flate"
	"github.com/valyala/bytebufferpool"
)

// inflateTail is put behind the payload of a compressed message: what its
// sender left out (RFC 7692, 7.2.2), and a last block, at which a flate.Reader
// ends.
const inflateTail = "\x00\x00\xff\xff" + "\x01\x00\x00\xff\xff"

// restartCost is what a message counts, in bytes, for each time that its
// compression ended and began anew (RFC 7692, 7.2.3.4): that costs us more than
// the two bytes which it takes to make us do it.
const restartCost = 256

// inflater decompresses whole messages, one at a time and each by itself. One
// serves a table; the zero value is ready. It keeps about 50 KB once it was used.
type inflater struct {
	in bytes.Reader
	z  io.ReadCloser // nil: none yet
}

// inflate decompresses body, which it gives back to the pool; nil is a message
// of no bytes. It stops at the first byte beyond limit. cost is what the work
// came to, in bytes; fail is 0, or the code to close with: 1009 for a message
// that is too big, 1002 for what no compressor makes (RFC 7692 has no code for it).
func (f *inflater) inflate(body *bytebufferpool.ByteBuffer, limit int) (message *bytebufferpool.ByteBuffer, cost int, fail ws.StatusCode) {
	message = bytebufferpool.Get()
	message.Reset()
	if body == nil {
		return message, 0, 0 // strictly it would be a byte of 0 (7.2.3.6); zlib takes both
	}
	defer putBuffer(body)
	body.B = append(body.B, inflateTail...)
	f.in.Reset(body.B)
	defer f.in.Reset(nil)
	for {
		f.begin()
		fail = f.block(message, limit)
		cost += restartCost
		switch {
		case fail != 0:
			putBuffer(message)
			return nil, cost, fail
		case f.in.Len() == 0, f.in.Len() == len(inflateTail):
			return message, cost + len(message.B), 0
		}
		// A block with BFINAL, and more behind it (7.2.3.4).
	}
}

// begin starts with the rest of the input, and nothing to refer back to.
func (f *inflater) begin() {
	if f.z == nil {
		f.z = flate.NewReader(&f.in)
		return
	}
	_ = f.z.(flate.Resetter).Reset(&f.in, nil) // it has no error to tell
}

// block appends what the input comes to, up to a last block.
func (f *inflater) block(message *bytebufferpool.ByteBuffer, limit int) (fail ws.StatusCode) {
	for {
		if len(message.B) == cap(message.B) {
			message.B = append(message.B, 0)[:len(message.B)]
		}
		room := message.B[len(message.B):min(cap(message.B), limit+1)]
		n, err := f.z.Read(room)
		message.B = message.B[:len(message.B)+n]
		switch {
		case len(message.B) > limit:
			return ws.StatusMessageTooBig
		case err == io.EOF:
			return 0
		case err != nil:
			return ws.StatusProtocolError
		}
	}
}
