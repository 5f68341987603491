package server

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pushd/pushd/internal/config"
	"github.com/pushd/pushd/internal/natstest"
	"github.com/pushd/pushd/internal/tracetest"
	"github.com/pushd/pushd/internal/tracing"
	"github.com/pushd/pushd/topics"
	"github.com/pushd/pushd/topics/natsbus"
)

// What a publisher sends that traces by himself.
const (
	theirTrace       = "4bf92f3577b34da6a3ce929d0e0e4736"
	theirSpan        = "00f067aa0ba902b7"
	theirTraceparent = "00-" + theirTrace + "-" + theirSpan + "-01"
)

// traced has a server trace to a collector, of its own messages so many.
func traced(c *tracetest.Collector, ratio float64) func(*config.Config) {
	return func(cfg *config.Config) { cfg.TraceEndpoint, cfg.TraceRatio = c.URL, ratio }
}

// pair starts two nodes on one NATS.
func pair(t *testing.T, change ...func(*config.Config)) (a, b *running) {
	t.Helper()
	url := natstest.Start(t, natstest.Store(t.TempDir())).URL()
	node := func(name string) *running {
		return start(t, append(change, func(c *config.Config) {
			c.NATS, c.NodeName = []string{url}, name
			c.Namespaces = map[string]config.Namespace{"kept": {Delivery: config.DeliveryAll, Interest: config.InterestNamespace, Public: config.PublicAll,
				Compression: config.On, History: config.History{Messages: 100, Storage: config.StorageMemory}}}
		})...)
	}
	return node("a"), node("b")
}

// traceOf returns the spans of one trace, by node and name.
func traceOf(spans []tracetest.Span, trace string) map[string]tracetest.Span {
	of := make(map[string]tracetest.Span)
	for _, s := range spans {
		if s.Trace == trace {
			of[s.Service["service.instance.id"]+" "+s.Name] = s
		}
	}
	return of
}

// wantTrace checks that a trace has a publication on node a, and on both nodes
// what came of it, each below the right one.
func wantTrace(t *testing.T, all []tracetest.Span, trace, parent, namespace string, subscribers map[string]int) {
	t.Helper()
	spans := traceOf(all, trace)
	publish := spans["a publish "+namespace]
	if len(spans) != 5 || publish.Span == nil || publish.Parent != parent {
		t.Fatalf("trace %s has %d spans: %v", trace, len(spans), spans)
	}
	for node, n := range subscribers {
		receive, fanOut := spans[node+" receive "+namespace], spans[node+" fan-out "+namespace]
		if receive.Span == nil || fanOut.Span == nil || receive.Parent != publish.ID || fanOut.Parent != receive.ID {
			t.Fatalf("node %s: receipt %v, fan-out %v, below %s", node, receive.Span, fanOut.Span, publish.ID)
		}
		if got := fanOut.Attribute("pushd.fanout.subscribers").GetIntValue(); got != int64(n) {
			t.Errorf("node %s: to %d subscribers, not %d", node, got, n)
		}
		if receive.StartTimeUnixNano < publish.StartTimeUnixNano || fanOut.StartTimeUnixNano < receive.StartTimeUnixNano || fanOut.EndTimeUnixNano < fanOut.StartTimeUnixNano {
			t.Errorf("node %s: what comes later began earlier: %v %v %v", node, publish.Span, receive.Span, fanOut.Span)
		}
	}
}

// TestTrace follows messages from a POST and from a WebSocket through NATS, and
// through a stream, to the sockets of two nodes.
func TestTrace(t *testing.T) {
	t.Parallel()
	c := tracetest.Start(t, nil)
	a, b := pair(t, traced(c, 0))
	subscribers := map[string]int{"a": 1, "b": 2}
	for _, namespace := range []string{"plain", "kept"} {
		topic := namespace + ".x"
		sockets := []*socket{a.subscribed(topic), b.subscribed(topic, namespace+".*"), b.subscribed(topic)}
		trace := strings.Repeat(fmt.Sprintf("%02x", len(namespace)), 16)
		status, _, answer := a.request("POST", "http://"+a.Addr()+"/publish/"+topic, "", `"the payload"`,
			"traceparent", "00-"+trace+"-"+theirSpan+"-01", "tracestate", "vendor=secret", "baggage", "user=alice")
		if status/100 != 2 {
			t.Fatalf("%d %s", status, answer)
		}
		for _, s := range sockets {
			s.wantData(topic, `"the payload"`)
		}
		eventually(t, "the trace is complete", func() bool { return len(traceOf(c.Spans(), trace)) >= 5 })
		wantTrace(t, c.Spans(), trace, theirSpan, namespace, subscribers)
	}
	if n := len(c.Spans()); n != 10 {
		t.Errorf("%d spans of two messages", n)
	}

	// Lines of one request are of one trace.
	status, _, answer := a.request("POST", "http://"+a.Addr()+"/publish", "application/x-ndjson", `{"topic":"lines.x","data":1}`+"\n"+`{"topic":"lines.y","data":2}`+"\n", "Traceparent", theirTraceparent)
	if status != 200 {
		t.Fatalf("%d %s", status, answer)
	}
	for _, s := range c.Await(12)[10:] {
		if s.Trace != theirTrace || s.Parent != theirSpan || s.Name != "publish lines" {
			t.Errorf("%v", s.Span)
		}
	}
	_, bodies := c.Requests()
	for _, body := range bodies {
		for _, secret := range []string{"the payload", "secret", "alice", "127.0.0.1"} {
			if strings.Contains(string(body), secret) {
				t.Errorf("the collector is told %q", secret)
			}
		}
	}
	eventually(t, "all are counted", func() bool { return a.tracer.Counts().Sent+b.tracer.Counts().Sent == 12 })
	a.wantMetric(`pushd_trace_spans_dropped_total{reason="queue_full"} 0`)
}

