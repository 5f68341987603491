package topics

import (
	"sync/atomic"
	"time"
)

// view is a shard's position in a feed, and its members there.
type view struct {
	// Static.
	feed    *feed
	members *Members

	// Atomic.
	woken atomic.Bool // posted to the shard and not yet run

	// Guarded by feed.mu.
	evicted uint64 // newest entry for this shard that the ring has given up

	// Loop-only.
	ready    bool                 // the bus brings the feed's messages; before, there are none
	groups   []*group             // in no order
	waiting  map[uint32][]awaited // by slot: who is told when the feed is ready
	pos      uint64               // newest entry that was begun, or concerns nobody here
	batch    []*entry             // taken from the ring, to be fanned out
	next     int                  // in batch
	fan      fanout               // up to pos, if under way
	queued   bool                 // in Members.runnable
	catching []uint32             // slots that have caught up with what is under way
	caught   []uint32             // the memory of catching, in turns
	wants    wanted               // of history, since the ring does not reach back to pos; zero: nothing
	witness  bool                 // pos is the number of a message of the feed: where history has that, nothing after it is missing
	paced    int                  // groups that hold values back
	flushing []*group             // those whose held values are due
}

// wake has the shard look at the feed. It may be called from any goroutine.
func (v *view) wake() {
	if !v.woken.Swap(true) {
		v.members.post(v)
	}
}

// Run implements Task.
func (v *view) Run() {
	v.woken.Store(false)
	v.members.enqueue(v)
}

// work sends what the feed has for this shard, until budget is spent: a send
// costs one, and so does beginning. It returns what it spent, and whether there
// is more to do.
func (v *view) work(budget int) (spent int, more bool) {
	for blend := &v.members.blend; spent < budget; {
		switch {
		case blend.view == v:
			spent += blend.step(budget - spent)
			if blend.done() {
				blend.finish()
				v.finish()
			}
		case !v.fan.idle():
			spent += v.fan.step(v, budget-spent)
			if v.fan.done() && !v.fan.nextPart(v) {
				v.finishFanout()
				v.finish()
			}
		case len(v.flushing) > 0 && v.mayFlush():
			spent++
			v.flushNext()
		default:
			if v.next == len(v.batch) && !v.take() {
				return spent, false
			}
			spent++
			if v.next < len(v.batch) && !v.flushBefore(v.batch[v.next]) && !v.begin(v.batch[v.next:]) {
				return spent, true
			}
		}
	}
	return spent, true
}

// busy reports whether some members have had what is under way, and others not.
func (v *view) busy() bool { return !v.fan.idle() || v.members.blend.view == v }

// take gets what the ring holds beyond pos. It reports whether there was anything.
func (v *view) take() bool {
	clear(v.batch) // entries are kept by their ring alone
	v.batch, v.next = v.batch[:0], 0
	f := v.feed
	f.mu.RLock()
	if v.pos >= f.last {
		f.mu.RUnlock()
		return false
	}
	switch {
	case v.evicted <= v.pos:
	case f.kept == nil:
		v.batch = append(v.batch, v.missed())
	case v.pos > f.kept.begin:
		f.mu.RUnlock()
		return v.readOn()
	default: // nobody here has been told that history began anew
		v.batch = append(v.batch, v.restarted())
		f.mu.RUnlock()
		return true
	}
	seq := max(v.pos, f.floor)
	n := f.ring.upTo(seq, f.floor)
	for end := min(f.ring.count, n+int(v.members.pace.scan)); n < end && len(v.batch) < v.members.pace.take; n++ {
		e := f.ring.nth(n)
		seq = e.seq
		if e.matched.shards&v.members.bit != 0 {
			v.batch = append(v.batch, e)
		}
	}
	f.mu.RUnlock()
	if len(v.batch) == 0 {
		v.reach(seq)
	}
	return true
}

// reach notes that nothing concerns the shard up to an entry, and lets those go
// on who waited for that: feed.mu must not be held.
func (v *view) reach(seq uint64) {
	v.moveTo(seq, false)
	v.finish()
}

// moveTo notes that the shard is at an entry.
func (v *view) moveTo(seq uint64, witness bool) {
	if seq > v.pos {
		v.pos, v.witness = seq, witness
	}
}

// readOn reads from history what the ring gave up before this shard came to
// it. It reports whether there is something to do now.
func (v *view) readOn() bool {
	f := v.feed
	w := wanted{feed: f, pattern: f.filter(), from: v.pos, kind: readPage}
	h := v.members.hub
	if whole, _ := h.wholeness(f, w.pattern, v.pos); !f.in.Namespace && !(whole && v.witness) {
		w.from, w.checked = v.pos+1, true
	}
	if v.wants == w {
		return false // it is on its way
	}
	v.wants = w
	r := h.look(w, v, UrgentRepair)
	if r != nil && min(r.reached(), r.madeAt) <= v.pos {
		h.lookAfresh(r, v, UrgentRepair)
		r = nil
	}
	return r != nil && v.takePage(r)
}

