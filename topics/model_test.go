package topics

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// The model knows what each feed was given, in order, and from where on each
// subscription counts. From that alone follows what a client must see: every
// entry for it, in order and once, unless a gap of the subscription stands
// where entries are missing. Operations come from bytes, so that the fuzzer
// can make them.

// model is a rig together with what its clients must see.
type model struct {
	*rig
	ops     []byte
	log     map[*feed][]given
	sent    map[string]place // by the line that clients get
	clients []*client
}

// given is one entry of a feed: a message, or the mark of a loss.
type given struct {
	topic string // "": a loss
}

type place struct {
	feed *feed
	seq  uint64
}

// client is a socket, and what of its subscriptions' entries is still to come.
type client struct {
	*socket
	model  *model
	format Format               // 1 cannot be told of gaps
	subs   map[string]*modelSub // by pattern
	seen   map[*feed]uint64     // latest message that it got of a feed
}

type modelSub struct {
	feed  *feed
	start uint64              // entries after it must come, once standing
	told  [NumLossReasons]int // gaps since the latest message of the feed
	early bool                // the feed is not ready
}

var modelTopics = []string{"a", "a.x", "a.y", "a.x.y", "a.y.y", "b", "b.x", "b.x.y", "user.1", "user.2", "user"}

var modelPatterns = append([]string{"a.*", "a.>", "a.*.y", "a.x.>", "b.*", "b.>", "user.*"}, modelTopics...)

func newModel(t testing.TB, ops []byte) *model {
	m := &model{ops: ops, log: make(map[*feed][]given), sent: make(map[string]place)}
	cfg := HubConfig{Linger: time.Minute}
	cfg.RingMessages = []int{1, 2, 3, 5, 8, 13, 100, 1000}[m.choose(8)]
	cfg.RingMemory = []int64{1 << 30, 3 * entryOverhead, 20 * entryOverhead}[m.choose(3)]
	m.rig = newRig(t, cfg, 1+m.choose(3))
	for _, sh := range m.shards {
		sh.members.pace = pace{
			slice: 1 + m.choose(8), turn: 1 + m.choose(16), catchUps: 1 + m.choose(4), blend: m.choose(8),
			take: 1 + m.choose(8), write: 1 + m.choose(8), writeBytes: 1 + m.choose(64), scan: uint64(1 + m.choose(8)),
		}
		for slot := range uint32(6) {
			m.clients = append(m.clients, m.newClient(sh, slot))
		}
	}
	return m
}

// choose takes one of n numbers from the operations' bytes, 0 where there are no more.
func (m *model) choose(n int) int {
	if len(m.ops) == 0 {
		return 0
	}
	b := m.ops[0]
	m.ops = m.ops[1:]
	return int(b) % n
}

func (m *model) newClient(sh *shard, slot uint32) *client {
	c := &client{model: m, subs: make(map[string]*modelSub), seen: make(map[*feed]uint64)}
	if slot == 5 {
		c.format = 1
	}
	c.socket = m.connect(slices.Index(m.shards, sh), slot)
	c.onFrame, c.onStand, c.onRefuse = c.frame, c.stands, c.isRefused
	return c
}

// step does one operation.
func (m *model) step() {
	sh := m.shards[m.choose(len(m.shards))]
	c := m.clients[m.choose(len(m.clients))]
	switch m.choose(21) {
	case 0, 1, 2, 3:
		for range 1 + m.choose(4) {
			m.publishOne(modelTopics[m.choose(len(modelTopics))])
		}
	case 4, 5, 6:
		c.subscribe(modelPatterns[m.choose(len(modelPatterns))])
	case 7:
		c.unsubscribe(modelPatterns[m.choose(len(modelPatterns))])
	case 8:
		c.leave()
		m.clients[slices.Index(m.clients, c)] = m.newClient(c.shard, c.slot)
	case 9, 10:
		c.block(m.choose(4))
	case 11, 12:
		c.drain()
	case 13:
		sh.runTasks()
	case 14, 15:
		sh.members.Turn()
	case 16:
		m.bus.answer(nil)
	case 17:
		m.bus.answer(errors.New("the bus is away"))
	case 18:
		m.lose(m.choose(4))
	case 19:
		if m.choose(4) == 0 {
			m.hub.sweep(time.Now().Add(time.Hour))
		} else {
			m.run()
		}
	case 20:
		m.bus.answer(errDenied)
	}
}

