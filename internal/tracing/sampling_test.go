package tracing

import (
	"strings"
	"testing"

	"github.com/pushd/pushd/internal/tracetest"
)

// Who decides whether a message is traced, and what the next one is told.
func TestSampling(t *testing.T) {
	for _, test := range []struct {
		name   string
		ratio  float64
		limit  int
		header string
		traced bool
		next   string // "": a span of this node
	}{
		{"a trace of one's own", 1, 0, "", true, ""},
		{"ratio 0", 0, 100, "", false, ""},
		{"somebody else's", 0, 100, theirs, true, ""},
		{"somebody else's, beyond the limit", 1, 0, theirs, false, theirsIgnored},
		{"he does not want it", 1, 100, theirsIgnored, false, theirsIgnored},
		{"random flag", 1, 0, theirs[:len(theirs)-1] + "3", false, theirs[:len(theirs)-1] + "2"},
		{"later version", 0, 100, "01" + theirs[2:] + "-more", true, ""},
		{"version ff", 0, 100, "ff" + theirs[2:], false, ""},
		{"too long", 0, 100, theirs + "-more", false, ""},
		{"cut", 0, 100, theirs[:40], false, ""},
		{"upper case", 0, 100, strings.ToUpper(theirs), false, ""},
		{"no trace", 0, 100, "00-" + strings.Repeat("0", 32) + theirs[35:], false, ""},
		{"no header at all", 0, 100, "yes please", false, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			tracer := open(t, tracetest.Start(t, nil).URL, func(c *Config) { c.Ratio, c.Limit = test.ratio, test.limit })
			p, next := tracer.publish(test.header)
			if (p != nil) != test.traced {
				t.Fatalf("traced: %v", p != nil)
			}
			if p == nil && next != test.next {
				t.Errorf("goes on as %q, not %q", next, test.next)
			}
			if p != nil {
				p.End("")
				if len(next) != len(theirs) || !strings.HasSuffix(next, "-01") || strings.Contains(next, theirSpan) {
					t.Errorf("goes on as %q", next)
				}
				if ours := strings.Contains(next, theirTrace); ours != (test.header != "") {
					t.Errorf("goes on as %q after %q", next, test.header)
				}
			}
			if f := tracer.receive(test.header); (f != nil) != test.traced {
				t.Errorf("followed from NATS: %v", f != nil)
			}
		})
	}
}

// Whoever asks for a trace with each message gets as many as --trace-limit says, and
// costs others nothing: his limit is that of where he comes from.
func TestLimit(t *testing.T) {
	tracer := open(t, tracetest.Start(t, nil).URL, func(c *Config) { c.Ratio, c.Limit = 0, 3 })
	traced := 0
	const asked = 200
	for range asked {
		if p, _ := tracer.publish(theirs); p != nil {
			traced++
			p.End("")
		}
	}
	c := tracer.Counts()
	if traced < 3 || traced == asked || c.Limited[OverHTTP] != uint64(asked-traced) {
		t.Errorf("%d of %d traced, %v counted as limited", traced, asked, c.Limited)
	}
	if tracer.receive(theirs) == nil {
		t.Error("nothing of NATS is followed because of what came over HTTP")
	}
}

// The ratio is what it says, within five standard deviations.
func TestRatio(t *testing.T) {
	tracer := open(t, tracetest.Start(t, nil).URL, func(c *Config) { c.Ratio = 0.1 })
	traced := 0
	for range 10_000 {
		if tracer.sampled(OverNATS, traceparent("").parse()) {
			traced++
		}
	}
	if traced < 850 || traced > 1150 {
		t.Errorf("%d of 10,000 at ratio 0.1", traced)
	}
}

// What is not sampled allocates nothing.
func TestUnsampledAllocatesNothing(t *testing.T) {
	tracer := open(t, "http://127.0.0.1:1", func(c *Config) { c.Ratio = 0 })
	if n := testing.AllocsPerRun(1000, func() {
		tracer.publish("")
		tracer.receive("")
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// What a message costs that goes out and comes back, by how much is sampled.
func BenchmarkTrace(b *testing.B) {
	for name, ratio := range map[string]float64{"ratio=0": 0, "ratio=0.001": 0.001, "ratio=1": 1} {
		b.Run(name, func(b *testing.B) {
			tracer := open(b, "http://127.0.0.1:1", func(c *Config) { c.Ratio = ratio })
			b.ReportAllocs()
			for b.Loop() {
				if p, _ := tracer.publish(""); p != nil {
					p.End("")
				}
				if f := tracer.receive(""); f != nil {
					f.Queued(0)
				}
			}
		})
	}
}
