package load

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pushd/pushd/bench/load/internal/control"
)

// pollTime is how often workers are asked how far they are.
const pollTime = 50 * time.Millisecond

// connect opens all clients and waits until each has its subscriptions.
func (r *run) connect(ctx context.Context) error {
	started := time.Now()
	if err := r.open(ctx); err != nil {
		return err
	}
	status, err := r.untilOpen(ctx)
	if err != nil {
		return err
	}
	if status.Open == 0 {
		return r.nobody(ctx)
	}
	if r.spec.Target.SubscribedMark == "" && r.publisher != nil {
		if err := r.probe(ctx); err != nil {
			return err
		}
	}
	c := &r.result.Connections
	c.Wanted, c.Open, c.Failed, c.Took = r.spec.Clients, status.Open, status.Failed, time.Since(started)
	return nil
}

// open makes the workers begin to open what is closed.
func (r *run) open(ctx context.Context) error {
	workers := len(r.plans)
	_, err := r.fleet.All(ctx, control.Request{Verb: control.Connect, Pace: &control.Pace{
		Rate:     r.spec.ConnectRate / float64(workers),
		InFlight: max(1, r.spec.ConnectInFlight/workers),
	}})
	return err
}

// untilOpen waits until no connection is on the way any more.
func (r *run) untilOpen(ctx context.Context) (status control.Status, err error) {
	err = r.poll(ctx, func(s control.Status) bool {
		r.progress.show(s.Open, s.Open+s.Opening, "connections")
		status = s
		return s.Opening == 0
	})
	return status, err
}

// nobody says why there is no connection at all.
func (r *run) nobody(ctx context.Context) error {
	problems, err := r.problems(ctx)
	return errors.Join(fmt.Errorf("no connection to %s: %v", r.spec.Target.URL, problems), err)
}

// problems is what went wrong since the last window began.
func (r *run) problems(ctx context.Context) (map[string]int, error) {
	answers, err := r.fleet.All(ctx, control.Request{Verb: control.Report, Last: r.sequence})
	if err != nil {
		return nil, err
	}
	all := map[string]int{}
	for _, answer := range answers {
		for what, n := range answer.Counted.Problems {
			all[what] += n
		}
	}
	return all, nil
}

// probe publishes probes until each subscription has had one: where a server
// confirms nothing, this is how to know that it stands.
func (r *run) probe(ctx context.Context) error {
	if _, err := r.fleet.All(ctx, control.Request{Verb: control.Probing}); err != nil {
		return err
	}
	const again = 500 * time.Millisecond // a server may need this long for a probe to all
	deadline, next := time.Now().Add(2*r.spec.Patience), time.Now()
	err := r.poll(ctx, func(s control.Status) bool {
		r.progress.show(0, s.Unproven, "subscriptions without a message yet")
		return s.Unproven == 0 || time.Now().After(deadline)
	}, func() error {
		if time.Now().Before(next) {
			return nil
		}
		next = time.Now().Add(again)
		for topic := range r.sequence {
			if err := r.send(uint32(topic), 0); err != nil {
				return err
			}
		}
		return r.publisher.Flush()
	})
	if err != nil {
		return err
	}
	status, err := r.status(ctx)
	if err == nil && status.Unproven > 0 {
		err = fmt.Errorf("%d subscriptions of %d get nothing: do --subscribe-frame and --publish name the same topics?", status.Unproven, r.spec.Clients*r.spec.TopicsPerClient)
	}
	return err
}

// status asks all workers how their clients are.
func (r *run) status(ctx context.Context) (control.Status, error) {
	var sum control.Status
	answers, err := r.fleet.All(ctx, control.Request{Verb: control.State})
	if err != nil {
		return sum, err
	}
	for _, answer := range answers {
		s := answer.Status
		sum.Open += s.Open
		sum.Opening += s.Opening
		sum.Failed += s.Failed
		sum.Lost += s.Lost
		sum.Unproven += s.Unproven
		sum.Received += s.Received
		sum.Others += s.Others
		sum.Handshakes += s.Handshakes
		sum.Changes += s.Changes
		sum.Settled = max(sum.Settled, s.Settled)
		sum.Heard = max(sum.Heard, s.Heard)
	}
	return sum, r.server.alive()
}

// poll asks for the status until done says so, and does the rest in between.
func (r *run) poll(ctx context.Context, done func(control.Status) bool, between ...func() error) error {
	for {
		for _, f := range between {
			if err := f(); err != nil {
				return err
			}
		}
		status, err := r.status(ctx)
		if err != nil {
			return err
		}
		if done(status) {
			return nil
		}
		if err := pause(ctx, pollTime); err != nil {
			return err
		}
	}
}

// pause rests, and ends early with the error of ctx.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
