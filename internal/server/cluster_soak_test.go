package server

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/pushd/pushd/internal/natstest"
)

// soak is a cluster in service: three nodes on three NATS servers, each a process,
// clients that obey the protocol, and publishers. Its methods belong to the test's goroutine.
type soak struct {
	// Static.
	t       testing.TB
	size    soakSize
	nats    *natstest.Cluster
	members []*runningNode
	line    *line
	press   *press
	all     []*commuter
	expect  map[string]int // clients, by what they are subscribed to

	upgrades []Upgraded
	fastest  int            // clients let in by one node within a second
	gone     int            // ticks until a killed node was forgotten
	right    map[string]int // ticks until presence was right again, by step

	published atomic.Int64
	mu        sync.Mutex
	last      map[string]int // published to each topic, guarded by mu
}

type soakSize struct {
	clients int
	topics  int           // of each namespace
	pause   time.Duration // of each topic's publisher
	rate    int           // --handshake-rate
	window  time.Duration // --drain-window
	full    bool          // each step happens to each node, else a few of them to one
}

// soakSteps are what happens to a cluster: to node or NATS server i. Upgrades come
// first, while each node has its part of the clients.
var soakSteps = []struct {
	name   string
	happen func(s *soak, i int)
	stay   bool // no client loses its connection
	long   bool // it takes the time of an election, and is left out of short runs
}{
	{name: "a node is upgraded", happen: (*soak).upgradeNode, stay: true},
	{name: "a NATS server is killed, and a node upgraded", happen: func(s *soak, i int) {
		s.endNATS(i, (*natstest.Process).Kill, func() { s.tryUpgrade(i) })
	}, stay: true, long: true},
	{name: "a node is killed", happen: (*soak).killNode},
	{name: "a node is drained by SIGTERM", happen: (*soak).terminateNode},
	{name: "a node is drained by an operator", happen: func(s *soak, i int) { s.drainNode(i, func() {}) }},
	{name: "a NATS server is stopped", happen: func(s *soak, i int) { s.endNATS(i, (*natstest.Process).Stop, func() {}) }, stay: true},
	{name: "a NATS server is killed", happen: func(s *soak, i int) { s.endNATS(i, (*natstest.Process).Kill, func() {}) }, stay: true, long: true},
	{name: "a NATS server is killed while a node drains", happen: func(s *soak, i int) {
		s.drainNode(i, func() { s.endNATS(i, (*natstest.Process).Kill, func() {}) })
	}, long: true},
}

// Bounds of docs/CLUSTER.md, in ticks of who counts, which are not in step with
// those of who is counted.
const (
	forgottenAfter = 4 + 1
	rightAfter     = 1 + 3 + 2 // a loss shows, the state is asked for and told, and is on its way
)

// TestClusterSoak has everything that can end end, while clients follow the protocol: no
// message is lost, doubled or out of order, nobody is told of a gap, presence is right
// again within its bound, and nobody lets clients in faster than it is set to.
func TestClusterSoak(t *testing.T) {
	size := soakSize{clients: 150, topics: 4, pause: 50 * time.Millisecond, rate: 30, window: 500 * time.Millisecond}
	if !soaking() {
		t.Parallel()
	} else {
		size = soakSize{clients: min(5000, crowdSize(t)), topics: 20, pause: 500 * time.Millisecond, rate: 200, window: 10 * time.Second, full: true}
	}
	s := startSoak(t, size)
	ctx, cancel := context.WithCancel(t.Context())
	var publishing, commuting sync.WaitGroup
	defer commuting.Wait()
	defer publishing.Wait()
	defer cancel()
	s.gather(ctx, &commuting)

	printing, stop := context.WithCancel(ctx)
	defer stop()
	for _, topic := range slices.Collect(maps.Keys(s.last)) { // before the first of them writes there
		publishing.Go(func() { s.publish(printing, topic) })
	}
	for turn, step := range soakSteps {
		for i := range s.members {
			if !size.full && (step.long || i != turn%len(s.members)) {
				continue
			}
			s.t.Logf("%v: %s, %d", time.Since(s.line.began).Round(time.Millisecond), step.name, i)
			before := s.connections()
			step.happen(s, i)
			s.settle(step.name)
			if n := s.connections() - before; step.stay && n != 0 {
				s.t.Errorf("%s, %d: clients made %d connections meanwhile", step.name, i, n)
			}
		}
	}
	stop()
	publishing.Wait()
	inTime(t, time.Minute+stall, "everybody has everything", func() bool {
		return !slices.ContainsFunc(s.all, func(c *commuter) bool { return !c.has(s.last) })
	})
	s.report()
}

