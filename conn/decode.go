package conn

import (
	"encoding/binary"
	"unicode/utf8"

	"github.com/gobwas/ws"
	"github.com/valyala/bytebufferpool"
)

// What a message under way may hold back from others. A buffer that the pool
// hands out may be larger than what has arrived, so that a header and one byte
// could pin it: such a buffer is taken only while it is small, or while the
// bytes in hand justify it.
const (
	maxIdleBuffer   = 4 << 10  // bytes a decoder may hold whatever arrived
	maxSpareFactor  = 4        // or this many times what arrived
	maxPooledBuffer = 64 << 10 // larger buffers are left to the garbage collector
)

// inbound takes what a client sent. A payload is valid during the call only.
// A method that answers false stops the decoder: nothing behind that frame is
// read. Only such a call may release the decoder, and none may feed it.
type inbound interface {
	// message is one complete data message: ws.OpText, then payload is valid
	// UTF-8, or ws.OpBinary.
	message(op ws.OpCode, payload []byte) (goOn bool)

	// control is a ws.OpPing or ws.OpPong, handed over as it comes, also
	// between the fragments of a message (RFC 6455, 5.4).
	control(op ws.OpCode, payload []byte) (goOn bool)

	// closed is a valid close frame; it is the last call. The code is 1005
	// (ws.StatusNoStatusRcvd) if the body was empty (RFC 6455, 7.1.5).
	closed(code ws.StatusCode, reason []byte)
}

// decoder turns the bytes of one client into messages. It keeps what a read
// cut in two, and nothing else: between messages it is idle and has no buffer.
// The zero value is at the start of a connection, which is between two messages
// as well. After a failure, or when inbound has stopped it, only release may be
// called.
type decoder struct {
	// A header that is cut.
	head    [ws.MaxHeaderSize]byte
	headLen int

	// The frame whose payload is under way.
	inFrame bool
	frame   ws.Header
	missing int                        // bytes of its payload still to come
	frames  int                        // that have begun, for who counts them
	control *bytebufferpool.ByteBuffer // payload so far, if it is a control frame

	// The data message under way: the fragments so far.
	op       ws.OpCode                  // OpContinuation (0): none
	deflated bool                       // it is compressed
	body     *bytebufferpool.ByteBuffer // payload so far, unmasked; nil while empty
	valid    int                        // text: body.B[:valid] is known to be UTF-8

	// For who counts it, and goes on then.
	inflated int // bytes that decompressing came to
	unread   int // bytes at the end of what was fed that were not looked at, since inflated is at least inflateSlice
}

// feed reads p, the next bytes of the client, and calls in for each frame or
// message that is complete. maxMessage is the most bytes that one message may
// have, all fragments together. fail is 0, or the code to close with: 1002 for
// a breach of RFC 6455, 1007 for text that is not UTF-8, 1009 for a message
// that is too big; the last two are found as early as the bytes tell, not when
// the frame is complete. A client that negotiated compression has an inflater;
// its messages are decompressed when they are complete, and have at most
// maxMessage bytes then. Once they come to inflateSlice, the rest of p is left
// unread. p is changed in place (unmasked) and not kept.
func (d *decoder) feed(p []byte, maxMessage int, inf *inflater, in inbound) (fail ws.StatusCode) {
	for len(p) > 0 {
		if !d.inFrame {
			if d.inflated >= inflateSlice {
				d.unread = len(p)
				return 0
			}
			used, complete, fail := d.readHeader(p, maxMessage, inf != nil)
			if fail != 0 || !complete {
				return fail
			}
			p = p[used:]
		}
		n := min(len(p), d.missing)
		chunk := p[:n:n]
		p = p[n:]
		goOn := false
		if d.frame.OpCode.IsControl() {
			goOn, fail = d.readControl(chunk, in)
		} else {
			goOn, fail = d.readData(chunk, maxMessage, inf, in)
		}
		if fail != 0 || !goOn {
			return fail
		}
	}
	return 0
}

// idle reports that nothing is kept: neither part of a frame nor of a message.
func (d *decoder) idle() bool {
	return d.headLen == 0 && !d.inFrame && d.op == ws.OpContinuation
}

// size is the memory of what is kept, in bytes.
func (d *decoder) size() (n int) {
	if d.body != nil {
		n += cap(d.body.B)
	}
	if d.control != nil {
		n += cap(d.control.B)
	}
	return n
}

// release gives back the buffers and makes the decoder idle.
func (d *decoder) release() {
	putBuffer(d.control)
	putBuffer(d.body)
	*d = decoder{}
}

