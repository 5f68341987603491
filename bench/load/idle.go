// Idle asks: what does a connection with a subscription cost that only waits,
// in bytes of the server's memory, and how much CPU do the heartbeats of all take?

package load

import (
	"context"
	"time"

	"github.com/pushd/pushd/bench/load/internal/control"
	"github.com/pushd/pushd/bench/load/internal/proctree"
)

const (
	warmHandshakes = 500 // before memory is first read, so that what a server needs once is not counted
	warmClients    = 32  // at a time, of each worker
	warmTime       = 2 * time.Second
)

func idle() scenario {
	return scenario{
		name:     "idle",
		question: "What does a connection with a subscription cost that only waits: bytes of memory, and CPU for heartbeats?",
		defaults: Spec{Clients: 10_000, Duration: time.Minute, Settle: 2 * time.Second},
		play:     playIdle,
	}
}

func playIdle(ctx context.Context, r *run) error {
	if _, err := r.measure(ctx, "warm-up", r.warm); err != nil {
		return err
	}
	if err := r.rest(ctx); err != nil {
		return err
	}
	before, err := r.memory(ctx)
	if err != nil {
		return err
	}
	kernelBefore, err := proctree.Kernel()
	if err != nil {
		return err
	}
	connecting, err := r.connectAll(ctx)
	if err != nil {
		return err
	}
	if err := r.rest(ctx); err != nil {
		return err
	}
	after, err := r.memory(ctx)
	if err != nil {
		return err
	}
	kernelAfter, err := proctree.Kernel()
	if err != nil {
		return err
	}
	waiting, err := r.measure(ctx, "idle", func(ctx context.Context, _ *Window) error { return pause(ctx, r.spec.Duration) })
	if err != nil {
		return err
	}
	f := r.result
	if r.server.pid != 0 {
		grown := float64(after.RSS) - float64(before.RSS)
		f.add("bytes_per_connection", "server memory for a connection", grown/float64(f.Connections.Open), "B")
		f.add("pss_bytes_per_connection", "the same, pages that processes share divided among them", (float64(after.PSS)-float64(before.PSS))/float64(f.Connections.Open), "B")
		f.add("memory_before", "server memory without connections", float64(before.RSS)/(1<<20), "MiB")
		f.add("memory_after", "server memory with them", float64(after.RSS)/(1<<20), "MiB")
		f.add("idle_cpu", "server CPU while they wait", waiting.Server.Total()/waiting.Seconds*100, "%")
		if waiting.Pings > 0 {
			f.add("server_us_per_ping", "server CPU for a ping and its pong", per(waiting.Server.Total(), waiting.Pings), "µs")
		}
	}
	f.add("kernel_bytes_per_connection", "kernel memory for a connection, both ends, and whatever else the machine did", (float64(kernelAfter)-float64(kernelBefore))/float64(f.Connections.Open), "B")
	f.add("kernel_before", "kernel memory without connections", float64(kernelBefore)/(1<<20), "MiB")
	f.add("kernel_after", "kernel memory with them", float64(kernelAfter)/(1<<20), "MiB")
	f.add("pings", "pings to a connection", float64(waiting.Pings)/float64(f.Connections.Open), "")
	r.handshakeFigures(connecting)
	return nil
}

// warm lets some clients come and go.
func (r *run) warm(ctx context.Context, _ *Window) error {
	if err := r.cycle(ctx, warmClients*len(r.plans)); err != nil {
		return err
	}
	deadline := time.Now().Add(warmTime)
	var status control.Status
	err := r.poll(ctx, func(s control.Status) bool {
		status = s
		return s.Handshakes >= warmHandshakes || s.Handshakes == 0 && s.Failed > 0 || time.Now().After(deadline)
	})
	if err != nil {
		return err
	}
	if status.Handshakes == 0 {
		return r.nobody(ctx)
	}
	return r.endCycle(ctx)
}
