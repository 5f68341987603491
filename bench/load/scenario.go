package load

import (
	"context"
	"fmt"
	"strings"
)

// Scenario is one way to load a server, and the question that it answers.
type Scenario struct {
	Name, Question string
	// Defaults has the fields of a Spec that the scenario sets.
	Defaults Spec
}

// Scenarios returns all there are.
func Scenarios() []Scenario {
	var list []Scenario
	for _, s := range scenarios() {
		list = append(list, Scenario{s.name, s.question, s.defaults})
	}
	return list
}

// scenario is one, with how to play it. Each has a file of its name.
type scenario struct {
	name, question string
	defaults       Spec
	publishes      bool
	resumes        bool              // whose connection is lost goes on from its cursor, where the server gave one
	check          func(*Spec) error // what this scenario cannot do without; nil: nothing
	play           func(ctx context.Context, r *run) error
}

func scenarios() []scenario {
	return []scenario{idle(), fanout(), ticker(), many(), storm(), resume(), churn(), slow(), handshake(), soak()}
}

func find(name string) (scenario, error) {
	var names []string
	for _, s := range scenarios() {
		if s.name == name {
			return s, nil
		}
		names = append(names, s.name)
	}
	return scenario{}, fmt.Errorf("there is no scenario %q, but %s", name, strings.Join(names, ", "))
}

// connectAll connects all clients, as a window of its own.
func (r *run) connectAll(ctx context.Context) (*Window, error) {
	return r.measure(ctx, "connect", func(ctx context.Context, _ *Window) error { return r.connect(ctx) })
}

// deliver connects, publishes a little to warm up, rests, and measures
// publishing.
func (r *run) deliver(ctx context.Context) (*Window, error) {
	if _, err := r.connectAll(ctx); err != nil {
		return nil, err
	}
	if !r.spec.skipWarmUp {
		duration := r.spec.Duration
		r.spec.Duration = min(duration, warmTime)
		_, err := r.measure(ctx, "warm-up", r.publish)
		r.spec.Duration = duration
		if err != nil {
			return nil, err
		}
	}
	if err := r.rest(ctx); err != nil {
		return nil, err
	}
	return r.measure(ctx, r.result.Scenario, r.publish)
}

// deliveryFigures are the figures of a window in which messages were delivered.
func (r *run) deliveryFigures(w *Window) {
	f := r.result
	n := w.Deliveries()
	if r.server.pid != 0 {
		f.add("server_us_per_delivery", "server CPU for a delivery", per(w.Server.Total(), n), "µs")
		f.add("server_user_us_per_delivery", "of it in user mode", per(w.Server.User, n), "µs")
		f.add("server_cpu", "server CPU", w.Server.Total()/w.Seconds*100, "%")
	}
	f.add("generator_us_per_delivery", "generator CPU for a delivery", per(w.Generator.Total(), n), "µs")
	f.add("deliveries_per_second", "deliveries", float64(n)/w.Seconds, "/s")
	if n > 0 {
		f.add("bytes_per_delivery", "bytes that a client receives for a delivery, above TCP", float64(w.Bytes)/float64(n), "B")
	}
	if r.spec.Deflate && n > 0 {
		f.add("deflated", "of the deliveries, compressed", 100*float64(w.Deflated)/float64(n), "%")
	}
	if w.Reads > 0 {
		f.add("deliveries_per_read", "deliveries in a read of a client", float64(n)/float64(w.Reads), "")
	}
	f.add("latency_p50", "publish to delivery, p50", w.Latency.P50/1e3, "ms")
	f.add("latency_p99", "publish to delivery, p99", w.Latency.P99/1e3, "ms")
	f.add("last_p50", "publish to the last subscriber, p50", w.Last.P50/1e3, "ms")
	f.add("last_p99", "publish to the last subscriber, p99", w.Last.P99/1e3, "ms")
}

// handshakeFigures are the figures of a window in which clients connected.
func (r *run) handshakeFigures(w *Window) {
	f := r.result
	if r.server.pid != 0 {
		f.add("server_us_per_handshake", "server CPU for a connection with its subscription", per(w.Server.Total(), w.Handshakes), "µs")
		f.add("server_user_us_per_handshake", "of it in user mode", per(w.Server.User, w.Handshakes), "µs")
	}
	f.add("generator_us_per_handshake", "generator CPU for a connection", per(w.Generator.Total(), w.Handshakes), "µs")
	f.add("ready_p50", "connect to subscribed, p50", w.Ready.P50/1e3, "ms")
	f.add("ready_p99", "connect to subscribed, p99", w.Ready.P99/1e3, "ms")
}
