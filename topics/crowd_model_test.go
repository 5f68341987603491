package topics

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Connections with several subscriptions, which may overlap and have rates, and
// which all come back at once. A message is known to be for a subscription
// where no other of its connection wants it. What must hold for each: in mode
// all every message after its start; in mode live a gap where anything is
// missing; in mode latest the newest of each topic in the end; at a rate no
// topic too often. For a connection: no message more often than it is wanted.

type crowdModel struct {
	*historyModel
	crowd  []*holder
	marked map[string]bool // namespaces where a mark of loss may be on its way, before which what is held back leaves
}

// holder is one connection.
type holder struct {
	*socket
	model    *crowdModel
	subs     []*held
	past     []*held   // that have ended
	changing []*held   // the one that is being changed
	got      []receipt // all that came
	slow     time.Time // when it was last known to be behind
}

// held is one subscription.
type held struct {
	pattern string
	want    Want
	mode    Mode
	stands  bool
	began   int // in holder.got
	start   int // messages of the log up to here are not for it
	stood   int // length of the log when it was told that it stands
	gap     bool
	cursor  Cursor
	last    int                  // newest message that was for it alone
	values  map[string]int       // the same by topic
	times   map[string]time.Time // likewise
	counts  map[string]int       // likewise: how many
}

type receipt struct {
	namespace string
	topic     string
	number    int
}

var crowdPatterns = map[string][]string{
	"all":    {"all.x", "all.y", "all.*", "all.>"},
	"one":    {"one.x", "one.y"},
	"latest": {"latest.x", "latest.y", "latest.*", "latest.>"},
	"live":   {"live.x", "live.y", "live.*"},
	"n":      {"n.x", "n.y", "n.*", "n.>"},
}

var crowdNamespaces = []string{"all", "one", "latest", "live", "n"}

func newCrowdModel(t testing.TB, seed uint64) *crowdModel {
	m := &crowdModel{historyModel: newHistoryModel(t, seed), marked: make(map[string]bool)}
	m.clients = nil
	for i := range 4 {
		h := &holder{model: m, socket: m.connect(m.rnd.IntN(len(m.shards)), uint32(i))}
		h.onFrame = h.frame
		m.crowd = append(m.crowd, h)
	}
	for _, sh := range m.shards {
		sh.onStanding = func(slot uint32, pattern string, st Standing, err error) {
			for _, h := range m.crowd {
				if h.slot == slot && h.shard == sh {
					h.standsAt(h.find(pattern), st, err)
				}
			}
		}
	}
	return m
}

func (h *holder) find(pattern string) *held {
	if i := slices.IndexFunc(h.subs, func(s *held) bool { return s.pattern == pattern }); i >= 0 {
		return h.subs[i]
	}
	return nil
}

func (m *crowdModel) step() {
	h := m.crowd[m.rnd.IntN(len(m.crowd))]
	ns := crowdNamespaces[m.rnd.IntN(len(crowdNamespaces))]
	switch m.rnd.IntN(24) {
	case 0, 1, 2, 3, 4:
		for range 1 + m.rnd.IntN(6) {
			m.publishTo(ns, ns == "n" || m.rnd.IntN(6) > 0)
		}
	case 5, 6:
		h.begin(ns)
	case 7:
		h.comeBack()
	case 8:
		if len(h.subs) > 0 {
			h.end(h.subs[m.rnd.IntN(len(h.subs))])
		}
	case 9:
		if m.rnd.IntN(4) == 0 {
			m.note("slot %d leaves", h.slot)
			h.leave()
		}
	case 10:
		h.block(m.rnd.IntN(4))
	case 11, 12:
		m.note("slot %d drains", h.slot)
		h.drain()
	case 13:
		m.hub.sweep(time.Now().Add(time.Duration(m.rnd.IntN(2)) * time.Hour))
	case 14:
		m.history.answer(errFakeAway)
	case 15, 16:
		m.history.answer(nil)
		m.bus.answer(nil)
	case 17:
		m.shards[m.rnd.IntN(len(m.shards))].runTasks()
	case 18, 19:
		m.shards[m.rnd.IntN(len(m.shards))].members.Turn()
	case 20:
		m.shards[m.rnd.IntN(len(m.shards))].members.Tick()
	case 21:
		m.run()
	case 22:
		time.Sleep(time.Duration(m.rnd.IntN(600)) * time.Millisecond)
		synctest.Wait()
	case 23:
		switch {
		case m.rnd.IntN(30) == 0 && ns != "n":
			m.history.stream(ns).renew()
			m.note("renew %s", ns)
			m.lossy[ns], m.marked[ns] = true, true
		case m.rnd.IntN(8) == 0:
			m.note("lost n")
			m.hub.Lost(Interest{Name: "n", Namespace: true})
			m.marked["n"] = true
		}
	}
	for _, h := range m.crowd {
		if h.shard.members.Behind(h.slot) > 0 {
			h.slow = time.Now()
		}
	}
}

