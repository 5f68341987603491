package topics

import (
	"errors"
	"strings"
	"sync/atomic"
	"time"
)

// Task is work for a shard's loop.
type Task interface{ Run() }

// Outcome says what became of a frame.
type Outcome uint8

const (
	Sent    Outcome = iota // taken, or its rest is kept
	Blocked                // nothing of it was taken; Members.Drained follows
	Gone                   // the connection is ending
)

// Sender sends to the connections of one shard, and is told what was asked for
// earlier. Its methods are called on the shard's loop. Send, SendCopy and
// FannedOut must not call back into Members.
type Sender interface {
	// Send sends one or more frames that many share: they must not be changed, ever.
	Send(slot uint32, frames []byte) Outcome

	// SendCopy sends frames in memory that is the caller's again afterwards.
	SendCopy(slot uint32, frames []byte) Outcome

	// Subscribed says that a subscription for which Subscribe answered
	// Waiting stands, or stood until Unsubscribe, which calls it. tag is what
	// was given there. With an error, which is what the bus said and final, it
	// does not stand, and has been removed.
	Subscribed(slot uint32, pattern, tag string, st Standing, err error)

	// FannedOut says how long an entry took on its way through the shard.
	FannedOut(sent int, took time.Duration)
}

const noSlot = ^uint32(0)

// Members has the subscriptions of one shard's connections. It belongs to the
// shard's loop: each method is to be called there.
type Members struct {
	// Static.
	hub   *Hub
	bit   uint64 // of the shard
	index int    // the same, from 0
	max   int    // subscriptions of one connection
	to    Sender
	post  func(Task) bool
	pace  pace
	sweep bool // it is this shard that ends idle feeds

	// Loop-only.
	byPattern table[string, *group]
	groups    []*group
	spare     []uint32 // free places in groups
	pages     []*[pageSize]seating
	extras    extras
	runnable  []*view  // have entries to fan out
	resting   []*view  // the memory of runnable, in turns
	again     []uint32 // slots that go on catching up
	blend     blend    // of one view at a time
	buf       []byte   // of catchUp
	pending   []owed   // likewise
	skips     []*entry // likewise: those that were left out
	readers   []concern
	collects  uint64 // number of the latest collect
	ticks     uint32
	refused   *view // whose members are being told so
	pacer     pacer
	making    int // bytes of messages of which frames were made, and effort has not counted

	// Loop-only: what is read of history.
	asking     map[wanted]map[uint32]struct{} // slots that wait for it
	given      []*giving                      // is in, and on its way
	giving     *read                          // what a connection is being given
	later      []uint32                       // slots that try again after a while
	laterViews []*view

	// Atomic.
	stats MemberStats
}

// MemberStats counts what one shard's members see.
type MemberStats struct {
	deliveries, caughtUp, fellBehind atomic.Uint64
	gaps                             [NumLossReasons]atomic.Uint64
	behind, subscriptions            atomic.Int64
}

// group is the members of one pattern in this shard.
type group struct {
	sub     *sub
	view    *view
	index   uint32 // in Members.groups
	at      uint32 // in view.groups
	share   uint32 // in the fan-out under way
	holes   uint32 // members who left meanwhile
	busy    bool   // a fan-out is under way: nobody may change places
	mode    Mode
	since   uint64 // entries up to here are before its time
	newest  uint64 // latest entry for it that a fan-out began
	members []member
	sibling *group // of the same pattern, served in another way
	pace    *paced // nil: messages go as they come

	// For the connection that is being fed.
	collect uint64 // it is a member, if this is the number of the collect
	after   uint64 // and gets what comes after this,
	limit   uint64 // … up to this
}

// member is a connection in a group. Place is where the group stands among the
// connection's seats, so that both sides find the other in one step.
type member struct {
	slot  uint32
	place uint32
}

// NewMembers adds a shard to a hub, at most MaxShards and before the first
// subscription. post hands a task to the shard's loop from any goroutine, in
// order; max is how many subscriptions a connection may have.
func NewMembers(h *Hub, to Sender, post func(Task) bool, max int) *Members {
	h.mu.Lock()
	defer h.mu.Unlock()
	m := &Members{
		hub: h, bit: 1 << h.shards, index: h.shards, sweep: h.shards == 0, max: max, to: to, post: post,
		pace: pace{slice: 1024, turn: 4096, catchUps: 256, blend: 1 << 16, take: 256, write: 64, writeBytes: 64 << 10, scan: 1024},
	}
	h.shards++
	return m
}

// Want is how a subscriber wants to be served. The zero value is as the
// namespace says, from now on.
type Want struct {
	Mode    Mode    // ModeDefault: as the namespace says
	MaxRate float64 // of ModeLatest: updates a second for each topic; 0: no limit
	Resume  bool    // go on from Cursor, or from Ring
	Cursor  Cursor
	Ring    RingPlace // where the namespace keeps no history
}

