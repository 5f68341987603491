package topics

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// Two hubs on one bus, of which the second takes over from the first while
// messages come to both, to each in an order of its own in which only each
// publisher's own order holds. Clients must not notice: every message once, and
// each publisher's in order.

type handoverModel struct {
	t          testing.TB
	rnd        *rand.Rand
	old, next  *rig
	waiting    [2][][]Message // by rig and publisher: on its way
	subscribed bool           // the second
	log        [][]Message    // by publisher
	clients    []*carriedClient
}

type carriedClient struct {
	shard    int
	slot     uint32
	patterns []string
	since    []int // by publisher: how much of the log was there
	first    *socket
	second   *socket
}

const handoverPublishers = 4

func newHandoverModel(t testing.TB, seed uint64) *handoverModel {
	m := &handoverModel{t: t, rnd: rand.New(rand.NewPCG(seed, 5))}
	cfg := HubConfig{PollLinger: time.Hour, RingMessages: 1 << 12}
	m.old, m.next = newRig(t, cfg, 2), newRig(t, cfg, 2)
	m.log = make([][]Message, handoverPublishers)
	for i := range m.waiting {
		m.waiting[i] = make([][]Message, handoverPublishers)
	}
	return m
}

// publish has a publisher send a message. What the last of them sends is always the same.
func (m *handoverModel) publish() {
	p := m.rnd.IntN(handoverPublishers)
	topic := []string{"n.x", "n.y", "k.z", "user.a", "user.b"}[m.rnd.IntN(5)]
	msg := Message{Topic: topic, Data: fmt.Appendf(nil, "%d-%d", p, len(m.log[p]))}
	if p == handoverPublishers-1 {
		msg.Data = []byte("tick")
	}
	m.log[p] = append(m.log[p], msg)
	m.waiting[0][p] = append(m.waiting[0][p], msg)
	if m.subscribed {
		m.waiting[1][p] = append(m.waiting[1][p], msg)
	}
}

// deliver has up to n messages arrive at a hub.
func (m *handoverModel) deliver(i, n int) {
	r := []*rig{m.old, m.next}[i]
	var batch []Message
	for range n {
		if p := m.rnd.IntN(handoverPublishers); len(m.waiting[i][p]) > 0 {
			batch = append(batch, m.waiting[i][p][0])
			m.waiting[i][p] = m.waiting[i][p][1:]
		}
	}
	r.hub.Deliver(batch)
}

func (m *handoverModel) deliverAll(i int) {
	for slices.ContainsFunc(m.waiting[i], func(w []Message) bool { return len(w) > 0 }) {
		m.deliver(i, 10)
	}
}

func (m *handoverModel) join() {
	c := &carriedClient{shard: m.rnd.IntN(2), slot: uint32(len(m.clients))}
	c.first = m.old.connect(c.shard, c.slot)
	all := []string{"n.x", "n.*", "n.>", "k.>", "user.a", "user.b", "n.y"}
	m.rnd.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	c.patterns = all[:1+m.rnd.IntN(4)]
	c.first.subscribe(c.patterns...)
	for _, log := range m.log {
		c.since = append(c.since, len(log))
	}
	m.clients = append(m.clients, c)
}

// work has some of everything happen at the old hub.
func (m *handoverModel) work(n int) {
	for range n {
		switch m.rnd.IntN(6) {
		case 0, 1:
			m.publish()
		case 2:
			m.deliver(0, 4)
		case 3:
			sh := m.old.shards[m.rnd.IntN(2)]
			sh.runTasks()
			sh.members.Turn()
		case 4:
			if len(m.clients) > 0 {
				m.clients[m.rnd.IntN(len(m.clients))].first.block(m.rnd.IntN(3))
			}
		case 5:
			if len(m.clients) > 0 {
				m.clients[m.rnd.IntN(len(m.clients))].first.drain()
			}
		}
		if m.subscribed && m.rnd.IntN(3) == 0 {
			m.deliver(1, 4)
		}
	}
}

