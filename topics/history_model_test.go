package topics

import (
	"fmt"
	"math/rand/v2"
	"os"
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
	regress bool                 // streams seem to go back, and do, rather than to expire
	cut     map[string]bool      // by data and namespace: it was lost with the end of its stream
	clients []*follower
	large   bool // some messages are too large for anybody
}

func newHistoryModel(t testing.TB, seed uint64) *historyModel {
	rnd := rand.New(rand.NewPCG(seed, 1))
	m := &historyModel{rnd: rnd, history: newFakeHistory(rnd), log: make(map[string][]Message), lossy: make(map[string]bool), cut: make(map[string]bool)}
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
	for _, namespace := range []string{"all", "latest", "live"} {
		m.mayBound(namespace)
	}
	if rnd.IntN(3) == 0 {
		for namespace := range historyPatterns {
			m.history.stream(namespace).replicas = 3
		}
	}
	m.regress = rnd.IntN(3) == 0
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

func (m *historyModel) step() {
	c := m.clients[m.rnd.IntN(len(m.clients))]
	namespaces := []string{"all", "one", "latest", "live"}
	ns := namespaces[m.rnd.IntN(len(namespaces))]
	switch m.rnd.IntN(25) {
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
		switch {
		case m.regress:
			m.regresses(ns)
		case m.rnd.IntN(8) == 0:
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
	case 24:
		if m.rnd.IntN(8) == 0 {
			m.remove(ns)
		}
	}
}

// mayBound has a stream keep so many messages of each topic, or all.
func (m *historyModel) mayBound(ns string) {
	if n := []int{0, 0, 0, 1, 2, 5}[m.rnd.IntN(6)]; n > 0 {
		m.history.stream(ns).perTopic, m.lossy[ns] = n, true
	}
}

// publishTo stores a message, and passes it on live unless that is lost on its way.
func (m *historyModel) publishTo(ns string, live bool) {
	topic := ns + "." + historyTopics[m.rnd.IntN(len(historyTopics))]
	data := fmt.Append(nil, len(m.log[ns])+1)
	if m.large && ns != "one" && m.rnd.IntN(50) == 0 { // of one topic the last of all is seen by nobody
		data, live, m.lossy[ns] = nil, false, true
	}
	msg := m.history.stream(ns).store(topic, data)
	m.log[ns] = append(m.log[ns], msg)
	m.note("publish %s %s as %v, live %v", msg.Topic, msg.Data, msg.Cursor, live)
	if live {
		m.hub.Deliver([]Message{msg})
	}
}

// remove deletes one message by hand, or all of its topic.
func (m *historyModel) remove(ns string) {
	s := m.history.stream(ns)
	if len(s.kept) == 0 {
		return
	}
	n, all := m.rnd.IntN(len(s.kept)), m.rnd.IntN(3) == 0
	gone := s.kept[n]
	m.note("remove %s %s as %v, all of its topic %v", gone.Topic, gone.Data, gone.Cursor, all)
	s.remove(func(i int, k Message) bool { return i == n || all && k.Topic == gone.Topic })
	m.lossy[ns] = true
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

// settle lets everything come to its end, and checks that nothing is missing.
func (m *historyModel) settle() {
	for _, s := range m.history.streams {
		s.deposed = 0
	}
	for n := range 400 {
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
		newest := make(map[string]Message)
		for _, stored := range m.history.stream(c.namespace()).kept {
			newest[stored.Topic] = stored
		}
		for _, stored := range newest {
			if stored.Data == nil {
				continue // and nobody has what it replaced
			}
			var number int
			fmt.Sscan(string(stored.Data), &number)
			if Match(c.pattern, stored.Topic) && c.values[stored.Topic] < number && number > c.oldest() {
				m.t.Fatalf("slot %d of %s in mode latest has %d of %s, and the newest is %d", c.slot, c.pattern, c.values[stored.Topic], stored.Topic, number)
			}
		}
	}
}

func (m *historyModel) quiet() bool {
	m.hub.mu.Lock()
	defer m.hub.mu.Unlock()
	for _, st := range m.hub.streams {
		if st.regress != nil || st.sweep != nil {
			return false
		}
	}
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

// play takes steps, looks now and then whether all is consistent and as it should
// be, and at the end takes everything down.
func (m *historyModel) play(step, settle, leave func()) {
	defer m.hub.Close()
	defer func() {
		if m.t.Failed() {
			m.t.Log(strings.Join(m.trace[max(0, len(m.trace)-150):], "\n"))
		}
	}()
	for n := range 400 {
		step()
		if n%16 == 15 {
			m.wantConsistent()
		}
		if n%80 == 79 {
			settle()
		}
	}
	leave()
	m.wantConsistent()
	m.hub.Close()
	m.hub.sweep(time.Now().Add(2 * time.Hour))
	m.run()
	m.wantEmpty()
}

// forSeeds checks by many seeds, each by a clock of its own.
func forSeeds(t *testing.T, check func(t testing.TB, seed uint64)) {
	seeds := 150
	if os.Getenv("PUSHD_SOAK") != "" {
		seeds = 20_000
	}
	for seed := range seeds {
		ok := t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { check(t, uint64(seed)) })
		})
		if !ok {
			return
		}
	}
}

func checkHistory(t testing.TB, seed uint64) {
	m := newHistoryModel(t, seed)
	m.mayBound("one")
	m.large = true
	m.play(m.step, m.settle, func() {
		for _, c := range m.clients {
			c.leave()
		}
	})
}

func TestHistoryAgainstModel(t *testing.T) { forSeeds(t, checkHistory) }
