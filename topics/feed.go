package topics

import (
	"maps"
	"sync"
	"sync/atomic"
)

// Format is a way in which messages are put on the wire. What the numbers mean
// is the Encoder's matter; they are below MaxFormats.
type Format uint8

// MaxFormats is how many formats there may be.
const MaxFormats = 8

// LossReason says why messages are missing: log word, metric label and, in the
// client's gap, the reason.
type LossReason uint8

const (
	LossSlow      LossReason = iota // the subscriber fell behind what its feed's ring holds
	LossUpstream                    // lost between publisher and this node
	LossExpired                     // the namespace's history does not keep them any more
	LossRestarted                   // the namespace's history began anew
	NumLossReasons
)

func (r LossReason) String() string {
	return [...]string{"slow", "upstream", "expired", "restarted"}[r]
}

// Encoder makes frames. Its methods are called from several goroutines.
type Encoder interface {
	// Message makes the frame of one message. Everybody shares it.
	Message(f Format, m *Message) []byte

	// Like says which format has the very frame of a message that this one has,
	// so that it is made and kept once for both; it is a format that is like no
	// other but itself. f where there is none.
	Like(f Format, m *Message) Format

	// Gap makes the frame that tells the subscriber of a pattern that messages
	// are missing after one place and up to another, as far as there are such;
	// nil where the format cannot tell.
	Gap(f Format, pattern string, why LossReason, from, to Cursor) []byte

	// Skipped makes the frame that says how many values of a topic were left
	// out for the one that follows; nil where the format cannot tell.
	Skipped(f Format, topic string, count int) []byte
}

// entry is one message in a feed, or the mark of a loss. It does not change
// after it was appended, its frames and links excepted.
type entry struct {
	// Static.
	Message
	seq     uint64
	prev    uint64     // of the message of the same topic before it in the ring; it may have been given up since
	after   uint64     // of what stands aside: what a shard had before it
	from    Cursor     // of a loss in a history: what is missing begins after it,
	to      Cursor     // … and ends with it
	aside   bool       // of a loss: it stands in no ring, but behind after
	lost    bool       // no message: some are missing here,
	why     LossReason // … for this reason
	matched *match

	// Their own guard.
	frames frames

	// Atomic.
	encoded atomic.Int64 // bytes of frames, or encodedGone

	// Guarded by Hub.mu.
	feed         *feed
	older, newer *entry // over all rings, in order of arrival
}

// before is up to where somebody has had what there is who is to get the entry next.
func (e *entry) before() uint64 {
	if e.aside {
		return e.after
	}
	return e.seq - 1
}

// match is who is concerned by an entry. Of a message it is found once for each
// topic, and valid until the subscriptions of the feed change.
type match struct {
	subs   []*sub // of a mark of loss that stands in a ring none: it concerns all
	shards uint64 // those with at least one subscription concerned
	polled bool   // somebody is likely to come back for it
}

// sub is one distinct pattern to which somebody on this node is subscribed.
type sub struct {
	// Static.
	pattern string
	feed    *feed
	life    uint64 // while it is one, what is for it comes into the ring: see RingPlace; changed by Hub.ImportFeed alone, before there are members

	// Atomic.
	members atomic.Int64 // connections, over all shards
	polled  atomic.Int64 // when somebody last left who will come back, as Hub.since says; 0: nobody

	// Guarded by Hub.mu.
	at       int    // where it stands in feed.list
	shards   uint64 // those with members
	lingers  uint64 // number in Hub.lingering; 0: it has members
	expected bool   // members are still to be imported

	counting // for Hub.occupancy

	// Guarded by feed.mu.
	evicted uint64 // newest message for it that the ring has given up
}

// givenUp is the newest entry for a subscription that is not in the ring any
// more. feed.mu must be held.
func (s *sub) givenUp() uint64 { return max(s.evicted, s.feed.markEvicted) }

// feed is the unit of interest and of order: a namespace, or one topic. It has
// a ring of its newest messages, shared by all who are subscribed here.
//
// Shards and subscribers are cursors over the ring. The hub appends and tells
// each shard concerned once; a shard reads on from where it was. So nothing
// queues up anywhere, whatever is published: a shard, or a client, that cannot
// keep up finds that the ring has moved on, and that is a gap.
type feed struct {
	// Static.
	in    Interest
	most  int    // entries of its ring
	delay *delay // nil: shards are told when the batch is in

	// Guarded by Hub.mu.
	subs     matcher[*sub]
	list     []*sub // the same, in no order
	cache    map[string]*match
	ready    bool    // the bus brings its messages; before, there are none
	ended    bool    // no feed of the hub any more
	delayed  bool    // in delay.waiting
	gathered uint32  // entries since shards were woken, where there are delays
	views    []*view // of the shards that ever had a member, in no order
	due      uint64  // shards to wake when the batch is in, or the delay has ended
	idle     uint64  // number in Hub.idle while nobody listens; 0: somebody does

	collecting bool           // members are still to be imported: its ring is larger
	expected   []func(error)  // who waits until it is ready
	recent     []Digest       // what came, while Hub.recording
	seam       map[Digest]int // what came to the process before this one, and may come here

	kept *kept // nil: its namespace keeps no history

	// Guarded by mu, and changed only with Hub.mu held too: the hub reads without.
	mu          sync.RWMutex
	ring        ring
	last        uint64            // newest; at first 0, or where history stood when the feed began
	floor       uint64            // what comes after it is in the ring, as far as it is kept anywhere
	markEvicted uint64            // newest mark of loss that the ring has given up
	newest      map[string]uint64 // of a namespace: number of each topic's newest message in the ring
}

