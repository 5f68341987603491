package topics

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// What a subscriber must see of a feed with history follows from the log of all
// that was ever stored: in mode all every message after its start, in order and
// once, and a gap only where the stream itself has lost something; in mode
// latest values that never go back, and the newest of each topic in the end; in
// mode live a gap wherever anything is missing.

type historyModel struct {
	*rig
	trace   []string
	rnd     *rand.Rand
	history *fakeHistory
	log     map[string][]Message // by namespace; a message's data is its number there
	lossy   map[string]bool      // the stream has lost something
	clients []*follower
}

// follower is one client with one subscription at a time.
type follower struct {
	*socket
	model   *historyModel
	pattern string // "": not subscribed
	mode    Mode
	stands  bool
	start   int            // messages of the log up to here are not for it
	seen    int            // newest message of the log that came
	values  map[string]int // the same by topic
	gap     bool           // told since the newest message
	cursor  Cursor         // of the newest message, or of subscribed
	at      int            // place of cursor in the log
}

var historyPatterns = map[string][]string{
	"all":    {"all.x", "all.y", "all.*", "all.>"},
	"one":    {"one.x", "one.y", "one.z"},
	"latest": {"latest.x", "latest.*", "latest.>"},
	"live":   {"live.x", "live.*"},
}

var historyTopics = []string{"x", "y", "z", "v.w"}

func newHistoryModel(t testing.TB, seed uint64) *historyModel {
	rnd := rand.New(rand.NewPCG(seed, 1))
	m := &historyModel{rnd: rnd, history: newFakeHistory(rnd), log: make(map[string][]Message), lossy: make(map[string]bool)}
	cfg := historyConfig(m.history)
	cfg.RingMessages = []int{2, 5, 13, 100}[rnd.IntN(4)]
	cfg.RingMemory = []int64{1 << 30, 20 * entryOverhead}[rnd.IntN(2)]
	cfg.Linger = time.Nanosecond
	m.rig = newRig(t, cfg, 1+rnd.IntN(2))
	for _, sh := range m.shards {
		sh.members.pace = pace{
			slice: 1 + rnd.IntN(8), turn: 1 + rnd.IntN(16), catchUps: 2 + rnd.IntN(4), blend: rnd.IntN(8),
			take: 1 + rnd.IntN(8), write: 1 + rnd.IntN(8), writeBytes: 1 + rnd.IntN(64), scan: uint64(1 + rnd.IntN(8)),
		}
	}
	if rnd.IntN(3) == 0 {
		m.history.stream("latest").perTopic = 1
	}
	if rnd.IntN(3) == 0 {
		for namespace := range historyPatterns {
			m.history.stream(namespace).replicas = 3
		}
	}
	for range 5 {
		m.clients = append(m.clients, m.newFollower(rnd.IntN(len(m.shards)), uint32(len(m.clients))))
	}
	return m
}

// note keeps what happened, to be shown where something is wrong.
func (m *historyModel) note(format string, args ...any) {
	m.trace = append(m.trace, fmt.Sprintf(format, args...))
	if len(m.trace) > 100000 {
		m.t.Fatal("too much happens")
	}
}

func (m *historyModel) newFollower(shard int, slot uint32) *follower {
	c := &follower{model: m, socket: m.connect(shard, slot)}
	c.onFrame = c.frame
	m.shards[shard].onStanding = func(slot uint32, pattern string, st Standing, err error) {
		for _, c := range m.clients {
			if c.slot == slot && c.shard == m.shards[shard] && c.pattern == pattern {
				c.standsAt(st, err)
			}
		}
	}
	return c
}

