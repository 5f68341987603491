package load

import (
	"context"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pushd/pushd/bench/load/internal/control"
	"github.com/pushd/pushd/bench/load/internal/proctree"
)

// maxArrivals bounds the messages of a window whose last arrival is kept.
const maxArrivals = 1 << 20

// measure counts what happens while work runs, and until its messages have
// arrived, as a window of the result.
func (r *run) measure(ctx context.Context, name string, work func(ctx context.Context, w *Window) error) (*Window, error) {
	r.progress.phase(name)
	r.fallen = nil
	request := control.Window{First: slices.Clone(r.sequence), Number: r.number, Stride: r.stride(), Notify: r.spec.InFlight > 0}
	before, err := r.look(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := r.fleet.All(ctx, control.Request{Verb: control.Begin, Window: &request}); err != nil {
		return nil, err
	}
	first := r.number
	w := &Window{Name: name}
	if err := work(ctx, w); err != nil {
		return nil, err
	}
	if err := r.drain(ctx, request.First); err != nil {
		return nil, err
	}
	after, err := r.look(ctx)
	if err != nil {
		return nil, err
	}
	w.Published = int(r.number - first)
	before.until(after, w)
	if r.fallen != nil {
		w.CatchUp = r.fallen.catchUp(after)
	}
	if err := r.report(ctx, w, request); err != nil {
		return nil, err
	}
	r.result.Connections.Lost += w.Lost
	r.result.Windows = append(r.result.Windows, w)
	return w, nil
}

// stride is which messages of a window have their last arrival kept.
func (r *run) stride() uint32 {
	if r.spec.InFlight > 0 {
		return 1 // each, since the next waits for it
	}
	return uint32(r.spec.Rate*r.spec.Duration.Seconds()/maxArrivals) + 1
}

// moment is what had been used up at a time.
type moment struct {
	at     time.Time
	clock  int64 // the same, as stamp.Clock has it
	server proctree.Usage
	broker proctree.Usage
	own    unix.Rusage
	busy   time.Duration
	status control.Status
}

func (r *run) look(ctx context.Context) (m moment, err error) {
	if m.status, err = r.status(ctx); err != nil {
		return m, err
	}
	if m.server, err = r.server.usage(); err != nil {
		return m, err
	}
	if m.broker, err = r.server.brokerUsage(); err != nil {
		return m, err
	}
	if m.busy, err = proctree.Busy(); err != nil {
		return m, err
	}
	m.at, m.clock = time.Now(), r.clock.Now()
	return m, unix.Getrusage(unix.RUSAGE_SELF, &m.own)
}

// until fills in what was used between two moments.
func (m moment) until(end moment, w *Window) {
	w.Seconds = end.at.Sub(m.at).Seconds()
	w.Handshakes = end.status.Handshakes - m.status.Handshakes
	w.Changes = end.status.Changes - m.status.Changes
	w.Server, w.Broker = spent(m.server, end.server), spent(m.broker, end.broker)
	w.Memory = memoryOf(end.server)
	w.Generator = CPU{
		time.Duration(end.own.Utime.Nano() - m.own.Utime.Nano()).Seconds(),
		time.Duration(end.own.Stime.Nano() - m.own.Stime.Nano()).Seconds(),
	}
	w.Elsewhere = (end.busy - m.busy).Seconds() // report takes away what server, broker and generator had of it
}

// spent is the CPU time between two readings.
func spent(from, to proctree.Usage) CPU {
	return CPU{(to.User - from.User).Seconds(), (to.System - from.System).Seconds()}
}

// fall notes that from here on clients catch up.
func (r *run) fall(ctx context.Context) error {
	m, err := r.look(ctx)
	r.fallen = &m
	return err
}

// catchUp is what came and was used since a moment.
func (m *moment) catchUp(end moment) *CatchUp {
	c := &CatchUp{
		Messages: end.status.Received + end.status.Others - m.status.Received - m.status.Others,
		Server:   spent(m.server, end.server), Broker: spent(m.broker, end.broker),
	}
	if c.Messages > 0 {
		c.Seconds = time.Duration(end.status.Heard - m.clock).Seconds()
	}
	return c
}

// report collects what the workers counted.
func (r *run) report(ctx context.Context, w *Window, request control.Window) error {
	answers, err := r.fleet.All(ctx, control.Request{Verb: control.Report, Last: r.sequence})
	if err != nil {
		return err
	}
	latency, ready := newHistogram(), newHistogram()
	subscribers := make([]uint32, r.spec.Topics)
	var arrivals []control.Arrival
	w.Problems = map[string]int{}
	for _, answer := range answers {
		c := answer.Counted
		w.Steady.Add(c.Steady)
		w.Others.Add(c.Others)
		w.Foreign += c.Foreign
		w.Reads += c.Reads
		w.Bytes += c.Bytes
		w.Deflated += c.Deflated
		w.Pings += c.Pings
		w.Resumed += c.Resumed
		w.Recovered += c.Recovered
		w.Lost += c.Lost
		for what, n := range c.Problems {
			w.Problems[what] += n
		}
		for topic, n := range c.Subscribers {
			subscribers[topic] += n
		}
		w.Generator.User += c.User.Seconds()
		w.Generator.System += c.System.Seconds()
		if err := merge(latency, c.Latency); err != nil {
			return err
		}
		if err := merge(ready, c.Ready); err != nil {
			return err
		}
		if arrivals, err = control.MergeArrivals(arrivals, c.Arrivals); err != nil {
			return err
		}
	}
	w.Elsewhere = max(0, w.Elsewhere-w.Server.Total()-w.Broker.Total()-w.Generator.Total())
	last := newHistogram()
	for i, a := range arrivals {
		number := request.Number + uint32(i)*request.Stride
		if a.Count > 0 && a.Count == subscribers[r.topic(number)] {
			record(last, time.Duration(a.Last)*time.Microsecond)
		}
	}
	if w.Latency, err = newTimes(latency); err != nil {
		return err
	}
	if w.Last, err = newTimes(last); err != nil {
		return err
	}
	w.Ready, err = newTimes(ready)
	return err
}

// drain waits until what was published in the window has arrived, or nothing
// comes any more.
func (r *run) drain(ctx context.Context, first []uint32) error {
	return r.drainOf(ctx, first, r.expected, func(s control.Status) uint64 {
		if r.spec.ChurnRate > 0 {
			return s.Received // of those who change topics nobody knows what they are to get
		}
		return s.Received + s.Others
	})
}

// drainOf does so for some subscribers of each topic, and what these have.
func (r *run) drainOf(ctx context.Context, first, subscribers []uint32, received func(control.Status) uint64) error {
	var want uint64
	for topic, sequence := range r.sequence {
		want += uint64(sequence-first[topic]) * uint64(subscribers[topic])
	}
	var before uint64
	changed := time.Now()
	return r.poll(ctx, func(s control.Status) bool {
		got := received(s)
		r.progress.show(int(got), int(want), "messages")
		if got != before {
			before, changed = got, time.Now()
		}
		return got >= want || time.Since(changed) > r.spec.Patience
	})
}

// rest waits for the server to come to rest.
func (r *run) rest(ctx context.Context) error {
	r.progress.phase("settling")
	return pause(ctx, r.spec.Settle)
}

// memory is the server's, after it was asked to give back what it can.
func (r *run) memory(ctx context.Context) (Memory, error) {
	if err := r.server.collect(ctx); err != nil {
		return Memory{}, err
	}
	u, err := r.server.usage()
	if err != nil {
		return Memory{}, fmt.Errorf("memory: %w", err)
	}
	return memoryOf(u), nil
}

func memoryOf(u proctree.Usage) Memory { return Memory{RSS: u.RSS, PSS: u.PSS, Peak: u.Peak} }
