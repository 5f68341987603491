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
	before  []func(error) // who waits for the answer under way
	behind  []func(error) // the same of the next: they came when it had been asked
	again   bool          // ask once more when it is in
	strange bool          // live messages of another life wait in some feeds
	newest  uint64        // number of the newest message that came of it, or that it said it has
	stamp   uint32        // of that; 0: not known
	swept   uint64        // of topic feeds: what comes up to here has been compared with them
	sweep   *sweep        // that is under way
	checkAt time.Time
	checks  int
	regress *regress // nil: it has not gone back
	failed  failures
}

// kept is what a feed with history has beside.
type kept struct {
	// Static.
	stream *stream

	// Guarded by Hub.mu.
	pend    []Message // live ones, while the feed is not ready or lacks what came before them
	dropped bool      // there was no room for some
	mending bool      // what is missing is being read
	since   time.Time // of the gap that is being mended: how long the stream has not had what is missing
	most    uint64    // newest number that was read for anybody
	target  uint64    // number of a message that one replica had: others will have it

	// Guarded by feed.mu, and changed only with Hub.mu held too.
	epoch      uint32
	twice      bool // the stream has given some numbers of this epoch before
	base       uint64
	begin      uint64 // numbers up to here are of the stream's earlier lives
	mark       uint64 // where shards go on that were at one of these
	lastStamp  uint32 // of the message feed.last; 0: not known
	floorStamp uint32 // of the message feed.floor; 0: not known
	replicas   int
	hole       uint64 // the ring is not filled below: the stream does not have this number
}

// Bounds of the check for what is missing.
const (
	pendPart      = 4                      // live messages that wait have this part of RingMemory, all together; what comes beyond is read again
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

// ask asks how a stream stands now. then, which may be nil, is called under mu
// when state says so, or with the reason why it does not. However many ask,
// there is one question under way.
func (h *Hub) ask(st *stream, then func(error)) {
	if st.asking {
		st.again = true
		if then != nil {
			st.behind = append(st.behind, then)
		}
		return
	}
	st.asking, st.again = true, false
	st.before, st.behind = st.behind, nil
	if then != nil {
		st.before = append(st.before, then)
	}
	asked := inquiry{st.state.Epoch, st.newest}
	st.checkAt = time.Now().Add(checkPeriod)
	h.cfg.History.Stream(st.namespace, func(s Stream, err error) { h.stands(st, s, asked, err) })
}

// inquiry is what was known when a stream was asked how it stands.
type inquiry struct {
	epoch  uint32
	newest uint64
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
	h.noteFailure(st, err)
	if err == nil {
		h.update(st, s, asked)
	}
	for _, then := range waiting {
		then(err)
	}
	if len(st.behind) > 0 || st.again && st.feeds > 0 && !h.closed {
		h.ask(st, nil)
	}
	h.wake()
}

// standsFor makes a feed ready that waited for how its stream stands.
func (h *Hub) standsFor(f *feed, err error) {
	switch {
	case f.ended:
	case err != nil:
		h.refuse(f, err)
	case !f.ready:
		h.begin(f)
	}
}

// update notes how a stream stands, and reads what its feeds lack.
func (h *Hub) update(st *stream, s Stream, asked inquiry) {
	back, certain := h.wentBack(st, s, asked)
	if !certain {
		return
	}
	anew := st.known && (s.Epoch != st.state.Epoch || back)
	first, was := !st.known, st.state
	st.state, st.known = s, true
	if first {
		st.swept = s.Last
	}
	if anew {
		h.stats.restarts.Add(1)
		st.sweep = nil
		st.swept, st.newest, st.stamp = max(s.First, 1)-1, s.Last, s.Stamp // a replica may lag when the feeds read the new life
		h.eachFeed(st, h.restart)
		return
	}
	st.came(Cursor{Seq: s.Last, Stamp: s.Stamp})
	if st.strange {
		st.strange = false
		h.eachFeed(st, h.dropStrange)
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
	k.twice = s.Epoch == k.epoch
	k.base, k.epoch = k.begin+1, s.Epoch
	h.keepEpoch(k)
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

// askLife asks how a stream stands of which a message of another life came.
func (h *Hub) askLife(st *stream) {
	st.strange = true
	h.ask(st, nil)
}

// dropStrange drops live messages that are not of the stream's life. What a
// later one has is read when the stream is known to have begun it.
func (h *Hub) dropStrange(f *feed) {
	k := f.kept
	if !f.ready {
		return
	}
	if h.keepEpoch(k); k.mending {
		return
	}
	if h.admitPending(f); f.last < k.target {
		h.mend(f)
	}
}

// keepEpoch drops live messages that wait, and are of another life.
func (h *Hub) keepEpoch(k *kept) {
	h.dropPending(k, func(at int) bool { return k.pend[at].Cursor.Epoch != k.epoch })
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

// sweep is one look for what topics have missed.
type sweep struct {
	again bool // the stream has gone on since
}

// sweepTopics looks which of the topics that are heard here have had messages
// since the last time, and reads those that did not arrive.
func (h *Hub) sweepTopics(st *stream) {
	if st.sweep != nil {
		st.sweep.again = true
		return
	}
	q := Query{Namespace: st.namespace, From: st.swept + 1, Newest: true, Urgency: UrgentRepair}
	h.eachFeed(st, func(f *feed) {
		if f.ready {
			q.Topics = append(q.Topics, f.in.Name)
		}
	})
	last := st.state.Last
	if len(q.Topics) == 0 {
		st.swept = last
		return
	}
	sw := &sweep{}
	st.sweep = sw
	h.cfg.History.Read(q, func(p Page, err error) {
		h.mu.Lock()
		defer h.mu.Unlock()
		if st.sweep != sw || h.closed {
			return // the stream has begun anew, and numbers with it
		}
		st.sweep = nil
		if err == nil && st.regress == nil && p.isOf(st.state.Epoch) {
			h.swept(st, &p, last)
		}
		if sw.again && st.feeds > 0 && st.state.Last > st.swept {
			h.sweepTopics(st)
		}
	})
}

// swept has topics read of which there is more than came.
func (h *Hub) swept(st *stream, p *Page, last uint64) {
	for i := range p.Messages {
		m := &p.Messages[i]
		f, ok := h.topics.get(m.Topic)
		if ok && f.ready && f.kept != nil && f.kept.stream == st && f.kept.base+m.Cursor.Seq > f.last {
			f.kept.target = max(f.kept.target, f.kept.base+m.Cursor.Seq)
			h.mend(f)
		}
	}
	st.swept = max(st.swept, min(last, p.Next-1)) // a replica that lags has less
}
