package tracing

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// Bounds of what waits for the collector.
const (
	maxQueued   = 2048 // spans
	maxBatch    = 512  // of one request
	batchPeriod = time.Second
	logPeriod   = time.Minute // between two lines that say the collector takes nothing
)

// Drop is why spans did not reach the collector: metric label.
type Drop uint8

// The reasons.
const (
	DropQueueFull Drop = iota // more ended than the collector took
	DropFailed                // it did not answer, or with an error
	DropRejected              // it answered that it does not want them
	DropShutdown              // the process ended first
	NumDrops
)

func (d Drop) String() string {
	return [...]string{"queue_full", "export_failed", "rejected", "shutdown"}[d]
}

// queue is the sdktrace.SpanProcessor between those who end spans, who never
// wait, and the collector, which may be slow. One goroutine sends. It is there
// instead of the SDK's BatchSpanProcessor, which never waits either, but has no
// counts of what it dropped, and why.
type queue struct {
	// Static.
	exporter sdktrace.SpanExporter
	upload   *upload
	open     *unfinished
	log      *slog.Logger
	spans    chan sdktrace.ReadOnlySpan
	stop     chan struct{}
	closing  sync.Once
	cut      context.CancelFunc // ends a request that is under way
	life     context.Context    // until then
	running  sync.WaitGroup

	// Only run touches these.
	batch    []sdktrace.ReadOnlySpan
	failing  bool
	toldLast time.Time

	// Atomic.
	closed  atomic.Bool
	sent    atomic.Uint64
	dropped [NumDrops]atomic.Uint64
}

func newQueue(exporter sdktrace.SpanExporter, up *upload, open *unfinished, log *slog.Logger) *queue {
	q := &queue{
		exporter: exporter, upload: up, open: open, log: log,
		spans: make(chan sdktrace.ReadOnlySpan, maxQueued), stop: make(chan struct{}),
		batch: make([]sdktrace.ReadOnlySpan, 0, maxBatch),
	}
	q.life, q.cut = context.WithCancel(context.Background())
	return q
}

func (q *queue) start() { q.running.Go(q.run) }

// OnStart implements sdktrace.SpanProcessor.
func (q *queue) OnStart(context.Context, sdktrace.ReadWriteSpan) {}

// OnEnd implements sdktrace.SpanProcessor. It never waits.
func (q *queue) OnEnd(s sdktrace.ReadOnlySpan) {
	if q.closed.Load() {
		q.dropped[DropShutdown].Add(1)
		return
	}
	select {
	case q.spans <- s:
	default:
		q.dropped[DropQueueFull].Add(1)
	}
}

// Shutdown implements sdktrace.SpanProcessor.
func (q *queue) Shutdown(context.Context) error { return nil } // close does it

// ForceFlush implements sdktrace.SpanProcessor.
func (q *queue) ForceFlush(context.Context) error { return nil } // nobody asks

// run ends after stop is closed, when what there was is sent or dropped.
func (q *queue) run() {
	tick := time.NewTicker(batchPeriod)
	defer tick.Stop()
	for {
		select {
		case s := <-q.spans:
			q.take(s)
		case now := <-tick.C:
			q.open.endOld(now.Add(-unfinishedTime))
			q.send()
		case <-q.stop:
			for len(q.spans) > 0 {
				q.take(<-q.spans)
			}
			q.send()
			return
		}
	}
}

func (q *queue) take(s sdktrace.ReadOnlySpan) {
	if q.batch = append(q.batch, s); len(q.batch) == maxBatch {
		q.send()
	}
}

// send sends the batch, and waits for the answer.
func (q *queue) send() {
	if len(q.batch) == 0 {
		return
	}
	n := uint64(len(q.batch))
	rejected := q.upload.rejected
	err := q.exporter.ExportSpans(q.life, q.batch)
	rejected = min(n, q.upload.rejected-rejected)
	clear(q.batch)
	q.batch = q.batch[:0]
	switch {
	case err == nil:
		q.sent.Add(n - rejected)
		q.dropped[DropRejected].Add(rejected)
	case q.life.Err() != nil:
		q.dropped[DropShutdown].Add(n)
	default:
		q.dropped[DropFailed].Add(n)
	}
	q.tell(err)
}

// tell logs that the collector takes nothing, and that it does again.
func (q *queue) tell(err error) {
	switch {
	case err == nil && q.failing:
		q.log.Info("the collector of --trace-endpoint takes traces again")
		q.toldLast = time.Time{}
	case err != nil && time.Since(q.toldLast) > logPeriod:
		q.log.Warn("traces are dropped: the collector of --trace-endpoint does not take them", "err", err)
		q.toldLast = time.Now()
	}
	q.failing = err != nil
}

// close sends what there is, for as long as d at most, and ends run.
func (q *queue) close(d time.Duration) {
	q.closing.Do(func() {
		q.closed.Store(true)
		limit := time.AfterFunc(d, q.cut)
		defer limit.Stop()
		close(q.stop)
		q.running.Wait()
		q.dropped[DropShutdown].Add(uint64(len(q.spans))) // of who had just looked whether it is closed
		q.cut()
		q.upload.close()
	})
}

// Counts is what became of spans, and of traces that others began.
type Counts struct {
	Sent    uint64             // spans that the collector has
	Dropped [NumDrops]uint64   // spans
	Limited [NumOrigins]uint64 // messages of traces that others began, and that are beyond Config.Limit
}

// Counts are totals since Open.
func (t *Tracer) Counts() (c Counts) {
	c.Sent = t.queue.sent.Load()
	for d := range c.Dropped {
		c.Dropped[d] = t.queue.dropped[d].Load()
	}
	for o := range c.Limited {
		c.Limited[o] = t.limited[o].Load()
	}
	return c
}
