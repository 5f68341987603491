package topics

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Hub after hub takes over, while subscribers come, go, stop and poll, with
// history and without, and some take-overs fail half-way. Whoever delivers all has
// each message once and in order; who wants the latest never an older one, and
// the newest in the end; and nobody is forgotten.

type chainModel struct {
	t       *testing.T
	rnd     *rand.Rand
	history *fakeHistory
	now     *rig // who serves
	buses   []*chainBus
	log     map[string][]Message // by feed; data is the number there
	clients []*chainClient
	slots   uint32
	trace   []string
	slow    bool // some messages take their time to a hub
}

// chainBus is what is on its way to one hub, in order.
type chainBus struct {
	rig     *rig
	waiting []Message
}

// chainClient is a connection with subscriptions in one feed. While it polls and
// is away it has no socket.
type chainClient struct {
	model  *chainModel
	socket *socket
	shard  int
	feed   string
	subs   []*chainSub
	want   Want
	got    []string
}

type chainSub struct {
	pattern string
	stands  bool
	from    int // messages of the log up to here are before its time
	place   *Position
}

var chainPatterns = [][]string{{"all.x", "all.*", "all.>", "all.y"}, {"one.x"}, {"one.y"}, {"n.x", "n.*", "n.>", "n.y"}, {"u.x"}, {"u.y"}}

func newChainModel(t *testing.T, seed uint64) *chainModel {
	rnd := rand.New(rand.NewPCG(seed, 11))
	m := &chainModel{t: t, rnd: rnd, history: newFakeHistory(rnd), log: make(map[string][]Message), slow: rnd.IntN(2) == 0}
	if rnd.IntN(3) == 0 {
		m.history.stream("all").replicas = 3
	}
	m.now = m.newRig()
	return m
}

func (m *chainModel) newRig() *rig {
	cfg := historyConfig(m.history)
	settings := cfg.Settings
	cfg.Settings = func(namespace string) Settings {
		s := settings(namespace)
		s.ByTopic = s.ByTopic || namespace == "u"
		if s.History {
			return s
		}
		s.RingMessages = 1 << 12 // who has no history finds all in the ring
		return s
	}
	cfg.RingMessages = []int{2, 5, 100}[m.rnd.IntN(3)]
	cfg.PollLinger = time.Hour
	r := newRig(m.t, cfg, 2)
	for i, sh := range r.shards {
		sh.members.pace = pace{
			slice: 1 + m.rnd.IntN(8), turn: 1 + m.rnd.IntN(16), catchUps: 2 + m.rnd.IntN(4), blend: m.rnd.IntN(8),
			take: 1 + m.rnd.IntN(8), write: 1 + m.rnd.IntN(8), writeBytes: 1 + m.rnd.IntN(64), scan: uint64(1 + m.rnd.IntN(8)),
		}
		sh.onStanding = func(slot uint32, pattern string, st Standing, err error) { m.standsAt(i, slot, pattern, st, err) }
	}
	m.buses = append(m.buses, &chainBus{rig: r})
	return r
}

func (m *chainModel) note(format string, args ...any) {
	m.trace = append(m.trace, fmt.Sprintf(format, args...))
}

func (m *chainModel) fail(format string, args ...any) {
	m.t.Helper()
	m.t.Fatalf("%s\n%s", fmt.Sprintf(format, args...), strings.Join(m.trace[max(0, len(m.trace)-400):], "\n"))
}

// feedOf is what numbers the messages of a topic or pattern.
func (m *chainModel) feedOf(pattern string) string {
	if ns := Namespace(pattern); ns == "all" || ns == "n" {
		return ns
	}
	return pattern
}

func (m *chainModel) publish() {
	topic := []string{"all.x", "all.y", "one.x", "one.y", "n.x", "n.y", "u.x", "u.y"}[m.rnd.IntN(8)]
	feed := m.feedOf(topic)
	msg := Message{Topic: topic, Data: fmt.Append(nil, len(m.log[feed])+1)}
	if ns := Namespace(topic); ns == "all" || ns == "one" {
		msg = m.history.stream(ns).store(topic, msg.Data)
	}
	m.note("publish %s %s", topic, msg.Data)
	m.log[feed] = append(m.log[feed], msg)
	for _, b := range m.buses {
		b.waiting = append(b.waiting, msg)
	}
}

// deliver has up to n messages arrive at a hub.
func (b *chainBus) deliver(n int) {
	n = min(n, len(b.waiting))
	b.rig.hub.Deliver(b.waiting[:n])
	b.waiting = b.waiting[n:]
}

// bus is that of a rig.
func (m *chainModel) bus(r *rig) *chainBus {
	return m.buses[slices.IndexFunc(m.buses, func(b *chainBus) bool { return b.rig == r })]
}

// catchUp has all arrive that waits for a rig.
func (m *chainModel) catchUp(r *rig) {
	b := m.bus(r)
	b.deliver(len(b.waiting))
}