// Errors of Subscribe, beside *NameError and ErrNoWildcards.
var (
	ErrTooMany        = errors.New("too many subscriptions on this connection (--max-subscriptions)")
	ErrTooManyWaiting = errors.New("too many subscribe commands for a topic that is still being set up")
	ErrMode           = errors.New("mode is beyond what this namespace delivers: all, live and latest each allow only themselves and those behind them")
	ErrRate           = errors.New("max_rate is for mode latest alone: others deliver every message")
)

// Standing is how a subscription stands.
type Standing struct {
	Cursor  Cursor     // just before the first message that it gets
	Resumed Resumption // whether it goes on from the cursor that was asked for
	Why     LossReason // of NotRecovered
}

// Resumption is what became of the wish to go on from a cursor.
type Resumption uint8

const (
	NotResumed   Resumption = iota // there was no such wish
	Recovered                      // all that came since follows
	NotRecovered                   // some is missing, and what is there follows
)

// Subscribe adds a subscription, or changes the mode and the rate of one that
// is there already. It reports whether the subscription stands; if not,
// Sender.Subscribed follows. pattern may be a view of a buffer.
func (m *Members) Subscribe(slot uint32, format Format, pattern, tag string, want Want) (st Standing, stands bool, err error) {
	if err := CheckPattern(pattern); err != nil {
		return st, false, err
	}
	way, err := m.way(pattern, want)
	if err != nil {
		return st, false, err
	}
	s := m.seating(slot)
	_, g, _ := m.find(slot, pattern)
	if g != nil && !g.serves(way) {
		m.Unsubscribe(slot, pattern)
		s, g = m.seating(slot), nil
	}
	isNew := g == nil
	if isNew {
		if int(s.count) >= m.max {
			return st, false, ErrTooMany
		}
		if g, err = m.join(slot, s, pattern, way); err != nil {
			return st, false, err
		}
		s.format = format
	}
	if g.view.ready {
		if st, stands = m.place(slot, s, g, isNew, want); stands {
			return st, true, nil
		}
	}
	return st, false, g.await(slot, awaited{group: g, tag: tag, want: want, isNew: isNew})
}

// groupOf returns the first group of a pattern, nil if it has no members here.
func (m *Members) groupOf(pattern string) *group {
	g, _ := m.byPattern.get(pattern)
	return g
}

// join makes a connection a member of a group, which may have to be made first.
func (m *Members) join(slot uint32, s *seating, pattern string, way way) (*group, error) {
	g := m.groupOf(pattern)
	for g != nil && !g.serves(way) {
		g = g.sibling
	}
	if g == nil {
		j, err := m.hub.acquire(m, strings.Clone(pattern)) // it may be a view, and is kept
		if err != nil {
			return nil, err
		}
		g = m.newGroup(j, way)
	}
	m.blend.settle(s, g.view)
	g.members = append(g.members, member{slot, m.sit(s, seat{g.index, uint32(len(g.members))})})
	if l := m.lagOf(s, g.view); l != nil {
		l.begins(g, max(g.view.pos, g.since))
	}
	g.sub.members.Add(1)
	m.hub.counted(g.sub)
	m.stats.subscriptions.Add(1)
	return g, nil
}

func (m *Members) newGroup(j joining, way way) *group {
	g := &group{sub: j.sub, view: j.view, at: uint32(len(j.view.groups)), since: j.last, mode: way.mode}
	if way.window > 0 {
		g.pace = &paced{window: way.window}
		g.view.paced++
		m.pacer.most = m.hub.mayHold()
	}
	if n := len(m.spare); n > 0 {
		g.index = m.spare[n-1]
		m.spare = m.spare[:n-1]
		m.groups[g.index] = g
	} else {
		g.index = uint32(len(m.groups))
		m.groups = append(m.groups, g)
	}
	g.sibling = m.groupOf(j.sub.pattern)
	m.byPattern.put(j.sub.pattern, g)
	j.view.groups = append(j.view.groups, g)
	return g
}

// Unsubscribe reports whether there was such a subscription. If it is one that
// still waits, Sender.Subscribed is called first: each request has its answer.
func (m *Members) Unsubscribe(slot uint32, pattern string) bool {
	s, g, place := m.find(slot, pattern)
	if g == nil {
		return false
	}
	if g.view.waiting != nil {
		g.answer(slot)
		if s, g, place = m.find(slot, pattern); g == nil {
			return true // who was told has ended it
		}
	}
	m.blend.settle(s, g.view)
	if l := m.lagOf(s, g.view); l != nil {
		l.leaves(g)
	}
	v := g.view
	m.leave(slot, s, uint32(place))
	if l := m.lagOf(s, v); l != nil && !m.sitsIn(s, v) {
		m.dropLag(s, l)
	} else if l != nil {
		m.dropSkips(s, l)
		m.goOn(slot, s) // it may have waited for the sake of this subscription alone
	}
	return true
}

