package tracing

import (
	"bytes"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pushd/pushd/internal/tracetest"
)

// What the collector does not take is dropped, under the name of the reason.
func TestDrops(t *testing.T) {
	partial := []byte("\x0a\x05\x08\x02\x12\x01x") // ExportTraceServiceResponse: 2 rejected_spans, error_message x
	for _, test := range []struct {
		name   string
		status int
		body   []byte
		sent   uint64
		why    Drop
		drops  uint64
	}{
		{"takes all", 200, nil, 3, 0, 0},
		{"an answer that is none", 200, []byte("ok"), 3, 0, 0},
		{"rejects two", 200, partial, 1, DropRejected, 2},
		{"refuses", 400, nil, 0, DropFailed, 3},
		{"sends elsewhere", 307, nil, 0, DropFailed, 3},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := tracetest.Start(t, func(w http.ResponseWriter, r *http.Request) bool {
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(test.status)
				w.Write(test.body)
				return true
			})
			tracer := open(t, c.URL)
			for range 3 {
				p, _ := tracer.publish("")
				p.End("")
			}
			tracer.Close(patience)
			n := tracer.Counts()
			want := Counts{Sent: test.sent}
			want.Dropped[test.why] = test.drops
			if n != want {
				t.Errorf("%+v, not %+v", n, want)
			}
			if requests, _ := c.Requests(); len(requests) != 1 {
				t.Errorf("%d requests", len(requests))
			}
		})
	}
}

// A collector that cannot take them now is asked again, not before it wants.
func TestRetry(t *testing.T) {
	var asked atomic.Int32
	c := tracetest.Start(t, func(w http.ResponseWriter, r *http.Request) bool {
		if asked.Add(1) > 1 {
			return false
		}
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	})
	tracer := open(t, c.URL)
	p, _ := tracer.publish("")
	p.End("")
	tracer.Close(patience)
	if n := tracer.Counts(); n != (Counts{Sent: 1}) || asked.Load() != 2 {
		t.Errorf("%+v after %d requests", n, asked.Load())
	}
}

// A collector that does not answer holds nobody up: what is beyond the queue is
// dropped, and the end is bounded.
func TestCollectorHangs(t *testing.T) {
	let := make(chan struct{})
	c := tracetest.Start(t, func(http.ResponseWriter, *http.Request) bool { <-let; return true })
	defer close(let)
	tracer := open(t, c.URL)
	const spans = maxQueued + 3*maxBatch
	for range spans {
		p, _ := tracer.publish("")
		p.End("")
	}
	if n := tracer.Counts(); n.Dropped[DropQueueFull] < maxBatch || n.Sent != 0 {
		t.Errorf("%+v of %d", n, spans)
	}
	tracer.Close(time.Millisecond)
	p, _ := tracer.publish("") // of a request that has not ended
	p.End("")
	n := tracer.Counts()
	if total := n.Dropped[DropQueueFull] + n.Dropped[DropShutdown]; n.Sent != 0 || total != spans+1 {
		t.Errorf("%+v of %d", n, spans+1)
	}
}

