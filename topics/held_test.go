package topics

import (
	"bytes"
	"sync"
	"testing"
	"unsafe"
)

// bloated is an Encoder whose frames are six times the payload.
type bloated struct{ lines }

func (bloated) Message(f Format, m *Message) []byte {
	return append(bytes.Repeat([]byte{'0' + byte(f)}, 6*len(m.Data)), '\n')
}

// heldBy is what an entry takes, its frames included.
func heldBy(e *entry) int64 {
	held := int64(unsafe.Sizeof(*e)) + int64(len(e.Topic)+cap(e.Data))
	for s := &e.frames; s != nil; s = s.next.Load() {
		if held += int64(cap(s.bytes)); s != &e.frames {
			held += int64(unsafe.Sizeof(*s))
		}
	}
	return held
}

// What frames take beyond their payloads counts as soon as they are made: at
// once, or when somebody who was behind has them in another format.
func TestRingMemoryBoundsWhatIsHeld(t *testing.T) {
	const memory = 64 << 10
	for _, live := range []bool{true, false} {
		for _, batch := range []int{1, 100} {
			r := newRig(t, HubConfig{RingMemory: memory}, 2)
			r.hub.enc = bloated{}
			json, raw := r.connect(0, 0), r.connect(1, 0)
			json.subscribe("a")
			if _, _, err := raw.shard.members.Subscribe(0, 1, "a", "", Want{}); err != nil {
				t.Fatal(err)
			}
			if !live {
				raw.block(0)
			}
			wantBounded := func() {
				t.Helper()
				var held int64
				for e := r.hub.oldest; e != nil; e = e.newer {
					held += heldBy(e)
				}
				if held > memory || held > r.hub.Counts().RingBytes {
					t.Fatalf("live %v, batches of %d: rings hold %d bytes, of at most %d; counted %d", live, batch, held, memory, r.hub.Counts().RingBytes)
				}
			}
			for range 20 {
				var messages []Message
				for range batch {
					messages = append(messages, Message{Topic: "a", Data: make([]byte, 1000)})
				}
				r.hub.Deliver(messages)
				wantBounded()
				r.run()
				wantBounded()
				r.wantConsistent()
			}
			raw.drain()
			r.run()
			wantBounded()
			if n := r.hub.Counts().RingMessages; n < 3 {
				t.Errorf("live %v, batches of %d: only %d messages are left", live, batch, n)
			}
		}
	}
}

// Frames are made while the ring gives their entries up, and after.
func TestFramesOfEntriesGivenUpDoNotCount(t *testing.T) {
	r := newRig(t, HubConfig{RingMemory: 16 << 10}, 1)
	r.hub.enc = bloated{}
	r.connect(0, 0).subscribe("a")
	var making sync.WaitGroup
	for range 2000 {
		r.hub.Deliver([]Message{{Topic: "a", Data: make([]byte, 300)}})
		r.hub.mu.Lock()
		e := r.hub.newest
		r.hub.mu.Unlock()
		for f := range Format(2) {
			making.Go(func() { r.hub.frame(e, f) })
		}
	}
	making.Wait()
	r.wantConsistent()
	f := r.hub.feedOf("a")
	for f.ring.count > 0 {
		r.hub.giveUpOldest(f)
	}
	if c := r.hub.Counts(); c.RingBytes != 0 {
		t.Errorf("an empty ring counts %d bytes", c.RingBytes)
	}
}
