// Storm asks: when all clients lose their connections and come back at once,
// how long does it take until all are there again, and at what cost?

package load

import (
	"context"
	"fmt"
	"time"

	"github.com/pushd/pushd/bench/load/internal/control"
)

func storm() scenario {
	return scenario{
		name:     "storm",
		question: "When all clients lose their connections and come back at once: how long until all are there again, and at what cost?",
		defaults: Spec{Clients: 10_000, Topics: 100, ConnectInFlight: 2_000, Rate: 20}, publishes: true, resumes: true,
		play: playStorm,
	}
}

func playStorm(ctx context.Context, r *run) error {
	if _, err := r.connectAll(ctx); err != nil {
		return err
	}
	if err := r.rest(ctx); err != nil {
		return err
	}
	if _, err := r.measure(ctx, "before", r.publishEach); err != nil {
		return err
	}
	var dropped int64
	var back control.Status
	w, err := r.measure(ctx, "storm", func(ctx context.Context, _ *Window) (err error) {
		dropped = r.clock.Now()
		if _, err := r.fleet.All(ctx, control.Request{Verb: control.Drop}); err != nil {
			return err
		}
		if err := r.open(ctx); err != nil {
			return err
		}
		back, err = r.publishUntilOpen(ctx)
		return err
	})
	if err != nil {
		return err
	}
	if back.Open == 0 {
		return r.nobody(ctx)
	}
	if err := r.rest(ctx); err != nil { // a server that confirms nothing may still be subscribing
		return err
	}
	after, err := r.measure(ctx, "after", r.publishEach) // whether all are really there
	if err != nil {
		return err
	}
	r.result.add("back", "until all were back", float64(back.Settled-dropped)/1e9, "s")
	r.result.add("reconnections_per_second", "reconnections", float64(w.Handshakes)/(float64(back.Settled-dropped)/1e9), "/s")
	r.handshakeFigures(w)
	if w.Resumed > 0 {
		r.result.add("resumed", "subscriptions with a cursor", float64(w.Resumed), "")
		if r.spec.Target.RecoveredMark != "" {
			r.result.add("unrecovered", "of these, not said to be whole", float64(w.Resumed)-float64(w.Recovered), "")
		}
	}
	r.result.add("away", "messages that were sent while their subscriber was away", float64(w.Steady.Away), "")
	r.result.add("missing", "messages missed by those who are back", float64(after.Steady.Missing), "")
	r.result.add("memory_peak", "server memory at its highest", float64(w.Memory.Peak)/(1<<20), "MiB")
	return nil
}

// publishEach publishes one message to each topic.
func (r *run) publishEach(context.Context, *Window) error {
	for range r.spec.Topics {
		if err := r.publishNext(); err != nil {
			return err
		}
	}
	if err := r.publisher.Flush(); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	return nil
}

// publishUntilOpen publishes about Rate messages a second until no connection
// is on the way any more.
func (r *run) publishUntilOpen(ctx context.Context) (status control.Status, err error) {
	start, first := time.Now(), r.number
	err = r.poll(ctx, func(s control.Status) bool {
		r.progress.show(s.Open, s.Open+s.Opening, "connections")
		status = s
		return s.Opening == 0
	}, func() error {
		for float64(r.number-first) < time.Since(start).Seconds()*r.spec.Rate {
			if err := r.publishNext(); err != nil {
				return err
			}
		}
		return r.publisher.Flush()
	})
	return status, err
}
