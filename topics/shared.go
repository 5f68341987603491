package topics

import (
	"cmp"
	"errors"
	"slices"
	"time"
)

// What clients that are behind read of history is shared: however many want the
// same, it is asked for once, and encoded once.

// wanted says what is read for clients.
type wanted struct {
	feed    *feed
	pattern string // "": of all topics
	from    uint64 // number in the feed; of a snapshot 0
	stamp   uint32 // of an inquiry: the cursor's
	kind    reading
	checked bool // of a page: whether anything is missing between from and what stands before it
}

type reading uint8

const (
	readPage     reading = iota // messages from a number on
	readSnapshot                // the newest of each topic
	readBack                    // messages for the ring, below its floor
	readPlace                   // whether all after a cursor is still there
)

// shared has what was read, and what is being read.
type shared struct {
	// Guarded by Hub.mu.
	reads          map[wanted]*read
	pages          map[pageLine][]*read // of reads, in the order in which they begin
	weight         int64                // of those that are in
	oldest, newest *read                // of those that are in, in the order of use
}

// read is one reading.
type read struct {
	wanted wanted

	// Guarded by Hub.mu.
	waiting      []*view // those whose members asked, while it is not in
	in           bool
	older, newer *read

	// What it brought. It does not change any more.
	err     error
	entries []*entry // in order
	next    uint64   // everything below has been read; of a snapshot: it is complete below
	end     bool     // there was no more
	lags    bool     // the leader has more than the replica that answered
	asOf    uint64   // the feed's newest entry when it was asked for: at the end, all up to it has been read
	madeAt  uint64   // the feed's newest entry when it was in: who subscribes later is not in match of what comes after
	verdict Resumption
	why     LossReason

	// Of a snapshot, guarded by Hub.mu. Its entries change: what is newest is
	// appended, and what it replaces taken out later.
	readAt time.Time
	upTo   uint64            // of what comes up to here, all that is newest is in
	values map[string]*entry // by topic, those of the entries that have not been replaced
	weight int64
	used   time.Time
}

// errLags ends a reading that a replica answered which does not have it yet.
var errLags = errors.New("replica of the stream lags")

// errStale ends a reading whose stream began anew, or whose feed ended, meanwhile.
var errStale = errors.New("history began anew meanwhile")

const (
	sharedFor  = 10 * time.Second // what nobody uses is kept so long
	sharedPart = 4                // and as much as this part of RingMemory, all together

	pageMessages = 500       // of one reading for clients:
	pageBytes    = 128 << 10 // about what two writes take

	// snapshotFor is how long a snapshot in use is brought up to date before it
	// is read again: nobody tells of what goes from the stream.
	snapshotFor = time.Minute
)

// look returns what was read, or has it read: then the view is told when it is
// in. What is in and to be used just once is not kept.
func (h *Hub) look(w wanted, v *view, urgency Urgency) *read {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.lookLocked(w, v, urgency)
}

func (h *Hub) lookLocked(w wanted, v *view, urgency Urgency) *read {
	r := h.shared.reads[w]
	if r != nil && r.in {
		h.use(r)
		return r
	}
	if r == nil {
		r = &read{wanted: w}
		if h.shared.reads == nil {
			h.shared.reads = make(map[wanted]*read)
		}
		h.shared.reads[w] = r
		h.shared.line(r)
		h.start(r, urgency)
	}
	if !slices.Contains(r.waiting, v) {
		r.waiting = append(r.waiting, v)
	}
	return nil
}

// lookAfresh is look for one for whom what was read is too old.
func (h *Hub) lookAfresh(r *read, v *view, urgency Urgency) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.shared.reads[r.wanted] == r {
		h.forgetRead(r)
	}
	h.lookLocked(r.wanted, v, urgency)
}

// start asks the bus.
func (h *Hub) start(r *read, urgency Urgency) {
	f := r.wanted.feed
	k := f.kept
	q := Query{Namespace: k.stream.namespace, Pattern: r.wanted.pattern, Messages: pageMessages, Bytes: pageBytes, Urgency: urgency}
	switch r.wanted.kind {
	case readSnapshot:
		q.Newest = true
	case readPlace:
		h.inquire(r, q)
		return
	case readBack:
		h.readBack(r)
		return
	default:
		q.From = k.number(r.wanted.from)
	}
	base := k.base
	r.asOf = f.last
	filter := q.Pattern
	h.cfg.History.Read(q, func(p Page, err error) {
		h.mu.Lock()
		defer h.mu.Unlock()
		r.err = err
		switch {
		case f.ended || k.base != base:
			r.err = errStale
		case err == nil && k.stream.regress != nil: // nothing says of which life it is
			r.err = errLags
		}
		if r.err == nil {
			h.fillIn(r, p)
		}
		if r.err == nil && r.end && r.wanted.kind == readPage && k.replicas > 1 && r.next-1 < r.asOf {
			h.confirm(r, q, filter)
			return
		}
		h.check(r, q)
	})
}

