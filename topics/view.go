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
	fan      fanout               // of the entry at pos, if under way
	queued   bool                 // in Members.runnable
	catching []uint32             // slots that have caught up with the fan-out under way
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

// work fans out what the feed has for this shard, until budget is spent: a
// send costs one, and so does an entry. It returns what it spent, and whether
// there is more to do.
func (v *view) work(budget int) (spent int, more bool) {
	for spent < budget {
		if v.fan.entry == nil {
			if v.next == len(v.batch) && !v.take() {
				return spent, false
			}
			spent++
			if v.next == len(v.batch) {
				continue // what was there concerns nobody here
			}
			if !v.begin(v.batch[v.next]) {
				return spent, true
			}
			v.batch[v.next] = nil
			v.next++
		}
		spent += v.fan.step(v, budget-spent)
		if v.fan.done() {
			v.finish()
		}
	}
	return spent, true
}

// take gets what the ring holds beyond pos. It reports whether there was anything.
func (v *view) take() bool {
	v.batch, v.next = v.batch[:0], 0
	f := v.feed
	f.mu.RLock()
	defer f.mu.RUnlock()
	if v.pos >= f.last {
		return false
	}
	if v.evicted > v.pos {
		v.batch = append(v.batch, v.missed())
	}
	seq := max(v.pos, f.floor)
	for end := min(f.last, seq+v.members.pace.scan); seq < end && len(v.batch) < v.members.pace.take; {
		seq++
		if e := f.at(seq); e.matched.shards&v.members.bit != 0 {
			v.batch = append(v.batch, e)
		}
	}
	if len(v.batch) == 0 {
		v.pos = seq
	}
	return true
}

// missed stands for what the ring gave up before this shard came to it: the
// whole shard was too slow, and those concerned are told. feed.mu must be held.
func (v *view) missed() *entry {
	m := &match{shards: v.members.bit}
	for _, g := range v.groups {
		if g.sub.givenUp() > max(v.pos, g.since) {
			m.subs = append(m.subs, g.sub)
		}
	}
	return &entry{seq: v.feed.floor, after: v.pos, lost: true, why: LossSlow, matched: m}
}

// begin starts the fan-out of an entry, unless it has to wait for another.
func (v *view) begin(e *entry) bool {
	m, fan := v.members, &v.fan
	v.gather(e)
	fan.once = len(fan.shares) > 1 && !e.lost
	if fan.once {
		if m.stamping != nil {
			fan.reset()
			return false // one at a time has the stamps
		}
		m.stamping = v
		m.nextStamp()
	}
	for i, share := range fan.shares {
		g := share.group
		g.share, g.busy, g.newest = uint32(i), true, e.seq
	}
	fan.entry = e
	fan.began = time.Now()
	v.pos = max(v.pos, e.seq)
	return true
}

// gather finds the groups that are to get an entry.
func (v *view) gather(e *entry) {
	if e.lost && e.why != LossSlow {
		for _, g := range v.groups {
			v.fan.add(g, e)
		}
		return
	}
	for _, s := range e.matched.subs {
		if g := v.members.groupOf(s.pattern); g != nil && g.sub == s { // else of a later feed
			v.fan.add(g, e)
		}
	}
}

// finish ends a fan-out, and lets those go on who waited for its end.
func (v *view) finish() {
	m, fan := v.members, &v.fan
	if len(fan.shares) > 0 {
		m.stats.deliveries.Add(uint64(fan.sent))
		m.to.FannedOut(fan.sent, time.Since(fan.began))
	}
	if fan.once {
		m.stamping = nil
	}
	for _, share := range fan.shares {
		share.group.busy = false
		m.compact(share.group)
	}
	fan.reset()
	for _, slot := range v.catching {
		m.Drained(slot)
	}
	v.catching = shrunk(v.catching)[:0]
}
