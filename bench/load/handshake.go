// Handshake asks: what does it cost to connect, subscribe once and close?

package load

import (
	"context"
	"time"

	"github.com/pushd/pushd/bench/load/internal/control"
)

func handshake() scenario {
	return scenario{
		name:     "handshake",
		question: "What does it cost to connect, subscribe once and close?",
		defaults: Spec{Clients: 64, Duration: 10 * time.Second},
		play:     playHandshake,
	}
}

func playHandshake(ctx context.Context, r *run) error {
	if _, err := r.measure(ctx, "warm-up", r.warm); err != nil {
		return err
	}
	if err := r.rest(ctx); err != nil {
		return err
	}
	w, err := r.measure(ctx, "handshake", func(ctx context.Context, _ *Window) error {
		if err := r.cycle(ctx, r.spec.Clients); err != nil {
			return err
		}
		deadline := time.Now().Add(r.spec.Duration)
		err := r.poll(ctx, func(s control.Status) bool {
			r.progress.show(int(s.Handshakes), 0, "handshakes")
			return time.Now().After(deadline)
		})
		if err != nil {
			return err
		}
		return r.endCycle(ctx)
	})
	if err != nil {
		return err
	}
	r.result.Connections.Wanted = r.spec.Clients
	r.handshakeFigures(w)
	r.result.add("handshakes_per_second", "connections", float64(w.Handshakes)/w.Seconds, "/s")
	return nil
}

// cycle lets clients connect, subscribe and close, over and over.
func (r *run) cycle(ctx context.Context, clients int) error {
	workers := len(r.plans)
	_, err := r.fleet.Each(ctx, func(i int) control.Request {
		return control.Request{Verb: control.Cycle, Clients: max(1, (i+1)*clients/workers-i*clients/workers)}
	})
	return err
}

// endCycle waits for those that are on the way.
func (r *run) endCycle(ctx context.Context) error {
	if _, err := r.fleet.All(ctx, control.Request{Verb: control.Cycle}); err != nil {
		return err
	}
	return r.poll(ctx, func(s control.Status) bool { return s.Opening == 0 })
}
