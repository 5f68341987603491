package topics

import (
	"math/rand/v2"
	"time"
)

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
	most    uint64  // newest number that was known when it was asked
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

	// Guarded by feed.mu, and changed only with Hub.mu held too.
	epoch      uint32
	base       uint64
	begin      uint64 // numbers up to here are of the stream's earlier lives
	mark       uint64 // number of the mark that tells of this life
	lastStamp  uint32 // of the message feed.last; 0: not known
	floorStamp uint32 // of the message feed.floor; 0: not known
	floorTime  int64  // of the same, in ms since the epoch
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
	st.most = 0
	h.eachFeed(st, func(f *feed) {
		if f.ready {
			st.most = max(st.most, f.kept.number(f.last))
		}
	})
	st.checkAt = time.Now().Add(checkPeriod)
	h.cfg.History.Stream(st.namespace, func(s Stream, err error) { h.stands(st, s, err) })
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
func (h *Hub) stands(st *stream, s Stream, err error) {
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
		h.update(st, s)
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
func (h *Hub) update(st *stream, s Stream) {
	anew := st.known && (s.Epoch != st.state.Epoch || s.Last < st.most)
	first := !st.known
	st.state, st.known = s, true
	if first {
		st.swept = s.Last
	}
	if anew {
		h.stats.restarts.Add(1)
		st.swept = s.Last
		h.eachFeed(st, h.restart)
		return
	}
	if f, ok := h.namespaces.get(st.namespace); ok && f.ready && f.kept != nil {
		if s.Last > f.kept.number(f.last) {
			h.mend(f)
		}
		return
	}
	if s.Last > st.swept {
		h.sweepTopics(st)
	}
}

// begin makes a feed ready where history stands.
func (h *Hub) begin(f *feed) {
	st := f.kept.stream
	f.mu.Lock()
	k := f.kept
	k.epoch, k.base, k.begin = st.state.Epoch, firstBase, firstBase-1
	k.lastStamp, k.floorStamp = st.state.Stamp, st.state.Stamp
	k.floorTime, k.replicas = time.Now().UnixMilli(), st.state.Replicas
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
	from := k.cursor(f.last, k.lastStamp)
	k.begin = max(f.last, k.most)
	k.base, k.epoch = k.begin+1, s.Epoch
	k.pend = keepEpoch(k.pend, s.Epoch)
	mark := k.base + skip
	k.mark = mark
	f.floor = mark - 1
	k.floorStamp = 0
	f.mu.Unlock()
	h.append(f, &entry{seq: mark, lost: true, why: LossRestarted, from: from, to: k.cursor(mark, 0), matched: f.everybody()})
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

// receive takes one live message of a feed with history.
func (h *Hub) receive(f *feed, m *Message) {
	k := f.kept
	if len(k.pend) == 0 && f.ready && !k.mending && h.admit(f, m) {
		return
	}
	if len(k.pend) < maxPend { // else it is read: whoever mends goes on to the end
		k.pend = append(k.pend, *m)
	}
	if f.ready && !k.mending {
		if m.Cursor.Epoch != k.epoch {
			h.ask(k.stream, nil)
		} else {
			h.mend(f)
		}
	}
}

// admit appends a live message if nothing is missing before it, or drops it
// where the feed has had it. It reports whether it did either.
func (h *Hub) admit(f *feed, m *Message) bool {
	k := f.kept
	if m.Cursor.Epoch != k.epoch {
		return false
	}
	seq := k.base + m.Cursor.Seq
	switch {
	case seq <= f.last:
		h.stats.repeated.Add(1)
		if e := f.find(seq); e != nil && !e.lost && e.Cursor.Stamp != m.Cursor.Stamp {
			h.ask(k.stream, nil) // the stream has begun anew without saying so
		}
	case f.in.Namespace && seq == f.last+1, !f.in.Namespace && k.base+m.Prev <= f.last:
		h.append(f, &entry{Message: *m, seq: seq, matched: f.match(m.Topic)})
	default:
		return false
	}
	return true
}

// admitPending admits what waits, up to the first that lacks something.
func (h *Hub) admitPending(f *feed) {
	k := f.kept
	n := 0
	for n < len(k.pend) && h.admit(f, &k.pend[n]) {
		n++
	}
	k.pend = append(k.pend[:0], k.pend[n:]...)
	if len(k.pend) == 0 {
		k.pend = nil
	} else if !k.mending {
		h.mend(f)
	}
}

// mend reads what a feed lacks.
func (h *Hub) mend(f *feed) {
	if f.kept.mending {
		return
	}
	f.kept.mending = true
	f.kept.since = time.Now()
	h.stats.repairs.Add(1)
	h.readOn(f)
}

// filter is whose messages a feed has.
func (f *feed) filter() string {
	if f.in.Namespace {
		return ""
	}
	return f.in.Name
}

func (h *Hub) readOn(f *feed) {
	q := Query{Namespace: f.kept.stream.namespace, Pattern: f.filter(), From: f.kept.number(f.last) + 1, Urgency: UrgentRepair}
	h.cfg.History.Read(q, func(p Page, err error) { h.mended(f, q.From, p, err) })
}

// mended takes what was missing.
func (h *Hub) mended(f *feed, from uint64, p Page, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	k := f.kept
	if f.ended || h.closed {
		k.mending, k.pend = false, nil
		return
	}
	if from != k.number(f.last)+1 { // the stream has begun anew meanwhile
		h.readOn(f)
		return
	}
	if err != nil {
		h.later(errorPatience/2+rand.N(errorPatience/2), func() { h.readOn(f) })
		return
	}
	before := f.last
	h.noteExpired(f, &p)
	for i := range p.Messages {
		m := &p.Messages[i]
		if m.Cursor.Epoch != k.epoch {
			k.mending = false
			h.ask(k.stream, nil)
			h.wake()
			return
		}
		h.fill(f, m)
	}
	k.mending = len(p.Messages) > 0 && !p.End
	if f.last > before {
		k.since = time.Now()
	}
	if k.mending {
		h.readOn(f)
	} else {
		h.endMending(f)
	}
	h.wake()
}

// noteExpired tells of the message of a topic that the next live one says was
// before it, if the stream does not have it any more.
func (h *Hub) noteExpired(f *feed, p *Page) {
	k := f.kept
	if f.in.Namespace || len(k.pend) == 0 || len(p.Messages) == 0 || k.pend[0].Cursor.Epoch != k.epoch {
		return
	}
	if lacks := k.base + k.pend[0].Prev; lacks > f.last && k.base+p.Messages[0].Cursor.Seq > lacks {
		h.markExpired(f, lacks, LossExpired)
	}
}

// fill appends a message that was read. What is missing before it is not kept
// any more.
func (h *Hub) fill(f *feed, m *Message) {
	k := f.kept
	seq := k.base + m.Cursor.Seq
	if seq <= f.last {
		return
	}
	if f.in.Namespace && seq > f.last+1 {
		h.markExpired(f, seq-1, LossExpired)
	}
	h.append(f, &entry{Message: *m, seq: seq, matched: f.match(m.Topic)})
}

// markExpired says that what comes after the feed's newest entry is missing, up to a number.
func (h *Hub) markExpired(f *feed, upTo uint64, why LossReason) {
	k := f.kept
	h.stats.lostMarks.Add(1)
	h.append(f, &entry{
		seq: upTo, lost: true, why: why, from: k.cursor(f.last, k.lastStamp), to: k.cursor(upTo, 0), matched: f.everybody(),
	})
}

// endMending goes on with live messages when the stream has no more. Where
// they show that it must, another replica has it, and this one will.
func (h *Hub) endMending(f *feed) {
	k := f.kept
	k.mending = true // admitPending must not begin anew
	h.admitPending(f)
	switch {
	case len(k.pend) == 0:
		k.mending = false
	case k.pend[0].Cursor.Epoch != k.epoch:
		k.mending = false
		h.ask(k.stream, nil)
	case time.Since(k.since) < lagPatience:
		h.later(5*time.Millisecond+rand.N(15*time.Millisecond), func() { h.readOn(f) })
	default:
		first := &k.pend[0]
		if seq := k.base + first.Cursor.Seq; seq-1 > f.last {
			h.markExpired(f, seq-1, LossUpstream)
		}
		first.Prev = 0
		k.since = time.Now()
		h.endMending(f)
	}
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
				h.mend(f)
			}
		}
		st.swept = max(st.swept, last)
	})
}