// readHeader takes a frame header from the start of p, or its rest where an
// earlier read has cut it.
func (d *decoder) readHeader(p []byte, maxMessage int, deflates bool) (used int, complete bool, fail ws.StatusCode) {
	src, kept := p, d.headLen
	if kept > 0 {
		src = d.head[:kept+copy(d.head[kept:], p)]
	}
	state := ws.StateServerSide
	if d.op != ws.OpContinuation {
		state = state.Set(ws.StateFragmented)
	}
	room := maxMessage
	if deflates {
		state = state.Set(ws.StateExtended)
		if d.deflated || src[0]&rsv1Bit != 0 {
			room += maxMessage/deflateSlack + 64
		}
	}
	if d.body != nil {
		room -= d.body.Len()
	}
	h, size, fail := parseHeader(src, state, int64(room))
	if fail != 0 {
		return 0, false, fail
	}
	if size == 0 {
		// A header that is not complete is shorter than head, so all of p
		// is in src.
		d.headLen = copy(d.head[:], src)
		return len(p), false, 0
	}
	d.headLen = 0
	d.inFrame = true
	d.frames++
	d.frame = h
	d.missing = int(h.Length) // fits: at most maxMessage, or 125
	if h.OpCode.IsData() && h.OpCode != ws.OpContinuation {
		d.op, d.deflated = h.OpCode, h.Rsv != 0
	}
	return size - kept, true, 0
}

// deflateSlack is the part by which compressing may make a message larger that
// cannot be made smaller, as small blocks that are stored do.
const deflateSlack = 16

// parseHeader reads a frame header (RFC 6455, 5.2) from p; size is 0 while p
// is too short to hold all of it. Each rule is checked with the first bytes
// that can break it, so that nobody is waited for in vain.
func parseHeader(p []byte, state ws.State, room int64) (h ws.Header, size int, fail ws.StatusCode) {
	if len(p) < 2 {
		return h, 0, 0
	}
	h.Fin = p[0]&finBit != 0
	h.Rsv = p[0] >> 4 & 0x7
	h.OpCode = ws.OpCode(p[0] & 0xf)
	h.Masked = p[1]&maskBit != 0
	h.Length = int64(p[1] &^ maskBit)
	// The length may stand for a longer one still to be read: to CheckHeader
	// that is all the same, since either is too long for a control frame.
	check := h
	if state.Extended() && h.Rsv == rsv1Bit>>4 && (h.OpCode == ws.OpText || h.OpCode == ws.OpBinary) {
		check.Rsv = 0 // RFC 7692, 6: it is set in the first fragment of a message alone, and in no control frame
	}
	if ws.CheckHeader(check, state.Clear(ws.StateExtended)) != nil {
		return h, 0, ws.StatusProtocolError
	}

	size = 2
	switch h.Length {
	case length16:
		size += 2
		if len(p) < size {
			return h, 0, 0
		}
		h.Length = int64(binary.BigEndian.Uint16(p[2:]))
		if h.Length <= maxLength7 {
			return h, 0, ws.StatusProtocolError // 5.2: the minimal number of bytes MUST be used
		}
	case length64:
		size += 8
		if len(p) < size {
			return h, 0, 0
		}
		length := binary.BigEndian.Uint64(p[2:])
		if length>>63 != 0 || length <= maxLength16 {
			return h, 0, ws.StatusProtocolError // 5.2: the most significant bit MUST be 0
		}
		h.Length = int64(length)
	}
	if h.OpCode.IsData() && h.Length > room {
		return h, 0, ws.StatusMessageTooBig
	}

	// The mask is there: CheckHeader demands it of a client (5.1).
	if len(p) < size+len(h.Mask) {
		return h, 0, 0
	}
	size += copy(h.Mask[:], p[size:])
	return h, size, 0
}

// readData takes the next piece of a data frame's payload.
func (d *decoder) readData(chunk []byte, maxMessage int, inf *inflater, in inbound) (goOn bool, fail ws.StatusCode) {
	if d.body == nil && d.frame.Fin && len(chunk) == d.missing && !d.deflated {
		// The usual case: all of the message is in the caller's buffer.
		op, mask := d.op, d.frame.Mask
		*d = decoder{frames: d.frames, inflated: d.inflated}
		ws.Cipher(chunk, mask, 0)
		if op == ws.OpText && !utf8.Valid(chunk) {
			return false, ws.StatusInvalidFramePayloadData
		}
		return in.message(op, chunk), 0
	}

	d.body = d.unmaskInto(d.body, chunk)
	text := d.op == ws.OpText && d.body != nil && !d.deflated
	if text {
		n, ok := wholeRunes(d.body.B[d.valid:])
		if !ok {
			return false, ws.StatusInvalidFramePayloadData // 8.1
		}
		d.valid += n
	}
	if d.missing > 0 {
		return true, 0
	}
	d.inFrame = false
	if !d.frame.Fin {
		return true, 0
	}
	if text && d.valid < d.body.Len() {
		return false, ws.StatusInvalidFramePayloadData // the text ends within a rune
	}
	// The call may release the decoder, so the buffer is not its own by then.
	op, body, deflated := d.op, d.body, d.deflated
	*d = decoder{frames: d.frames, inflated: d.inflated}
	if deflated {
		var cost int
		body, cost, fail = inf.inflate(body, maxMessage)
		d.inflated += cost
		if fail == 0 && op == ws.OpText && !utf8.Valid(body.B) {
			fail = ws.StatusInvalidFramePayloadData // of the message, which is what it comes to: RFC 7692, 6
		}
		if fail != 0 {
			putBuffer(body)
			return false, fail
		}
	}
	goOn = in.message(op, body.B)
	putBuffer(body)
	return goOn, 0
}