func (m *historyModel) step() {
	c := m.clients[m.rnd.IntN(len(m.clients))]
	namespaces := []string{"all", "one", "latest", "live"}
	ns := namespaces[m.rnd.IntN(len(namespaces))]
	switch m.rnd.IntN(24) {
	case 0, 1, 2, 3, 4, 5:
		for range 1 + m.rnd.IntN(6) {
			m.publishTo(ns, m.rnd.IntN(6) > 0)
		}
	case 6, 7:
		if c.pattern == "" {
			c.begin(ns, false)
		}
	case 8:
		c.comeBack()
	case 9:
		c.leave()
	case 10:
		c.block(m.rnd.IntN(4))
	case 11, 12:
		c.drain()
	case 13:
		m.hub.sweep(time.Now().Add(time.Duration(m.rnd.IntN(2)) * time.Hour))
	case 14:
		m.history.answer(errFakeAway)
	case 15, 16, 17:
		m.history.answer(nil)
		m.bus.answer(nil)
	case 18:
		m.shards[m.rnd.IntN(len(m.shards))].runTasks()
	case 19:
		m.shards[m.rnd.IntN(len(m.shards))].members.Turn()
	case 20:
		m.shards[m.rnd.IntN(len(m.shards))].members.Tick()
	case 21:
		m.run()
	case 22:
		if m.rnd.IntN(8) == 0 {
			m.history.stream(ns).expire(1 + m.rnd.IntN(4))
			m.note("expire %s to %d", ns, m.history.stream(ns).first())
			m.lossy[ns] = true
		}
	case 23:
		if m.rnd.IntN(30) == 0 {
			m.history.stream(ns).renew()
			m.note("renew %s", ns)
			m.lossy[ns] = true
		}
	}
}

// publishTo stores a message, and passes it on live unless that is lost on its way.
func (m *historyModel) publishTo(ns string, live bool) {
	topic := ns + "." + historyTopics[m.rnd.IntN(len(historyTopics))]
	msg := m.history.stream(ns).store(topic, fmt.Append(nil, len(m.log[ns])+1))
	m.log[ns] = append(m.log[ns], msg)
	m.note("publish %s %s as %v, live %v", msg.Topic, msg.Data, msg.Cursor, live)
	if live {
		m.hub.Deliver([]Message{msg})
	}
}

func (c *follower) namespace() string { return Namespace(c.pattern) }

func (c *follower) begin(ns string, resume bool) {
	patterns := historyPatterns[ns]
	if !resume {
		c.pattern = patterns[c.model.rnd.IntN(len(patterns))]
		c.mode = c.model.hub.cfg.Settings(ns).Mode
		if c.mode != ModeLatest && c.model.rnd.IntN(4) == 0 {
			c.mode = ModeLatest
		}
		c.seen, c.values, c.gap = 0, make(map[string]int), false
		c.start = len(c.model.log[ns])
	}
	c.model.note("slot %d subscribes %s mode %d, resumes %v from %v", c.slot, c.pattern, c.mode, resume, c.cursor)
	want := Want{Mode: c.mode, Resume: resume, Cursor: c.cursor}
	c.stands = false
	st, stands, err := c.shard.members.Subscribe(c.slot, 0, c.pattern, ".", want)
	if err != nil {
		c.t.Fatalf("Subscribe(%q): %v", c.pattern, err)
	}
	if stands {
		c.standsAt(st, nil)
	}
}

// standsAt is told where the subscription begins.
func (c *follower) standsAt(st Standing, err error) {
	if err != nil {
		c.pattern, c.stands = "", false
		return
	}
	if c.pattern == "" || c.stands {
		return
	}
	c.model.note("slot %d stands %+v", c.slot, st)
	c.stands = true
	ns := c.namespace()
	if st.Resumed == NotRecovered && !c.model.lossy[ns] && c.model.history.stream(ns).perTopic == 0 {
		c.t.Fatalf("slot %d: %s from %v was not recovered (%v), and nothing is lost", c.slot, c.pattern, c.cursor, st.Why)
	}
	if st.Resumed == NotResumed {
		c.cursor, c.at = st.Cursor, len(c.model.log[ns])
		if c.mode != ModeLatest {
			c.start = c.model.place(ns, st.Cursor)
			c.at = c.start
		}
	}
	if st.Resumed == NotRecovered {
		c.gap = true
		if st.Why == LossRestarted { // what it had counts no more, even if the feed does not know of that yet
			c.seen = 0
			clear(c.values)
		}
	}
}