// begin subscribes, or changes a subscription that is there.
func (h *holder) begin(ns string) {
	rnd := h.model.rnd
	pattern := crowdPatterns[ns][rnd.IntN(len(crowdPatterns[ns]))]
	want := Want{}
	if rnd.IntN(2) == 0 {
		want.Mode = ModeLatest
		if rnd.IntN(3) > 0 {
			want.MaxRate = []float64{0.5, 2, 7}[rnd.IntN(3)]
		}
	}
	if s := h.find(pattern); s != nil {
		if !s.stands || s.mode == h.model.modeOf(pattern, want) && s.want.MaxRate == want.MaxRate {
			return
		}
		h.drop(s)
		h.changing = []*held{s} // and gets first what it was due
		defer func() { h.changing = nil }()
	} else if len(h.subs) == 5 {
		return
	}
	h.subscribe(&held{pattern: pattern, want: want})
}

func (h *holder) subscribe(s *held) {
	m := h.model
	s.mode = m.modeOf(s.pattern, s.want)
	s.began, s.values, s.times, s.counts = len(h.got), map[string]int{}, map[string]time.Time{}, map[string]int{}
	h.subs = append(h.subs, s)
	m.note("slot %d subscribes %s %+v", h.slot, s.pattern, s.want)
	h.slow = time.Now()
	st, stands, err := h.shard.members.Subscribe(h.slot, 0, s.pattern, ".", s.want)
	if err != nil {
		h.t.Fatalf("Subscribe(%q): %v", s.pattern, err)
	}
	if stands {
		h.standsAt(s, st, nil)
	}
}

// modeOf is the mode that a subscription has in effect.
func (m *crowdModel) modeOf(pattern string, want Want) Mode {
	return cmp.Or(want.Mode, m.hub.cfg.Settings(Namespace(pattern)).Mode, ModeLive)
}

func (h *holder) standsAt(s *held, st Standing, err error) {
	if s == nil || s.stands {
		return
	}
	if err != nil {
		h.drop(s)
		return
	}
	m := h.model
	ns := Namespace(s.pattern)
	m.note("slot %d: %s stands %+v", h.slot, s.pattern, st)
	s.stands, s.stood = true, len(m.log[ns])
	switch {
	case ns == "n":
		s.start = s.stood
	case st.Resumed == NotResumed:
		s.cursor = st.Cursor
		if s.mode != ModeLatest {
			s.start = m.place(ns, st.Cursor)
		}
	case st.Resumed == Recovered:
		s.start = m.place(ns, s.want.Cursor)
	default:
		if !m.lossy[ns] && m.history.stream(ns).perTopic == 0 {
			h.t.Fatalf("slot %d: %s from %v was not recovered (%v), and nothing is lost", h.slot, s.pattern, s.want.Cursor, st.Why)
		}
		s.gap = true
	}
}

// drop ends a subscription for the model.
func (h *holder) drop(s *held) {
	h.subs = slices.DeleteFunc(h.subs, func(o *held) bool { return o == s })
	h.past = append(h.past, s)
}

