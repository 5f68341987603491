package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/pushd/pushd/bench/load"
)

// experiment is a run with real connections.
type experiment struct {
	connections int
	topics      int // of the run with many
	processes   int // of pushd, and of clients; 0: as many as are needed
	rounds      int
	broadcasts  int
	deliveries  float64       // a second
	duration    time.Duration // of sending to many topics
	wait        time.Duration // of heartbeats
	heartbeat   time.Duration
	settle      time.Duration // before something is measured
	progress    io.Writer

	programs programs
	pids     []int // of all that was started
}

// patience is how long a message to all may take; a busy machine needs seconds.
const patience = time.Minute

// run fails where the machine does not allow it, or not everything arrived once.
func (e *experiment) run(ctx context.Context) (_ *measured, err error) {
	if e.connections < 1 || e.processes < 0 || e.topics < 1 || e.rounds < 1 || e.broadcasts < 1 || e.deliveries <= 0 {
		return nil, errors.New("-n, -topics, -rounds, -broadcasts and -deliveries must be at least 1, and -processes 0 or more")
	}
	h, err := readHost()
	if err != nil {
		return nil, err
	}
	if e.processes == 0 {
		e.processes = h.processesFor(e.connections)
	}
	if e.connections < e.processes {
		return nil, fmt.Errorf("-n is %d, but there are %d pushd processes", e.connections, e.processes)
	}
	if err := h.check(e.connections, e.processes); err != nil {
		return nil, err
	}
	if e.programs, err = build(ctx); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, e.programs.remove()) }()
	return e.perform(ctx)
}

// perform plays everything, with the programs there.
func (e *experiment) perform(ctx context.Context) (*measured, error) {
	var all findings
	var err error
	if all.idle, err = e.play(ctx, "connecting and waiting", e.idle()); err != nil {
		return nil, err
	}
	for i := range e.rounds {
		one, err := e.play(ctx, fmt.Sprintf("round %d of %d: one topic", i+1, e.rounds), e.oneTopic())
		if err != nil {
			return nil, err
		}
		many, err := e.play(ctx, fmt.Sprintf("round %d of %d: %d topics", i+1, e.rounds, e.topics), e.manyTopics())
		if err != nil {
			return nil, err
		}
		all.one, all.many = append(all.one, one), append(all.many, many)
	}
	return e.measured(&all), nil
}

func (e *experiment) idle() load.Spec {
	return load.Spec{Scenario: "idle", Duration: e.wait}
}

func (e *experiment) oneTopic() load.Spec {
	return load.Spec{Scenario: "fanout", InFlight: 1, Messages: e.broadcasts, Duration: time.Duration(e.broadcasts) * patience}
}

func (e *experiment) manyTopics() load.Spec {
	return load.Spec{
		Scenario: "many", Topics: e.topics, Duration: e.duration,
		Rate: e.deliveries * float64(e.topics) / float64(e.connections),
	}
}

// play plays a scenario against newly started processes, which are gone when it returns.
func (e *experiment) play(ctx context.Context, what string, spec load.Spec) (_ *load.Result, err error) {
	if _, err := fmt.Fprintf(e.progress, "%s, %d connections, %d pushd processes\n", what, e.connections, e.processes); err != nil {
		return nil, err
	}
	c, err := startCluster(ctx, e.programs, e.processes, e.heartbeat)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.stop()) }()
	e.pids = append(e.pids, c.pids()...)
	c.aim(&spec)
	spec.Name, spec.Clients, spec.Workers = "pushd", e.connections, e.processes
	spec.Sources = sourcesFor(e.connections)
	spec.Settle, spec.Patience = e.settle, patience
	spec.Progress = e.progress
	r, err := load.Run(ctx, spec)
	e.pids = append(e.pids, r.Connections.Workers...)
	if err == nil {
		err = complete(&r, e.connections)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", what, err), c.alive())
	}
	return &r, nil
}

// complete says what did not arrive, or not once, or not in order.
func complete(r *load.Result, connections int) error {
	var errs []error
	if c := r.Connections; c.Open != connections || c.Failed > 0 || c.Lost > 0 {
		errs = append(errs, fmt.Errorf("%d of %d connections open, %d attempts failed, %d lost", c.Open, connections, c.Failed, c.Lost))
	}
	for _, w := range r.Windows {
		s := w.Steady
		if s.Received != s.Expected || s.Missing+s.Duplicate+s.OutOfOrder+s.Late+s.Unwanted+s.Gaps+w.Foreign > 0 {
			errs = append(errs, fmt.Errorf("%s: of %d deliveries %d arrived, %d missing, %d twice, %d out of order, %d late, %d unwanted, %d gaps told",
				w.Name, s.Expected, s.Received, s.Missing, s.Duplicate, s.OutOfOrder, s.Late, s.Unwanted, s.Gaps))
		}
		if len(w.Problems) > 0 {
			errs = append(errs, fmt.Errorf("%s: %v", w.Name, w.Problems))
		}
	}
	if len(errs) > 0 {
		errs = append(errs, errors.New("the figures are worth nothing"))
	}
	return errors.Join(errs...)
}

// findings are the results of all that was played.
type findings struct {
	idle      *load.Result
	one, many []*load.Result
}

// median is that of a figure over rounds.
func median(results []*load.Result, of func(r *load.Result) float64) float64 {
	var values []float64
	for _, r := range results {
		values = append(values, of(r))
	}
	slices.Sort(values)
	return values[len(values)/2]
}
