package topics

import (
	"math/rand/v2"
	"time"
)

// What comes live is passed on if nothing is missing before it; else what is
// missing is read first.

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
			h.askEpoch(k.stream)
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
		k.since = time.Now() // nobody has said yet that it is not there
		h.later(errorPatience/2+rand.N(errorPatience/2), func() { h.readOn(f) })
		return
	}
	before := f.last
	h.noteExpired(f, &p)
	for i := range p.Messages {
		m := &p.Messages[i]
		if m.Cursor.Epoch != k.epoch {
			k.mending = false
			h.askEpoch(k.stream)
			h.wake()
			return
		}
		h.fill(f, m)
	}
	if first := k.base + k.stream.state.First; f.in.Namespace && p.End && f.last == before && first > f.last+1 {
		h.markExpired(f, first-1, LossExpired) // nothing came behind it
	}
	if f.last > before {
		k.since = time.Now()
	}
	k.mending = len(p.Messages) > 0 && !p.End
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
// they, or another replica, show that it must, this one will.
func (h *Hub) endMending(f *feed) {
	k := f.kept
	k.mending = true // admitPending must not begin anew
	before := f.last
	h.admitPending(f)
	if f.last > before {
		k.since = time.Now()
	}
	switch {
	case len(k.pend) == 0 && f.last >= k.target:
		k.mending = false
	case len(k.pend) > 0 && k.pend[0].Cursor.Epoch != k.epoch:
		k.mending = false
		h.askEpoch(k.stream)
	case time.Since(k.since) < lagPatience:
		h.retryMending(f)
	default:
		h.doubtReplica(f)
	}
}

// askEpoch asks how a stream stands, of which messages have come of another life
// than its feeds know.
func (h *Hub) askEpoch(st *stream) {
	st.strays = true
	h.ask(st, nil)
}

// dropStrays drops messages that are not of the life that the stream has, but
// came late, and goes on with what waited behind them. If they are of a new
// life after all, nothing is lost: the question that they caused is to come.
func (h *Hub) dropStrays(f *feed) {
	k := f.kept
	if !f.ready {
		return
	}
	if k.pend = keepEpoch(k.pend, k.epoch); k.mending {
		return
	}
	h.admitPending(f)
	if f.last < k.target {
		h.mend(f)
	}
}

// retryMending reads again when the replica that answered may have caught up.
func (h *Hub) retryMending(f *feed) {
	h.later(5*time.Millisecond+rand.N(15*time.Millisecond), func() { h.readOn(f) })
}

// doubtReplica asks the leader for what no replica seems to have. What it does
// not have either is lost.
func (h *Hub) doubtReplica(f *feed) {
	k := f.kept
	base, last, until, why := k.base, f.last, k.target, LossExpired
	if len(k.pend) > 0 {
		until, why = k.base+k.pend[0].Cursor.Seq-1, LossUpstream
	}
	h.cfg.History.Next(k.stream.namespace, f.filter(), k.number(last)+1, func(number uint64, err error) {
		h.mu.Lock()
		defer h.mu.Unlock()
		if f.ended || h.closed {
			k.mending, k.pend = false, nil
			return
		}
		k.since = time.Now()
		if err != nil || k.base != base || number != 0 && base+number <= until {
			h.later(errorPatience/2+rand.N(errorPatience/2), func() { h.readOn(f) })
			return
		}
		if h.admitPending(f); f.last == last { // nothing came while the leader was asked
			if until > last {
				h.markExpired(f, until, why)
			}
			if why == LossUpstream {
				k.pend[0].Prev = 0
			}
		}
		h.endMending(f)
		h.wake()
	})
}