// place finds a cursor in the log: how many messages are up to there.
func (m *historyModel) place(ns string, cursor Cursor) int {
	for i := len(m.log[ns]) - 1; i >= 0; i-- {
		if at := m.log[ns][i].Cursor; at.Epoch == cursor.Epoch && at.Seq <= cursor.Seq || at.Epoch < cursor.Epoch {
			return i + 1
		}
	}
	return 0
}

// comeBack drops the connection, and resumes on another.
func (c *follower) comeBack() {
	if c.pattern == "" || !c.stands || c.cursor.IsZero() {
		return
	}
	c.socket.leave()
	c.reconnect()
	c.begin(c.namespace(), true)
}

func (c *follower) leave() {
	c.model.note("slot %d leaves", c.slot)
	c.socket.leave()
	c.pattern, c.stands = "", false
	c.reconnect()
}

func (c *follower) reconnect() {
	c.room, c.refused = endless, false
	c.shard.sockets[c.slot] = c.socket
}

// frame checks what comes.
func (c *follower) frame(line string) {
	words := strings.Fields(line)
	c.model.note("slot %d got %q", c.slot, line)
	c.wantUnlocked()
	if c.pattern == "" {
		c.t.Fatalf("slot %d got %q and is not subscribed", c.slot, line)
	}
	switch words[0] {
	case "gap":
		if c.mode == ModeAll && !c.model.lossy[c.namespace()] {
			c.t.Fatalf("slot %d got %q in mode all, and the stream lost nothing", c.slot, line)
		}
		c.gap = true
		return
	case "skipped":
		if c.mode != ModeLatest {
			c.t.Fatalf("slot %d got %q in mode %d", c.slot, line, c.mode)
		}
		return
	}
	if !c.stands {
		c.t.Fatalf("slot %d got %q before it was told that %s stands", c.slot, line, c.pattern)
	}
	ns := c.namespace()
	var number int
	fmt.Sscan(words[1], &number)
	if !Match(c.pattern, words[0]) {
		c.t.Fatalf("slot %d got %q for %s", c.slot, line, c.pattern)
	}
	if number <= c.values[words[0]] {
		c.t.Fatalf("slot %d got %q after number %d of the same topic", c.slot, line, c.values[words[0]])
	}
	if c.mode != ModeLatest {
		if number <= c.seen {
			c.t.Fatalf("slot %d got %q after number %d", c.slot, line, c.seen)
		}
		c.missing(number)
	}
	c.values[words[0]] = number
	c.seen = max(c.seen, number)
	c.gap = false
	c.cursor, c.at = c.model.log[ns][number-1].Cursor, number
}

// wantUnlocked checks that nobody sends while the feed is locked: the hub may
// be waiting for that lock, and whoever is told next would wait behind it.
func (c *follower) wantUnlocked() {
	_, g, _ := c.shard.members.find(c.slot, c.pattern)
	if g == nil {
		return
	}
	for range 1000 { // a timer of the hub may have it for a moment
		if g.view.feed.mu.TryLock() {
			g.view.feed.mu.Unlock()
			return
		}
		runtime.Gosched()
	}
	c.t.Fatalf("slot %d is sent to while its feed is locked", c.slot)
}

// missing checks that nothing is between the newest message that came and the
// one that comes now, unless the client was told.
func (c *follower) missing(number int) {
	if c.gap {
		return
	}
	for i := max(c.seen, c.start); i < number-1; i++ {
		if m := c.model.log[c.namespace()][i]; Match(c.pattern, m.Topic) && !c.mayVanish(m) {
			c.t.Fatalf("slot %d in mode %d of %s: number %d after %d, from %d, and %s %s is missing (ring of %d)",
				c.slot, c.mode, c.pattern, number, c.seen, c.start, m.Topic, m.Data, c.model.hub.cfg.RingMessages)
		}
	}
}

