package server

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/pushd/pushd/internal/natstest"
)

// soaking says that tests are to be as large as they were meant.
func soaking() bool { return os.Getenv("PUSHD_SOAK") != "" }

// address is where a node serves, until it is ended.
type address struct {
	host  string
	admin string
	alive atomic.Bool
}

// fleet is the nodes that clients may connect to.
type fleet struct {
	t     testing.TB
	nodes []*node

	mu        sync.Mutex
	addresses []*address // of nodes, by index
}

func startFleet(t testing.TB, specs ...nodeSpec) *fleet {
	t.Helper()
	f := &fleet{t: t, addresses: make([]*address, len(specs))}
	for i, spec := range specs {
		f.nodes = append(f.nodes, startNode(t, spec))
		f.announce(i)
	}
	return f
}

func (f *fleet) announce(i int) {
	a := &address{host: f.nodes[i].Addr(), admin: f.nodes[i].admin}
	a.alive.Store(true)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.addresses[i] = a
}

// end ends a node. That it is no longer to be relied upon is known before.
func (f *fleet) end(i int, sig syscall.Signal) {
	f.t.Helper()
	f.mu.Lock()
	f.addresses[i].alive.Store(false)
	f.mu.Unlock()
	f.nodes[i].end(f.t, sig)
}

func (f *fleet) start(i int) {
	f.t.Helper()
	f.nodes[i].start(f.t)
	f.announce(i)
}

// any is a node that serves, nil where there is none.
func (f *fleet) any() *address {
	f.mu.Lock()
	defer f.mu.Unlock()
	begin := rand.IntN(len(f.addresses))
	for i := range f.addresses {
		if a := f.addresses[(begin+i)%len(f.addresses)]; a.alive.Load() {
			return a
		}
	}
	return nil
}

// ordeal is a history under faults: who publishes, who serves, who watches.
type ordeal struct {
	t        testing.TB
	urls     []string // of NATS
	specs    []nodeSpec
	clients  int
	messages int
	faults   []fault

	fleet    *fleet
	press    *press
	watchers []*watcher
	calm     atomic.Bool
}

// fault is something that happens while messages are being published.
type fault struct {
	name   string
	happen func(*ordeal)
}

// The topics of an ordeal: those of one namespace are one feed, of the other each is one.
var (
	wholeTopics = []string{"whole.a.0", "whole.a.1", "whole.a.2", "whole.a.3", "whole.b.0", "whole.b.1", "whole.b.2", "whole.b.3", "whole.c.0", "whole.c.1", "whole.c.2", "whole.d"}
	apartTopics = []string{"apart.0", "apart.1", "apart.2", "apart.3", "apart.4", "apart.5", "apart.6", "apart.7"}
)

// patterns is what a client is subscribed to.
func patterns() []string {
	a := rand.IntN(len(apartTopics) - 1)
	switch rand.IntN(8) {
	case 0:
		return []string{"whole.>"}
	case 1:
		return []string{"whole.a.*", apartTopics[a], "whole.d"}
	case 2: // which overlap
		return []string{"whole.b.*", "whole.b.1", "whole.*.1"}
	case 3:
		return []string{"whole.b.2", "whole.>"}
	case 4:
		return []string{apartTopics[a]}
	case 5:
		return []string{apartTopics[a], apartTopics[a+1], "whole.c.*"}
	case 6:
		return []string{"whole.*.0", "whole.d"}
	}
	return []string{wholeTopics[rand.IntN(len(wholeTopics))]}
}

