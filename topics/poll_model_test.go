package topics

import (
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// Clients that poll: each subscribes at the places that its last answer named,
// on any shard, takes what comes until its answer is due, which may be at any
// moment, and leaves. Some answers are lost on their way, and asked for again.
// What must hold over all answers together: in modes all and live every message
// once and in order, but for those that a gap told of; in mode latest no value
// twice, and the newest in the end.

type pollModel struct {
	*historyModel
	strict  bool // nothing is lost for those who poll: no gap may be told
	pollers []*pollClient
	others  []*socket // subscribers of another kind, in the same groups
	slots   uint32
}

// pollClient is one client, over all its polls.
type pollClient struct {
	model  *pollModel
	want   Want
	topics []*polled
	last   map[string]int // by namespace, of interest: topic by topic: number of the newest message
	values map[string]int // the same by topic

	// Of the poll under way.
	socket *socket // nil: none
	failed bool    // it is answered with an error
}

// polled is one of its subscriptions.
type polled struct {
	pattern string
	at      Position
	has     bool // at is one
	start   int  // messages of the log behind it must come; -1: it has not begun
	floor   int  // those up to here must not
	lost    int  // those up to here may be missing: a gap told so

	// Of the poll under way.
	stands             bool
	startNow, floorNow int // start and floor, if it is the first
	gap                bool
}

var pollNamespaces = []string{"all", "one", "latest", "live", "n", "u"}

var pollPatterns = map[string][]string{
	"all":    {"all.x", "all.y", "all.*", "all.>"},
	"one":    {"one.x", "one.y", "one.z"},
	"latest": {"latest.x", "latest.y", "latest.*", "latest.>"},
	"live":   {"live.x", "live.y", "live.*"},
	"n":      {"n.x", "n.y", "n.*", "n.>"},
	"u":      {"u.x", "u.y", "u.z"},
}

func newPollModel(t testing.TB, seed uint64) *pollModel {
	m := &pollModel{historyModel: newHistoryModel(t, seed), strict: seed%2 == 0}
	m.clients, m.regress, m.rnd = nil, false, rand.New(rand.NewPCG(seed, 3))
	settings := m.hub.cfg.Settings
	m.hub.cfg.Settings = func(namespace string) Settings {
		s := settings(namespace)
		s.ByTopic = s.ByTopic || namespace == "u"
		return s
	}
	if m.strict {
		m.hub.cfg.PollLinger, m.hub.cfg.RingMemory = time.Hour, 1<<30
		clear(m.lossy)
		for _, s := range m.history.streams {
			s.perTopic = 0
		}
	}
	for range 5 {
		m.pollers = append(m.pollers, m.newPoller())
	}
	for range 3 {
		m.slots++
		m.others = append(m.others, m.connect(m.rnd.IntN(len(m.shards)), m.slots))
	}
	for _, sh := range m.shards {
		sh.onStanding = func(slot uint32, pattern string, st Standing, err error) {
			for _, c := range m.pollers {
				if c.socket != nil && c.socket.slot == slot && c.socket.shard == sh {
					c.standsAt(pattern, st, err)
				}
			}
		}
	}
	return m
}

func (m *pollModel) newPoller() *pollClient {
	c := &pollClient{model: m, last: make(map[string]int), values: make(map[string]int)}
	if m.rnd.IntN(3) == 0 {
		c.want.Mode = ModeLatest
		c.want.MaxRate = []float64{0, 0.5, 7}[m.rnd.IntN(3)]
	}
	for range 1 + m.rnd.IntN(3) {
		ns := pollNamespaces[m.rnd.IntN(len(pollNamespaces))]
		pattern := pollPatterns[ns][m.rnd.IntN(len(pollPatterns[ns]))]
		if ns == "latest" && c.want.Mode == ModeDefault && len(c.topics) > 0 || c.find(pattern) != nil {
			continue // one mode for all
		}
		c.topics = append(c.topics, &polled{pattern: pattern, start: -1})
		if ns == "latest" {
			c.want.Mode = ModeLatest
		}
	}
	return c
}

func (c *pollClient) find(pattern string) *polled {
	if i := slices.IndexFunc(c.topics, func(p *polled) bool { return p.pattern == pattern }); i >= 0 {
		return c.topics[i]
	}
	return nil
}

func (c *pollClient) latest() bool { return c.want.Mode == ModeLatest }

// poll begins one.
func (c *pollClient) poll(room int) {
	m := c.model
	m.slots++
	c.socket = m.connect(m.rnd.IntN(len(m.shards)), m.slots)
	c.socket.room = room
	c.failed = false
	m.note("poll of slot %d begins on shard %d, room %d: %+v", c.socket.slot, slices.Index(m.shards, c.socket.shard), room, c.want)
	for _, p := range c.topics {
		p.stands, p.gap, p.floorNow = false, false, 0 // who joins others may get what was on its way to them
		want := c.want
		if p.has {
			want.Resume, want.Cursor, want.Ring = true, p.at.Cursor, p.at.Ring
		}
		m.note("slot %d subscribes %s at %s", c.socket.slot, p.pattern, p.at.Append(nil))
		st, stands, err := c.socket.shard.members.Subscribe(c.socket.slot, 0, p.pattern, ".", want)
		if err != nil {
			m.t.Fatalf("Subscribe(%q): %v", p.pattern, err)
		}
		if stands {
			c.standsAt(p.pattern, st, nil)
		}
	}
}

func (c *pollClient) standsAt(pattern string, st Standing, err error) {
	m, p := c.model, c.find(pattern)
	ns := Namespace(pattern)
	m.note("slot %d: %s stands %+v %v", c.socket.slot, pattern, st, err)
	if err != nil {
		c.failed = true
		return
	}
	p.stands, p.startNow = true, len(m.log[ns])
	if !st.Cursor.IsZero() {
		p.floorNow = m.place(ns, st.Cursor)
	}
	if st.Resumed == NotRecovered {
		if !m.mayGap(p) {
			m.t.Fatalf("slot %d: %s was not recovered (%v), and nothing is lost", c.socket.slot, pattern, st.Why)
		}
		p.gap = true
	}
}

// mayGap reports whether something may be missing for a subscription.
func (m *pollModel) mayGap(p *polled) bool {
	ns := Namespace(p.pattern)
	if ns == "n" || ns == "u" {
		return !m.strict || m.hub.cfg.RingMessages < 100
	}
	return m.lossy[ns] || m.history.stream(ns).perTopic > 0
}

// finish ends a poll, whose answer may be lost.
func (c *pollClient) finish(lost bool) {
	m := c.model
	lost = lost || c.failed
	members := c.socket.shard.members
	var at []Position
	var has []bool
	for _, p := range c.topics {
		q, ok := members.Position(c.socket.slot, p.pattern)
		if ok != p.stands && !c.failed {
			m.t.Fatalf("slot %d: position of %s: %v, and it stands: %v", c.socket.slot, p.pattern, ok, p.stands)
		}
		parsed, err := ParsePosition(string(q.Append(nil)))
		if ok && (err != nil || parsed != q) {
			m.t.Fatalf("position %+v reads as %+v: %v", q, parsed, err)
		}
		at, has = append(at, q), append(has, ok)
	}
	got := c.socket.got
	c.socket.leave()
	m.note("slot %d got %q, is at %v, lost %v", c.socket.slot, got, at, lost)
	slot := c.socket.slot
	c.socket = nil
	for _, line := range got {
		c.check(slot, line, lost)
	}
	if lost {
		return
	}
	for i, p := range c.topics {
		if !has[i] {
			continue
		}
		if p.start < 0 {
			p.start, p.floor = p.startNow, p.floorNow
		}
		if p.gap {
			p.lost = len(m.log[Namespace(p.pattern)])
		}
		p.at, p.has = at[i], true
	}
}

func (m *pollModel) step() {
	c := m.pollers[m.rnd.IntN(len(m.pollers))]
	ns := pollNamespaces[m.rnd.IntN(len(pollNamespaces))]
	o := m.others[m.rnd.IntN(len(m.others))]
	switch m.rnd.IntN(24) {
	case 0, 1, 2, 3, 4:
		live := ns == "n" || ns == "u"
		for range 1 + m.rnd.IntN(6) {
			m.publishTo(ns, live || m.rnd.IntN(6) > 0)
		}
	case 5, 6, 7, 8:
		if c.socket == nil {
			c.poll([]int{endless, endless, 0, 1, 2, 5}[m.rnd.IntN(6)])
		}
	case 9, 10, 11:
		if c.socket != nil {
			c.finish(m.rnd.IntN(6) == 0)
		}
	case 12:
		pattern := pollPatterns[ns][m.rnd.IntN(len(pollPatterns[ns]))]
		want := Want{}
		if m.rnd.IntN(2) == 0 {
			want.Mode, want.MaxRate = ModeLatest, []float64{0, 0.5, 7}[m.rnd.IntN(3)]
		}
		_, _, _ = o.shard.members.Subscribe(o.slot, 0, pattern, ".", want)
	case 13:
		if patterns := o.shard.members.Patterns(o.slot, nil); len(patterns) > 0 {
			o.shard.members.Unsubscribe(o.slot, patterns[m.rnd.IntN(len(patterns))])
		}
	case 14:
		o.block(m.rnd.IntN(4))
	case 15:
		o.drain()
	case 16:
		far := time.Duration(0)
		if !m.strict {
			far = time.Duration(m.rnd.IntN(2)) * time.Hour
		}
		m.note("sweep")
		m.hub.sweep(time.Now().Add(far))
	case 17:
		m.history.answer(errFakeAway)
	case 18:
		m.history.answer(nil)
		m.bus.answer(nil)
	case 19:
		m.shards[m.rnd.IntN(len(m.shards))].runTasks()
	case 20:
		m.note("turn")
		m.shards[m.rnd.IntN(len(m.shards))].members.Turn()
	case 21:
		m.shards[m.rnd.IntN(len(m.shards))].members.Tick()
	case 22:
		if m.rnd.IntN(2) == 0 {
			m.run()
		} else {
			time.Sleep(time.Duration(m.rnd.IntN(600)) * time.Millisecond)
			synctest.Wait()
		}
	case 23:
		switch {
		case m.strict:
		case m.rnd.IntN(20) == 0:
			if ns != "n" && ns != "u" {
				m.history.stream(ns).renew()
				m.note("renew %s", ns)
				m.lossy[ns] = true
			}
		case m.rnd.IntN(8) == 0:
			m.note("lost n")
			m.hub.Lost(Interest{Name: "n", Namespace: true})
		case m.rnd.IntN(8) == 0 && ns != "n" && ns != "u":
			m.history.stream(ns).expire(1 + m.rnd.IntN(4))
			m.note("expire %s to %d", ns, m.history.stream(ns).first())
			m.lossy[ns] = true
		}
	}
}

// settle polls until nothing more comes, and checks that nothing is missing.
func (m *pollModel) settle() {
	for _, o := range m.others {
		o.drain()
	}
	for round := range 20 {
		for _, c := range m.pollers {
			if c.socket != nil {
				c.finish(false)
			}
			c.poll(endless)
		}
		m.quieten()
		more := false
		for _, c := range m.pollers {
			for _, p := range c.topics {
				if !p.stands && !c.failed {
					m.t.Fatalf("slot %d was never told that %s stands", c.socket.slot, p.pattern)
				}
			}
			more = more || c.failed || len(c.socket.got) > 0
			c.finish(false)
		}
		if !more && round > 0 {
			break
		}
		if round == 19 {
			m.t.Fatal("polls never come to an end")
		}
	}
	for _, c := range m.pollers {
		c.wantAll()
	}
}

// quieten has all happen that is to happen.
func (m *pollModel) quieten() {
	for n := range 300 {
		for m.history.answer(nil) || len(m.bus.asked) > 0 {
			m.bus.answer(nil)
			m.run()
		}
		m.hub.sweep(time.Now())
		m.hub.mu.Lock()
		for _, st := range m.hub.streams {
			st.checkAt = time.Time{}
		}
		m.hub.mu.Unlock()
		for range 4 {
			for _, sh := range m.shards {
				sh.members.Tick()
			}
		}
		for m.run(); m.history.answer(nil); {
			m.run()
		}
		if n > 20 && m.quiet() && m.caughtUp() {
			return
		}
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
	}
	m.t.Fatal("it never becomes quiet")
}

func (m *pollModel) caughtUp() bool {
	for _, c := range m.pollers {
		if c.socket.shard.members.Behind(c.socket.slot) > 0 {
			return false
		}
	}
	for _, sh := range m.shards {
		for _, g := range sh.members.groups {
			if g != nil && g.pace != nil && len(g.pace.held) > 0 {
				return false
			}
		}
	}
	return true
}

func checkPolls(t testing.TB, seed uint64) {
	m := newPollModel(t, seed)
	m.play(m.step, m.settle, func() {
		for _, c := range m.pollers {
			if c.socket != nil {
				c.finish(true)
			}
		}
		for _, o := range m.others {
			o.leave()
		}
	})
}

func TestPollsAgainstModel(t *testing.T) { forSeeds(t, checkPolls) }
