package topics

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// A process that is replaced hands its subscriptions to the next, which is
// subscribed on the bus before the first stops sending, so that nothing comes to
// neither of them. Where there is history, a place is a Cursor. Where there is
// none the ring is handed over with its numbers, and a place in the old ring is
// one in the new. What the new one has received by then came to both, up to some
// message, and in an order that may differ between publishers: so what the old
// one has had since the new one could have had it is taken out of what the new
// one has, by topic and data, however often each came.
//
// The old: Hub.Record, and when no shard does anything any more Hub.Export, and
// Members.Export for each connection. The new: Hub.Expect, Hub.ImportFeed,
// Members.Import, Hub.Settle; and only then its shards run.

// TagCarried is the tag of what Sender.Subscribed says of a subscription that
// was imported: nobody has asked for it, and only a loss is worth telling.
const TagCarried = "\x00carried"

// Carried is one subscription of a connection.
type Carried struct {
	Pattern string
	Mode    Mode
	Window  time.Duration // between updates, of max_rate; 0: there is none
	At      Position
}

// CarriedFeed is a feed of a namespace without history.
type CarriedFeed struct {
	Interest    Interest
	Last        uint64 // number of the newest entry
	Floor       uint64 // what comes after it is in Entries
	MarkEvicted uint64
	Subs        []CarriedSub
	Entries     []CarriedEntry
	Recent      []Digest // of what came since Record, Entries or not
}

// CarriedSub is a pattern with somebody subscribed to it, or likely to come back.
type CarriedSub struct {
	Pattern string
	Life    uint64
	Evicted uint64
	Polled  bool
}

// CarriedEntry is a message in a ring, or with Lost the mark of a loss.
type CarriedEntry struct {
	Seq   uint64
	Topic string
	Data  []byte
	Time  int64
	Lost  bool
	Why   LossReason
}

// Digest stands for a message: its topic and data.
type Digest [16]byte

func digestOf(m *Message) (d Digest) {
	h := sha256.New()
	h.Write([]byte(m.Topic))
	h.Write([]byte{0})
	h.Write(m.Data)
	copy(d[:], h.Sum(nil))
	return d
}

// Record has the hub note from now on what comes, for Export, until Forget.
func (h *Hub) Record() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.recording = true
}

// Forget undoes Record.
func (h *Hub) Forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.recording = false
	for f := range h.feeds() {
		f.recent = nil
	}
}

// feeds are all of them. mu must be held.
func (h *Hub) feeds() func(yield func(*feed) bool) {
	return func(yield func(*feed) bool) {
		for _, t := range []*table[string, *feed]{&h.namespaces, &h.topics} {
			for _, f := range t.entries {
				if !yield(f) {
					return
				}
			}
		}
	}
}

// Patterns are all that somebody is subscribed to, or likely to come back for.
func (h *Hub) Patterns() (all []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for f := range h.feeds() {
		for _, s := range f.list {
			all = append(all, s.pattern)
		}
	}
	return all
}

// Export is the feeds without history. Data is shared with the hub. No shard may
// run meanwhile, nor until the connections are exported.
func (h *Hub) Export() (all []CarriedFeed) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for f := range h.feeds() {
		if f.kept != nil || !f.ready || len(f.list) == 0 {
			continue
		}
		c := CarriedFeed{Interest: f.in, Last: f.last, Floor: f.floor, MarkEvicted: f.markEvicted, Recent: f.recent}
		for _, s := range f.list {
			polled := s.polled.Load()
			c.Subs = append(c.Subs, CarriedSub{
				Pattern: s.pattern, Life: s.life, Evicted: s.evicted,
				Polled: polled != 0 && time.Duration(h.since(time.Now())-polled) <= h.cfg.PollLinger,
			})
		}
		for i := range f.ring.count {
			e := f.ring.nth(i)
			c.Entries = append(c.Entries, CarriedEntry{Seq: e.seq, Topic: e.Topic, Data: e.Data, Time: e.Time, Lost: e.lost, Why: e.why})
		}
		all = append(all, c)
	}
	return all
}

// collectMost is how many messages a feed may collect between Expect and ImportFeed.
const collectMost = 1 << 16

// seamTime is for how long after ImportFeed a message may come that the other
// process has had, where EndSeams does not say that all have come.
const seamTime = 30 * time.Second

// Expect has the hub subscribe on the bus to what connections will be imported
// for, and collect what comes. done is called once: when all of it comes, or with
// the reason why some will not. A pattern that this hub is configured not to take
// is left out, and Import refuses it.
func (h *Hub) Expect(patterns []string, done func(error)) {
	e := &expectation{done: done}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, pattern := range patterns {
		pattern = strings.Clone(pattern)
		err := CheckPattern(pattern)
		var f *feed
		if err == nil {
			f, err = h.feedFor(pattern)
		}
		if errors.Is(err, ErrNoWildcards) {
			continue
		}
		if err != nil {
			e.answer(fmt.Errorf("%q: %w", pattern, err))
			return
		}
		s := h.subOf(f, pattern)
		s.expected = true
		f.forget(pattern)
		if f.collecting {
			continue
		}
		f.collecting = true
		if !f.ready {
			e.missing++
			f.expected = append(f.expected, e.answer)
		}
	}
	e.missing++
	e.answer(nil)
}