// mayVanish reports whether a message was lost on its way and went from the
// stream before anybody looked: with interest: topic nothing tells of that.
func (c *follower) mayVanish(m Message) bool {
	if c.namespace() != "one" {
		return false
	}
	for _, kept := range c.model.history.stream("one").kept {
		if kept.Cursor == m.Cursor {
			return false
		}
	}
	return true
}

// settle lets everything come to its end, and checks that nothing is missing.
func (m *historyModel) settle() {
	for n := range 60 {
		for m.history.answer(nil) || len(m.bus.asked) > 0 {
			m.bus.answer(nil)
			m.run()
		}
		for _, c := range m.clients {
			c.drain()
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
		m.run()
		if n > 20 && m.quiet() { // replicas that lag answer some of the questions
			break
		}
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
	}
	for _, c := range m.clients {
		if c.pattern == "" {
			continue
		}
		if !c.stands {
			m.t.Fatalf("slot %d was never told that %s stands", c.slot, c.pattern)
		}
		if n := c.shard.members.Behind(c.slot); n != 0 {
			x := c.shard.members.extras.all[c.shard.members.at(c.slot).extra]
			m.t.Fatalf("slot %d of %s is behind and nothing more happens: %+v; view %+v", c.slot, c.pattern, x.lags[0], x.lags[0].view)
		}
		if c.mode != ModeLatest {
			c.missing(len(m.log[c.namespace()]) + 1)
			continue
		}
		for _, stored := range m.history.stream(c.namespace()).kept {
			var number int
			fmt.Sscan(string(stored.Data), &number)
			if Match(c.pattern, stored.Topic) && c.values[stored.Topic] < number && number > c.oldest() {
				m.t.Fatalf("slot %d of %s in mode latest has %d of %s, and the newest is %d", c.slot, c.pattern, c.values[stored.Topic], stored.Topic, number)
			}
		}
	}
}

// oldest is what a subscriber without a snapshot need not have.
func (c *follower) oldest() int {
	if c.gap {
		return len(c.model.log[c.namespace()])
	}
	return 0
}

func (m *historyModel) quiet() bool {
	m.hub.mu.Lock()
	defer m.hub.mu.Unlock()
	for _, all := range [...]table[string, *feed]{m.hub.namespaces, m.hub.topics} {
		for _, f := range all.entries {
			if f.kept != nil && (f.kept.mending || len(f.kept.pend) > 0 || !f.ready) {
				return false
			}
		}
	}
	for _, c := range m.clients {
		if c.pattern != "" && (!c.stands || c.shard.members.Behind(c.slot) > 0) {
			return false
		}
	}
	return m.history.waiting() == 0
}

func checkHistory(t testing.TB, seed uint64) {
	m := newHistoryModel(t, seed)
	defer m.hub.Close()
	defer func() {
		if t.Failed() {
			t.Log(strings.Join(m.trace[max(0, len(m.trace)-100):], "\n"))
		}
	}()
	for n := range 400 {
		m.step()
		if n%16 == 15 {
			m.wantConsistent()
		}
		if n%80 == 79 {
			m.settle()
		}
	}
	m.settle()
	for _, c := range m.clients {
		c.leave()
	}
	m.wantConsistent()
	m.hub.Close()
	m.hub.sweep(time.Now().Add(time.Hour))
	m.run()
	m.wantEmpty()
}

func TestHistoryAgainstModel(t *testing.T) {
	seeds := 150
	if os.Getenv("PUSHD_SOAK") != "" {
		seeds = 20_000
	}
	for seed := range seeds {
		ok := t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { checkHistory(t, uint64(seed)) }) // by a clock of its own
		})
		if !ok {
			return
		}
	}
}
