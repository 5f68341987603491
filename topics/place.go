package topics

// inquire finds out whether everything after a cursor is still kept. The
// message at the cursor must be there itself, and be the one that it was: limits
// drop the oldest first, so what came after it is there too.
func (h *Hub) inquire(r *read, q Query) {
	f := r.wanted.feed
	k := f.kept
	number := k.number(r.wanted.from)
	if r.wanted.checked {
		number--
	}
	if number == 0 {
		h.inquireAfter(r, number)
		return
	}
	epoch := k.epoch
	q.Pattern, q.From, q.Messages = "", number, 1
	h.cfg.History.Read(q, func(p Page, err error) {
		h.mu.Lock()
		defer h.mu.Unlock()
		there := err == nil && len(p.Messages) > 0 && p.Messages[0].Cursor.Seq == number
		switch {
		case err != nil:
			h.answer(r, 0, 0, err)
		case f.ended || k.epoch != epoch:
			h.answer(r, 0, 0, errStale)
		case there && r.wanted.stamp != 0 && p.Messages[0].Cursor.Stamp != r.wanted.stamp:
			h.answer(r, NotRecovered, LossRestarted, nil)
		case there && (k.stream.state.PerTopic == 0 || p.Messages[0].Topic == r.wanted.pattern):
			h.answer(r, Recovered, 0, nil)
		default:
			h.inquireAfter(r, number)
		}
	})
}

// inquireAfter asks the bus where the message at the cursor does not tell: it
// is gone, or of another topic than one that has a limit of its own.
func (h *Hub) inquireAfter(r *read, number uint64) {
	f := r.wanted.feed
	st := f.kept.stream
	base := f.kept.base
	asked := st.inquiry()
	h.cfg.History.Stream(st.namespace, func(s Stream, err error) {
		h.mu.Lock()
		defer h.mu.Unlock()
		if err == nil {
			h.update(st, s, asked) // it may have begun anew, and nobody has noticed yet
			h.wake()
		}
		switch {
		case err != nil:
			h.answer(r, 0, 0, err)
		case f.ended || f.kept.base != base:
			h.answer(r, 0, 0, errStale)
		case st.regress != nil:
			h.answer(r, 0, 0, errLags)
		case s.Last < number: // numbers have gone back
			h.answer(r, NotRecovered, LossRestarted, nil)
		default:
			h.inquireIntact(r, number)
		}
	})
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
	b := &backward{hub: h, read: r, next: r.wanted.from}
	b.readOn()
}

// backward is the reading of what a ring lacks below its floor.
type backward struct {
	hub  *Hub
	read *read

	// Guarded by Hub.mu.
	entries []*entry
	next    uint64
}

func (b *backward) readOn() {
	f := b.read.wanted.feed
	k := f.kept
	epoch := k.epoch
	q := Query{Namespace: k.stream.namespace, Pattern: f.filter(), From: k.number(b.next), Urgency: UrgentResume}
	b.hub.cfg.History.Read(q, func(p Page, err error) {
		h := b.hub
		h.mu.Lock()
		defer h.mu.Unlock()
		if err == nil && (f.ended || k.epoch != epoch) {
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
	base := k.base
	h.cfg.History.Next(k.stream.namespace, f.filter(), k.number(b.next), func(number uint64, err error) {
		h.mu.Lock()
		defer h.mu.Unlock()
		switch {
		case err == nil && (f.ended || k.base != base):
			err = errStale
		case err == nil && number != 0 && base+number <= f.floor:
			err = errLags
		}
		b.end(err)
	})
}

// end fills the ring with what was read, and tells those who wait.
func (b *backward) end(err error) {
	if b.read.err = err; err == nil {
		b.hub.fillBack(b.read.wanted.feed, b.entries)
	}
	b.hub.arrived(b.read)
}

// fillBack puts older entries into a feed's ring, the newest first, as long as
// there is room.
func (h *Hub) fillBack(f *feed, entries []*entry) {
	f.mu.Lock()
	defer f.mu.Unlock()
	filled := false
	for i := len(entries) - 1; i >= 0; i-- {
		e := entries[i]
		if e.seq > f.floor {
			continue
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
