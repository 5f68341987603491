package server

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pushd/pushd/internal/config"
	"github.com/pushd/pushd/internal/natstest"
	"github.com/pushd/pushd/internal/statistics"
)

// node reads the next message of a node's statistics.
func (s *socket) node() statistics.Node {
	s.t.Helper()
	m := s.want("message")
	var n statistics.Node
	if err := json.Unmarshal(m.Data, &n); err != nil {
		s.t.Fatalf("%s: %v", m.Data, err)
	}
	if m.Topic != statistics.Topic(n.Node) {
		s.t.Errorf("node %s publishes on %s", n.Node, m.Topic)
	}
	return n
}

// TestStatistics holds what a node says against what has happened.
func TestStatistics(t *testing.T) {
	r := secure(t, func(c *config.Config) { c.NodeName, c.Default.Public = "alpha", config.PublicAll })
	watcher := r.operator()
	watcher.subscribe(statistics.All)
	a, b := r.subscribed("stocks.AAPL", "stocks.*"), r.subscribed("stocks.AAPL")
	for range 5 {
		a.send(`{"type":"publish","topic":"stocks.AAPL","data":1}`)
		for range 2 {
			a.receive()
		}
		b.want("message")
	}
	b.send("?")
	b.want("error")
	b.conn.Close()
	r.http("GET", "/nothing", "", "")
	r.upgrade("token=x")

	var n statistics.Node
	for end := time.Now().Add(patience); ; {
		n = watcher.node()
		if n.Connections.Open == 1 && n.Closed["client_gone"] == 1 && n.Traffic.Deliveries >= 10 && n.Traffic.Published >= 5 && n.Refused.Credentials["malformed"] == 1 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the node goes on saying %+v", n)
		}
	}
	if n.Version != 1 || n.Node != "alpha" || n.State != "serving" || n.Interval <= 0 || n.Started <= 0 || n.Time < n.Started ||
		n.Process.Goroutines == 0 || n.Process.Resident == 0 || n.Process.CPU == 0 || n.Process.Shards != 2 {
		t.Errorf("the node is %+v", n)
	}
	if c := n.Connections; c.Operators != 1 || c.Transports["websocket"] != 1 || c.Max == 0 || c.Upgraded < 3 || c.Accepted != 4 || c.Sockets < 2 {
		t.Errorf("connections: %+v", c)
	}
	if s := n.Subscriptions; s.Open != 3 || s.Patterns != 3 || s.Feeds != 2 || s.Behind != 0 {
		t.Errorf("subscriptions: %+v", s)
	}
	if n.Traffic.Published != 5 || n.Traffic.Messages < 5 || n.Traffic.BytesOut == 0 {
		t.Errorf("traffic: %+v", n.Traffic)
	}
	if n.Refused.Commands["bad_request"] != 1 || n.Refused.HTTP["404"] != 1 {
		t.Errorf("refused: %+v", n.Refused)
	}
	if len(n.Lost.Gaps) != 0 || len(n.Lost.NATS) != 0 || !n.NATS.Connected || !n.NATS.Embedded || n.Memory.RingMax != 64<<20 || n.Memory.RingMessages == 0 {
		t.Errorf("lost %+v, NATS %+v, memory %+v", n.Lost, n.NATS, n.Memory)
	}
	if l := n.Latency.LoopLag; l.P99 > l.Max || l.Count == 0 {
		t.Errorf("loop lag: %+v", l)
	}
	r.wantMetric("pushd_published_total 5") // those of clients

	// The drain shows, and the next message is of less than all counts.
	var st drainStatus
	r.do(202, "POST", "/drain?window=0", &st)
	for n.State != "drained" {
		n = watcher.node()
	}
	if n.Connections.Open != 0 || n.Connections.Operators != 1 {
		t.Errorf("drained with %+v", n.Connections)
	}
}

// TestStatisticsWithoutNATS still tells who asks the node itself.
func TestStatisticsWithoutNATS(t *testing.T) {
	server := natstest.Start(t)
	r := start(t, func(c *config.Config) { c.NATS = []string{"nats://" + server.Addr()} })
	ask := func() (n statistics.Node) {
		t.Helper()
		r.do(200, "GET", "/statistics", &n)
		return n
	}
	eventually(t, "it says that NATS is there", func() bool {
		status, _, _ := r.request("GET", "http://"+r.AdminAddr()+"/statistics", "", "")
		return status == 200 && ask().NATS.Connected
	})
	server.Kill()
	eventually(t, "it says that NATS is away", func() bool { return !ask().NATS.Connected })
}

// TestDocumentedStatistics wants docs/CONSOLE.md to have every field, and no other.
func TestDocumentedStatistics(t *testing.T) {
	page, err := os.ReadFile("../../docs/CONSOLE.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "```json\n")
	example, _, ok := strings.Cut(rest, "```")
	if !ok {
		t.Fatal("there is no example")
	}
	var n statistics.Node
	d := json.NewDecoder(strings.NewReader(example))
	d.DisallowUnknownFields()
	if err := d.Decode(&n); err != nil {
		t.Fatal(err)
	}
	again, err := json.Marshal(n)
	if err != nil {
		t.Fatal(err)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, []byte(example)); err != nil {
		t.Fatal(err)
	}
	if compact.String() != string(again) {
		t.Errorf("the example is\n%s\nand what it says is\n%s", compact.String(), again)
	}
	if n.Version != statistics.Version {
		t.Errorf("it is of version %d", n.Version)
	}
}

func TestQuantile(t *testing.T) {
	bounds := []float64{1, 2, 4}
	f := func(part, want float64, counts ...uint64) {
		t.Helper()
		if got := quantile(part, bounds, counts); math.Abs(got-want) > 1e-9 {
			t.Errorf("%v of %v: %v, want %v", part, counts, got, want)
		}
	}
	f(0.5, 0, 0, 0, 0, 0)
	f(0.5, 0.5, 10, 10, 10, 10)
	f(0.5, 1, 5, 10, 10, 10)
	f(0.75, 1.5, 5, 10, 10, 10)
	f(0.99, 3.98, 0, 0, 100, 100)
	f(0.5, 3, 0, 0, 10, 10)
	f(0.99, 4, 0, 0, 0, 10) // beyond the highest bound no more is known
}

func TestNodeName(t *testing.T) {
	for host, want := range map[string]string{
		"web-1": "web-1-beef", "web.example.com": "web-example-com-beef", "": "node-beef", "kühl": "k-hl-beef", "a b*>": "a-b---beef",
		strings.Repeat("x", 300): strings.Repeat("x", 48) + "-beef",
	} {
		if got := nodeName(host, 0xdeadbeef); got != want {
			t.Errorf("%q: %q, want %q", host, got, want)
		}
	}
}
