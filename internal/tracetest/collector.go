// Package tracetest is an OpenTelemetry collector for tests: it takes OTLP over
// HTTP on a real socket, and decodes it by the types of the specification.
package tracetest

import (
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// patience is how long a span may take to come.
const patience = 20 * time.Second

// Span is one that has come.
type Span struct {
	*tracepb.Span
	Trace, ID, Parent string            // in hex; Parent "": it is the root
	Service           map[string]string // attributes of the resource
}

// Attribute returns an attribute; nil: there is none.
func (s Span) Attribute(key string) *commonpb.AnyValue { return find(s.Attributes, key) }

func find(all []*commonpb.KeyValue, key string) *commonpb.AnyValue {
	for _, kv := range all {
		if kv.Key == key {
			return kv.Value
		}
	}
	return nil
}

// Collector keeps what comes until the test ends.
type Collector struct {
	URL string

	tb     testing.TB
	answer func(w http.ResponseWriter, r *http.Request) bool

	// Guarded by mu.
	mu       sync.Mutex
	spans    []Span
	requests []*http.Request
	bodies   [][]byte
}

// Start runs one. answer may answer a request in its place, and say so; nil: it
// takes all.
func Start(tb testing.TB, answer func(w http.ResponseWriter, r *http.Request) bool) *Collector {
	c := &Collector{tb: tb, answer: answer}
	server := httptest.NewServer(c)
	c.URL = server.URL
	tb.Cleanup(server.Close)
	return c
}

func (c *Collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // it was given up
	}
	c.mu.Lock()
	c.requests = append(c.requests, r)
	c.bodies = append(c.bodies, body)
	c.mu.Unlock()
	if c.answer != nil && c.answer(w, r) {
		return
	}
	var data tracepb.TracesData
	if err := proto.Unmarshal(body, &data); err != nil {
		c.tb.Errorf("the body is no TracesData: %v", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, of := range data.ResourceSpans {
		service := make(map[string]string)
		for _, kv := range of.Resource.Attributes {
			service[kv.Key] = kv.Value.GetStringValue()
		}
		for _, scope := range of.ScopeSpans {
			for _, s := range scope.Spans {
				c.spans = append(c.spans, Span{s, hex.EncodeToString(s.TraceId), hex.EncodeToString(s.SpanId), hex.EncodeToString(s.ParentSpanId), service})
			}
		}
	}
}

// Spans are those that have come.
func (c *Collector) Spans() []Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]Span(nil), c.spans...)
}

// Requests are those that have come, and their bodies.
func (c *Collector) Requests() ([]*http.Request, [][]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]*http.Request(nil), c.requests...), append([][]byte(nil), c.bodies...)
}

// Await returns once so many spans are there, and fails the test otherwise.
func (c *Collector) Await(n int) []Span {
	c.tb.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		spans := c.Spans()
		if len(spans) >= n {
			return spans
		}
		if time.Now().After(deadline) {
			c.tb.Fatalf("%d spans have come, and not %d", len(spans), n)
		}
	}
}