// The log says that the collector is away, and nothing of what its URL has for it alone.
func TestCollectorAwayIsLogged(t *testing.T) {
	for _, endpoint := range []string{"http://127.0.0.1:1/v1/traces?key=hidden", "http://me:hidden@127.0.0.1:1"} {
		var log bytes.Buffer
		t.Setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
		tracer, err := Open(Config{Endpoint: endpoint, Ratio: 1, Node: "n1", Log: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		p, _ := tracer.publish("")
		p.End("")
		tracer.Close(patience)
		if text := log.String(); !strings.Contains(text, "does not take them") || strings.Contains(text, "hidden") {
			t.Errorf("%s: it logs %q", endpoint, text)
		}
	}
}

// Where spans go, and what of the environment is obeyed.
func TestEnvironment(t *testing.T) {
	for _, test := range []struct {
		name, endpoint, path string
		env                  map[string]string
		check                func(t *testing.T, r *http.Request, s tracetest.Span)
		refused              string
	}{
		{name: "without a path", path: "/v1/traces"},
		{name: "a slash", endpoint: "/", path: "/v1/traces"},
		{name: "a path", endpoint: "/otlp/x", path: "/otlp/x"},
		{name: "not the endpoint of the environment", path: "/v1/traces", env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_TRACES_SAMPLER": "always_off"}},
		{name: "headers", path: "/v1/traces", env: map[string]string{"OTEL_EXPORTER_OTLP_HEADERS": "Authorization=Bearer%20x=, tenant = a"}, check: func(t *testing.T, r *http.Request, _ tracetest.Span) {
			if a, b := r.Header.Get("Authorization"), r.Header.Get("Tenant"); a != "Bearer x=" || b != "a" {
				t.Errorf("%q %q", a, b)
			}
		}},
		{name: "headers of traces alone", path: "/v1/traces", env: map[string]string{"OTEL_EXPORTER_OTLP_HEADERS": "a=1", "OTEL_EXPORTER_OTLP_TRACES_HEADERS": "a=2"}, check: func(t *testing.T, r *http.Request, _ tracetest.Span) {
			if got := r.Header.Get("A"); got != "2" {
				t.Error(got)
			}
		}},
		{name: "resource", path: "/v1/traces", env: map[string]string{"OTEL_SERVICE_NAME": "push", "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test"}, check: func(t *testing.T, _ *http.Request, s tracetest.Span) {
			if s.Service["service.name"] != "push" || s.Service["deployment.environment.name"] != "test" || s.Service["service.instance.id"] != "n1" {
				t.Error(s.Service)
			}
		}},
		{name: "bad headers", env: map[string]string{"OTEL_EXPORTER_OTLP_HEADERS": "secret"}, refused: "OTEL_EXPORTER_OTLP_HEADERS"},
		{name: "bad timeout", env: map[string]string{"OTEL_EXPORTER_OTLP_TIMEOUT": "10s"}, refused: "OTEL_EXPORTER_OTLP_TIMEOUT"},
		{name: "no such certificate", env: map[string]string{"OTEL_EXPORTER_OTLP_CERTIFICATE": "/nowhere.pem"}, refused: "OTEL_EXPORTER_OTLP_CERTIFICATE"},
		{name: "no certificate", env: map[string]string{"OTEL_EXPORTER_OTLP_CERTIFICATE": empty(t)}, refused: "no certificate in PEM"},
		{name: "bad resource", env: map[string]string{"OTEL_RESOURCE_ATTRIBUTES": "nothing"}, refused: "OTEL_RESOURCE_ATTRIBUTES"},
	} {
		t.Run(test.name, func(t *testing.T) {
			for name, value := range test.env {
				t.Setenv(name, value)
			}
			c := tracetest.Start(t, nil)
			tracer, err := Open(Config{Endpoint: c.URL + test.endpoint, Ratio: 1, Node: "n1"})
			if err != nil {
				if test.refused == "" || !strings.Contains(err.Error(), test.refused) || strings.Contains(err.Error(), "secret") {
					t.Error(err)
				}
				return
			}
			p, _ := tracer.publish("")
			p.End("")
			tracer.Close(patience)
			requests, _ := c.Requests()
			if len(requests) != 1 || requests[0].URL.Path != test.path || requests[0].Header.Get("Content-Type") != "application/x-protobuf" || test.refused != "" {
				t.Fatalf("%d requests: %+v", len(requests), requests)
			}
			if test.check != nil {
				test.check(t, requests[0], c.Spans()[0])
			}
		})
	}
	t.Setenv("OTEL_SDK_DISABLED", "TRUE")
	if tracer, err := Open(Config{Endpoint: "http://127.0.0.1:1"}); tracer != nil || err != nil {
		t.Errorf("%v, %v where it is disabled", tracer, err)
	}
}

// empty is a file with nothing in it.
func empty(t *testing.T) string {
	path := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