// takeOver has the second hub go on in place of the first.
func (m *handoverModel) takeOver() {
	m.old.hub.Record()
	m.subscribed = true
	heard := make(chan error, 1)
	m.next.hub.Expect(m.old.hub.Patterns(), func(err error) { heard <- err })
	for len(m.next.bus.asked) > 0 {
		m.next.bus.answer(nil)
	}
	if err := <-heard; err != nil {
		m.t.Fatal(err)
	}
	m.work(60)
	feeds := m.old.hub.Export()
	for i := range feeds {
		if err := m.next.hub.ImportFeed(&feeds[i]); err != nil {
			m.t.Fatal(err)
		}
	}
	m.deliver(0, 3) // comes to the one that has given up
	m.deliver(1, 3)
	for _, c := range m.clients {
		subs, ok := m.old.shards[c.shard].members.Export(c.slot)
		if !ok || len(subs) != len(c.patterns) {
			m.t.Fatalf("slot %d: exported %v, %v, of %v", c.slot, subs, ok, c.patterns)
		}
		c.second = m.next.connect(c.shard, c.slot)
		for i := range subs {
			if err := m.next.shards[c.shard].members.Import(c.slot, 0, &subs[i]); err != nil {
				m.t.Fatal(err)
			}
		}
	}
	m.next.hub.Settle()
}

// check compares what a client got with what was published for it, of each
// publisher and feed in order.
func (m *handoverModel) check(c *carriedClient) {
	type source struct {
		publisher int
		feed      string
	}
	feedOf := func(topic string) string {
		if Namespace(topic) == "user" {
			return topic
		}
		return Namespace(topic)
	}
	got, want := map[source][]string{}, map[source][]string{}
	for _, line := range slices.Concat(c.first.got, c.second.got) {
		topic, data, _ := strings.Cut(line, " ")
		p := handoverPublishers - 1
		if data != "tick" {
			if _, err := fmt.Sscanf(data, "%d-", &p); err != nil {
				m.t.Fatalf("slot %d got %q", c.slot, line)
			}
		}
		from := source{p, feedOf(topic)}
		got[from] = append(got[from], line)
	}
	for p, log := range m.log {
		for _, msg := range log[c.since[p]:] {
			if slices.ContainsFunc(c.patterns, func(pattern string) bool { return Match(pattern, msg.Topic) }) {
				from := source{p, feedOf(msg.Topic)}
				want[from] = append(want[from], msg.Topic+" "+string(msg.Data))
			}
		}
	}
	for p, lines := range want {
		if p.publisher == handoverPublishers-1 { // of those it cannot be told which is which
			slices.Sort(lines)
			slices.Sort(got[p])
		}
	}
	for p := range got {
		if !slices.Equal(got[p], want[p]) {
			m.t.Fatalf("slot %d with %v got of %v:\n%q\nwant\n%q\nfirst %q", c.slot, c.patterns, p, got[p], want[p], c.first.got)
		}
	}
	if len(got) != len(want) {
		m.t.Fatalf("slot %d with %v got nothing of some: %v, want %v", c.slot, c.patterns, got, want)
	}
}

func TestHandoverModel(t *testing.T) {
	for seed := range uint64(400) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			m := newHandoverModel(t, seed)
			for range 4 {
				m.deliverAll(0)
				m.old.run()
				m.join()
				m.work(20)
			}
			m.deliverAll(0) // what was sent before the second is subscribed has come, as within one server it has
			m.takeOver()
			for range 60 {
				m.publish()
				m.deliver(1, 3)
				if m.rnd.IntN(2) == 0 {
					m.next.run()
				}
			}
			m.deliverAll(1)
			for _, c := range m.clients {
				c.second.drain()
			}
			m.next.run()
			for _, c := range m.clients {
				m.check(c)
			}
			for _, c := range m.clients {
				c.second.leave()
			}
			m.next.hub.sweep(time.Now().Add(2 * time.Hour))
			m.next.hub.sweep(time.Now().Add(3 * time.Hour))
			if n := m.next.hub.stats.feeds.Load(); n != 0 {
				t.Errorf("%d feeds are left", n)
			}
		})
	}
}