func (h *holder) end(s *held) {
	if s.stands {
		h.model.note("slot %d unsubscribes %s", h.slot, s.pattern)
		h.unsubscribe(s.pattern)
		h.drop(s)
	}
}

func (h *holder) leave() {
	h.socket.leave()
	h.room, h.refused = endless, false
	h.shard.sockets[h.slot] = h.socket
	h.subs, h.past, h.got = nil, nil, nil
}

// comeBack drops the connection, and resumes all subscriptions on another.
func (h *holder) comeBack() {
	h.model.note("slot %d comes back", h.slot)
	subs := h.subs
	h.leave()
	for _, was := range subs {
		s := &held{pattern: was.pattern, want: was.want}
		s.want.Resume, s.want.Cursor = false, Cursor{}
		if was.stands && !was.cursor.IsZero() {
			s.want.Resume, s.want.Cursor, s.cursor = true, was.cursor, was.cursor
		}
		h.subscribe(s)
	}
}

// wanting lists the subscriptions that match a topic.
func (h *holder) wanting(topic string) (list []*held) {
	for _, s := range append(h.changing, h.subs...) {
		if Match(s.pattern, topic) {
			list = append(list, s)
		}
	}
	return list
}

// frame checks what comes.
func (h *holder) frame(line string) {
	m := h.model
	m.note("slot %d got %q", h.slot, line)
	words := strings.Fields(line)
	switch words[0] {
	case "gap":
		s := h.find(words[1])
		if s == nil {
			h.t.Fatalf("slot %d got %q and is not subscribed", h.slot, line)
		}
		if s.mode == ModeAll && !m.lossy[Namespace(s.pattern)] {
			h.t.Fatalf("slot %d got %q in mode all, and the stream lost nothing", h.slot, line)
		}
		s.gap = true
		return
	case "skipped":
		if !slices.ContainsFunc(h.wanting(words[1]), func(s *held) bool { return s.mode == ModeLatest }) {
			h.t.Fatalf("slot %d got %q, and does not want the newest alone", h.slot, line)
		}
		return
	}
	var number int
	fmt.Sscan(words[1], &number)
	r := receipt{Namespace(words[0]), words[0], number}
	h.got = append(h.got, r)
	wanting := h.wanting(r.topic)
	if !slices.ContainsFunc(wanting, func(s *held) bool { return s.stands }) {
		h.t.Fatalf("slot %d got %q, and has no such subscription that stands", h.slot, line)
	}
	h.checkTimes(r)
	if len(wanting) == 1 {
		h.alone(wanting[0], r)
	}
}

// checkTimes holds that a message does not come more often than it is wanted:
// once for all that were there in time and want every message, and once for
// each other.
func (h *holder) checkTimes(r receipt) {
	came := len(slices.DeleteFunc(slices.Clone(h.got), func(got receipt) bool { return got != r }))
	may, every := 0, 0
	for _, s := range append(slices.Clone(h.subs), h.past...) {
		switch {
		case !Match(s.pattern, r.topic):
		case s.mode == ModeLatest || s.want.Resume || s.stood >= r.number || !s.stands:
			may++
		default:
			every = 1
		}
	}
	if may += every; came > may {
		h.t.Fatalf("slot %d got %s %d for the %dth time, and may %d times", h.slot, r.topic, r.number, came, may)
	}
}