func (m *model) publishOne(topic string) {
	f := m.hub.feedOf(topic)
	m.publish(topic)
	if m.noteAppended(f, given{topic}) {
		m.wantHeard(topic)
		m.sent[fmt.Sprintf("%s %d", topic, m.number)] = place{f, f.last}
		return
	}
	for _, c := range m.clients {
		for pattern, s := range c.subs {
			if Match(pattern, topic) && !s.early {
				m.t.Fatalf("%s did not get to slot %d, which is subscribed to %s", topic, c.slot, pattern)
			}
		}
	}
}

// wantHeard checks that there is somebody for whom a message was kept, other
// than one who left while a fan-out is under way.
func (m *model) wantHeard(topic string) {
	for _, c := range m.clients {
		for pattern := range c.subs {
			if Match(pattern, topic) {
				return
			}
		}
	}
	for _, sh := range m.shards {
		for _, g := range sh.members.byPattern.entries {
			if g.busy {
				return
			}
		}
	}
	m.t.Fatalf("%s was kept for nobody", topic)
}

// noteAppended notes an entry if the hub has put it into a ring.
func (m *model) noteAppended(f *feed, e given) bool {
	if f == nil || f.last == uint64(len(m.log[f])) {
		return false
	}
	m.log[f] = append(m.log[f], e)
	return true
}

func (m *model) lose(what int) {
	switch what {
	case 0:
		m.hub.Lost(Interest{Name: "a", Namespace: true})
	case 1:
		m.hub.Lost(Interest{Name: "user.1"})
	case 2:
		m.hub.Lost(Interest{Name: "nobody"})
	case 3:
		m.hub.LostAll()
	}
	for _, feeds := range [...]table[string, *feed]{m.hub.namespaces, m.hub.topics} {
		for _, f := range feeds.entries {
			m.noteAppended(f, given{})
		}
	}
}

func (c *client) subscribe(pattern string) {
	members := c.shard.members
	_, stands, err := members.Subscribe(c.slot, c.format, string([]byte(pattern)), ".", Want{})
	s := c.subs[pattern]
	switch {
	case errors.Is(err, ErrNoWildcards) && pattern == "user.*":
		return
	case errors.Is(err, ErrTooMany) && len(c.subs) == members.max:
		return
	case errors.Is(err, ErrTooManyWaiting) && s != nil && s.early:
		return
	case err != nil:
		c.t.Fatalf("Subscribe(%q): %v", pattern, err)
	}
	if s == nil {
		g := members.groupOf(pattern)
		s = &modelSub{feed: g.view.feed, early: !stands, start: max(g.view.pos, g.since)}
		c.subs[pattern] = s
		c.wantNothingPassed(s, pattern)
	}
	if s.early == stands {
		c.t.Fatalf("Subscribe(%q) says %v", pattern, stands)
	}
}

// stands is told that a subscription stands that had to wait.
func (c *client) stands(pattern string) {
	s := c.subs[pattern]
	if s == nil {
		c.t.Fatalf("slot %d is told that %s stands, which it has left", c.slot, pattern)
	}
	s.early = false
}

// isRefused is told, once for each time it asked, that a subscription has been removed.
func (c *client) isRefused(pattern string) {
	if s := c.subs[pattern]; s != nil && !s.early {
		c.t.Fatalf("slot %d is told that %s is refused, which stood", c.slot, pattern)
	}
	if slices.Contains(c.shard.members.Patterns(c.slot, nil), pattern) {
		c.t.Fatalf("slot %d is told that %s is refused, and has it still", c.slot, pattern)
	}
	delete(c.subs, pattern)
}

// wantNothingPassed: whatever is published from now on must come.
func (c *client) wantNothingPassed(s *modelSub, pattern string) {
	if s.start > s.feed.last {
		c.t.Fatalf("%s begins after entry %d, and the newest is %d", pattern, s.start, s.feed.last)
	}
}

func (c *client) unsubscribe(pattern string) {
	if was := c.shard.members.Unsubscribe(c.slot, pattern); was != (c.subs[pattern] != nil) {
		c.t.Fatalf("Unsubscribe(%q) = %v", pattern, was)
	}
	delete(c.subs, pattern)
}

// frame checks one frame that the client gets.
func (c *client) frame(line string) {
	if words := strings.Fields(line); words[0] == "gap" {
		s := c.subs[words[1]]
		if s == nil || s.early {
			c.t.Fatalf("slot %d got %q and is not subscribed", c.slot, line)
		}
		s.told[slices.Index([]string{"slow", "upstream"}, words[2])]++
		return
	}
	at, ok := c.model.sent[line]
	if !ok {
		c.t.Fatalf("slot %d got %q, which was not published", c.slot, line)
	}
	if at.seq <= c.seen[at.feed] {
		c.t.Fatalf("slot %d got %q, number %d of its feed, after number %d", c.slot, line, at.seq, c.seen[at.feed])
	}
	topic, _, _ := strings.Cut(line, " ")
	wanted := false
	for pattern, s := range c.subs {
		wanted = wanted || s.feed == at.feed && !s.early && s.start < at.seq && Match(pattern, topic)
	}
	if !wanted {
		c.t.Fatalf("slot %d got %q, and has no subscription for it", c.slot, line)
	}
	c.reaches(at.feed, at.seq)
}

