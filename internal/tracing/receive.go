package tracing

import (
	"context"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/pushd/pushd/topics"
)

// incomplete is why a message's spans ended without its fan-out: the ring gave
// it up before a shard came to it, or it waits for a repair of its history.
const incomplete = "incomplete"

// received is a message from NATS that is traced. It implements topics.Follower.
type received struct {
	// Static.
	tracer    *Tracer
	namespace string
	topic     string
	root      bool // nobody else began the trace
	since     time.Time

	// Guarded by mu. What has ended is let go: rings keep messages for long.
	mu          sync.Mutex
	ctx         context.Context // has the span of the receipt
	receipt     trace.Span      // nil: it has ended
	fanOut      trace.Span      // nil: it has not begun, or it has ended
	ended       bool
	due         int // shards that have not told yet
	shards      int
	subscribers int
	encoded     int64
	first       time.Time // when the first of them had handed it on
}

// Receive begins the span of a message that has come from NATS; nil: it is not traced.
func (t *Tracer) Receive(topic, namespace string, size int, header string) topics.Follower {
	parent := traceparent(header).parse()
	if !t.sampled(OverNATS, parent) {
		return nil
	}
	ctx, span := t.spans.Start(trace.ContextWithRemoteSpanContext(context.Background(), parent), "receive "+namespace, trace.WithSpanKind(trace.SpanKindConsumer), trace.WithAttributes(
		semconv.MessagingSystemKey.String(system),
		semconv.MessagingOperationName("receive"),
		semconv.MessagingOperationTypeProcess,
		semconv.MessagingDestinationName(topic),
		semconv.MessagingMessageBodySize(size),
		attrNamespace.String(namespace),
	))
	r := &received{tracer: t, ctx: ctx, namespace: namespace, topic: topic, root: !parent.IsValid(), since: time.Now(), receipt: span}
	t.open.add(r)
	return r
}

// Queued implements topics.Follower.
func (r *received) Queued(shards int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		return
	}
	if shards == 0 {
		if r.root {
			r.receipt = nil // a trace of what nobody hears is of no use
		}
		r.finish("")
		return
	}
	r.due, r.shards = shards, shards
	_, r.fanOut = r.tracer.spans.Start(r.ctx, "fan-out "+r.namespace, trace.WithAttributes(
		semconv.MessagingSystemKey.String(system),
		semconv.MessagingDestinationName(r.topic),
		attrNamespace.String(r.namespace),
	))
	r.receipt.End()
	r.receipt = nil
}

// FannedOut implements topics.Follower.
func (r *received) FannedOut(s topics.Stretch) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended || r.due == 0 {
		return
	}
	if r.first.IsZero() {
		r.first = now
	}
	worked := time.Duration(0)
	if !s.Began.IsZero() {
		worked = now.Sub(s.Began)
	}
	r.subscribers += s.Subscribers
	r.encoded = max(r.encoded, s.Encoded)
	r.fanOut.AddEvent("handed to sockets", trace.WithTimestamp(now), trace.WithAttributes(
		attrShard.Int(s.Shard), attrSubscribers.Int(s.Subscribers), attrWorked.Float64(worked.Seconds())))
	if r.due--; r.due == 0 {
		r.fanOut.SetAttributes(attrSpread.Float64(now.Sub(r.first).Seconds()))
		r.finish("")
	}
}

// finish ends the spans that are open. mu must be held.
func (r *received) finish(why string) {
	r.ended = true
	if r.receipt != nil {
		end(r.receipt, why)
	}
	if r.fanOut != nil {
		r.fanOut.SetAttributes(r.summary()...)
		end(r.fanOut, why)
	}
	r.receipt, r.fanOut, r.ctx = nil, nil, nil
}

func (r *received) summary() []attribute.KeyValue {
	return []attribute.KeyValue{attrShards.Int(r.shards), attrSubscribers.Int(r.subscribers), attrEncoded.Int64(r.encoded)}
}

// abandon ends what has not ended by itself.
func (r *received) abandon() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.ended {
		r.finish(incomplete)
	}
}

func (r *received) over() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ended
}

// Bounds of what is on its way: of messages that nobody tells of any more the
// spans end here.
const (
	maxUnfinished  = 4096
	unfinishedTime = 10 * time.Second
)

// unfinished has the messages that are on their way, in the order of their
// coming. Those that have arrived may stand among them.
type unfinished struct {
	mu  sync.Mutex
	all []*received // guarded by mu
}

// add makes room where there is none: the oldest is abandoned.
func (u *unfinished) add(r *received) {
	u.mu.Lock()
	u.all = append(u.all, r)
	gone := u.cut(func(first *received) bool { return len(u.all) > maxUnfinished || first.over() })
	u.mu.Unlock()
	abandon(gone)
}

// endOld abandons those that came before a time.
func (u *unfinished) endOld(before time.Time) {
	u.mu.Lock()
	gone := u.cut(func(first *received) bool { return first.since.Before(before) || first.over() })
	u.mu.Unlock()
	abandon(gone)
}

func (u *unfinished) endAll() { u.endOld(time.Now().Add(time.Hour)) }

// cut takes out the first ones for as long as they are meant. mu must be held.
func (u *unfinished) cut(meant func(first *received) bool) (gone []*received) {
	n := 0
	for len(u.all) > 0 && meant(u.all[0]) {
		if !u.all[0].over() {
			gone = append(gone, u.all[0])
		}
		u.all[0] = nil
		u.all = u.all[1:]
		n++
	}
	if len(u.all) == 0 && n > 0 {
		u.all = nil
	}
	return gone
}

func abandon(gone []*received) {
	for _, r := range gone {
		r.abandon()
	}
}
