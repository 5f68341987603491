package topics

import (
	"bytes"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"
)

// likewise is an Encoder that counts what it makes, and whose odd formats are
// like the even one below for small messages.
type likewise struct {
	lines
	made [MaxFormats]atomic.Int64
}

func (l *likewise) Like(f Format, m *Message) Format {
	if f%2 == 1 && len(m.Data) < 100 {
		return f - 1
	}
	return f
}

func (l *likewise) Message(f Format, m *Message) []byte {
	f = l.Like(f, m)
	l.made[f].Add(1)
	return append(bytes.Clone(m.Data), byte(f))
}

// Whoever asks, at whatever time and in whatever order: a frame is made once, and
// formats that are alike have the same bytes.
func TestFramesAreMadeOnce(t *testing.T) {
	for _, size := range []int{1, 200} {
		enc := &likewise{}
		r := newRig(t, HubConfig{}, 1)
		r.hub.enc = enc
		e := &entry{Message: Message{Topic: "a", Data: make([]byte, size)}}
		e.encoded.Store(encodedGone)
		var all sync.WaitGroup
		for i := range 64 {
			all.Go(func() {
				for j := range MaxFormats {
					f := Format((i + j) % MaxFormats)
					if got := r.hub.frame(e, f); got[size] != byte(enc.Like(f, &e.Message)) {
						t.Errorf("format %d has the frame of format %d", f, got[size])
					}
				}
			})
		}
		all.Wait()
		var places []*byte
		for f := range Format(MaxFormats) {
			want := int64(1)
			if enc.Like(f, &e.Message) != f {
				want = 0
			}
			if n := enc.made[f].Load(); n != want {
				t.Errorf("%d bytes: the frame of format %d was made %d times, want %d", size, f, n, want)
			}
			if place := &r.hub.frame(e, f)[0]; !slices.Contains(places, place) {
				places = append(places, place)
			}
		}
		if want := map[int]int{1: MaxFormats / 2, 200: MaxFormats}[size]; len(places) != want {
			t.Errorf("%d bytes: %d frames are kept, want %d", size, len(places), want)
		}
	}
}

func TestEntryWeighsWhatItTakes(t *testing.T) {
	if n := unsafe.Sizeof(entry{}); n > entryOverhead-frameReserve {
		t.Errorf("an entry has %d bytes, and is counted for %d", n, entryOverhead-frameReserve)
	}
	if n := unsafe.Sizeof(frames{}); n != framesSize {
		t.Errorf("a frames has %d bytes, and is counted for %d", n, framesSize)
	}
}

// Making frames takes time, and counts as sends do: a turn with many large
// messages of one member each ends earlier.
func TestMakingFramesEndsTurn(t *testing.T) {
	const messages, size = 40, 8 * encodedPerSend
	for _, overlap := range []bool{false, true} {
		r := newRig(t, HubConfig{}, 1)
		c := r.connect(0, 0)
		c.subscribe("a.*")
		if overlap { // so that it goes by a blend
			c.subscribe("a.x")
		}
		m := c.shard.members
		m.pace.slice, m.pace.turn, m.pace.writeBytes = 8, 64, size
		var batch []Message
		for range messages {
			batch = append(batch, Message{Topic: "a.x", Data: make([]byte, size)})
		}
		r.hub.Deliver(batch)
		turns := 1
		for c.shard.runTasks(); m.Turn(); turns++ {
		}
		if turns < messages*8/64/2 {
			t.Errorf("overlap %v: %d messages of %d bytes were made and sent within %d turns", overlap, messages, size, turns)
		}
	}
}