// Who is exported and stays goes on as if nothing had happened.
func TestHandoverTakenBack(t *testing.T) {
	r := newRig(t, HubConfig{}, 1)
	c, slow := r.connect(0, 1), r.connect(0, 2)
	c.subscribe("n.*", "k.x")
	slow.subscribe("n.x")
	slow.block(1)
	r.publish("n.x", "n.y")
	r.publish("n.x", "k.x")
	r.hub.Record()
	members := r.shards[0].members
	for _, s := range []uint32{1, 2} {
		if _, ok := members.Export(s); !ok {
			t.Fatal("it cannot be exported")
		}
	}
	r.publish("n.x")
	r.hub.Forget()
	for _, s := range []uint32{1, 2} {
		members.TakeBack(s)
	}
	r.run()
	c.wants("n.x 1", "n.y 2", "n.x 3", "n.x 5", "k.x 4")
	slow.drain()
	r.run()
	slow.wants("n.x 1", "n.x 3", "n.x 5")
}

// Who was handed over and still looks for its place in history is handed over
// again with the same place, and neither is waited for nor lost.
func TestHandoverOfWhoLooksForItsPlace(t *testing.T) {
	history := newFakeHistory(nil)
	stored := func(n int) (all []Message) {
		for range n {
			s := history.stream("all")
			all = append(all, s.store("all.x", fmt.Append(nil, s.last+1)))
		}
		return all
	}
	rigs := []*rig{newRig(t, historyConfig(history), 1), newRig(t, historyConfig(history), 1), newRig(t, historyConfig(history), 1)}
	answer := func(r *rig) {
		for len(r.bus.asked) > 0 || history.answer(nil) {
			r.bus.answer(nil)
			r.run()
		}
	}
	c := rigs[0].connect(0, 1)
	c.subscribe("all.*")
	answer(rigs[0])
	c.got = nil
	c.block(0)
	rigs[0].hub.Deliver(stored(3))
	rigs[0].run()
	var exported []Carried
	for i, r := range rigs {
		if i > 0 {
			heard := make(chan error, 1)
			r.hub.Expect([]string{"all.*"}, func(err error) { heard <- err })
			answer(r)
			if err := <-heard; err != nil {
				t.Fatal(err)
			}
			r.connect(0, 1)
			if err := r.shards[0].members.Import(1, 0, &exported[0]); err != nil {
				t.Fatal(err)
			}
			r.hub.Settle()
			if history.waiting() == 0 {
				t.Fatal("its place was found without history")
			}
		}
		if i == len(rigs)-1 {
			break
		}
		members := r.shards[0].members
		if members.IsAsked(1) {
			t.Errorf("hub %d: it counts as one that waits for an answer", i)
		}
		subs, ok := members.Export(1)
		if !ok || len(subs) != 1 || exported != nil && subs[0] != exported[0] {
			t.Fatalf("hub %d: exported %+v, %v; and before %+v", i, subs, ok, exported)
		}
		exported = subs
	}
	last := rigs[len(rigs)-1]
	answer(last)
	last.hub.Deliver(stored(1))
	last.run()
	got := slices.DeleteFunc(last.shards[0].sockets[1].got, func(line string) bool { return strings.HasPrefix(line, "subscribed") })
	if want := []string{"all.x 1", "all.x 2", "all.x 3", "all.x 4"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// What cannot be had on the bus is said, and nothing is imported.
func TestExpectIsRefused(t *testing.T) {
	r := newRig(t, HubConfig{}, 1)
	heard := make(chan error, 1)
	r.hub.Expect([]string{"n.x", "k.x"}, func(err error) { heard <- err })
	r.bus.answer(nil)
	r.bus.answer(errDenied)
	if err := <-heard; err != errDenied {
		t.Errorf("heard %v", err)
	}
	r.hub.Expect([]string{"a..b"}, func(err error) { heard <- err })
	if err := <-heard; err == nil {
		t.Error("what is no pattern was taken")
	}
}

// A pattern that this hub's settings forbid is its client's loss alone.
func TestExpectWithoutForbidden(t *testing.T) {
	r := newRig(t, HubConfig{}, 1)
	heard := make(chan error, 1)
	r.hub.Expect([]string{"user.*", "n.x"}, func(err error) { heard <- err })
	r.bus.answer(nil)
	if err := <-heard; err != nil {
		t.Errorf("heard %v", err)
	}
	r.connect(0, 1)
	if err := r.shards[0].members.Import(1, 0, &Carried{Pattern: "user.*", Mode: ModeAll}); !errors.Is(err, ErrNoWildcards) {
		t.Errorf("Import: %v", err)
	}
	r.hub.Settle()
}
