// Resume asks: when all clients come back after they missed messages, how long
// until the last has caught up, and at what cost?

package load

import (
	"context"
	"errors"
	"time"

	"github.com/pushd/pushd/bench/load/internal/control"
)

func resume() scenario {
	return scenario{
		name:     "resume",
		question: "When all clients come back after they missed messages: how long until the last has caught up, and at what cost?",
		defaults: Spec{Clients: 10_000, Messages: 500, Rate: 1_000, ConnectInFlight: 2_000, Patience: 20 * time.Second}, publishes: true,
		resumes: true, check: checkResume,
		play: playResume,
	}
}

func checkResume(s *Spec) error {
	switch {
	case s.Target.Resume == "":
		return errors.New("--resume-frame is empty: with this server nobody goes on from where it was")
	case s.Target.events():
		return errors.New("--url begins with http://, but clients of Server-Sent Events do not resume here")
	case s.TopicsPerClient > 1:
		return errors.New("--topics-per-client is above 1, but clients that resume have one topic")
	case s.Messages < 1 || s.Rate <= 0:
		return errors.New("--messages and --rate say what clients miss, and must be above 0")
	}
	return nil
}

func playResume(ctx context.Context, r *run) error {
	if _, err := r.connectAll(ctx); err != nil {
		return err
	}
	if err := r.rest(ctx); err != nil {
		return err
	}
	if _, err := r.measure(ctx, "before", r.publishEach); err != nil { // so that each has a cursor
		return err
	}
	var back control.Status
	var took time.Duration
	w, err := r.measure(ctx, "resume", func(ctx context.Context, w *Window) (err error) {
		back, err = r.missAndReturn(ctx, w)
		if err == nil {
			took = time.Duration(back.Settled - r.fallen.clock)
		}
		return err
	})
	if err != nil {
		return err
	}
	if back.Open == 0 {
		return r.nobody(ctx)
	}
	r.result.Connections.Failed = back.Failed
	after, err := r.measure(ctx, "after", r.publishEach) // whether what is new still comes
	if err != nil {
		return err
	}
	r.resumeFigures(w, took)
	r.result.add("missing", "messages that never came", float64(w.Steady.Missing+after.Steady.Missing), "")
	return nil
}

// missAndReturn drops all clients, publishes what they miss, and lets them
// come back.
func (r *run) missAndReturn(ctx context.Context, w *Window) (back control.Status, err error) {
	if _, err := r.fleet.All(ctx, control.Request{Verb: control.Drop}); err != nil {
		return back, err
	}
	if err := r.rest(ctx); err != nil {
		return back, err
	}
	r.progress.phase("nobody is there")
	missed := time.Duration(float64(r.spec.Messages) / r.spec.Rate * float64(time.Second))
	if err := r.publishAtRate(ctx, w, missed); err != nil {
		return back, err
	}
	if err := r.rest(ctx); err != nil { // nor is a message to be still on its way into the history
		return back, err
	}
	r.progress.phase("resume")
	if err := r.fall(ctx); err != nil {
		return back, err
	}
	if err := r.open(ctx); err != nil {
		return back, err
	}
	return r.untilOpen(ctx)
}

func (r *run) resumeFigures(w *Window, back time.Duration) {
	f := r.result
	f.add("caught_up", "until the last had caught up", w.CatchUp.Seconds, "s")
	f.add("back", "until all were subscribed again", back.Seconds(), "s")
	r.catchUpFigures(w)
	if w.Reads > 0 {
		f.add("deliveries_per_read", "deliveries in a read of a client", float64(w.Deliveries())/float64(w.Reads), "")
	}
	f.add("resumed", "subscriptions with a cursor", float64(w.Resumed), "")
	if r.spec.Target.RecoveredMark != "" {
		f.add("unrecovered", "of these, not said to be whole", float64(w.Resumed)-float64(w.Recovered), "")
	}
	f.add("memory_peak", "server memory at its highest", float64(w.Memory.Peak)/(1<<20), "MiB")
}

// catchUpFigures are the figures of the part of a window in which clients
// caught up.
func (r *run) catchUpFigures(w *Window) {
	f, c := r.result, w.CatchUp
	if r.server.pid != 0 {
		f.add("catch_up_us", "server CPU for a message that was caught up", per(c.Server.Total(), c.Messages), "µs")
		f.add("catch_up_user_us", "of it in user mode", per(c.Server.User, c.Messages), "µs")
		f.add("catch_up_cpu", "server CPU for all of it", c.Server.Total(), "s")
	}
	if r.server.broker != 0 {
		f.add("catch_up_broker_us", "broker CPU for a message that was caught up", per(c.Broker.Total(), c.Messages), "µs")
		f.add("catch_up_broker_cpu", "broker CPU for all of it", c.Broker.Total(), "s")
	}
	f.add("caught_up_messages", "messages that were caught up", float64(c.Messages), "")
}