func startSoak(t *testing.T, size soakSize) *soak {
	s := &soak{t: t, size: size, nats: natstest.StartCluster(t), expect: map[string]int{}, last: map[string]int{}, right: map[string]int{}}
	path, config := buildKeeping(t, "{age: 1h, replicas: 3}")
	flags := []string{"--config=" + config, "--handshake-rate=" + fmt.Sprint(size.rate), "--drain-window=" + size.window.String(),
		"--unlimited=none", "--connection-rate-per-address=0", "--max-connections-per-address=-1"}
	for _, url := range s.nats.URLs() {
		flags = append(flags, "--nats="+url)
	}
	var hosts []string
	for _, name := range []string{"a", "b", "c"} {
		m := newRunningNode(t, path, name, flags...)
		s.members, hosts = append(s.members, m), append(hosts, m.host)
	}
	s.line = newLine(500*time.Millisecond, hosts...)
	s.press = newPress(t, nil, s.nats.URLs(), 0)
	for _, namespace := range []string{wholeNamespace, apartNamespace} {
		for i := range size.topics {
			s.last[fmt.Sprintf("%s.%d", namespace, i)] = 0
		}
	}
	return s
}

// gather has everybody connect and subscribe. One in fifty hears a whole namespace.
func (s *soak) gather(ctx context.Context, commuting *sync.WaitGroup) {
	s.t.Helper()
	names := slices.Sorted(maps.Keys(s.last))
	for i := range s.size.clients {
		pattern := names[i%len(names)]
		if i%50 == 49 {
			pattern = wholeNamespace + ".>"
		}
		s.expect[pattern]++
		c := s.line.commuter(i, pattern)
		s.all = append(s.all, c)
		commuting.Go(func() {
			if err := c.run(ctx); err != nil {
				s.t.Error(err)
			}
		})
	}
	s.settle("all have come")
}