// newClient makes one that has subscribed to nothing yet.
func (m *chainModel) newClient() *chainClient {
	patterns := slices.Clone(chainPatterns[m.rnd.IntN(len(chainPatterns))])
	m.rnd.Shuffle(len(patterns), func(i, j int) { patterns[i], patterns[j] = patterns[j], patterns[i] })
	c := &chainClient{model: m, feed: m.feedOf(patterns[0])}
	for _, pattern := range patterns[:1+m.rnd.IntN(len(patterns))] {
		c.subs = append(c.subs, &chainSub{pattern: pattern})
	}
	if m.rnd.IntN(4) == 0 {
		c.want.Mode = ModeLatest
		c.want.MaxRate = []float64{0, 0.5, 7}[m.rnd.IntN(3)]
		c.subs = c.subs[:1] // what holds of its values holds of each subscription
	}
	return c
}

// begin has a client subscribe on whoever serves, where it was if it polled.
func (m *chainModel) begin(c *chainClient) {
	m.slots++
	c.shard = m.rnd.IntN(2)
	c.socket = m.now.connect(c.shard, m.slots)
	for _, sub := range c.subs {
		if sub.place == nil {
			m.catchUp(m.now) // so that it is known what is before its time
			m.now.run()
		}
		want := c.want
		if sub.place != nil {
			want.Resume, want.Cursor, want.Ring = true, sub.place.Cursor, sub.place.Ring
		}
		sub.stands = false
		st, stands, err := c.members().Subscribe(c.socket.slot, 0, sub.pattern, "asked", want)
		m.note("slot %d subscribes %s at %v: %+v %v %v", c.socket.slot, sub.pattern, sub.place, st, stands, err)
		if err != nil {
			m.fail("%v", err)
		}
		if stands {
			c.standsAt(sub, st)
		}
		if c.feed != "all" && Namespace(c.feed) != "one" { // without a cursor it begins when it is told
			for !sub.stands {
				m.now.bus.answer(nil)
				m.now.shards[c.shard].runTasks()
			}
		}
	}
}

func (c *chainClient) String() (patterns string) {
	for _, sub := range c.subs {
		patterns += sub.pattern + " "
	}
	return patterns + fmt.Sprint(c.want.Mode)
}

func (c *chainClient) members() *Members { return c.model.now.shards[c.shard].members }

// stands reports whether all that it has asked for does.
func (c *chainClient) stands() bool {
	return !slices.ContainsFunc(c.subs, func(s *chainSub) bool { return !s.stands })
}

func (m *chainModel) standsAt(shard int, slot uint32, pattern string, st Standing, err error) {
	if err != nil {
		m.fail("slot %d: %v", slot, err)
	}
	for _, c := range m.clients {
		if c.socket == nil || c.socket.slot != slot || c.shard != shard {
			continue
		}
		for _, sub := range c.subs {
			if sub.pattern == pattern {
				c.standsAt(sub, st)
			}
		}
	}
}

func (c *chainClient) standsAt(sub *chainSub, st Standing) {
	m := c.model
	m.note("slot %d of %v stands: %+v", c.socket.slot, sub.pattern, st)
	carried := sub.stands
	sub.stands = true
	switch {
	case st.Resumed == NotRecovered:
		m.fail("slot %d of %v was not recovered: %v", c.socket.slot, sub.pattern, st.Why)
	case carried || sub.place != nil: // it goes on
	case st.Cursor.IsZero():
		sub.from = len(m.log[c.feed])
	default:
		for i, msg := range m.log[c.feed] {
			if msg.Cursor.Seq <= st.Cursor.Seq {
				sub.from = i + 1
			}
		}
	}
}

func (m *chainModel) step() {
	sh := m.now.shards[m.rnd.IntN(2)]
	var c *chainClient
	if len(m.clients) > 0 {
		c = m.clients[m.rnd.IntN(len(m.clients))]
	}
	switch k := m.rnd.IntN(20); {
	case k < 4:
		for range 1 + m.rnd.IntN(4) {
			m.publish()
		}
	case k < 8:
		for _, b := range m.buses {
			b.deliver(m.rnd.IntN(6))
		}
	case k == 8 && len(m.clients) < 12:
		c := m.newClient()
		m.clients = append(m.clients, c)
		m.begin(c)
	case c == nil:
	case k == 9 && c.socket != nil && c.stands():
		m.leave(c)
	case k == 10 && c.socket == nil:
		m.begin(c)
	case c.socket == nil:
	case k == 11:
		c.socket.block(m.rnd.IntN(4))
	case k < 14:
		c.socket.drain()
	case k == 14:
		m.history.answer(nil)
		m.now.bus.answer(nil)
	case k == 15 && m.rnd.IntN(4) == 0 && !slices.ContainsFunc(m.clients, func(c *chainClient) bool { return !c.stands() }):
		m.history.answer(errFakeAway) // else who waits would be refused
	case k < 17:
		sh.runTasks()
	case k == 17:
		sh.members.Turn()
	case k == 18:
		sh.members.Tick()
	case k == 19:
		time.Sleep(time.Duration(m.rnd.IntN(300)) * time.Millisecond)
		synctest.Wait()
	}
}

