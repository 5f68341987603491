package topics

import (
	"container/heap"
	"slices"
	"time"
)

// Members who want at most so many values a second are a group of their own,
// and what is held back is held back for all of them: at the end of each window
// the newest value of each topic that has changed leaves in one write for each,
// which they share. The first value after a pause leaves at once.

// paced is what such a group has.
type paced struct {
	window    time.Duration
	held      map[string]heldValue // by topic, since the last flush
	weight    int64                // of held
	flushed   uint64               // what comes up to here has left
	flushedAt time.Time
	sending   []heldValue // of the flush under way, what has not begun
	upTo      uint64      // of the flush under way
	due       bool        // it waits for the end of its window, or in view.flushing
	place     int         // in pacer.waiting, from 1; 0: it is not there
}

// heldValue is a topic's newest message, and how many it replaces.
type heldValue struct {
	entry   *entry
	skipped int
}

// horizon is up to where a group's members have had, or are getting, what there is.
func (g *group) horizon() uint64 {
	if g.pace == nil || len(g.pace.held) == 0 && g.pace.sending == nil {
		return g.view.pos
	}
	return g.pace.flushed
}

// hold keeps entries back for the groups that want that.
func (v *view) hold(entries []*entry) {
	for _, e := range entries {
		if e.lost {
			continue
		}
		for _, s := range e.matched.subs {
			for g := v.members.groupOf(s.pattern); g != nil; g = g.sibling {
				if g.sub == s && g.pace != nil && e.seq > g.since {
					g.hold(e)
				}
			}
		}
	}
}

func (g *group) hold(e *entry) {
	p := g.pace
	if p.held == nil {
		p.held = make(map[string]heldValue)
	}
	was, there := p.held[e.Topic]
	value := heldValue{entry: e}
	if there {
		value.skipped = was.skipped + 1
	}
	if len(p.held) == 0 && p.sending == nil {
		p.flushed = max(p.flushed, e.seq-1)
	}
	p.held[e.Topic] = value
	more := e.weight()
	if there {
		more -= was.entry.weight()
	}
	p.weight += more
	if !p.due && p.sending == nil {
		g.pause()
	}
	m := g.view.members
	if m.pacer.weight += more; m.pacer.weight > m.pacer.most {
		m.pacer.hasten(m)
	}
}

// pause has a group's held values flushed at the end of its window.
func (g *group) pause() {
	p := g.pace
	p.due = true
	m := g.view.members
	if end := p.flushedAt.Add(p.window); time.Now().Before(end) {
		m.pacer.add(m, g, end)
		return
	}
	g.view.flushing = append(g.view.flushing, g)
}

// mayFlush reports whether nothing is at hand that can go with what is due.
func (v *view) mayFlush() bool { return v.next == len(v.batch) || v.batch[v.next].lost }

// flushBefore has what is held back leave before a mark of loss, whatever the
// time: it came before that. It reports whether there is anything.
func (v *view) flushBefore(e *entry) bool {
	if !e.lost || v.paced == 0 {
		return false
	}
	for _, g := range v.groups {
		if g.pace != nil && len(g.pace.held) > 0 && g.hears(e) {
			v.flushing = append(v.flushing, g)
		}
	}
	return len(v.flushing) > 0
}

// flushNext begins to send what the first of the groups that are due holds.
func (v *view) flushNext() {
	g := v.flushing[0]
	v.flushing[0] = nil
	v.flushing = v.flushing[1:]
	p := g.pace
	if len(g.members) == 0 || len(p.held) == 0 { // what was held may have left before its time
		return
	}
	p.due = false
	for _, value := range p.held {
		p.sending = append(p.sending, value)
	}
	slices.SortFunc(p.sending, func(a, b heldValue) int { return bySeq(a.entry, b.entry) })
	v.members.pacer.weight -= p.weight
	p.held, p.weight, p.upTo = nil, 0, v.pos
	fan := &v.fan
	fan.flush, fan.began = g, time.Now()
	fan.shares = append(fan.shares, share{g, len(g.members)})
	g.share, g.busy, g.newest = 0, true, v.pos
	fan.nextPart(v)
}

// nextPart has as many of the held values sent as go into one write. It reports
// whether there were any.
func (fan *fanout) nextPart(v *view) bool {
	if fan.flush == nil {
		return false
	}
	p := fan.flush.pace
	fan.run, fan.skips, fan.frames = nil, nil, [MaxFormats][]byte{}
	fan.at, fan.next = 0, 0
	bytes := 0
	for len(p.sending) > 0 {
		e := p.sending[0].entry
		if bytes += len(e.Data) + len(e.Topic) + frameOverhead; len(fan.run) > 0 && bytes > v.members.pace.writeBytes {
			break
		}
		fan.run = append(fan.run, e)
		fan.skips = append(fan.skips, p.sending[0].skipped)
		p.sending = p.sending[1:]
	}
	return len(fan.run) > 0
}

