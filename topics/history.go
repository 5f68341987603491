package topics

import "time"

// Where a namespace keeps history, its stream numbers the messages, and what
// comes live can be checked for completeness: what is missing is read from the
// stream before anything newer is passed on. What was lost as the last of all is
// announced by nobody, so the stream is asked how it stands from time to time.
//
// An entry's number in the feed is the stream's and a base. The base moves only
// where the stream begins a new life, so that numbers go up for ever.

// firstBase leaves numbers below for what is older than all.
const firstBase = 1 << 32

// stream is what the hub knows of the history of a namespace.
type stream struct {
	// Static.
	namespace string

	// Guarded by Hub.mu.
	feeds   int // that stand
	state   Stream
	known   bool
	asking  bool
	before  []*feed // that the answer under way makes ready
	behind  []*feed // the same of the next: they came when it had been asked
	again   bool    // ask once more when it is in
	strays  bool    // messages of another life came, since it was last known to be the same
	newest  uint64  // number of the newest message that came of it
	asked   uint64  // how often it was asked
	heeded  uint64  // number of the latest question whose answer was heeded
	swept   uint64  // of topic feeds: what comes up to here has been compared with them
	checkAt time.Time
	checks  int
}

// kept is what a feed with history has beside.
type kept struct {
	// Static.
	stream *stream

	// Guarded by Hub.mu.
	pend    []Message // live ones, while the feed is not ready or lacks what came before them
	mending bool      // what is missing is being read
	since   time.Time // of the gap that is being mended: how long the stream has not had what is missing
	most    uint64    // newest number that was read for anybody
	target  uint64    // number of a message that one replica had: others will have it

	// Guarded by feed.mu, and changed only with Hub.mu held too.
	epoch      uint32
	base       uint64
	begin      uint64 // numbers up to here are of the stream's earlier lives
	mark       uint64 // where shards go on that were at one of these
	lastStamp  uint32 // of the message feed.last; 0: not known
	floorStamp uint32 // of the message feed.floor; 0: not known
	replicas   int
}

// Bounds of the check for what is missing.
const (
	maxPend       = 1 << 14                // live messages that wait; what comes beyond is read again
	lagPatience   = 2 * time.Second        // for a replica to have what another has passed on
	checkPeriod   = 5 * time.Second        // between looks at where a stream stands
	errorPatience = 500 * time.Millisecond // at most between tries while NATS is away
)

// number is that of the stream. mu must be held, as of all of kept's methods.
func (k *kept) number(seq uint64) uint64 { return seq - k.base }

// cursor is the place of a number of this life whose message is not at hand.
func (k *kept) cursor(seq uint64, stamp uint32) Cursor {
	if seq < k.base {
		return Cursor{}
	}
	return Cursor{Epoch: k.epoch, Seq: k.number(seq), Stamp: stamp}
}

// cursorAt is the place of a number, as exactly as the feed knows. mu must be held.
func (f *feed) cursorAt(seq uint64) Cursor {
	k := f.kept
	switch {
	case k == nil:
		return Cursor{}
	case seq == f.last:
		return k.cursor(seq, k.lastStamp)
	case seq == f.floor:
		return k.cursor(seq, k.floorStamp)
	}
	if e := f.find(seq); e != nil && !e.lost {
		return e.Cursor
	}
	return k.cursor(seq, 0)
}

// streamOf returns a namespace's stream for one more feed.
func (h *Hub) streamOf(namespace string) *stream {
	st := h.streams[namespace]
	if st == nil {
		st = &stream{namespace: namespace}
		h.streams[namespace] = st
	}
	st.feeds++
	return st
}

func (h *Hub) leaveStream(st *stream) {
	if st.feeds--; st.feeds == 0 {
		delete(h.streams, st.namespace)
	}
}

// ask asks how a stream stands, and has the answer make a feed ready, if one is given.
func (h *Hub) ask(st *stream, f *feed) {
	if st.asking {
		st.again = true
		if f != nil {
			st.behind = append(st.behind, f)
		}
		return
	}
	st.asking, st.again = true, false
	st.before, st.behind = st.behind, nil
	if f != nil {
		st.before = append(st.before, f)
	}
	asked := st.inquiry()
	st.checkAt = time.Now().Add(checkPeriod)
	h.cfg.History.Stream(st.namespace, func(s Stream, err error) { h.stands(st, s, asked, err) })
}

// inquiry is what was known when a stream was asked how it stands.
type inquiry struct {
	number uint64
	epoch  uint32
	newest uint64
}

func (st *stream) inquiry() inquiry {
	st.asked++
	return inquiry{st.asked, st.state.Epoch, st.newest}
}

// eachFeed calls do for each feed of a stream.
func (h *Hub) eachFeed(st *stream, do func(*feed)) {
	if f, ok := h.namespaces.get(st.namespace); ok && f.kept != nil && f.kept.stream == st {
		do(f)
	}
	if h.cfg.Settings(st.namespace).ByTopic {
		for _, f := range h.topics.entries {
			if f.kept != nil && f.kept.stream == st {
				do(f)
			}
		}
	}
}

// stands takes the answer to ask.
func (h *Hub) stands(st *stream, s Stream, asked inquiry, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	st.asking = false
	waiting := st.before
	st.before = nil
	if err != nil {
		for _, f := range waiting {
			if !f.ended {
				h.refuse(f, err)
			}
		}
	} else {
		h.update(st, s, asked)
		for _, f := range waiting {
			if !f.ready && !f.ended {
				h.begin(f)
			}
		}
	}
	if (st.again || len(st.behind) > 0) && st.feeds > 0 && !h.closed {
		h.ask(st, nil)
	}
	h.wake()
}