// confirm asks the leader whether a page was the last: the replica that
// answered may lag behind what the feed has.
func (h *Hub) confirm(r *read, q Query, filter string) {
	k := r.wanted.feed.kept
	base := k.base
	h.cfg.History.Next(q.Namespace, filter, k.number(r.next), func(number uint64, err error) {
		h.mu.Lock()
		defer h.mu.Unlock()
		switch {
		case err != nil:
			r.err = err
		case k.base != base:
			r.err = errStale
		case number == 0 || base+number > r.asOf:
		case len(r.entries) == 0:
			r.err = errLags
		default:
			r.end, r.lags = false, true
		}
		h.check(r, q)
	})
}

// check ends a reading, having looked whether anything is missing before it if
// that was asked for.
func (h *Hub) check(r *read, q Query) {
	if r.err == nil && r.wanted.checked { // now, so that it holds for what was read
		h.inquire(r, q)
		return
	}
	h.arrived(r)
}

// fillIn takes what was read as entries of the feed.
func (h *Hub) fillIn(r *read, p Page) {
	f := r.wanted.feed
	k := f.kept
	for i := range p.Messages {
		m := &p.Messages[i]
		if m.Cursor.Epoch != k.epoch {
			r.err, r.entries = errStale, nil
			h.ask(k.stream, nil)
			return
		}
		if r.wanted.kind == readSnapshot && m.Cursor.Seq >= p.Next {
			continue // what came before it may not be there: it comes live
		}
		e := &entry{Message: *m, seq: k.base + m.Cursor.Seq, matched: f.match(m.Topic)}
		e.encoded.Store(encodedGone) // it is counted here, and not with a ring
		r.entries = append(r.entries, e)
		r.weight += e.weight()
		k.most = max(k.most, e.seq)
	}
	r.next, r.end, r.madeAt = k.base+p.Next, p.End, f.last
	if len(p.LeftOut) > 0 && r.wanted.kind == readPage {
		for _, c := range p.LeftOut {
			e := f.leftOut(c)
			e.aside, e.after = true, e.seq-1
			r.entries = append(r.entries, e)
			r.weight += e.weight()
		}
		slices.SortFunc(r.entries, bySeq)
	}
	if r.wanted.kind == readSnapshot {
		r.values = make(map[string]*entry, len(r.entries))
		for _, e := range r.entries {
			r.values[e.Topic] = e
		}
		slices.SortFunc(r.entries, bySeq)
		r.upTo, r.readAt = r.next-1, time.Now()
	}
}

func bySeq(a, b *entry) int { return cmp.Compare(a.seq, b.seq) }

// reached is up to where a page has all that there is.
func (r *read) reached() uint64 {
	if r.end {
		return max(r.next-1, r.asOf)
	}
	return r.next - 1
}

// arrived tells those who wait.
func (h *Hub) arrived(r *read) {
	r.in = true
	h.noteFailure(r.wanted.feed.kept.stream, r.err)
	if r.err == nil && r.wanted.kind == readPage && r.wanted.pattern == "" {
		h.markHoles(r)
	}
	waiting := r.waiting
	r.waiting = nil
	for _, v := range waiting {
		v.members.post(&arrival{v, r})
	}
	// A snapshot is brought up to date by what comes later. A page at the end
	// would hide it, and the others are of use only now.
	keep := r.err == nil && (r.wanted.kind == readSnapshot || r.wanted.kind == readPage && !r.end && !r.lags)
	if !keep {
		delete(h.shared.reads, r.wanted)
		h.shared.unline(r)
		return
	}
	h.shared.weight += r.weight
	h.use(r)
	h.shrinkShared()
}

// use makes a reading the newest one used.
func (h *Hub) use(r *read) {
	s := &h.shared
	r.used = time.Now()
	if s.newest == r {
		return
	}
	h.unlinkShared(r)
	if r.older = s.newest; r.older != nil {
		r.older.newer = r
	} else {
		s.oldest = r
	}
	s.newest = r
}

func (h *Hub) unlinkShared(r *read) {
	s := &h.shared
	if r.older != nil {
		r.older.newer = r.newer
	} else if s.oldest == r {
		s.oldest = r.newer
	}
	if r.newer != nil {
		r.newer.older = r.older
	} else if s.newest == r {
		s.newest = r.older
	}
	r.older, r.newer = nil, nil
}

