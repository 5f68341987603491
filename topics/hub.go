// Package topics has the names of topics, who is subscribed to what, and the
// feeds that bring messages to subscribers. It knows neither sockets nor NATS.
//
// One Hub serves a node. It takes messages from a Bus, finds whom they concern
// and appends them to the ring of their feed. Each shard has a Members, which
// belongs to the shard's loop: its subscriptions, and its own position in each
// feed, from which it fans out to its members through a Sender.
package topics

import (
	"errors"
	"log/slog"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"
)

// MaxShards is how many shards a Hub serves at most: a word has a bit for each.
const MaxShards = 64

// HubConfig has what a Hub needs to know. A zero field has the default given.
type HubConfig struct {
	RingMessages int                             // newest messages kept of each feed; 1024
	RingMemory   int64                           // bytes kept over all feeds, as they came and encoded; 64 MiB
	Linger       time.Duration                   // how long a feed outlives its last subscriber, so that churn does not reach the bus; 5 s
	PollLinger   time.Duration                   // how long messages are collected, without history, for those who polled and have not come back; 15 s
	Settings     func(namespace string) Settings // how it is served; nil: each as the zero Settings says
	Occupancy    bool                            // Changes is called from time to time
	History      History                         // of the namespaces that keep it; nil: none does
	Final        func(error) bool                // the bus's answer means that an interest will never bring anything; nil: none does
	Log          *slog.Logger                    // says now and then why history cannot be read; nil: nobody is told
}

// maxIdleFeeds bounds the feeds that linger: subscribers could invent topics
// faster than they are forgotten.
const maxIdleFeeds = 1024

// ErrNoWildcards refuses a pattern where each topic is a feed of its own.
var ErrNoWildcards = errors.New("this namespace takes no wildcards (interest: topic)")

// Hub is the node's end of the bus. Safe for use by several goroutines.
type Hub struct {
	// Static.
	cfg   HubConfig
	bus   Bus
	enc   Encoder
	began time.Time // what sub.polled counts from

	// Guarded by mu.
	mu             sync.Mutex
	shards         int
	namespaces     table[string, *feed]
	topics         table[string, *feed] // of namespaces with interest: topic
	idle           []idleFeed           // in the order of time
	idled          uint64               // how many there have been
	lingering      []polledSub          // in the order of time
	lingered       uint64               // how many there have been
	lingerers      int                  // how many there are that are not void
	touched        []*feed              // by the batch under way
	oldest, newest *entry               // over all rings
	held           int64                // weight of all rings, without stats.excess
	pending        int64                // of the messages that wait in kept.pend
	streams        map[string]*stream   // by namespace, of those with feeds
	shared         shared
	delays         []*delay  // each once; none: no feed gathers
	gathered       int64     // weight of what has come since all who gather were told
	closed         bool      // nobody gathers any more
	recording      bool      // what comes is noted, for who takes over
	seamEnds       time.Time // when feeds forget what came to the process before this one; zero: none knows

	// Their own guard.
	occupancy occupancy
	timers    sync.WaitGroup // of delays: those that run, or whose end is under way

	// Atomic.
	stats struct {
		messages, unheard, lostMarks, evicted atomic.Uint64
		repairs, repeated, restarts           atomic.Uint64 // of feeds with history
		held, entries, feeds, subs            atomic.Int64
		shared                                atomic.Int64 // shared.weight
		excess                                atomic.Int64 // bytes of frames beyond what held has for them
	}
}

// idleFeed is a feed that lost its last subscriber at that time. It is void if
// feed.idle has another number by now.
type idleFeed struct {
	feed   *feed
	number uint64
	since  time.Time
}

// NewHub makes the hub of a node. Members are added by NewMembers, before the
// bus delivers.
func NewHub(cfg HubConfig, bus Bus, enc Encoder) *Hub {
	if cfg.RingMessages == 0 {
		cfg.RingMessages = 1024
	}
	if cfg.RingMemory == 0 {
		cfg.RingMemory = 64 << 20
	}
	if cfg.Linger == 0 {
		cfg.Linger = 5 * time.Second
	}
	if cfg.PollLinger == 0 {
		cfg.PollLinger = 15 * time.Second
	}
	if cfg.Settings == nil {
		cfg.Settings = func(string) Settings { return Settings{} }
	}
	if cfg.Final == nil {
		cfg.Final = func(error) bool { return false }
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Hub{cfg: cfg, bus: bus, enc: enc, began: time.Now(), streams: make(map[string]*stream)}
}

// Deliver implements Sink.
func (h *Hub) Deliver(batch []Message) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stats.messages.Add(uint64(len(batch)))
	for i := range batch {
		f := h.feedOf(batch[i].Topic)
		if f != nil && f.kept != nil {
			h.receive(f, &batch[i])
			continue
		}
		if f == nil || !f.ready { // not ready: what is still under way to one that ended
			h.unheard(&batch[i])
			continue
		}
		if f.seam != nil && f.isDoubled(&batch[i]) {
			batch[i].goesNowhere()
			continue
		}
		if h.recording {
			f.recent = append(f.recent, digestOf(&batch[i]))
		}
		m := f.match(batch[i].Topic)
		if m.shards == 0 && !m.polled {
			h.unheard(&batch[i])
			continue
		}
		h.append(f, &entry{Message: batch[i], matched: m})
	}
	h.wake()
}