// publish publishes one number after the other to a topic, each until it is stored.
func (s *soak) publish(ctx context.Context, topic string) {
	for n := 1; ; n++ {
		for {
			seq, err := s.press.publish(context.WithoutCancel(ctx), topic, fmt.Sprintf("%s-%d", topic, n), fmt.Appendf(nil, `{"n":%d}`, n))
			if err != nil {
				s.t.Error(err)
				return
			}
			if seq > 0 {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
		s.published.Add(1)
		s.mu.Lock()
		s.last[topic] = n
		s.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-time.After(s.size.pause):
		}
	}
}

// goesOn waits until more has been published to each topic.
func (s *soak) goesOn() {
	s.t.Helper()
	numbers := func() map[string]int {
		s.mu.Lock()
		defer s.mu.Unlock()
		return maps.Clone(s.last)
	}
	before := numbers()
	inTime(s.t, stall, "publishing goes on", func() bool {
		for topic, n := range numbers() {
			if n < before[topic]+2 {
				return false
			}
		}
		return true
	})
}

// settle waits until everybody is subscribed, and presence is right everywhere.
func (s *soak) settle(step string) {
	s.t.Helper()
	inTime(s.t, time.Minute+stall, "all nodes are ready", func() bool {
		return !slices.ContainsFunc(s.members, func(m *runningNode) bool { return !m.ready() })
	})
	inTime(s.t, time.Minute+stall, "everybody is subscribed", func() bool { return sitting(s.all) == len(s.all) })
	took := inTicks(s.t, s.members, rightAfter, "presence is right", func(m *runningNode) bool {
		for topic, n := range s.expect {
			if m.presence(topic).Connections != n {
				return false
			}
		}
		return true
	})
	s.right[step] = max(s.right[step], took)
}

// end ends a node, and holds what it has let in to its rate.
func (s *soak) end(i int, sig syscall.Signal) {
	s.t.Helper()
	s.members[i].end(sig)
	s.fastest = max(s.fastest, s.line.stops[i].pacedBy(s.t, s.size.rate, s.size.rate))
	s.line.stops[i].begins()
}

func (s *soak) killNode(i int) {
	s.t.Helper()
	s.end(i, syscall.SIGKILL)
	others, name := slices.Delete(slices.Clone(s.members), i, i+1), s.members[i].name
	s.gone = max(s.gone, inTicks(s.t, others, forgottenAfter, "the node is forgotten", func(m *runningNode) bool {
		for topic := range s.expect {
			if m.presence(topic).Nodes[name] != 0 {
				return false
			}
		}
		return true
	}))
	s.members[i].start()
}

func (s *soak) terminateNode(i int) {
	s.t.Helper()
	s.leaveInTurn(i, func() { s.end(i, syscall.SIGTERM) })
	s.members[i].start()
}

// drainNode lets more happen while the node drains.
func (s *soak) drainNode(i int, meanwhile func()) {
	s.t.Helper()
	m := s.members[i]
	s.leaveInTurn(i, func() {
		if status := m.ask("POST", "/drain", nil); status != http.StatusAccepted {
			s.t.Fatalf("POST /drain: %d", status)
		}
		meanwhile()
		inTime(s.t, s.size.window+stall, "the node is drained", func() bool {
			var st drainStatus
			return m.ask("GET", "/drain", &st) == http.StatusOK && st.State == drained
		})
	})
	s.end(i, syscall.SIGTERM)
	m.start()
}

// leaveInTurn holds a drain to its pace: at no time have more clients left than the part
// of the window that has passed has for them.
func (s *soak) leaveInTurn(i int, drain func()) {
	s.t.Helper()
	stop, there := s.line.stops[i], s.at(i)
	stop.mu.Lock()
	stop.leaving = nil
	stop.mu.Unlock()
	began := time.Since(s.line.began)
	drain()
	inTime(s.t, stall, "all who were there have followed the advice", func() bool {
		stop.mu.Lock()
		defer stop.mu.Unlock()
		return len(stop.leaving) >= there
	})
	stop.mu.Lock()
	defer stop.mu.Unlock()
	slices.Sort(stop.leaving)
	for n, at := range stop.leaving {
		if most := float64(there)*float64(at-began)/float64(s.size.window) + 2; float64(n+1) > most {
			s.t.Errorf("%d of %d clients had left %s within %v of a window of %v", n+1, there, s.members[i].name, at-began, s.size.window)
			return
		}
	}
}

// upgradeNode has the next process take all clients over from the one before.
func (s *soak) upgradeNode(i int) {
	s.t.Helper()
	if !s.tryUpgrade(i) {
		s.t.Errorf("%s was not upgraded", s.members[i].name)
	}
	s.goesOn()
}

// tryUpgrade reports whether the next process has all clients; else the one before has.
func (s *soak) tryUpgrade(i int) bool {
	s.t.Helper()
	there := s.at(i)
	done, refusal := s.members[i].upgrade()
	if refusal != "" {
		s.t.Logf("%s was not upgraded: %s", s.members[i].name, refusal)
		return false
	}
	if there == 0 || done.Connections != there || done.Left != 0 {
		s.t.Errorf("%s handed %d of %d connections over, and kept %d", s.members[i].name, done.Connections, there, done.Left)
	}
	s.upgrades = append(s.upgrades, done)
	return true
}

// at is how many clients are subscribed at a node.
func (s *soak) at(i int) (n int) {
	for _, c := range s.all {
		if at := c.seat.Load(); at != nil && at.stop == s.line.stops[i] {
			n++
		}
	}
	return n
}

// endNATS ends a NATS server and starts it again. More may happen in between.
func (s *soak) endNATS(i int, end func(*natstest.Process), meanwhile func()) {
	s.t.Helper()
	end(s.nats.Servers[i])
	meanwhile()
	s.goesOn()
	s.nats.Servers[i].Restart()
	inTime(s.t, stall, "the streams have all their replicas", s.replicated)
	s.goesOn()
}

// replicated reports whether each stream has a leader, whom all others follow.
func (s *soak) replicated() bool {
	for _, namespace := range []string{wholeNamespace, apartNamespace} {
		ctx, cancel := context.WithTimeout(s.t.Context(), time.Second)
		defer cancel()
		stream, err := s.press.js.Stream(ctx, "push_"+namespace)
		if err != nil || stream.CachedInfo().Cluster == nil || stream.CachedInfo().Cluster.Leader == "" {
			return false
		}
		for _, replica := range stream.CachedInfo().Cluster.Replicas {
			if !replica.Current {
				return false
			}
		}
	}
	return true
}

func (s *soak) connections() (n int32) {
	for _, c := range s.all {
		n += c.connections.Load()
	}
	return n
}

func (s *soak) report() {
	s.t.Helper()
	seen := 0
	for _, c := range s.all {
		seen += c.count()
	}
	for _, stop := range s.line.stops {
		s.fastest = max(s.fastest, stop.pacedBy(s.t, s.size.rate, s.size.rate))
	}
	var right []string
	for _, step := range slices.Sorted(maps.Keys(s.right)) {
		right = append(right, fmt.Sprintf("%s: %d", step, s.right[step]))
	}
	s.t.Logf("%d clients made %d connections, with %d refusals; one node let in %d within a second at most, of %d a second and as many at once",
		len(s.all), s.connections(), s.line.refusals(), s.fastest, s.size.rate)
	s.t.Logf("%d messages published, %d delivered, each once and in order, in %v", s.published.Load(), seen, time.Since(s.line.began).Round(time.Second))
	for _, u := range s.upgrades {
		s.t.Logf("%d connections were handed over: nothing was read of them for %v, and sent for %v", u.Connections, u.Unread.Round(time.Millisecond), u.Paused.Round(time.Millisecond))
	}
	s.t.Logf("a killed node was forgotten within %d ticks of a second; presence was right again after (ticks) %s", s.gone, strings.Join(right, ", "))
}