// sitsIn reports whether a connection has a subscription in a feed.
func (m *Members) sitsIn(s *seating, v *view) bool {
	for _, at := range m.seatsOf(s) {
		if m.groups[at.group].view == v {
			return true
		}
	}
	return false
}

// find returns a connection's subscription: its group, nil if there is none,
// and where it stands among the seats.
func (m *Members) find(slot uint32, pattern string) (s *seating, g *group, place int) {
	if s = m.at(slot); s == nil {
		return nil, nil, -1
	}
	for g = m.groupOf(pattern); g != nil; g = g.sibling {
		if place = m.placeIn(s, g); place >= 0 {
			return s, g, place
		}
	}
	return nil, nil, -1
}

// Leave ends all that a connection has here.
func (m *Members) Leave(slot uint32) {
	s := m.at(slot)
	if s == nil {
		return
	}
	for _, at := range m.seatsOf(s) {
		delete(m.groups[at.group].view.waiting, slot)
	}
	if m.refused != nil {
		delete(m.refused.waiting, slot) // its seats there have been taken away
	}
	for s.count > 0 {
		m.leave(slot, s, s.count-1)
	}
	if s.extra != 0 {
		lags := m.extras.all[s.extra].lags
		for _, l := range lags {
			l.stopCatching()
		}
		m.stats.behind.Add(int64(-len(lags)))
		m.dropExtra(s)
	}
	*s = seating{}
}

// leave ends the subscription at one of a connection's places.
func (m *Members) leave(slot uint32, s *seating, place uint32) {
	at := m.seatsOf(s)[place]
	g := m.groups[at.group]
	m.stand(s, place)
	g.sub.members.Add(-1)
	m.hub.counted(g.sub)
	m.stats.subscriptions.Add(-1)
	if g.busy {
		g.members[at.index].slot = noSlot
		g.holes++
		return // compact follows
	}
	m.vacate(g, at.index)
	m.dropIfEmpty(g)
}

// vacate takes a member out; the last one moves to its place.
func (m *Members) vacate(g *group, index uint32) {
	end := uint32(len(g.members) - 1)
	if index != end {
		moved := g.members[end]
		g.members[index] = moved
		if moved.slot != noSlot {
			m.seatsOf(m.at(moved.slot))[moved.place].index = index
		}
	}
	g.members = shrunk(g.members[:end])
}

// shrunk gives back room of a slice that has become much too large.
func shrunk[T any](s []T) []T {
	if c := cap(s); c > 64 && len(s) < c/4 {
		return append(make([]T, 0, c/2), s...)
	}
	return s
}

// compact closes the holes that members left during a fan-out.
func (m *Members) compact(g *group) {
	for i := len(g.members) - 1; i >= 0 && g.holes > 0; i-- {
		if g.members[i].slot == noSlot {
			m.vacate(g, uint32(i))
			g.holes--
		}
	}
	m.dropIfEmpty(g)
}

// dropIfEmpty forgets a group without members.
func (m *Members) dropIfEmpty(g *group) {
	if len(g.members) > 0 {
		return
	}
	v := g.view
	m.dropSibling(g)
	if g.pace != nil {
		v.paced--
		m.pacer.drop(g)
	}
	end := len(v.groups) - 1
	v.groups[g.at] = v.groups[end]
	v.groups[g.at].at = g.at
	v.groups[end] = nil
	v.groups = shrunk(v.groups[:end])
	m.groups[g.index] = nil
	m.spare = append(m.spare, g.index)
	for other := m.groupOf(g.sub.pattern); other != nil; other = other.sibling {
		if other.sub == g.sub {
			return // and not of a later feed
		}
	}
	m.hub.release(m, g.sub)
}

// dropSibling takes a group out of those of its pattern.
func (m *Members) dropSibling(g *group) {
	first := m.groupOf(g.sub.pattern)
	switch {
	case first != g:
		for first.sibling != g {
			first = first.sibling
		}
		first.sibling = g.sibling
	case g.sibling != nil:
		m.byPattern.put(g.sub.pattern, g.sibling)
	default:
		m.byPattern.remove(g.sub.pattern)
	}
	g.sibling = nil
}

// Patterns appends what a connection is subscribed to.
func (m *Members) Patterns(slot uint32, dst []string) []string {
	if s := m.at(slot); s != nil {
		for _, at := range m.seatsOf(s) {
			dst = append(dst, m.groups[at.group].sub.pattern)
		}
	}
	return dst
}

// Behind says in how many feeds a connection is behind.
func (m *Members) Behind(slot uint32) int {
	if s := m.at(slot); s != nil && s.behind {
		return len(m.extras.all[s.extra].lags)
	}
	return 0
}