// maxCachedMatches bounds feed.cache: topics are invented by publishers.
const maxCachedMatches = 1 << 14

// match finds who is concerned by a topic of this feed.
func (f *feed) match(topic string) *match {
	if m := f.cache[topic]; m != nil {
		return m
	}
	m := &match{subs: f.subs.match(topic, nil)}
	for _, s := range m.subs {
		m.shards |= s.shards
		m.polled = m.polled || s.lingers != 0 || s.expected
	}
	if f.cache == nil || len(f.cache) >= maxCachedMatches {
		f.cache = make(map[string]*match)
	}
	f.cache[topic] = m
	return m
}

// forget drops what was found for topics that a pattern matches.
func (f *feed) forget(pattern string) {
	if HasWildcard(pattern) {
		maps.DeleteFunc(f.cache, func(topic string, _ *match) bool { return Match(pattern, topic) })
	} else {
		delete(f.cache, pattern)
	}
	if len(f.cache) == 0 {
		f.cache = nil // a map keeps its room for ever
	}
}

// everybody is the match of a mark of loss.
func (f *feed) everybody() *match {
	m := &match{}
	for _, s := range f.list {
		m.shards |= s.shards
		m.polled = m.polled || s.lingers != 0 || s.expected
	}
	return m
}

// view returns the feed's view in a shard, nil if nobody there has ever joined.
func (f *feed) view(m *Members) *view {
	for _, v := range f.views {
		if v.members == m {
			return v
		}
	}
	return nil
}

// append adds the newest entry, giving up the oldest if the ring has max. Its
// number is the next, unless it has one.
func (f *feed) append(e *entry, max int) (givenUp *entry) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ring.count >= max {
		givenUp = f.giveUpOldest()
	}
	if e.seq == 0 {
		e.seq = f.last + 1
	}
	f.last = e.seq
	if f.kept != nil {
		f.kept.lastStamp = e.Cursor.Stamp
	}
	f.link(e)
	f.ring.push(e, max)
	return givenUp
}

// link notes an entry as the newest of its topic. mu must be held.
func (f *feed) link(e *entry) {
	if e.lost || !f.in.Namespace {
		return
	}
	if f.newest == nil {
		f.newest = make(map[string]uint64)
	}
	e.prev, f.newest[e.Topic] = f.newest[e.Topic], e.seq
}

// newestOf returns the newest message of an entry's topic that is no newer than
// a number: itself, at least. mu must be held, and the entry in the ring.
func (f *feed) newestOf(e *entry, upTo uint64) uint64 {
	if f.in.Namespace {
		seq := f.newest[e.Topic]
		for seq > upTo {
			seq = f.find(seq).prev
		}
		return seq
	}
	for n := f.ring.upTo(upTo, f.floor); n > 0; n-- {
		if found := f.ring.nth(n - 1); !found.lost {
			return found.seq
		}
	}
	return e.seq
}

// find returns the entry of a number, nil if it is not in the ring. mu must be held.
func (f *feed) find(seq uint64) *entry {
	if n := f.ring.upTo(seq, f.floor); n > 0 {
		if e := f.ring.nth(n - 1); e.seq == seq {
			return e
		}
	}
	return nil
}

// giveUpOldest takes out the oldest entry, and notes whom it concerned: they
// are told if they had not come so far. mu must be held.
func (f *feed) giveUpOldest() *entry {
	e := f.ring.shift()
	f.floor = e.seq
	if f.kept != nil {
		f.kept.floorStamp = e.Cursor.Stamp
	}
	if e.lost {
		f.markEvicted = max(f.markEvicted, e.seq)
	} else if f.in.Namespace && f.newest[e.Topic] == e.seq {
		if delete(f.newest, e.Topic); len(f.newest) == 0 {
			f.newest = nil // a map keeps its room for ever
		}
	}
	for _, s := range e.matched.subs {
		s.evicted = max(s.evicted, e.seq) // it may have come back into the ring
	}
	for _, v := range f.views {
		if e.matched.shards&v.members.bit != 0 {
			v.evicted = max(v.evicted, e.seq)
		}
	}
	return e
}
