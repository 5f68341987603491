// Slow asks: when some readers stall, do the others notice, and what does it
// take until the stalled have caught up?

package load

import (
	"context"
	"slices"
	"time"

	"github.com/pushd/pushd/bench/load/internal/control"
)

// slowWindow is the TCP window of clients that stall, in bytes: so small that the kernel sees no reason to enlarge their
// buffers before, which could hold all that is published then. It has to wait in the server.
const slowWindow = 32 << 10

func slow() scenario {
	return scenario{
		name:     "slow",
		question: "When some readers stall, do the others notice, and what does it take until the stalled have caught up?",
		defaults: Spec{Clients: 200, SlowEvery: 5, Payload: 1_000, Rate: 400, Duration: 10 * time.Second}, publishes: true,
		play: playSlow,
	}
}

func playSlow(ctx context.Context, r *run) error {
	if _, err := r.connectAll(ctx); err != nil {
		return err
	}
	if err := r.rest(ctx); err != nil {
		return err
	}
	if _, err := r.measure(ctx, "before", r.publish); err != nil {
		return err
	}
	w, err := r.measure(ctx, "stalled", func(ctx context.Context, w *Window) error {
		first := slices.Clone(r.sequence)
		if err := r.stall(ctx, true); err != nil {
			return err
		}
		if err := r.publish(ctx, w); err != nil {
			return err
		}
		// From here on whatever the server does is for the stalled.
		if err := r.drainOf(ctx, first, r.steady, func(s control.Status) uint64 { return s.Received }); err != nil {
			return err
		}
		if err := r.fall(ctx); err != nil {
			return err
		}
		return r.stall(ctx, false)
	})
	if err != nil {
		return err
	}
	f, before := r.result, r.result.Window("before")
	f.add("latency_p99_before", "publish to delivery, p99, before some stalled", before.Latency.P99/1e3, "ms")
	f.add("latency_p99_stalled", "the same of the others, meanwhile", w.Latency.P99/1e3, "ms")
	f.add("missing", "messages missed by the others", float64(w.Steady.Missing), "")
	f.add("stalled_received", "of what was published, received by the stalled", 100*float64(w.Others.Received)/float64(max(1, w.Others.Expected)), "%")
	f.add("stalled_gaps", "losses announced to the stalled", float64(w.Others.Gaps), "")
	f.add("lost", "connections ended", float64(w.Lost), "")
	if o := w.Others; o.Received == o.Expected {
		f.add("caught_up", "until the stalled had everything, from when they read again", w.CatchUp.Seconds, "s")
		r.catchUpFigures(w)
	}
	f.add("memory_peak", "server memory at its highest", float64(w.Memory.Peak)/(1<<20), "MiB")
	r.deliveryFigures(w)
	return nil
}

func (r *run) stall(ctx context.Context, on bool) error {
	_, err := r.fleet.All(ctx, control.Request{Verb: control.Stall, On: on})
	return err
}
