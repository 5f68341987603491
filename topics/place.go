package topics

import "slices"

// inquire finds out whether everything after a cursor is still kept. The
// message at the cursor shows whether it is the one that it was, if it is there.
func (h *Hub) inquire(r *read, q Query) {
	f := r.wanted.feed
	k := f.kept
	number := k.number(r.wanted.from)
	if r.wanted.checked {
		number--
	}
	base := k.base
	if number == 0 {
		h.ask(k.stream, func(err error) { h.inquireAfter(r, number, base, false, err) })
		return
	}
	q.Pattern, q.From, q.Messages = "", number, 1
	h.cfg.History.Read(q, func(p Page, err error) {
		h.mu.Lock()
		defer h.mu.Unlock()
		there := err == nil && len(p.Messages) > 0 && p.Messages[0].Cursor.Seq == number
		switch {
		case err != nil:
			h.answer(r, 0, 0, err)
		case f.ended || k.base != base:
			h.answer(r, 0, 0, errStale)
		case there && r.wanted.stamp != 0 && p.Messages[0].Cursor.Stamp != r.wanted.stamp:
			h.answer(r, NotRecovered, LossRestarted, nil)
		default:
			own := there && p.Messages[0].Topic == r.wanted.pattern
			h.ask(k.stream, func(err error) { h.inquireAfter(r, number, base, own, err) })
		}
	})
}

// inquireAfter knows how the stream stands after its message at the cursor was
// read, which is own where it is there and of the one topic wanted. Limits drop
// the oldest first: in a stream that is whole but for them nothing is missing
// behind its first, nor behind any message of the same topic. Else the bus is asked.
func (h *Hub) inquireAfter(r *read, number, base uint64, own bool, err error) {
	f := r.wanted.feed
	st := f.kept.stream
	s := st.state
	switch {
	case err != nil:
		h.answer(r, 0, 0, err)
	case f.ended || f.kept.base != base:
		h.answer(r, 0, 0, errStale)
	case st.regress != nil:
		h.answer(r, 0, 0, errLags)
	case s.Last < number: // numbers have gone back
		h.answer(r, NotRecovered, LossRestarted, nil)
	case s.Whole && (own || s.PerTopic == 0 && s.First <= number+1):
		h.answer(r, Recovered, 0, nil)
	default:
		h.inquireIntact(r, number)
	}
}

func (h *Hub) inquireIntact(r *read, number uint64) {
	h.cfg.History.Intact(r.wanted.feed.kept.stream.namespace, r.wanted.pattern, number, func(intact bool, err error) {
		h.mu.Lock()
		defer h.mu.Unlock()
		if intact || err != nil {
			h.answer(r, Recovered, 0, err)
			return
		}
		h.answer(r, NotRecovered, LossExpired, nil)
	})
}

func (h *Hub) answer(r *read, verdict Resumption, why LossReason, err error) {
	r.verdict, r.why, r.err = verdict, why, err
	h.arrived(r)
}

// readBack fills a feed's ring downwards, for those who come back to a node
// that has not been listening for as long as they were away: they are many, and
// are all served from the ring then.
func (h *Hub) readBack(r *read) {
	b := &backward{hub: h, read: r, base: r.wanted.feed.kept.base, next: r.wanted.from}
	b.readOn()
}

// backward is the reading of what a ring lacks below its floor.
type backward struct {
	hub  *Hub
	read *read
	base uint64

	// Guarded by Hub.mu.
	entries []*entry
	next    uint64
}

func (b *backward) readOn() {
	f := b.read.wanted.feed
	k := f.kept
	q := Query{Namespace: k.stream.namespace, Pattern: f.filter(), From: k.number(b.next), Urgency: UrgentResume}
	b.hub.cfg.History.Read(q, func(p Page, err error) {
		h := b.hub
		h.mu.Lock()
		defer h.mu.Unlock()
		if err == nil && (f.ended || k.base != b.base) {
			err = errStale
		}
		if err != nil {
			b.end(err)
			return
		}
		for i := range p.Messages {
			m := &p.Messages[i]
			e := &entry{Message: *m, seq: k.base + m.Cursor.Seq, matched: f.match(m.Topic)}
			b.entries = append(b.entries, e)
		}
		for _, c := range p.LeftOut {
			b.entries = append(b.entries, f.leftOut(c))
		}
		b.next = k.base + p.Next
		switch {
		case b.next > f.floor || p.End && k.replicas <= 1:
			b.end(nil)
		case p.End:
			b.confirm()
		default:
			b.readOn()
		}
	})
}

// confirm asks the leader whether there is nothing more up to the ring's floor:
// the replica that answered may lag, and the ring must have no hole.
func (b *backward) confirm() {
	h, f := b.hub, b.read.wanted.feed
	k := f.kept
	h.cfg.History.Next(k.stream.namespace, f.filter(), k.number(b.next), func(number uint64, err error) {
		h.mu.Lock()
		defer h.mu.Unlock()
		switch {
		case err == nil && (f.ended || k.base != b.base):
			err = errStale
		case err == nil && number != 0 && b.base+number <= f.floor:
			err = errLags
		}
		b.end(err)
	})
}

// end fills the ring with what was read, if nothing is missing in it: of one
// topic the numbers do not tell.
func (b *backward) end(err error) {
	f := b.read.wanted.feed
	if err == nil && !f.in.Namespace {
		b.hub.ask(f.kept.stream, b.fill)
		return
	}
	b.fill(err)
}

// fill tells those who wait.
func (b *backward) fill(err error) {
	h, f := b.hub, b.read.wanted.feed
	k := f.kept
	switch {
	case err != nil:
	case f.ended || k.base != b.base:
		err = errStale
	case k.stream.regress != nil:
		err = errLags
	case f.in.Namespace || k.stream.state.Whole:
		slices.SortFunc(b.entries, bySeq)
		h.fillBack(f, b.entries)
	default:
		f.mu.Lock()
		k.hole = f.floor
		f.mu.Unlock()
	}
	b.read.err = err
	h.arrived(b.read)
}

// leftOut is the mark of a message that is kept, and that nobody can have.
func (f *feed) leftOut(c Cursor) *entry {
	k := f.kept
	seq := k.base + c.Seq
	return &entry{seq: seq, lost: true, why: LossUpstream, from: k.cursor(seq-1, 0), to: c, matched: f.everybody()}
}

// fillBack puts older entries into a feed's ring, the newest first, as long as
// there is room, and nothing is missing between them.
func (h *Hub) fillBack(f *feed, entries []*entry) {
	f.mu.Lock()
	defer f.mu.Unlock()
	filled := false
	for i := len(entries) - 1; i >= 0; i-- {
		e := entries[i]
		if e.seq > f.floor {
			continue
		}
		if f.in.Namespace && e.seq < f.floor {
			f.kept.hole = f.floor
			break
		}
		if f.ring.count >= h.cfg.RingMessages || h.held+h.stats.excess.Load()+e.weight() > h.cfg.RingMemory {
			break
		}
		f.ring.unshift(e, h.cfg.RingMessages)
		f.floor = e.seq - 1
		f.kept.floorStamp = 0
		h.hold(f, e)
		filled = true
	}
	if filled && f.in.Namespace {
		f.newest = nil
		for i := range f.ring.count {
			f.link(f.ring.nth(i))
		}
	}
}
