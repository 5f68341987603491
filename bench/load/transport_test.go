package load

import (
	"strings"
	"testing"
	"time"
)

// Server-Sent Events and compressed messages of the real pushd are counted as messages of a WebSocket are.
func TestTransports(t *testing.T) {
	t.Parallel()
	binary := buildPushd(t)
	f := func(name string, events bool, spec Spec) {
		t.Run(name, func(t *testing.T) {
			spec.Settle, spec.Patience, spec.Clients = 50*time.Millisecond, 20*time.Second, 50
			spec.Target, spec.Server = pushdServer(t, binary)
			if events {
				spec.Target.URL = strings.Replace(spec.Target.URL, "ws://", "http://", 1)
				spec.Target.URL = strings.Replace(spec.Target.URL, "/ws", "/sse?topic={topic}", 1)
			}
			spec.Command = []string{"pushbench"}
			r, err := Run(testContext(t), spec)
			if err != nil {
				t.Fatal(err)
			}
			checkEnded(t, &r)
			checkWhole(t, &r, spec)
			w := r.Windows[len(r.Windows)-1]
			if w.Steady.Received != uint64(w.Published*spec.Clients) || spec.Messages != w.Published {
				t.Errorf("%d of %d messages: %+v", w.Published, spec.Messages, w.Steady)
			}
			switch {
			case spec.Scenario == "idle":
				if w.Pings == 0 {
					t.Error("no heartbeats")
				}
			case spec.Deflate:
				each, _ := r.Figure("bytes_per_delivery")
				if w.Deflated != w.Steady.Received || each > float64(spec.Payload)/2 {
					t.Errorf("%d compressed, %v bytes for each delivery: %+v", w.Deflated, each, w.Steady)
				}
			case w.Deflated > 0:
				t.Errorf("%d messages were compressed", w.Deflated)
			}
		})
	}
	f("events", true, Spec{Scenario: "fanout", InFlight: 4, Messages: 100, Duration: testTimeout})
	f("idle events", true, Spec{Scenario: "idle", Duration: 2500 * time.Millisecond}) // whose clients come and go first
	f("deflate", false, Spec{Scenario: "fanout", InFlight: 4, Messages: 100, Duration: testTimeout, Payload: 1024, Ticks: true, Deflate: true})
	f("plain", false, Spec{Scenario: "fanout", InFlight: 4, Messages: 100, Duration: testTimeout, Payload: 1024, Ticks: true})
}