// update notes how a stream stands, and reads what its feeds lack.
func (h *Hub) update(st *stream, s Stream, asked inquiry) {
	if asked.number < st.heeded {
		return // a later question has been answered
	}
	st.heeded = asked.number
	anew := st.known && (s.Epoch != st.state.Epoch || s.Epoch == asked.epoch && s.Last < asked.newest)
	first, was := !st.known, st.state
	st.state, st.known = s, true
	if first {
		st.swept = s.Last
	}
	if anew {
		h.stats.restarts.Add(1)
		st.swept, st.newest = max(s.First, 1)-1, s.Last // a replica may lag when the feeds read the new life
		h.eachFeed(st, h.restart)
		return
	}
	if st.strays {
		st.strays = false
		h.eachFeed(st, h.dropStrays)
	}
	if f, ok := h.namespaces.get(st.namespace); ok && f.ready && f.kept != nil {
		if s.Last > f.kept.number(f.last) {
			h.mend(f)
		}
		return
	}
	if s.First > was.Last+1 && s.PerTopic == 0 && !first {
		h.eachFeed(st, h.doubt)
	}
	if s.Last > st.swept {
		h.sweepTopics(st)
	}
}

// doubt says that messages of a topic may be missing: the oldest that is kept
// came later than the last time that anybody looked, as after a long outage.
func (h *Hub) doubt(f *feed) {
	k := f.kept
	if upTo := k.base + k.stream.state.First - 1; f.ready && !k.mending && upTo > f.last {
		h.markExpired(f, upTo, LossExpired)
	}
}

// begin makes a feed ready where history stands.
func (h *Hub) begin(f *feed) {
	st := f.kept.stream
	f.mu.Lock()
	k := f.kept
	k.epoch, k.base, k.begin = st.state.Epoch, firstBase, firstBase-1
	k.lastStamp, k.floorStamp = st.state.Stamp, st.state.Stamp
	k.replicas = st.state.Replicas
	f.last = k.base + st.state.Last
	f.floor = f.last
	f.mu.Unlock()
	h.activate(f)
	h.admitPending(f)
	st.checks, st.checkAt = 0, time.Now()
}

// restart has a feed go on with the new life of its stream: whoever listens is
// told, and gets what the new life has, if that is not too much.
func (h *Hub) restart(f *feed) {
	if !f.ready {
		return
	}
	k, s := f.kept, f.kept.stream.state
	h.empty(f)
	skip := s.Last
	if s.First > 0 && s.Last-(s.First-1) <= uint64(h.cfg.RingMessages) {
		skip = s.First - 1
	}
	f.mu.Lock()
	k.begin = max(f.last, k.most)
	k.base, k.epoch = k.begin+1, s.Epoch
	k.pend = keepEpoch(k.pend, s.Epoch)
	k.mark, k.target = k.base+skip, 0
	f.last, f.floor = k.mark, k.mark
	k.lastStamp, k.floorStamp = 0, 0
	for _, v := range f.views {
		v.evicted = k.mark // so it finds that it was left behind, and says so
	}
	f.mu.Unlock()
	h.stats.lostMarks.Add(1)
	if f.due == 0 {
		h.touch(f)
	}
	f.due |= f.everybody().shards
	h.mend(f)
}

func keepEpoch(pend []Message, epoch uint32) []Message {
	n := 0
	for _, m := range pend {
		if m.Cursor.Epoch == epoch {
			pend[n] = m
			n++
		}
	}
	clear(pend[n:])
	return pend[:n]
}

// later does something under mu after a time, unless the hub is closed by then.
func (h *Hub) later(wait time.Duration, do func()) {
	h.timers.Add(1)
	time.AfterFunc(wait, func() {
		defer h.timers.Done()
		h.mu.Lock()
		defer h.mu.Unlock()
		if !h.closed {
			do()
		}
	})
}

// checkStreams asks how streams stand whose time has come: soon and twice after
// a feed began, since a cluster takes a while to tell all its servers who listens.
func (h *Hub) checkStreams(now time.Time) {
	for _, st := range h.streams {
		if st.asking || now.Before(st.checkAt) {
			continue
		}
		h.ask(st, nil)
		if st.checks++; st.checks < 3 {
			st.checkAt = now
		}
	}
}

// sweepTopics looks which topics of a stream have had messages since the last
// time, and reads those that did not arrive.
func (h *Hub) sweepTopics(st *stream) {
	q := Query{Namespace: st.namespace, From: st.swept + 1, Newest: true, Urgency: UrgentRepair}
	epoch, swept, last := st.state.Epoch, st.swept, st.state.Last
	h.cfg.History.Read(q, func(p Page, err error) {
		h.mu.Lock()
		defer h.mu.Unlock()
		if err != nil || h.closed || st.state.Epoch != epoch || st.swept != swept {
			return // the stream may have begun anew, and numbers with it
		}
		for i := range p.Messages {
			m := &p.Messages[i]
			f, ok := h.topics.get(m.Topic)
			if ok && f.ready && f.kept != nil && f.kept.epoch == m.Cursor.Epoch && f.kept.base+m.Cursor.Seq > f.last {
				f.kept.target = f.kept.base + m.Cursor.Seq
				h.mend(f)
			}
		}
		st.swept = max(st.swept, min(last, p.Next-1)) // a replica that lags has less
	})
}