// reaches checks what should have come of a feed after the latest message and
// before seq, which comes now.
func (c *client) reaches(f *feed, seq uint64) {
	for pattern, s := range c.subs {
		if s.feed != f || s.early {
			continue
		}
		messages, marks := 0, 0
		for q := max(c.seen[f], s.start) + 1; q < seq; q++ {
			switch e := c.model.log[f][q-1]; {
			case e.topic == "":
				marks++
			case Match(pattern, e.topic):
				messages++
			}
		}
		// A mark that the ring gave up is told as what it was lost by here.
		slow, upstream := s.told[LossSlow], s.told[LossUpstream]
		missing := messages + marks - upstream
		if c.format == 1 && slow+upstream == 0 {
			continue
		}
		if upstream > marks || slow > missing || slow == 0 && missing > 0 {
			c.t.Fatalf("slot %d, pattern %s, entries %d to %d: %d messages and %d marks of loss did not come; told of %d slow and %d upstream",
				c.slot, pattern, max(c.seen[f], s.start)+1, seq-1, messages, marks, slow, upstream)
		}
		s.told = [NumLossReasons]int{}
	}
	c.seen[f] = seq
}

// settle has everybody read all there is, and checks that nothing is missing.
func (m *model) settle() {
	for len(m.bus.asked) > 0 {
		m.bus.answer(nil)
	}
	for range 3 { // whoever was refused meanwhile
		for _, c := range m.clients {
			c.drain()
		}
		m.run()
	}
	for _, c := range m.clients {
		if n := c.shard.members.Behind(c.slot); n != 0 {
			m.t.Fatalf("slot %d is behind in %d feeds, and nothing more happens", c.slot, n)
		}
		feeds := make(map[*feed]bool)
		for pattern, s := range c.subs {
			if s.early {
				m.t.Fatalf("slot %d was never told that %s stands", c.slot, pattern)
			}
			feeds[s.feed] = true
		}
		for f := range feeds {
			c.reaches(f, f.last+1)
			c.seen[f] = f.last
		}
		want := make([]string, 0, len(c.subs))
		for pattern := range c.subs {
			want = append(want, pattern)
		}
		slices.Sort(want)
		if got := slices.Sorted(slices.Values(c.shard.members.Patterns(c.slot, nil))); !slices.Equal(got, want) {
			m.t.Fatalf("slot %d is subscribed to %q, want %q", c.slot, got, want)
		}
	}
}

// checkModel runs the operations, and at the end takes everything down.
func checkModel(t testing.TB, ops []byte) {
	m := newModel(t, ops)
	for n := 0; len(m.ops) > 0; n++ {
		m.step()
		if n%16 == 15 {
			m.wantConsistent()
		}
		if n%64 == 63 {
			m.settle()
		}
	}
	m.settle()
	for _, c := range m.clients {
		c.leave()
	}
	m.wantConsistent()
	m.hub.sweep(time.Now().Add(time.Hour))
	m.run()
	m.wantEmpty()
}

func TestMembersAgainstModel(t *testing.T) {
	seeds, length := 300, 1500
	if os.Getenv("PUSHD_SOAK") != "" {
		seeds = 40_000
	}
	if testing.Short() {
		seeds = 50
	}
	for seed := range seeds {
		rnd := rand.New(rand.NewPCG(uint64(seed), 0))
		ops := make([]byte, length)
		for i := range ops {
			ops[i] = byte(rnd.Uint32())
		}
		if ok := t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) { checkModel(t, ops) }); !ok {
			return
		}
	}
}

func FuzzMembers(f *testing.F) {
	rnd := rand.New(rand.NewPCG(1, 1))
	for _, length := range []int{0, 50, 300, 1000} {
		ops := make([]byte, length)
		for i := range ops {
			ops[i] = byte(rnd.Uint32())
		}
		f.Add(ops)
	}
	f.Fuzz(func(t *testing.T, ops []byte) {
		if len(ops) > 1<<12 {
			t.Skip("long inputs find nothing that several shorter ones do not")
		}
		checkModel(t, ops)
	})
}
