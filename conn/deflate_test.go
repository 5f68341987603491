package conn

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/gobwas/ws"
)

// ticks is JSON as it is pushed: of about size bytes, one object or a list.
func ticks(size int) []byte {
	rng := rand.New(rand.NewPCG(uint64(size), 1))
	var b strings.Builder
	b.WriteString(`{"type":"message","topic":"stocks.AAPL","cursor":"mzk3a1:41234","time":1795296445945,"data":[`)
	for b.Len() < size {
		fmt.Fprintf(&b, `{"symbol":"S%03d","price":%.2f,"bid":%.2f,"ask":%.2f,"volume":%d,"time":%d},`,
			rng.IntN(500), rng.Float64()*500, rng.Float64()*500, rng.Float64()*500, rng.IntN(100_000), 1795296445945+rng.IntN(100_000))
	}
	return []byte(b.String()[:size-2] + "]}")
}

func newTestDeflater(t testing.TB, level int) *Deflater {
	t.Helper()
	d, err := NewDeflater(level)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// What is compressed comes back from another decompressor, is smaller, and
// refers back no further than the window that was agreed on.
func TestDeflater(t *testing.T) {
	for level := 1; level <= 6; level++ {
		d := newTestDeflater(t, level)
		for _, size := range []int{200, 512, 4096, 4097, 20_000, 100_000} {
			payload := ticks(size)
			frame := d.AppendFrame([]byte("before"), ws.OpText, payload)
			frame = bytes.TrimPrefix(frame, []byte("before"))
			h, err := ws.ReadHeader(bytes.NewReader(frame))
			if err != nil || h.OpCode != ws.OpText || !h.Fin || h.Masked || h.Rsv != 4 {
				t.Fatalf("level %d: header %+v, %v", level, h, err)
			}
			body := frame[len(frame)-int(h.Length):]
			if got, bad := modelInflate(body); bad || !bytes.Equal(got, payload) {
				t.Fatalf("level %d: %d bytes come back as %d, bad %v", level, size, len(got), bad)
			}
			if len(body) >= size*9/10 {
				t.Errorf("level %d: %d bytes become %d", level, size, len(body))
			}
			if distance := farthest(append(body, syncTail...)); distance > windowSize || size > windowSize && distance == 0 {
				t.Errorf("level %d, %d bytes: refers back %d bytes", level, size, distance)
			}
		}
		if c := d.Counts(); c.Messages != 6 || c.BytesIn <= c.BytesOut || c.BytesOut == 0 {
			t.Errorf("level %d: %+v", level, c)
		}
	}
	for _, level := range []int{-2, 0, 7, 9} {
		if _, err := NewDeflater(level); err == nil {
			t.Errorf("there is a level %d", level)
		}
	}
}

// What is not made smaller goes as it is, and so does what would take too long.
func TestDeflaterLeavesAsItIs(t *testing.T) {
	d := newTestDeflater(t, 5)
	random := make([]byte, 5000)
	for i := range random {
		random[i] = byte(rand.Uint32())
	}
	for _, payload := range [][]byte{nil, []byte("x"), random, bytes.Repeat([]byte("x"), mostDeflated+1)} {
		if got, want := d.AppendFrame(nil, ws.OpBinary, payload), AppendFrame(nil, ws.OpBinary, payload); !bytes.Equal(got, want) {
			t.Errorf("%d bytes are not sent as they are", len(payload))
		}
	}
	if c := d.Counts(); c.Messages != 3 || c.BytesIn != c.BytesOut {
		t.Errorf("%+v", c)
	}
}

func TestDeflaterConcurrently(t *testing.T) {
	d := newTestDeflater(t, 2)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for j := range 30 {
				payload := ticks(300 + 400*i + 100*j)
				frame := d.AppendFrame(nil, ws.OpText, payload)
				h, _ := ws.ReadHeader(bytes.NewReader(frame))
				if got, bad := modelInflate(frame[len(frame)-int(h.Length):]); bad || !bytes.Equal(got, payload) {
					t.Errorf("%d bytes come back as %d", len(payload), len(got))
				}
			}
		})
	}
	all.Wait()
}

// A frame is one allocation, of its own size.
func TestDeflaterAllocs(t *testing.T) {
	d := newTestDeflater(t, 5)
	payload := ticks(2000)
	d.AppendFrame(nil, ws.OpText, payload)
	var frame []byte
	if n := leastAllocs(func() { frame = d.AppendFrame(nil, ws.OpText, payload) }); n > 2 {
		t.Errorf("%v allocations for a frame, want 1, and 2 with the race detector", n)
	}
	if cap(frame) > len(frame)*5/4 {
		t.Errorf("a frame of %d bytes holds %d", len(frame), cap(frame))
	}
}