// run lets it all happen, and compares what everybody saw with the streams.
func (o *ordeal) run() {
	t := o.t
	o.fleet = startFleet(t, o.specs...)
	o.press = newPress(t, o.fleet, o.urls, o.messages)
	all := append(append([]string{}, wholeTopics...), apartTopics...)
	count := o.messages / len(all)
	last := map[string]int{}
	for _, topic := range all {
		last[topic] = count
	}
	limit := 3 * time.Minute
	if soaking() {
		limit = 30 * time.Minute
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	var publishing, watching sync.WaitGroup
	defer watching.Wait()
	defer publishing.Wait()
	defer cancel()
	for i := range o.clients {
		w := newWatcher(fmt.Sprintf("client %d", i), o.fleet, &o.calm, last, patterns()...)
		o.watchers = append(o.watchers, w)
		watching.Go(func() {
			if err := w.run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	for i, topic := range all {
		publishing.Go(func() {
			if err := o.press.run(ctx, topic, count, i%2 == 1); err != nil {
				t.Error(err)
			}
		})
	}
	began := time.Now()
	o.strike(ctx, count*len(all))
	publishing.Wait()
	t.Logf("%v: all is published", time.Since(began).Round(time.Millisecond))
	o.calm.Store(true)
	watching.Wait()
	t.Logf("%v: all is seen", time.Since(began).Round(time.Millisecond))

	streams := map[string][]sighting{}
	for _, namespace := range []string{wholeNamespace, apartNamespace} {
		streams[namespace] = streamed(t, o.press.js, namespace)
	}
	if got := len(streams[wholeNamespace]) + len(streams[apartNamespace]); got != count*len(all) {
		t.Errorf("the streams have %d messages, want %d: each once", got, count*len(all))
	}
	if err := o.press.judge(streams); err != nil {
		t.Error(err)
	}
	connections, seen := 0, 0
	for _, w := range o.watchers {
		if err := w.judge(streams); err != nil {
			t.Error(err)
		}
		connections += w.sessions
		for _, v := range w.watches {
			seen += len(v.seen)
		}
	}
	t.Logf("%d clients saw %d messages over %d connections", o.clients, seen, connections)
}

// strike lets the faults happen, each in the midst of some publishing.
func (o *ordeal) strike(ctx context.Context, total int) {
	part := total / (len(o.faults) + 1)
	for i, f := range o.faults {
		o.press.allow(part)
		for o.press.published.Load() < int64(i*part+part/8) && ctx.Err() == nil && !o.t.Failed() {
			time.Sleep(time.Millisecond)
		}
		o.t.Logf("%d published: %s", o.press.published.Load(), f.name)
		f.happen(o)
	}
	o.press.allow(total - part*len(o.faults))
}

func shortly() { time.Sleep(rand.N(200 * time.Millisecond)) }

func (o *ordeal) nodeDies(sig syscall.Signal) {
	i := rand.IntN(len(o.specs))
	o.fleet.end(i, sig)
	shortly()
	o.fleet.start(i)
}

var (
	nodeKilled  = fault{"a node is killed", func(o *ordeal) { o.nodeDies(syscall.SIGKILL) }}
	nodeStopped = fault{"a node is stopped", func(o *ordeal) { o.nodeDies(syscall.SIGTERM) }}
	nodesKilled = fault{"all nodes are killed", func(o *ordeal) {
		for i := range o.specs {
			o.fleet.end(i, syscall.SIGKILL)
		}
		shortly()
		for i := range o.specs {
			o.fleet.start(i)
		}
	}}
)

// TestHistoryChaos has clients that come and go, nodes that die, a NATS that
// dies, and messages lost on their way to a node: every client sees each
// message once and in order.
func TestHistoryChaos(t *testing.T) {
	process := natstest.Start(t, natstest.Store(t.TempDir()))
	natsKilled := fault{"NATS is killed", func(*ordeal) { process.Kill(); shortly(); process.Restart() }}
	natsStopped := fault{"NATS is stopped", func(*ordeal) { process.Stop(); shortly(); process.Restart() }}
	natsFrozen := fault{"NATS is frozen", func(*ordeal) { process.Freeze(); shortly(); process.Thaw() }}
	both := fault{"NATS and a node are killed", func(o *ordeal) {
		process.Kill()
		o.fleet.end(0, syscall.SIGKILL)
		shortly()
		process.Restart()
		o.fleet.start(0)
	}}
	o := &ordeal{
		t: t, urls: []string{process.URL()}, clients: 40, messages: 4000,
		faults: []fault{nodeKilled, natsKilled, nodeStopped, natsStopped, nodesKilled, natsFrozen, both, nodeKilled},
	}
	if soaking() {
		o.clients, o.messages = 200, 100_000
		o.faults = append(o.faults, append(o.faults, o.faults...)...)
	}
	rand.Shuffle(len(o.faults), func(i, j int) { o.faults[i], o.faults[j] = o.faults[j], o.faults[i] })
	for _, ring := range []int{64, 512, 16384} {
		o.specs = append(o.specs, nodeSpec{NATS: o.urls, Ring: ring, Lose: 0.02, Age: time.Hour})
	}
	o.run()
}

// TestHistoryCluster is the same where the history lies on three servers, and
// the one that leads dies.
func TestHistoryCluster(t *testing.T) {
	t.Parallel()
	c := natstest.StartCluster(t)
	leaderEnds := func(namespace string, end func(*natstest.Process)) func(*ordeal) {
		return func(*ordeal) {
			leader := c.Leader("push_" + namespace)
			end(leader)
			c.Leader("push_" + namespace) // another, once one is elected
			leader.Restart()
		}
	}
	o := &ordeal{
		t: t, urls: c.URLs(), clients: 20, messages: 2000,
		faults: []fault{
			{"the leader is killed", leaderEnds(wholeNamespace, (*natstest.Process).Kill)},
			{"the leader is stopped", leaderEnds(apartNamespace, (*natstest.Process).Stop)},
			nodeKilled,
		},
	}
	if soaking() {
		o.clients, o.messages = 100, 60_000
		o.faults = append(o.faults,
			fault{"the other leader is killed", leaderEnds(apartNamespace, (*natstest.Process).Kill)}, nodesKilled,
			fault{"the other leader is stopped", leaderEnds(wholeNamespace, (*natstest.Process).Stop)})
		o.faults = append(o.faults, o.faults...)
	}
	rand.Shuffle(len(o.faults), func(i, j int) { o.faults[i], o.faults[j] = o.faults[j], o.faults[i] })
	for _, ring := range []int{128, 16384} {
		o.specs = append(o.specs, nodeSpec{NATS: o.urls, Ring: ring, Lose: 0.02, Age: time.Hour, Replicas: 3})
	}
	o.run()
}
