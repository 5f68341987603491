// Churn asks: what does it cost to leave one topic for another, and does
// anybody miss a message while others do?

package load

import (
	"context"
	"time"

	"github.com/pushd/pushd/bench/load/internal/control"
)

// churnEvery is which clients change topics: every second. The others stay,
// and must get everything.
const churnEvery = 2

func churn() scenario {
	return scenario{
		name:     "churn",
		question: "What does it cost to leave one topic for another, and does anybody miss a message while others do?",
		defaults: Spec{Clients: 1_000, Topics: 100, Rate: 500, ChurnRate: 5_000, Duration: 10 * time.Second}, publishes: true,
		play: playChurn,
	}
}

func playChurn(ctx context.Context, r *run) error {
	if _, err := r.connectAll(ctx); err != nil {
		return err
	}
	if err := r.rest(ctx); err != nil {
		return err
	}
	before, err := r.measure(ctx, "before", r.publish)
	if err != nil {
		return err
	}
	w, err := r.measure(ctx, "churn", func(ctx context.Context, w *Window) error {
		if err := r.churn(ctx, r.spec.ChurnRate); err != nil {
			return err
		}
		if err := r.publish(ctx, w); err != nil {
			return err
		}
		if err := r.churn(ctx, 0); err != nil {
			return err
		}
		return r.untilChanged(ctx)
	})
	if err != nil {
		return err
	}
	f := r.result
	if r.server.pid != 0 {
		f.add("server_us_per_change", "server CPU to leave one topic for another, beyond that of the messages", per(w.Server.Total()-before.Server.Total(), w.Changes), "µs")
		f.add("server_user_us_per_change", "of it in user mode", per(w.Server.User-before.Server.User, w.Changes), "µs")
	}
	f.add("changes_per_second", "changes of topic that were confirmed", float64(w.Changes)/r.spec.Duration.Seconds(), "/s")
	f.add("missing", "messages missed by those who stayed", float64(w.Steady.Missing), "")
	f.add("latency_p99_before", "publish to delivery, p99, of those who stay, before", before.Latency.P99/1e3, "ms")
	f.add("latency_p99", "the same while others change topics", w.Latency.P99/1e3, "ms")
	f.add("generator_us_per_change", "generator CPU for a change, beyond that of the messages", per(w.Generator.Total()-before.Generator.Total(), w.Changes), "µs")
	return nil
}

// churn lets clients change topics, so many a second; 0 ends it.
func (r *run) churn(ctx context.Context, rate float64) error {
	_, err := r.fleet.All(ctx, control.Request{Verb: control.Churn, Rate: rate / float64(len(r.plans))})
	return err
}

// untilChanged waits until changes that are under way are confirmed.
func (r *run) untilChanged(ctx context.Context) error {
	before, since := uint64(0), time.Now()
	return r.poll(ctx, func(s control.Status) bool {
		if s.Changes != before {
			before, since = s.Changes, time.Now()
		}
		return time.Since(since) > 4*pollTime
	})
}
