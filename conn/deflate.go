package conn

import (
	"bytes"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/gobwas/ws"
	"github.com/klauspost/compress/flate"
)

// Each message is compressed by itself, for no_context_takeover is negotiated
// both ways (RFC 7692, 7.1.1). So a frame is the same for all who negotiated
// compression, and nothing is kept for any of them.

const (
	// windowBits is how far back what is compressed here refers: 4 KiB (RFC
	// 7692, 7.1.2.1). It is what a client may ask for without being declined,
	// and a larger window was found to save next to nothing.
	windowBits = 12
	windowSize = 1 << windowBits

	// mostDeflated bounds how long compressing one message holds up a loop.
	mostDeflated = 1 << 20
)

// syncTail ends what a flate.Writer flushes. It is left out of a message (RFC
// 7692, 7.2.1), and put behind it again before it is decompressed (7.2.2).
var syncTail = []byte{0x00, 0x00, 0xff, 0xff}

// Deflater compresses messages. Safe for use by several goroutines.
type Deflater struct {
	// Their own guard: *deflation.
	short sync.Pool  // of the level asked for
	long  *sync.Pool // whose window is limited; short, where that is the same

	// Atomic.
	messages, bytesIn, bytesOut atomic.Uint64
}

// deflation is one compressor, of about a megabyte, and what it has written.
type deflation struct {
	w   *flate.Writer
	out []byte
}

// Write implements io.Writer for w.
func (d *deflation) Write(p []byte) (int, error) {
	d.out = append(d.out, p...)
	return len(p), nil
}

// windowedLevel is the level as which flate compresses with a window of a
// chosen size.
const windowedLevel = 5

// NewDeflater makes one that compresses messages of up to 4 KiB at a level from
// 1 to 6, and larger ones, which may refer back no further than that, at 5.
func NewDeflater(level int) (*Deflater, error) {
	if level < 1 || level > 6 {
		return nil, fmt.Errorf("compression level %d: it must be 1 to 6", level)
	}
	d := &Deflater{}
	d.long = &d.short
	if level == windowedLevel {
		d.short.New = newWindowed
		return d, nil
	}
	d.short.New = func() any { return newDeflation(flate.NewWriter(nil, level)) }
	d.long = &sync.Pool{New: newWindowed}
	return d, nil
}

func newWindowed() any { return newDeflation(flate.NewWriterWindow(nil, windowSize)) }

func newDeflation(w *flate.Writer, err error) *deflation {
	if err != nil {
		panic(err) // of a level or a window that does not exist
	}
	return &deflation{w: w}
}

// AppendFrame appends to dst a frame as the function AppendFrame does, its
// payload compressed: RSV1 is set (RFC 7692, 6). What compressing does not make
// smaller, and what is larger than 1 MiB, stays as it is.
func (d *Deflater) AppendFrame(dst []byte, op ws.OpCode, payload []byte) []byte {
	if len(payload) > mostDeflated {
		return AppendFrame(dst, op, payload)
	}
	pool := &d.short
	if len(payload) > windowSize {
		pool = d.long
	}
	z := pool.Get().(*deflation)
	body := z.compress(payload)
	d.messages.Add(1)
	d.bytesIn.Add(uint64(len(payload)))
	d.bytesOut.Add(uint64(min(len(body), len(payload))))
	if len(body) < len(payload) {
		dst = slices.Grow(dst, frameHeaderSize(len(body))+len(body))
		start := len(dst)
		dst = appendFrameHeader(dst, op, len(body))
		dst[start] |= rsv1Bit
		dst = append(dst, body...)
	} else {
		dst = AppendFrame(dst, op, payload)
	}
	if cap(z.out) > maxPooledBuffer {
		z.out = nil
	}
	pool.Put(z)
	return dst
}

// compress returns a message's payload, which is valid until the next call.
func (d *deflation) compress(payload []byte) []byte {
	d.out = d.out[:0]
	d.w.Reset(d)
	_, _ = d.w.Write(payload) // to memory
	_ = d.w.Flush()
	return bytes.TrimSuffix(d.out, syncTail)
}

// DeflateCounts is what a Deflater has done up to now.
type DeflateCounts struct {
	Messages uint64 // compressed, those that became no smaller included
	BytesIn  uint64 // of them
	BytesOut uint64 // that they came to
}

// Counts may be called from any goroutine.
func (d *Deflater) Counts() DeflateCounts {
	return DeflateCounts{d.messages.Load(), d.bytesIn.Load(), d.bytesOut.Load()}
}