// expectation is what is still to be heard of the bus. It is guarded by Hub.mu.
type expectation struct {
	missing int
	done    func(error)
}

func (e *expectation) answer(err error) {
	e.missing--
	if done := e.done; done != nil && (err != nil || e.missing == 0) {
		e.done = nil
		go done(err) // who hears it may call the hub
	}
}

// tellExpected answers those who wait for a feed. mu must be held.
func (f *feed) tellExpected(err error) {
	for _, answer := range f.expected {
		answer(err)
	}
	f.expected = nil
}

// ImportFeed puts what another process had into a feed that was expected.
func (h *Hub) ImportFeed(c *CarriedFeed) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	f, ok := h.table(c.Interest).get(c.Interest.Name)
	if !ok || !f.collecting || !f.ready || f.kept != nil {
		return nil // it came up at the last moment: who is subscribed there hears of a gap
	}
	var came []Message // since Expect
	var lost bool
	for i := range f.ring.count {
		if e := f.ring.nth(i); e.lost {
			lost = true
		} else {
			m := e.Message
			m.Trail = nil // which has been told that nobody hears it
			came = append(came, m)
		}
	}
	h.empty(f)
	f.collecting = false
	f.mu.Lock()
	f.last, f.floor, f.markEvicted, f.newest = c.Floor, c.Floor, c.MarkEvicted, nil
	f.mu.Unlock()
	for _, old := range c.Subs {
		if err := CheckPattern(old.Pattern); err != nil {
			return err
		}
		s := h.subOf(f, old.Pattern)
		s.life, s.expected = old.Life, true
		if old.Polled {
			s.polled.Store(h.since(time.Now()))
		}
		f.mu.Lock()
		s.evicted = old.Evicted
		f.mu.Unlock()
	}
	for _, old := range c.Entries {
		if old.Seq <= f.last || old.Seq > c.Last {
			return fmt.Errorf("topics: entry %d of feed %q, which is handed over, is out of order", old.Seq, f.in.Name)
		}
		e := &entry{seq: old.Seq, Message: Message{Topic: old.Topic, Data: old.Data, Time: old.Time}, lost: old.Lost, why: old.Why}
		if old.Lost {
			e.matched = f.everybody()
		} else {
			e.matched = f.match(old.Topic)
		}
		h.append(f, e)
	}
	if len(c.Recent) > 0 {
		f.seam = make(map[Digest]int, len(c.Recent))
		for _, d := range c.Recent {
			f.seam[d]++
		}
		h.seamEnds = time.Now().Add(seamTime)
	}
	for i := range came {
		if !f.isDoubled(&came[i]) {
			h.append(f, &entry{Message: came[i], matched: f.match(came[i].Topic)})
		}
	}
	if lost {
		h.markLost(f)
	}
	h.wake()
	return nil
}

// isDoubled reports whether a message came to the other process too. mu must be held.
func (f *feed) isDoubled(m *Message) bool {
	d := digestOf(m)
	n, ok := f.seam[d]
	switch {
	case !ok:
		return false
	case n == 1:
		delete(f.seam, d)
	default:
		f.seam[d] = n - 1
	}
	return true
}

// EndSeams is to be called when all that the other process had has come here.
func (h *Hub) EndSeams() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.endSeams(h.seamEnds)
}

// endSeams is called with mu held.
func (h *Hub) endSeams(now time.Time) {
	if h.seamEnds.IsZero() || now.Before(h.seamEnds) {
		return
	}
	h.seamEnds = time.Time{}
	for f := range h.feeds() {
		f.seam = nil
	}
}

// Settle ends the imports: what nobody came for is forgotten as if its last
// subscriber had left.
func (h *Hub) Settle() {
	h.mu.Lock()
	defer h.mu.Unlock()
	var unheard []*sub
	for f := range h.feeds() {
		for f.collecting = false; f.ring.count > f.most; {
			h.giveUpOldest(f)
		}
		for _, s := range f.list {
			if !s.expected {
				continue
			}
			s.expected = false
			f.forget(s.pattern)
			if s.shards == 0 {
				unheard = append(unheard, s)
			}
		}
	}
	for _, s := range unheard {
		if !h.keepForPolls(s) {
			h.drop(s)
		}
	}
}

// Linger has Settle keep a pattern for as long as for one who polled: Import may come
// after it. Without history, what has been forgotten by then is told as a loss.
func (h *Hub) Linger(pattern string) error {
	if err := CheckPattern(pattern); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	f, err := h.feedFor(pattern)
	if err != nil {
		return err
	}
	s := h.subOf(f, strings.Clone(pattern))
	s.expected = true
	s.polled.Store(h.since(time.Now()))
	return nil
}