// leastAllocs is how many allocations f costs where a sync.Pool has what it
// wants, as it always has but after a collection, or with the race detector.
func leastAllocs(f func()) float64 {
	least := testing.AllocsPerRun(1, f)
	for range 50 {
		least = min(least, testing.AllocsPerRun(1, f))
	}
	return least
}

// farthest is the largest distance in what was compressed by blocks of any kind
// (RFC 1951, 3.2): a decoder in its plainest form, which panics where it is wrong.
func farthest(p []byte) (most int) {
	bit := 0
	bits := func(n int) (v int) {
		for i := range n {
			v |= int(p[bit/8]>>(bit%8)&1) << i
			bit++
		}
		return v
	}
	type code struct{ length, value int }
	table := func(lengths []int) map[code]int {
		codes, next := map[code]int{}, 0
		for length := 1; length <= 15; length++ {
			for symbol, l := range lengths {
				if l == length {
					codes[code{length, next}] = symbol
					next++
				}
			}
			next <<= 1
		}
		return codes
	}
	symbol := func(codes map[code]int) int {
		for c := (code{}); ; {
			c = code{c.length + 1, c.value<<1 | bits(1)}
			if s, ok := codes[c]; ok {
				return s
			}
		}
	}
	for bit+3 <= 8*len(p) {
		final, kind := bits(1), bits(2)
		var literals, distances map[code]int
		switch kind {
		case 0:
			bit = (bit + 7) / 8 * 8
			n := bits(16)
			bit += 16 + 8*n
			continue
		case 1:
			lengths := make([]int, 288)
			for i := range lengths {
				lengths[i] = map[bool]int{true: 8, false: 9}[i < 144 || i >= 280]
				if i >= 256 && i < 280 {
					lengths[i] = 7
				}
			}
			literals, distances = table(lengths), table(bytesOf(5, 30))
		case 2:
			nl, nd, nc := bits(5)+257, bits(5)+1, bits(4)+4
			lengths := make([]int, 19)
			for _, i := range []int{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}[:nc] {
				lengths[i] = bits(3)
			}
			codes, all := table(lengths), []int(nil)
			for len(all) < nl+nd {
				switch s := symbol(codes); s {
				case 16:
					all = append(all, bytesOf(all[len(all)-1], 3+bits(2))...)
				case 17:
					all = append(all, make([]int, 3+bits(3))...)
				case 18:
					all = append(all, make([]int, 11+bits(7))...)
				default:
					all = append(all, s)
				}
			}
			literals, distances = table(all[:nl]), table(all[nl:])
		}
		for s := symbol(literals); s != 256; s = symbol(literals) {
			if s < 256 {
				continue
			}
			if s >= 265 && s < 285 {
				bits((s - 261) / 4)
			}
			d := symbol(distances)
			distance := d + 1
			if d >= 4 {
				extra := d/2 - 1
				distance = (2+d%2)<<extra + 1 + bits(extra)
			}
			most = max(most, distance)
		}
		if final == 1 {
			break
		}
	}
	return most
}

// bytesOf is n times v.
func bytesOf(v, n int) (all []int) {
	for range n {
		all = append(all, v)
	}
	return all
}

// BenchmarkDeflate says what compressing a message takes, and leaves.
func BenchmarkDeflate(b *testing.B) {
	for _, size := range []int{256, 512, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 1 << 20} {
		for _, level := range []int{1, 3, 5, 6} {
			b.Run(fmt.Sprintf("%d/level%d", size, level), func(b *testing.B) {
				d := newTestDeflater(b, level)
				payload := ticks(size)
				b.ReportAllocs()
				for b.Loop() {
					d.AppendFrame(nil, ws.OpText, payload)
				}
				c := d.Counts()
				b.ReportMetric(float64(c.BytesIn)/float64(c.BytesOut), "ratio")
			})
		}
	}
}

// BenchmarkInflate says what a client makes us do.
func BenchmarkInflate(b *testing.B) {
	for _, size := range []int{256, 1 << 10, 16 << 10, 64 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			frame := maskedFrame(zText, zipped(string(ticks(size))))
			p := make([]byte, len(frame))
			var d decoder
			var inf inflater
			b.ReportAllocs()
			for b.Loop() {
				copy(p, frame)
				d.inflated = 0
				if fail := d.feed(p, testMaxMessage, &inf, discard{}); fail != 0 {
					b.Fatal(fail)
				}
			}
		})
	}
}
