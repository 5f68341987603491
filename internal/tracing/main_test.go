package tracing

import (
	"log/slog"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pushd/pushd/internal/tracetest"
	"github.com/pushd/pushd/topics"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

// open traces to a collector, until the test ends.
func open(t testing.TB, endpoint string, change ...func(*Config)) *Tracer {
	t.Helper()
	cfg := Config{Endpoint: endpoint, Ratio: 1, Limit: 1000, Node: "n1", Version: "v1.2.3", Log: slog.New(slog.DiscardHandler)}
	for _, f := range change {
		f(&cfg)
	}
	tracer, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tracer.Close(0) })
	return tracer
}

func (t *Tracer) publish(header string) (p *Publication, next string) {
	return t.Publish(OverHTTP, "scores.match", "scores", 5, header)
}

func (t *Tracer) receive(header string) topics.Follower {
	return t.Receive("scores.match", "scores", 5, header)
}

// A traceparent of somebody else, and the same where he does not sample.
const (
	theirTrace    = "4bf92f3577b34da6a3ce929d0e0e4736"
	theirSpan     = "00f067aa0ba902b7"
	theirs        = "00-" + theirTrace + "-" + theirSpan + "-01"
	theirsIgnored = "00-" + theirTrace + "-" + theirSpan + "-00"
)

// named returns the spans of a name.
func named(spans []tracetest.Span, name string) (found []tracetest.Span) {
	for _, s := range spans {
		if s.Name == name {
			found = append(found, s)
		}
	}
	return found
}

// eventually fails the test where something does not come true.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in %v: %s", patience, what)
		}
	}
}
