// Soak asks: over hours of even load, does anything grow, slow down or get lost?

package load

import (
	"context"
	"fmt"
	"time"
)

// soakRound is how often a soak takes stock.
const soakRound = time.Minute

func soak() scenario {
	return scenario{
		name:     "soak",
		question: "Over hours of even load: does anything grow, slow down or get lost?",
		defaults: Spec{Clients: 10_000, Topics: 1_000, Rate: 1_000, Duration: time.Hour}, publishes: true,
		play: playSoak,
	}
}

func playSoak(ctx context.Context, r *run) error {
	if _, err := r.connectAll(ctx); err != nil {
		return err
	}
	rounds := max(2, int(r.spec.Duration/soakRound))
	each := r.spec.Duration / time.Duration(rounds)
	for i := range rounds {
		_, err := r.measure(ctx, fmt.Sprintf("round %d of %d", i+1, rounds), func(ctx context.Context, w *Window) error {
			return r.publishAtRate(ctx, w, each)
		})
		if err != nil {
			return err
		}
	}
	f := r.result
	soaked := f.Windows[1:] // after connecting
	first, last := soaked[0], soaked[len(soaked)-1]
	var missing, duplicate, disordered, worst float64
	for _, w := range soaked {
		missing += float64(w.Steady.Missing)
		duplicate += float64(w.Steady.Duplicate)
		disordered += float64(w.Steady.OutOfOrder)
		worst = max(worst, w.Latency.P99)
	}
	f.add("missing", "messages missing", missing, "")
	f.add("duplicate", "messages that came twice", duplicate, "")
	f.add("out_of_order", "messages out of order", disordered, "")
	f.add("lost", "connections lost", float64(f.Connections.Lost), "")
	f.add("worst_p99", "publish to delivery, p99 of the worst round", worst/1e3, "ms")
	if r.server.pid != 0 {
		f.add("memory_first", "server memory after the first round", float64(first.Memory.RSS)/(1<<20), "MiB")
		f.add("memory_last", "after the last", float64(last.Memory.RSS)/(1<<20), "MiB")
		f.add("server_us_first", "server CPU for a delivery, first round", first.PerDelivery(), "µs")
		f.add("server_us_last", "the same, last round", last.PerDelivery(), "µs")
	}
	return nil
}
