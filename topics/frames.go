package topics

import (
	"sync"
	"sync/atomic"
)

// frames has a message as it is on the wire, for each format that is in use and
// for no other: most entries are encoded in one format alone, or in none.
type frames struct {
	formats atomic.Uint32          // bit for each format whose frame this is; 0: it is free
	once    sync.Once              // done by whoever needs it first:
	bytes   []byte                 // it does not change any more
	next    atomic.Pointer[frames] // of other formats
}

// framesSize is what each frames but the first adds to an entry.
const framesSize = 48

// of returns the frame of a format, nil if nobody has asked for it.
func (s *frames) of(f Format) *frames {
	for ; s != nil; s = s.next.Load() {
		if s.formats.Load()&(1<<f) != 0 {
			return s
		}
	}
	return nil
}

// add returns the place for a format's frame, of which there is one whoever
// asks at the same time.
func (s *frames) add(f Format) *frames {
	for {
		if s.formats.CompareAndSwap(0, 1<<f) || s.formats.Load()&(1<<f) != 0 {
			return s
		}
		if s.next.Load() == nil {
			s.next.CompareAndSwap(nil, new(frames))
		}
		s = s.next.Load()
	}
}

// frame is an entry on the wire. Whoever makes it first charges what it takes
// beyond what was reserved: control characters in JSON take six times their
// room, and a second format is not reserved for.
func (h *Hub) frame(e *entry, f Format) []byte {
	s := e.frames.of(f)
	if s == nil {
		s = e.frames.add(h.enc.Like(f, &e.Message))
		s.formats.Or(1 << f)
	}
	s.once.Do(func() {
		s.bytes = h.enc.Message(f, &e.Message)
		more := int64(cap(s.bytes))
		if s != &e.frames {
			more += framesSize
		}
		h.charge(e, more)
	})
	return s.bytes
}

// encodedPerSend is how many bytes of messages can be encoded, and compressed,
// in about the time that one send takes.
const encodedPerSend = 512

// frame is Hub.frame, whose time counts as that of sends does.
func (m *Members) frame(e *entry, f Format) []byte {
	if e.frames.of(f) == nil {
		m.making += len(e.Data)
	}
	return m.hub.frame(e, f)
}

// effort is how many sends the frames come to that were made since the last call.
func (m *Members) effort() (sends int) {
	sends = m.making / encodedPerSend
	m.making %= encodedPerSend
	return sends
}

// charge adds to what an entry is known to hold, unless its ring has given it up.
func (h *Hub) charge(e *entry, bytes int64) {
	for {
		was := e.encoded.Load()
		if was == encodedGone {
			return
		}
		if !e.encoded.CompareAndSwap(was, was+bytes) {
			continue
		}
		if more := e.excess(was+bytes) - e.excess(was); more > 0 {
			if h.stats.excess.Add(more)+h.stats.held.Load() > h.cfg.RingMemory {
				h.mu.Lock()
				h.giveUpExcess()
				h.mu.Unlock()
			}
		}
		return
	}
}

// encodedGone marks an entry of which no more is counted.
const encodedGone = -1

// frameReserve is what is reserved for a frame beside payload and topic.
const frameReserve = 96

// entryOverhead is what an entry weighs beside its payload and topic, for each
// of which it has room twice: as they came, and in one frame.
const entryOverhead = 256 + frameReserve

func (e *entry) reserved() int64 { return int64(len(e.Data) + len(e.Topic) + frameReserve) }

// excess is how much frames of so many bytes take beyond what is reserved.
func (e *entry) excess(encoded int64) int64 { return max(0, encoded-e.reserved()) }

// weight is what an entry is counted for when it is appended.
func (e *entry) weight() int64 { return int64(2*len(e.Data) + 2*len(e.Topic) + entryOverhead) }