// takePage takes a page of history as what comes next.
func (v *view) takePage(r *read) bool {
	m := v.members
	v.wants = wanted{}
	if r.err != nil {
		m.laterViews = append(m.laterViews, v)
		return false
	}
	f := v.feed
	if at := r.wanted.from; at != v.pos && !(r.wanted.checked && at == v.pos+1) || v.next < len(v.batch) {
		return true
	}
	clear(v.batch)
	v.batch, v.next = v.batch[:0], 0
	reached := min(r.reached(), r.madeAt) // what was not in the ring by then comes by it
	lacks := r.lacks(v.pos)
	if lacks {
		upTo := reached
		if len(r.entries) > 0 {
			upTo = r.entries[0].seq - 1
		}
		all := &match{shards: m.bit}
		v.batch = append(v.batch, &entry{
			seq: upTo, aside: true, after: v.pos, lost: true, why: LossExpired, from: f.placeOf(v.pos), to: f.placeOf(upTo), matched: all,
		})
	}
	for _, e := range r.entries {
		if e.seq > v.pos && e.seq <= r.madeAt && e.matched.shards&m.bit != 0 {
			v.batch = append(v.batch, e)
		}
	}
	switch {
	case len(v.batch) == 0:
		v.reach(reached)
	case lacks && len(v.batch) == 1:
		v.batch[0].seq = max(v.batch[0].seq, reached) // else the same would be read again for ever
	}
	return true
}

// missed stands for what the ring gave up before this shard came to it: the
// whole shard was too slow, and those concerned are told. feed.mu must be held.
func (v *view) missed() *entry {
	m := &match{shards: v.members.bit}
	told := make(map[*sub]bool) // a pattern may have several groups
	for _, g := range v.groups {
		if g.sub.givenUp() > max(v.pos, g.since) && !told[g.sub] {
			told[g.sub] = true
			m.subs = append(m.subs, g.sub)
		}
	}
	return &entry{seq: v.feed.floor, aside: true, after: v.pos, lost: true, why: LossSlow, matched: m}
}

// restarted says that history began anew. feed.mu must be held.
func (v *view) restarted() *entry {
	k := v.feed.kept
	return &entry{
		seq: k.mark, aside: true, after: v.pos, lost: true, why: LossRestarted, to: k.cursor(k.mark, 0), matched: &match{shards: v.members.bit},
	}
}

// begin starts with the first of some entries, and those behind it that can go
// with it, unless it has to wait for another view's blend.
func (v *view) begin(entries []*entry) bool {
	m, fan := v.members, &v.fan
	first := entries[0]
	v.gather(first)
	n := v.runOf(entries)
	direct := first.lost || len(fan.shares) == 0 || len(fan.shares) == 1 && (n == len(entries) || fan.shares[0].end > m.pace.blend)
	if !direct {
		fan.reset()
		if m.blend.view != nil {
			return false // there is one for each shard
		}
		n = m.blend.gather(v, entries)
	}
	v.next += n
	v.moveTo(entries[n-1].seq, !entries[n-1].lost)
	if v.paced > 0 {
		v.hold(entries[:n])
	}
	switch {
	case direct && len(fan.shares) == 0:
		v.passedOver(entries[:n])
		v.finish() // nobody here gets them
	case direct:
		fan.run, fan.began = entries[:n], time.Now()
		for i, share := range fan.shares {
			g := share.group
			g.share, g.busy, g.newest = uint32(i), true, v.pos
		}
	}
	return true
}

// frameOverhead is about what a frame has beside payload and topic.
const frameOverhead = 64

// runOf says how many entries from the first on concern the same and fit into one write.
func (v *view) runOf(entries []*entry) (n int) {
	first := entries[0]
	for bytes := 0; n < len(entries); n++ {
		e := entries[n]
		bytes += len(e.Data) + len(e.Topic) + frameOverhead
		if n > 0 && (e.lost || e.matched != first.matched || bytes > v.members.pace.writeBytes) {
			break
		}
	}
	return n
}

// gather finds the groups that are to get an entry.
func (v *view) gather(e *entry) {
	if e.lost && e.why != LossSlow {
		for _, g := range v.groups {
			if g.hears(e) {
				v.fan.add(g, e)
			}
		}
		return
	}
	for _, s := range e.matched.subs {
		for g := v.members.groupOf(s.pattern); g != nil; g = g.sibling {
			if g.sub == s && (g.pace == nil || e.lost) { // else of a later feed, or held back
				v.fan.add(g, e)
			}
		}
	}
}

// finishFanout lets members change places again.
func (v *view) finishFanout() {
	m, fan := v.members, &v.fan
	m.stats.deliveries.Add(uint64(fan.sent))
	m.to.FannedOut(fan.sent, time.Since(fan.began))
	fan.handed(m)
	flushed := fan.flush
	for _, share := range fan.shares {
		share.group.busy = false
		m.compact(share.group)
	}
	fan.reset()
	if flushed != nil {
		m.endFlush(flushed)
	}
}

// finish lets those go on who had caught up with what was under way. They may
// have to wait again.
func (v *view) finish() {
	if len(v.catching) == 0 {
		return
	}
	m := v.members
	slots := v.catching
	v.catching = v.caught[:0]
	for _, slot := range slots {
		if s := m.at(slot); s != nil { // else it left
			m.lagOf(s, v).catching = 0
		}
	}
	for _, slot := range slots {
		m.Drained(slot)
	}
	v.caught = shrunk(slots)[:0]
}