// readControl takes the next piece of a control frame's payload. The message
// in whose midst it may stand stays as it is.
func (d *decoder) readControl(chunk []byte, in inbound) (goOn bool, fail ws.StatusCode) {
	if d.control == nil && len(chunk) == d.missing {
		ws.Cipher(chunk, d.frame.Mask, 0)
		d.inFrame, d.missing = false, 0
		return handleControl(d.frame.OpCode, chunk, in)
	}

	d.control = d.unmaskInto(d.control, chunk)
	if d.missing > 0 {
		return true, 0
	}
	payload := d.control
	d.inFrame, d.control = false, nil
	goOn, fail = handleControl(d.frame.OpCode, payload.B, in)
	putBuffer(payload)
	return goOn, fail
}

// unmaskInto appends the next piece of the frame's payload to b, which it
// takes from the pool when the first byte comes.
func (d *decoder) unmaskInto(b *bytebufferpool.ByteBuffer, chunk []byte) *bytebufferpool.ByteBuffer {
	if len(chunk) == 0 {
		return b
	}
	if b == nil {
		b = getBuffer(len(chunk))
	}
	start := b.Len()
	// append grows with what has come, never to what a header announced.
	b.B = append(b.B, chunk...)
	ws.Cipher(b.B[start:], d.frame.Mask, int(d.frame.Length)-d.missing) // 5.3
	d.missing -= len(chunk)
	return b
}

// handleControl hands over a complete control frame.
func handleControl(op ws.OpCode, payload []byte, in inbound) (goOn bool, fail ws.StatusCode) {
	if op != ws.OpClose {
		return in.control(op, payload), 0
	}
	code, reason, fail := parseCloseBody(payload)
	if fail == 0 {
		in.closed(code, reason)
	}
	return false, fail // 5.5.1: nothing after a close frame is read
}

// parseCloseBody reads the body of a close frame (RFC 6455, 5.5.1): empty, or
// a code and a reason in UTF-8.
func parseCloseBody(p []byte) (code ws.StatusCode, reason []byte, fail ws.StatusCode) {
	switch {
	case len(p) == 0:
		return ws.StatusNoStatusRcvd, nil, 0 // 7.1.5
	case len(p) == 1:
		return 0, nil, ws.StatusProtocolError
	}
	code, reason = ws.StatusCode(binary.BigEndian.Uint16(p)), p[2:]
	switch {
	case !validCloseCode(code):
		return 0, nil, ws.StatusProtocolError
	case !utf8.Valid(reason):
		return 0, nil, ws.StatusInvalidFramePayloadData // 8.1
	}
	return code, reason, 0
}

// validCloseCode reports whether an endpoint may send code in a close frame
// (RFC 6455, 7.4, and IANA's registry, to which 1012 to 1014 were added
// later). Reserved are 1004, and 1005, 1006 and 1015, which name what happened
// without a close frame. ws.CheckCloseFrameData does not know the registry and
// takes codes above 4999.
func validCloseCode(code ws.StatusCode) bool {
	switch {
	case code >= 1000 && code <= 1003, code >= 1007 && code <= 1014:
		return true
	default:
		return code.IsApplicationSpec() || code.IsPrivateSpec() // 3000-3999, 4000-4999
	}
}

// getBuffer is a buffer from the pool for at least n bytes to come.
func getBuffer(n int) *bytebufferpool.ByteBuffer {
	b := bytebufferpool.Get()
	if cap(b.B) > max(maxIdleBuffer, maxSpareFactor*n) {
		b.B = nil
	}
	return b
}

// putBuffer gives b, which may be nil, back to the pool.
func putBuffer(b *bytebufferpool.ByteBuffer) {
	if b != nil && cap(b.B) <= maxPooledBuffer {
		bytebufferpool.Put(b)
	}
}