// leave has a client go, and some know where they were.
func (m *chainModel) leave(c *chainClient) {
	polls := c.want.Mode != ModeLatest && m.rnd.IntN(2) == 0
	for _, sub := range c.subs {
		p, ok := c.members().Position(c.socket.slot, sub.pattern)
		sub.place = &p
		polls = polls && ok
	}
	c.collect()
	slot := c.socket.slot
	c.socket.leave()
	m.note("slot %d leaves, and comes back: %v", slot, polls)
	c.socket = nil
	if !polls {
		m.clients = slices.DeleteFunc(m.clients, func(other *chainClient) bool { return other == c })
	}
}

// takeOver has another hub go on, unless it fails at the last moment.
func (m *chainModel) takeOver(fails bool) {
	old := m.now
	m.note("a take-over begins, and fails: %v", fails)
	old.hub.Record()
	next := m.newRig()
	if m.slow {
		m.publish() // comes to both, and is had by neither yet
	}
	heard := make(chan error, 1)
	next.hub.Expect(old.hub.Patterns(), func(err error) { heard <- err })
	m.answerAll(next)
	synctest.Wait()
	if err := <-heard; err != nil {
		m.fail("Expect: %v", err)
	}
	for range m.rnd.IntN(20) { // nobody is read, and everybody is sent to
		m.quietStep(old)
	}
	m.catchUp(old)
	for range m.rnd.IntN(4) {
		old.shards[m.rnd.IntN(2)].members.Turn()
	}
	feeds := old.hub.Export()
	for _, b := range m.buses {
		b.deliver(m.rnd.IntN(6))
	}
	for i := range feeds {
		if err := next.hub.ImportFeed(&feeds[i]); err != nil {
			m.fail("ImportFeed: %v", err)
		}
	}
	for _, b := range m.buses {
		b.deliver(m.rnd.IntN(6))
	}
	subs := make(map[*chainClient][]Carried)
	for _, c := range m.clients {
		if c.socket == nil {
			continue
		}
		of, ok := old.shards[c.shard].members.Export(c.socket.slot)
		if !ok {
			continue // it waits for an answer: it stays, and here it comes back as it was not told
		}
		subs[c] = of
	}
	if fails {
		m.buses = slices.DeleteFunc(m.buses, func(b *chainBus) bool { return b.rig == next })
		next.hub.Close()
		old.hub.Forget()
		for _, c := range m.clients {
			if c.socket != nil {
				old.shards[c.shard].members.TakeBack(c.socket.slot)
			}
		}
		return
	}
	m.now = next
	for _, c := range slices.Clone(m.clients) {
		if c.socket == nil {
			continue
		}
		c.collect()
		of, ok := subs[c]
		room, refused := c.socket.room, c.socket.refused
		if !ok || m.rnd.IntN(20) == 0 { // it stays with the old, and is of no further interest
			m.clients = slices.DeleteFunc(m.clients, func(other *chainClient) bool { return other == c })
			continue
		}
		c.socket = next.connect(c.shard, c.socket.slot)
		c.socket.room, c.socket.refused = room, refused
		for i := range of {
			m.note("slot %d goes on with %+v", c.socket.slot, of[i])
			if err := c.members().Import(c.socket.slot, 0, &of[i]); err != nil {
				m.fail("Import: %v", err)
			}
		}
	}
	next.hub.Settle()
	m.buses = slices.DeleteFunc(m.buses, func(b *chainBus) bool { return b.rig == old })
	old.hub.Close()
}

// quietStep has something happen while clients are not read from.
func (m *chainModel) quietStep(old *rig) {
	sh := old.shards[m.rnd.IntN(2)]
	switch m.rnd.IntN(6) {
	case 0:
		m.publish()
	case 1, 2:
		for _, b := range m.buses {
			b.deliver(m.rnd.IntN(4))
		}
	case 3:
		sh.runTasks()
	case 4:
		sh.members.Turn()
	case 5:
		m.history.answer(nil)
	}
}

// answerAll answers until nothing more is asked.
func (m *chainModel) answerAll(r *rig) {
	for len(r.bus.asked) > 0 || m.history.answer(nil) {
		r.bus.answer(nil)
		synctest.Wait()
	}
}

func TestHandoverChain(t *testing.T) {
	seeds := 150
	if os.Getenv("PUSHD_SOAK") != "" {
		seeds = 20_000
	}
	for seed := range seeds {
		ok := t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			synced(t, func(t *testing.T) {
				m := newChainModel(t, uint64(seed))
				for n := range 5 {
					for range 80 {
						m.step()
					}
					m.check()
					if m.rnd.IntN(2) == 0 {
						m.settle()
					}
					m.takeOver(m.rnd.IntN(4) == 0)
					if m.rnd.IntN(3) == 0 && n > 0 { // at once again, before anybody has gone on
						m.takeOver(false)
					}
					m.check()
				}
				m.settle()
				m.now.hub.Close()
				synctest.Wait()
			})
		})
		if !ok {
			return
		}
	}
}