// alone checks a message that only one subscription wants.
func (h *holder) alone(s *held, r receipt) {
	now := time.Now()
	if r.number <= s.values[r.topic] {
		h.t.Fatalf("slot %d: %s got %s %d after number %d", h.slot, s.pattern, r.topic, r.number, s.values[r.topic])
	}
	if s.mode != ModeLatest && (r.number <= s.last || r.number <= s.start && r.namespace != "n") {
		h.t.Fatalf("slot %d: %s got %s %d after %d, from %d", h.slot, s.pattern, r.topic, r.number, s.last, s.start)
	}
	if h.shard.members.Behind(h.slot) > 0 {
		h.slow = now // what it gets now may be between two flushes
	}
	if rate := s.want.MaxRate; rate > 0 && s.counts[r.topic] > 1 && s.times[r.topic].After(h.slow) && !h.model.marked[r.namespace] && !h.model.tight(r.namespace) {
		if window := time.Duration(float64(time.Second) / rate); now.Sub(s.times[r.topic]) < window {
			h.t.Fatalf("slot %d: %s at %v/s got %s twice in %v", h.slot, s.pattern, rate, r.topic, now.Sub(s.times[r.topic]))
		}
	}
	s.values[r.topic], s.last = r.number, max(s.last, r.number)
	s.times[r.topic] = now
	s.counts[r.topic]++
	if r.namespace != "n" {
		s.cursor = h.model.log[r.namespace][r.number-1].Cursor
	}
}

// tight reports whether what is held back may leave before its time: it is too
// much, or a shard may be told of what its ring gave up.
func (m *crowdModel) tight(namespace string) bool {
	return namespace == "n" && m.hub.cfg.RingMessages < 100 || m.hub.cfg.RingMemory < 1<<30
}

// settle lets everything come to its end, and checks that nothing is missing.
func (m *crowdModel) settle() {
	for n := range 200 {
		for m.history.answer(nil) || len(m.bus.asked) > 0 {
			m.bus.answer(nil)
			m.run()
		}
		for _, h := range m.crowd {
			h.drain()
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
		if n > 20 && m.quiet() && m.settled() { // replicas that lag answer some of the questions
			break
		}
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
	}
	clear(m.marked)
	for _, h := range m.crowd {
		for _, s := range h.subs {
			h.wantAll(s)
		}
	}
}

// settled reports whether nobody is behind, and nothing is held back.
func (m *crowdModel) settled() bool {
	for _, h := range m.crowd {
		if h.shard.members.Behind(h.slot) > 0 || slices.ContainsFunc(h.subs, func(s *held) bool { return !s.stands }) {
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

func (h *holder) wantAll(s *held) {
	m := h.model
	ns := Namespace(s.pattern)
	if !s.stands {
		h.t.Fatalf("slot %d was never told that %s stands", h.slot, s.pattern)
	}
	if l := h.shard.members.Behind(h.slot); l != 0 {
		x := h.shard.members.extras.all[h.shard.members.at(h.slot).extra]
		h.t.Fatalf("slot %d with %s is behind and nothing more happens: %+v; view %+v", h.slot, s.pattern, x.lags[0], x.lags[0].view)
	}
	came := make(map[receipt]bool)
	for _, r := range h.got[s.began:] {
		came[r] = true
	}
	newest := make(map[string]int)
	for i := s.start; i < len(m.log[ns]); i++ {
		r := receipt{ns, m.log[ns][i].Topic, i + 1}
		if !Match(s.pattern, r.topic) {
			continue
		}
		newest[r.topic] = r.number
		if s.mode != ModeLatest && !s.gap && !came[r] {
			h.t.Fatalf("slot %d: %s in mode %d from %d lacks %s %d", h.slot, s.pattern, s.mode, s.start, r.topic, r.number)
		}
	}
	for topic, number := range newest {
		kept := ns == "n" || slices.ContainsFunc(m.history.stream(ns).kept, func(msg Message) bool { return string(msg.Data) == fmt.Sprint(number) })
		if !s.gap && kept && !came[receipt{ns, topic, number}] {
			h.t.Fatalf("slot %d: %s in mode %d from %d lacks %s %d, the newest", h.slot, s.pattern, s.mode, s.start, topic, number)
		}
	}
}

func checkCrowd(t testing.TB, seed uint64) {
	m := newCrowdModel(t, seed)
	m.rnd = rand.New(rand.NewPCG(seed, 2))
	m.play(m.step, m.settle, func() {
		for _, h := range m.crowd {
			h.leave()
		}
	})
}

func TestCrowdAgainstModel(t *testing.T) { forSeeds(t, checkCrowd) }