// unheard counts a message that nobody here hears.
func (h *Hub) unheard(m *Message) {
	h.stats.unheard.Add(1)
	m.goesNowhere()
}

// goesNowhere ends the trail of a message that no shard gets.
func (m *Message) goesNowhere() {
	if m.Trail != nil {
		m.Trail.Queued(0)
	}
}

// Lost implements Sink.
func (h *Hub) Lost(in Interest) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if f, ok := h.table(in).get(in.Name); ok {
		h.markLost(f)
	}
	h.wake()
}

// LostAll implements Sink.
func (h *Hub) LostAll() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, f := range h.namespaces.entries {
		h.markLost(f)
	}
	for _, f := range h.topics.entries {
		h.markLost(f)
	}
	h.wake()
}

// markLost puts a mark into a feed. Nobody waits for what came before it was
// ready. Where there is history, it says what is missing, if anything is.
func (h *Hub) markLost(f *feed) {
	if f.kept != nil {
		h.ask(f.kept.stream, nil)
		return
	}
	if m := f.everybody(); f.ready && (m.shards != 0 || m.polled) {
		h.stats.lostMarks.Add(1)
		h.append(f, &entry{lost: true, why: LossUpstream, matched: m})
	}
}

// feedOf finds the feed that a topic belongs to, if anybody listens there.
func (h *Hub) feedOf(topic string) *feed {
	if f, ok := h.namespaces.get(Namespace(topic)); ok {
		return f
	}
	f, _ := h.topics.get(topic)
	return f
}

func (h *Hub) table(in Interest) *table[string, *feed] {
	if in.Namespace {
		return &h.namespaces
	}
	return &h.topics
}

// append puts an entry into its feed's ring, and gives up the oldest of all
// where the rings have become too heavy.
func (h *Hub) append(f *feed, e *entry) {
	if e.Trail != nil {
		e.Trail.Queued(bits.OnesCount64(e.matched.shards))
	}
	most := f.most
	if f.collecting {
		most = max(most, collectMost)
	}
	if old := f.append(e, most); old != nil {
		h.unlink(old)
		h.stats.evicted.Add(1)
	}
	h.hold(f, e)
	if f.kept != nil {
		f.kept.stream.came(e.Cursor)
	}
	h.giveUpExcess()
	if f.due == 0 {
		h.touch(f)
	}
	f.due |= e.matched.shards
	if len(h.delays) > 0 {
		h.hasten(f, e)
	}
}

// hold counts an entry that is in its feed's ring.
func (h *Hub) hold(f *feed, e *entry) {
	e.feed = f
	e.older = h.newest
	if h.newest != nil {
		h.newest.newer = e
	} else {
		h.oldest = e
	}
	h.newest = e
	h.held += e.weight()
	h.stats.entries.Add(1)
	h.stats.held.Store(h.held)
}

// mayHold is how much one shard may hold back for groups with max_rate.
func (h *Hub) mayHold() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.cfg.RingMemory / heldPart / int64(h.shards)
}

// touch notes that a feed has something to be told of: when the batch is in, or
// when its delay ends.
func (h *Hub) touch(f *feed) {
	if f.delay != nil && !h.closed {
		f.delay.begin(f)
	} else {
		h.touched = append(h.touched, f)
	}
}

// giveUpExcess gives up the oldest entries of all while the rings are too heavy.
// The newest one stays, whatever it weighs.
func (h *Hub) giveUpExcess() {
	for h.held+h.stats.excess.Load() > h.cfg.RingMemory && h.oldest != h.newest {
		h.giveUpOldest(h.oldest.feed)
		h.stats.evicted.Add(1)
	}
}

// giveUpOldest takes the oldest entry out of a feed's ring.
func (h *Hub) giveUpOldest(f *feed) {
	f.mu.Lock()
	e := f.giveUpOldest()
	f.mu.Unlock()
	h.unlink(e)
}

