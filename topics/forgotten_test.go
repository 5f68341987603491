package topics

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// wantWakers checks that nobody who is behind is forgotten: whoever is not about
// to go on waits for something, and that is under way, or is on the list of those
// who try again. It is to be called between what shards do.
func (r *rig) wantWakers() {
	r.t.Helper()
	r.hub.mu.Lock()
	defer r.hub.mu.Unlock()
	for _, sh := range r.shards {
		m := sh.members
		for slot, c := range sh.sockets {
			s := m.at(slot)
			if s == nil || !s.behind || c.refused || s.again || slices.Contains(m.later, slot) {
				continue
			}
			if slices.ContainsFunc(m.given, func(g *giving) bool { return slices.Contains(g.slots, slot) }) {
				continue
			}
			for _, l := range m.extras.all[s.extra].lags {
				if !sh.comes(slot, l) {
					r.t.Fatalf("slot %d is behind, and nobody will tell it to go on: %+v", slot, l)
				}
			}
		}
	}
}

// comes reports whether what a connection waits for in a feed is under way.
func (sh *shard) comes(slot uint32, l *lag) bool {
	m, v := sh.members, l.view
	if l.catching != 0 { // for the view to come to the end of what is under way
		moves := v.queued || v.woken.Load() || v.wants != wanted{} || slices.Contains(m.laterViews, v) || v.paced > 0
		for _, had := range l.from { // of a snapshot, and has yet to come live or to be found missing
			moves = moves || had > v.feed.last
		}
		return moves && v.catching[l.catching-1] == slot
	}
	for w, slots := range m.asking {
		if _, waits := slots[slot]; !waits || w.feed != v.feed {
			continue
		}
		if r := m.hub.shared.reads[w]; r != nil && !r.in && slices.Contains(r.waiting, v) {
			return true
		}
		if sh.arrives(w, v) {
			return true
		}
	}
	return false
}

// arrives reports whether the arrival of something is on its way to a view.
func (sh *shard) arrives(w wanted, v *view) bool {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return slices.ContainsFunc(sh.tasks, func(t Task) bool {
		a, ok := t.(*arrival)
		return ok && a.view == v && a.read.wanted == w
	})
}

// stoppers are many who read the same history, and stop now and then: what was
// read for one serves others, there is room for hardly any of it, and some
// readings fail.
type stoppers struct {
	*rig
	rnd     *rand.Rand
	history *fakeHistory
	want    map[string][]string // by pattern, since it was subscribed to
	all     []*stopper
}

type stopper struct {
	*socket
	pattern string
}

func newStoppers(t testing.TB, seed uint64) *stoppers {
	rnd := rand.New(rand.NewPCG(seed, 3))
	m := &stoppers{rnd: rnd, history: newFakeHistory(rnd), want: make(map[string][]string)}
	cfg := historyConfig(m.history)
	cfg.RingMessages = 1 + rnd.IntN(8)
	cfg.RingMemory = []int64{1, 40, 200}[rnd.IntN(3)] * entryOverhead * sharedPart
	m.rig = newRig(t, cfg, 1+rnd.IntN(2))
	for _, sh := range m.shards {
		sh.members.pace = pace{slice: 8, turn: 16, catchUps: 2 + rnd.IntN(6), take: 8, write: 1 + rnd.IntN(8), writeBytes: 1 + rnd.IntN(64), scan: 8}
	}
	if rnd.IntN(3) == 0 {
		m.history.stream("all").replicas = 3
	}
	patterns := []string{"all.x", "all.y", "all.*"}[:1+rnd.IntN(3)]
	for i := range 24 {
		s := &stopper{m.connect(i%len(m.shards), uint32(i)), patterns[rnd.IntN(len(patterns))]}
		s.wish(s.pattern, Want{})
		m.all = append(m.all, s)
	}
	for m.run(); len(m.bus.asked) > 0 || m.history.answer(nil); m.run() {
		m.bus.answer(nil)
	}
	for _, s := range m.all {
		s.got = nil
	}
	return m
}

func (m *stoppers) step() {
	s := m.all[m.rnd.IntN(len(m.all))]
	sh := m.shards[m.rnd.IntN(len(m.shards))]
	switch m.rnd.IntN(12) {
	case 0, 1:
		for range 1 + m.rnd.IntN(12) {
			m.store([]string{"all.x", "all.y"}[m.rnd.IntN(2)])
		}
	case 2, 3:
		s.block(m.rnd.IntN(12))
	case 4, 5:
		s.drain()
	case 6:
		m.history.answer(errFakeAway)
	case 7, 8:
		m.history.answer(nil)
	case 9:
		sh.runTasks()
	case 10:
		sh.members.Turn()
	case 11:
		if sh.members.Tick(); m.rnd.IntN(4) == 0 {
			m.hub.sweep(time.Now().Add(time.Minute))
		}
	}
}

func (m *stoppers) store(topic string) {
	m.number++
	msg := m.history.stream("all").store(topic, fmt.Append(nil, m.number))
	for _, pattern := range []string{"all.x", "all.y", "all.*"} {
		if Match(pattern, topic) {
			m.want[pattern] = append(m.want[pattern], fmt.Sprintf("%s %s", topic, msg.Data))
		}
	}
	m.hub.Deliver([]Message{msg})
}

// settle lets all go on, and holds that they get everything, in order and once.
func (m *stoppers) settle() {
	for range 100 {
		for _, s := range m.all {
			s.drain()
		}
		for range 4 {
			for _, sh := range m.shards {
				sh.members.Tick()
			}
		}
		for m.run(); m.history.answer(nil); m.run() {
			m.wantWakers()
		}
		time.Sleep(50 * time.Millisecond) // replicas that lag are asked again
		synctest.Wait()
	}
	for _, s := range m.all {
		if want := m.want[s.pattern]; !slices.Equal(s.got, want) {
			m.t.Fatalf("slot %d of %s got %d messages, want %d; behind in %d feeds", s.slot, s.pattern, len(s.got), len(want), s.shard.members.Behind(s.slot))
		}
	}
}

// However pages are shared, given up and read in vain: none who is behind is
// forgotten, and all get everything.
func TestStoppersAreNotForgotten(t *testing.T) {
	seeds := 60
	if os.Getenv("PUSHD_SOAK") != "" {
		seeds = 20_000
	}
	for seed := range seeds {
		ok := t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			synced(t, func(t *testing.T) {
				m := newStoppers(t, uint64(seed))
				defer m.hub.Close()
				for n := range 600 {
					m.step()
					m.wantWakers()
					if n%200 == 199 {
						m.settle()
						m.wantConsistent()
					}
				}
			})
		})
		if !ok {
			return
		}
	}
}