// forgetRead drops a reading that is in.
func (h *Hub) forgetRead(r *read) {
	h.unlinkShared(r)
	h.shared.weight -= r.weight
	h.stats.shared.Store(h.shared.weight)
	delete(h.shared.reads, r.wanted)
	h.shared.unline(r)
}

// shrinkShared forgets what was used longest ago while all are too heavy. The
// newest stays, whatever it weighs.
func (h *Hub) shrinkShared() {
	defer func() { h.stats.shared.Store(h.shared.weight) }()
	for s := &h.shared; s.weight > h.cfg.RingMemory/sharedPart && s.oldest != s.newest; {
		h.forgetRead(s.oldest)
	}
}

// sweepShared forgets what nobody has used for a while.
func (h *Hub) sweepShared(now time.Time) {
	for s := &h.shared; s.oldest != nil && now.Sub(s.oldest.used) > sharedFor; {
		h.forgetRead(s.oldest)
	}
}

// snapshot returns the newest message of each topic that matches, of those with a
// number above after, in order and as many as go into one write; and up to where
// these are all there are. Without ok it is being read, and the view is told; but
// not if it was given just now: then the bus has less than the ring, since a
// replica lags or the stream began anew.
func (h *Hub) snapshot(v *view, w wanted, after uint64, given bool) (values []*entry, upTo uint64, ok bool) {
	f := v.feed
	h.mu.Lock()
	defer h.mu.Unlock()
	if !HasWildcard(w.pattern) {
		if e := f.newestMessage(w.pattern); e != nil {
			if e.seq > after {
				values = append(values, e)
			}
			return values, f.last, true
		}
	}
	r := h.shared.reads[w]
	if r != nil && r.in {
		if (given || time.Since(r.readAt) <= snapshotFor) && h.bringUpToDate(r) {
			h.use(r)
			values, upTo = r.valuesAfter(after, v.members.pace.write)
			return values, upTo, true
		}
		h.forgetRead(r)
		if given {
			h.ask(f.kept.stream, nil)
			return nil, 0, false
		}
	}
	h.lookLocked(w, v, UrgentResume)
	return nil, 0, false
}

// newestMessage returns a topic's newest message, nil if it is not in the ring.
func (f *feed) newestMessage(topic string) *entry {
	if f.in.Namespace {
		if seq := f.newest[topic]; seq != 0 {
			return f.find(seq)
		}
		return nil
	}
	for n := f.ring.count; n > 0; n-- {
		if e := f.ring.nth(n - 1); !e.lost {
			return e
		}
	}
	return nil
}

// bringUpToDate puts what has come since into a snapshot. It cannot where the
// ring does not reach back so far.
func (h *Hub) bringUpToDate(r *read) bool {
	f := r.wanted.feed
	if r.upTo < f.floor || r.upTo < f.kept.begin {
		return false
	}
	was := r.weight
	for i := f.ring.upTo(r.upTo, f.floor); i < f.ring.count; i++ {
		if e := f.ring.nth(i); !e.lost && Match(r.wanted.pattern, e.Topic) {
			r.values[e.Topic] = e
			r.entries = append(r.entries, e) // it is the newest of all
			r.weight += e.weight()
		}
	}
	r.upTo = max(r.upTo, f.last)
	if len(r.entries) > 2*len(r.values) {
		r.dropReplaced()
	}
	h.shared.weight += r.weight - was
	return true
}

// dropReplaced takes out of a snapshot the values that have a newer one.
func (r *read) dropReplaced() {
	r.entries = slices.DeleteFunc(r.entries, func(e *entry) bool {
		replaced := r.values[e.Topic] != e
		if replaced {
			r.weight -= e.weight()
		}
		return replaced
	})
}

// valuesAfter returns the first of a snapshot's values that come after an entry,
// and up to where these are all.
func (r *read) valuesAfter(seq uint64, most int) (values []*entry, upTo uint64) {
	n, _ := slices.BinarySearchFunc(r.entries, seq+1, func(e *entry, seq uint64) int { return cmp.Compare(e.seq, seq) })
	for _, e := range r.entries[n:] {
		switch {
		case r.values[e.Topic] != e: // it has been replaced
		case len(values) == most:
			return values, values[most-1].seq
		default:
			values = append(values, e)
		}
	}
	upTo = max(seq, r.wanted.feed.last) // and not what the stream has beyond, of other topics: that does not come
	if n := len(values); n > 0 {
		upTo = max(upTo, values[n-1].seq)
	}
	return values, upTo
}