// flushFrame is a part of a flush as one piece.
func (fan *fanout) flushFrame(m *Members, f Format) (all []byte) {
	for i, e := range fan.run {
		if n := fan.skips[i]; n > 0 {
			all = append(all, m.hub.enc.Skipped(f, e.Topic, n)...)
		}
		all = append(all, m.frame(e, f)...)
	}
	return all
}

// endFlush begins a group's next window.
func (m *Members) endFlush(g *group) {
	p := g.pace
	p.sending = nil
	p.flushed, p.flushedAt = max(p.flushed, p.upTo), time.Now()
	if len(p.held) > 0 {
		g.pause()
	}
}

// fellBehindFlush notes that a connection did not take a part of a flush.
func (m *Members) fellBehindFlush(slot uint32, s *seating, v *view) {
	m.leaveFlush(slot, s, v, true)
	m.stats.fellBehind.Add(1)
}

// leaveFlush has a connection wait for what it has not had of a flush under way
// and of what comes after that. The part under way has failed for it, or it has
// had it if its turn has been.
func (m *Members) leaveFlush(slot uint32, s *seating, v *view, failed bool) *lag {
	fan := &v.fan
	l := m.fallBehind(slot, s, v, v.pos)
	for _, at := range m.seatsOf(s) {
		g := m.groups[at.group]
		switch served := fan.at > 0 || int(at.index) < fan.next; {
		case g != fan.flush || int(at.index) >= fan.shares[0].end:
		case served && !failed:
			m.lower(s, l, g, fan.run[len(fan.run)-1].seq)
		default:
			m.lower(s, l, g, fan.run[0].seq-1)
		}
	}
	return l
}

// pacer has the groups whose window has not ended, the first to end first.
type pacer struct {
	waiting windows
	timer   *time.Timer
	weight  int64 // of what all groups hold back
	most    int64 // that may be
}

// heldPart is the part of RingMemory that all shards together may hold back.
const heldPart = 4

type windowEnd struct {
	at    time.Time
	group *group
}

type windows []windowEnd

func (w windows) Len() int           { return len(w) }
func (w windows) Less(i, j int) bool { return w[i].at.Before(w[j].at) }

func (w windows) Swap(i, j int) {
	w[i], w[j] = w[j], w[i]
	w[i].group.pace.place, w[j].group.pace.place = i+1, j+1
}

func (w *windows) Push(x any) {
	*w = append(*w, x.(windowEnd))
	x.(windowEnd).group.pace.place = len(*w)
}

func (w *windows) Pop() any {
	last := len(*w) - 1
	end := (*w)[last]
	end.group.pace.place = 0
	(*w)[last] = windowEnd{}
	*w = (*w)[:last]
	return end
}

// add has a group's values flushed at a time, and at no other.
func (p *pacer) add(m *Members, g *group, at time.Time) {
	if place := g.pace.place; place != 0 {
		p.waiting[place-1].at = at
		heap.Fix(&p.waiting, place-1)
	} else {
		heap.Push(&p.waiting, windowEnd{at, g})
	}
	if p.waiting[0].group == g {
		p.rest(m)
	}
}

// drop forgets a group.
func (p *pacer) drop(g *group) {
	p.weight -= g.pace.weight
	if place := g.pace.place; place != 0 {
		heap.Remove(&p.waiting, place-1)
	}
}

// hasten has all groups flushed now: they hold back too much.
func (p *pacer) hasten(m *Members) {
	for _, end := range p.waiting {
		v := end.group.view
		end.group.pace.place = 0
		v.flushing = append(v.flushing, end.group)
		m.enqueue(v)
	}
	clear(p.waiting)
	p.waiting = p.waiting[:0]
}

// rest sets the timer for the first window that ends.
func (p *pacer) rest(m *Members) {
	left := max(0, time.Until(p.waiting[0].at))
	if p.timer == nil {
		p.timer = time.AfterFunc(left, func() { m.post((*windowsEnd)(m)) })
	} else {
		p.timer.Reset(left)
	}
}

// windowsEnd has the groups flushed whose time has come.
type windowsEnd Members

// Run implements Task.
func (w *windowsEnd) Run() {
	m := (*Members)(w)
	p := &m.pacer
	now := time.Now()
	for len(p.waiting) > 0 && !p.waiting[0].at.After(now) {
		g := heap.Pop(&p.waiting).(windowEnd).group
		if now.Before(g.pace.flushedAt.Add(g.pace.window)) {
			continue // it was flushed before its time, and has another end
		}
		g.view.flushing = append(g.view.flushing, g)
		m.enqueue(g.view)
	}
	if len(p.waiting) > 0 {
		p.rest(m)
	}
}
