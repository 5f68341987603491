package topics

import (
	"math/rand/v2"
	"slices"
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
	if len(k.pend) == 0 || h.pending+m.pendingWeight() <= h.cfg.RingMemory/pendPart {
		k.pend = append(k.pend, *m)
		h.pending += m.pendingWeight()
	} else {
		k.dropped = true // and is read
	}
	if f.ready && !k.mending {
		if m.Cursor.Epoch != k.epoch {
			h.askLife(k.stream)
		} else {
			h.mend(f)
		}
	}
}

// admit appends a live message if nothing is missing before it, or drops it
// where the feed has had it. It reports whether it did either.
func (h *Hub) admit(f *feed, m *Message) bool {
	k := f.kept
	if m.Cursor.Epoch != k.epoch || k.stream.regress != nil {
		return false
	}
	seq := k.base + m.Cursor.Seq
	switch {
	case seq <= f.last:
		h.stats.repeated.Add(1)
		if m.Trail != nil {
			m.Trail.Queued(0)
		}
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
	h.dropPending(k, func(at int) bool { return at < n })
	if (len(k.pend) > 0 || k.dropped) && !k.mending {
		h.mend(f)
	}
}

// pendingOverhead is what a message that waits weighs beside its payload and topic.
const pendingOverhead = 96

func (m *Message) pendingWeight() int64 { return int64(len(m.Data) + len(m.Topic) + pendingOverhead) }

// dropPending forgets some of the live messages that wait.
func (h *Hub) dropPending(k *kept, which func(at int) bool) {
	n := 0
	for at, m := range k.pend {
		if which(at) {
			h.pending -= m.pendingWeight()
		} else {
			k.pend[n] = m
			n++
		}
	}
	clear(k.pend[n:])
	if k.pend = k.pend[:n]; n == 0 {
		k.pend = nil
	}
}

// mend reads what a feed lacks.
func (h *Hub) mend(f *feed) {
	if f.kept.mending {
		return
	}
	f.kept.mending, f.kept.dropped = true, false
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
	if f.kept.stream.regress != nil && !f.ended {
		h.readLater(f)
		return
	}
	q := Query{Namespace: f.kept.stream.namespace, Pattern: f.filter(), From: f.kept.number(f.last) + 1, Urgency: UrgentRepair}
	h.cfg.History.Read(q, func(p Page, err error) { h.mended(f, q.From, p, err) })
}

// mended takes what was missing.
func (h *Hub) mended(f *feed, from uint64, p Page, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	k := f.kept
	if f.ended || h.closed {
		k.mending = false
		return
	}
	if from != k.number(f.last)+1 { // the stream has begun anew meanwhile
		h.readOn(f)
		return
	}
	h.noteFailure(k.stream, err)
	if err != nil || k.stream.regress != nil {
		h.readLater(f)
		return
	}
	if !p.isOf(k.epoch) {
		h.ask(k.stream, nil)
		h.readLater(f)
		h.wake()
		return
	}
	before := f.last
	h.noteExpired(f, &p)
	for i := range p.Messages {
		h.fill(f, &p, &p.Messages[i])
	}
	h.noteMissing(f, &p, k.base+p.Next-1) // a page may have nothing that can be delivered
	if first := k.base + k.stream.state.First; f.in.Namespace && p.End && f.last == before && first > f.last+1 {
		h.markExpired(f, first-1, LossExpired) // nothing came behind it
	}
	if f.last > before {
		k.since = time.Now()
	}
	k.mending = !p.End && f.last > before
	if k.mending {
		h.readOn(f)
	} else {
		h.endMending(f)
	}
	h.wake()
}

// readLater reads again in a while: nobody has said yet that it is not there.
func (h *Hub) readLater(f *feed) {
	f.kept.since = time.Now()
	h.later(errorPatience/2+rand.N(errorPatience/2), func() { h.readOn(f) })
}

// noteExpired tells of the message of a topic that the next live one says was
// before it, if the stream does not have it any more.
func (h *Hub) noteExpired(f *feed, p *Page) {
	k := f.kept
	if f.in.Namespace || len(k.pend) == 0 || len(p.Messages) == 0 || k.pend[0].Cursor.Epoch != k.epoch {
		return
	}
	if lacks := k.base + k.pend[0].Prev; lacks > f.last && k.base+p.Messages[0].Cursor.Seq > lacks {
		h.noteMissing(f, p, lacks)
		if lacks > f.last {
			h.markExpired(f, lacks, LossExpired)
		}
	}
}

// isOf reports whether all of a page is of one life of its stream.
func (p *Page) isOf(epoch uint32) bool {
	other := func(c Cursor) bool { return c.Epoch != epoch }
	return !slices.ContainsFunc(p.Messages, func(m Message) bool { return other(m.Cursor) }) && !slices.ContainsFunc(p.LeftOut, other)
}

// noteMissing tells of what a page that was read does not bring up to a number:
// it is not kept any more, or nobody can have it.
func (h *Hub) noteMissing(f *feed, p *Page, upTo uint64) {
	k := f.kept
	why, newest := LossExpired, f.last
	for _, c := range p.LeftOut {
		if seq := k.base + c.Seq; seq > f.last && seq <= upTo {
			why, newest = LossUpstream, seq
		}
	}
	if !f.in.Namespace {
		upTo = newest // the numbers between are of other topics
	}
	if upTo > f.last {
		h.markExpired(f, upTo, why)
	}
}

// fill appends a message of a page.
func (h *Hub) fill(f *feed, p *Page, m *Message) {
	seq := f.kept.base + m.Cursor.Seq
	if seq <= f.last {
		return
	}
	h.noteMissing(f, p, seq-1)
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
		if k.mending = false; k.dropped {
			h.mend(f)
		}
	case len(k.pend) > 0 && k.pend[0].Cursor.Epoch != k.epoch:
		k.mending = false
		h.askLife(k.stream)
	case time.Since(k.since) < lagPatience:
		h.retryMending(f)
	default:
		h.doubtReplica(f)
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
			k.mending = false
			return
		}
		k.since = time.Now()
		h.noteFailure(k.stream, err)
		if err != nil || k.base != base || k.stream.regress != nil || number != 0 && base+number <= until {
			h.readLater(f)
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