// TestTraceBegins begins traces where nobody else has: of what clients publish,
// and of what backends publish over NATS, by the ratio.
func TestTraceBegins(t *testing.T) {
	t.Parallel()
	c := tracetest.Start(t, nil)
	a, b := pair(t, traced(c, 1))
	publisher, subscriber := a.subscribed(), b.subscribed("plain.x")
	publisher.send(`{"type":"publish","topic":"plain.x","data":1}`)
	publisher.want("published")
	subscriber.wantData("plain.x", "1")
	spans := c.Await(3)
	if s := spans[0]; len(traceOf(spans, s.Trace)) != 3 || traceOf(spans, s.Trace)["a publish plain"].Attribute("pushd.transport").GetStringValue() != "websocket" {
		t.Errorf("%v", spans)
	}
	if err := b.backendOf("plain.x", nil); err != nil {
		t.Fatal(err)
	}
	subscriber.wantData("plain.x", "2")
	spans = c.Await(5)[3:]
	if of := traceOf(spans, spans[0].Trace); len(of) != 2 || of["b receive plain"].Parent != "" {
		t.Errorf("%v", of)
	}

	// Who says that a message is not to be traced is believed.
	if err := b.backendOf("plain.x", []string{"Traceparent", theirTraceparent[:len(theirTraceparent)-1] + "0"}); err != nil {
		t.Fatal(err)
	}
	subscriber.wantData("plain.x", "2")
	a.request("POST", "http://"+a.Addr()+"/publish/plain.x", "", `3`, "Traceparent", theirTraceparent[:len(theirTraceparent)-1]+"0")
	subscriber.wantData("plain.x", "3")
	stopAll(t, a, b)
	if n := len(c.Spans()); n != 5 {
		t.Errorf("%d spans, of which 5 were to be", n)
	}
}

// backendOf publishes a 2 over NATS, with a header.
func (r *running) backendOf(topic string, header []string) error {
	done := make(chan error, 1)
	p := natsbus.Publication{Topic: topic, Data: []byte("2"), Done: func(_ topics.Cursor, err error) { done <- err }}
	if header != nil {
		p.Traceparent = header[1]
	}
	if !r.bus.Publish(p) {
		return fmt.Errorf("the bus does not take it")
	}
	return <-done
}

// stopAll stops servers, whose last spans are sent by then.
func stopAll(t *testing.T, servers ...*running) {
	t.Helper()
	for _, r := range servers {
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	}
}

// TestNoTrace has nothing traced where nobody asks for it, and nothing of
// anonymous visitors where others show who they are.
func TestNoTrace(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		secure  bool
		change  func(*config.Config)
		headers []string
	}{
		{"ratio 0", false, nil, nil},
		{"limit 0", false, func(c *config.Config) { c.TraceLimit = 0 }, []string{"Traceparent", theirTraceparent}},
		{"off", false, func(c *config.Config) { c.TraceEndpoint = "" }, []string{"Traceparent", theirTraceparent}},
		{"anonymous", true, func(c *config.Config) { c.Default.Public = config.PublicAll }, []string{"Traceparent", theirTraceparent}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := tracetest.Start(t, nil)
			change := []func(*config.Config){traced(c, 0)}
			if test.secure {
				change = append(change, func(c *config.Config) { c.TokenSecret = testSecret })
			}
			if test.change != nil {
				change = append(change, test.change)
			}
			r := start(t, change...)
			s := r.subscribed("plain.x")
			for i := range 20 {
				r.request("POST", "http://"+r.Addr()+"/publish/plain.x", "", fmt.Sprint(i), test.headers...)
				s.wantData("plain.x", fmt.Sprint(i))
			}
			stopAll(t, r)
			if requests, _ := c.Requests(); len(requests) != 0 {
				t.Errorf("%d requests to the collector: %v", len(requests), c.Spans())
			}
		})
	}
}

// TestTraceCollectorAway publishes on where the collector is away, and where it
// hangs; what it does not get is counted, and the end does not wait for it.
func TestTraceCollectorAway(t *testing.T) {
	t.Parallel()
	let := make(chan struct{})
	hanging := tracetest.Start(t, func(http.ResponseWriter, *http.Request) bool { <-let; return true })
	t.Cleanup(func() { close(let) }) // before that of the collector, which waits
	refusing := tracetest.Start(t, func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(500); return true })
	for _, test := range []struct{ name, url, reason string }{
		{"away", "http://127.0.0.1:1", "shutdown"}, // it is tried again until the end
		{"hangs", hanging.URL, "shutdown"},
		{"refuses", refusing.URL, "export_failed"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := start(t, func(c *config.Config) {
				c.TraceEndpoint, c.TraceRatio, c.TraceLimit = test.url, 1, 1_000_000
				c.ShutdownTimeout, c.MaxPublishRate = 500*time.Millisecond, 0
			})
			const messages = 300
			s, publisher := r.subscribed("plain.x"), r.subscribed()
			for i := range messages {
				publisher.send(fmt.Sprintf(`{"type":"publish","topic":"plain.x","data":%d}`, i))
				publisher.want("published")
				s.wantData("plain.x", fmt.Sprint(i))
			}
			stopAll(t, r)
			n := r.tracer.Counts()
			var reasons []string
			total := n.Sent
			for why, count := range n.Dropped {
				if total += count; count > 0 {
					reasons = append(reasons, tracing.Drop(why).String())
				}
			}
			if n.Sent != 0 || total != 3*messages || !slices.Contains(reasons, test.reason) {
				t.Errorf("%+v of %d spans", n, 3*messages)
			}
		})
	}
}