// Export says what a connection is subscribed to and where it stands. As with
// Position, it is for one that leaves; TakeBack has it stay. Without ok it cannot
// leave, since it waits to be told that a subscription stands.
func (m *Members) Export(slot uint32) (subs []Carried, ok bool) {
	s := m.at(slot)
	if s == nil {
		return nil, true
	}
	for _, at := range m.seatsOf(s) {
		if g := m.groups[at.group]; m.isAsked(slot, g) {
			return nil, false
		}
	}
	for place := range s.count {
		g := m.groups[m.seatsOf(s)[place].group]
		c := Carried{Pattern: g.sub.pattern, Mode: g.mode}
		if i := slices.IndexFunc(g.view.waiting[slot], func(a awaited) bool { return a.group == g }); i >= 0 {
			c.At.Cursor = g.view.waiting[slot][i].want.Cursor // it was handed over to here, and has not gone on yet
		} else {
			c.At = m.standsAt(slot, s, g)
		}
		if g.pace != nil {
			c.Window = g.pace.window
		}
		subs = append(subs, c)
	}
	return subs, true
}

// standsAt is where a subscription stands while nothing happens. Nearly all have
// had what their shard has, and cost nothing.
func (m *Members) standsAt(slot uint32, s *seating, g *group) Position {
	v := g.view
	if s.behind && m.lagOf(s, v) != nil || v.busy() || g.pace != nil {
		return m.positionOf(slot, s, g)
	}
	return v.feed.positionAt(g, max(v.pos, g.since))
}

// isAsked reports whether a connection has asked for a subscription that does not
// stand yet: its answer has to come from here.
func (m *Members) isAsked(slot uint32, g *group) bool {
	if slices.ContainsFunc(g.view.waiting[slot], func(a awaited) bool { return a.group == g && a.tag != TagCarried }) {
		return true
	}
	return !g.view.ready && !g.awaits(slot)
}

// IsAsked reports whether a connection waits to be told that a subscription stands.
func (m *Members) IsAsked(slot uint32) bool {
	s := m.at(slot)
	return s != nil && slices.ContainsFunc(m.seatsOf(s), func(at seat) bool { return m.isAsked(slot, m.groups[at.group]) })
}

// TakeBack has a connection go on that was exported and stays.
func (m *Members) TakeBack(slot uint32) {
	if s := m.at(slot); s != nil && s.behind {
		m.goOn(slot, s)
	}
}

// Import has a connection go on with a subscription of another process.
func (m *Members) Import(slot uint32, format Format, c *Carried) error {
	if err := CheckPattern(c.Pattern); err != nil {
		return err
	}
	if c.Mode < ModeAll || c.Mode > ModeLatest || c.Window < 0 || c.Window > maxWindow || c.Window > 0 && c.Mode != ModeLatest {
		return fmt.Errorf("topics: %q is handed over in mode %d, every %v: there is no such", c.Pattern, c.Mode, c.Window)
	}
	if _, g, _ := m.find(slot, c.Pattern); g != nil {
		return fmt.Errorf("topics: %q is handed over twice", c.Pattern)
	}
	s := m.seating(slot)
	g, err := m.join(slot, s, c.Pattern, way{mode: c.Mode, window: c.Window})
	if err != nil {
		return err
	}
	s.format = format
	if g.view.feed.kept == nil && g.view.ready {
		m.importInRing(slot, s, g, c.At.Ring)
		return nil
	}
	want := Want{Mode: c.Mode, Resume: true, Cursor: c.At.Cursor}
	if g.view.ready {
		at, verdict, _ := g.view.feed.locate(c.At.Cursor)
		if verdict == Recovered && at == max(g.view.pos, g.since) && m.lagOf(s, g.view) == nil {
			return nil // as nearly all, it has what there is
		}
		st, stands := m.place(slot, s, g, true, want)
		if stands {
			m.tellImported(slot, g, st)
			return nil
		}
	}
	return g.await(slot, awaited{group: g, tag: TagCarried, want: want, isNew: true})
}

// importInRing has a subscription go on from a place in a ring that was handed over.
func (m *Members) importInRing(slot uint32, s *seating, g *group, from RingPlace) {
	f := g.view.feed
	f.mu.RLock()
	last := f.last
	f.mu.RUnlock()
	begins := max(g.view.pos, g.since) // for who has just joined
	switch {
	case from.Life != g.sub.life || from.Entry > last:
		m.tellImported(slot, g, Standing{Resumed: NotRecovered, Why: LossRestarted})
	case from.Entry != begins || m.lagOf(s, g.view) != nil:
		m.beginAt(slot, s, g, from.Entry, Standing{Resumed: Recovered})
	}
}

func (m *Members) tellImported(slot uint32, g *group, st Standing) {
	if st.Resumed == NotRecovered {
		m.to.Subscribed(slot, g.sub.pattern, TagCarried, st, nil)
	}
}