// empty gives up all that a feed's ring holds.
func (h *Hub) empty(f *feed) {
	for f.ring.count > 0 {
		h.giveUpOldest(f)
	}
}

// unlink forgets an entry that its ring has given up.
func (h *Hub) unlink(e *entry) {
	if e.older != nil {
		e.older.newer = e.newer
	} else {
		h.oldest = e.newer
	}
	if e.newer != nil {
		e.newer.older = e.older
	} else {
		h.newest = e.older
	}
	e.older, e.newer = nil, nil // else one that is still being sent would keep all after it
	h.held -= e.weight()
	h.stats.excess.Add(-e.excess(e.encoded.Swap(encodedGone)))
	h.stats.held.Store(h.held)
	h.stats.entries.Add(-1)
}

// wake tells the shards concerned by a batch, once each.
func (h *Hub) wake() {
	for _, f := range h.touched {
		h.tell(f)
	}
	clear(h.touched)
	h.touched = shrunk(h.touched)[:0]
}

// tell wakes the shards that have something due of a feed.
func (h *Hub) tell(f *feed) {
	for _, v := range f.views {
		if f.due&v.members.bit != 0 {
			v.wake()
		}
	}
	f.due, f.gathered = 0, 0
}

// answered passes on that the bus brings a feed's messages from now on. That it
// may say it cannot promise so now is no matter here: when it is back, it tells
// of the loss. But a final answer ends the feed, and who comes later asks anew.
func (h *Hub) answered(f *feed, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err != nil {
		f.tellExpected(err)
	}
	switch {
	case err != nil && h.cfg.Final(err):
		h.refuse(f, err)
	case f.kept != nil: // then it is ready when it is known where history stands
		if !f.ready && !f.ended {
			h.ask(f.kept.stream, func(err error) { h.standsFor(f, err) })
		}
	default:
		h.activate(f)
	}
}

// activate lets those know who wait that a feed brings messages from now on.
func (h *Hub) activate(f *feed) {
	f.ready = true
	f.tellExpected(nil)
	for _, v := range f.views {
		v.members.post(&activation{v, f.last})
	}
}

// refuse ends a feed that brings nothing.
func (h *Hub) refuse(f *feed, err error) {
	if !f.ended {
		h.end(f)
	}
	for _, v := range f.views {
		v.members.post(&refusal{v, err})
	}
}

// release notes that a shard has no member for a pattern any more.
func (h *Hub) release(m *Members, s *sub) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s.feed.forget(s.pattern)
	if s.shards &^= m.bit; s.shards != 0 || s.expected || h.keepForPolls(s) {
		return
	}
	h.drop(s)
}

// drop forgets a pattern. mu must be held.
func (h *Hub) drop(s *sub) {
	f := s.feed
	f.subs.remove(s.pattern)
	end := len(f.list) - 1
	f.list[s.at] = f.list[end]
	f.list[s.at].at = s.at
	f.list[end] = nil
	f.list = shrunk(f.list[:end])
	h.occupancy.drop(s)
	if f.ended {
		return
	}
	h.stats.subs.Add(-1)
	if end > 0 {
		return
	}
	h.idled++
	f.idle = h.idled
	h.idle = append(h.idle, idleFeed{f, h.idled, time.Now()})
	if len(h.idle) > maxIdleFeeds {
		h.endOldestIdle()
	}
}

// sweep ends the feeds that nobody has listened to for long enough.
func (h *Hub) sweep(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sweepPolled(now)
	h.endSeams(now)
	for len(h.idle) > 0 && now.Sub(h.idle[0].since) >= h.cfg.Linger {
		h.endOldestIdle()
	}
	h.checkStreams(now)
	h.sweepShared(now)
}

// endOldestIdle takes out the first of the idle feeds, and ends it unless
// somebody has come since.
func (h *Hub) endOldestIdle() {
	first := h.idle[0]
	h.idle[0] = idleFeed{}
	h.idle = h.idle[1:]
	f := first.feed
	if f.idle == first.number && !f.ended {
		h.end(f)
	}
}

// end forgets a feed. Shards may still have members there, if the bus refused it.
func (h *Hub) end(f *feed) {
	f.ended, f.due = true, 0
	h.empty(f)
	if f.kept != nil {
		h.dropPending(f.kept, func(int) bool { return true })
		h.leaveStream(f.kept.stream)
	}
	h.stats.feeds.Add(-1)
	h.stats.subs.Add(int64(-len(f.list)))
	h.table(f.in).remove(f.in.Name)
	h.bus.Unsubscribe(f.in)
}
