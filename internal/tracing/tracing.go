// Package tracing follows messages from their publication to the sockets of
// their subscribers, and sends what it saw to an OpenTelemetry collector. It is
// the only package that knows OpenTelemetry.
//
// Three spans make a trace: that of the publication, where it came over HTTP or a
// WebSocket; on each node that hears the message, its receipt from NATS; and
// below that its fan-out. Names of topics are told, payloads and who somebody is never.
//
// What is not sampled costs a random number. Nothing here waits for the
// collector: spans that it does not take are dropped, and counted.
package tracing

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/time/rate"
)

// Config says what is traced, and who is told.
type Config struct {
	Endpoint string  // of a collector, OTLP over HTTP; without a path /v1/traces is meant
	Ratio    float64 // of messages without a traceparent of which a trace is begun: 0 to 1
	Limit    int     // traces a second, for each of the origins, that are followed because somebody else began them; 0: none

	Node    string // service.instance.id
	Version string // service.version

	Log *slog.Logger // says now and then that the collector takes nothing
}

// Origin is where a message came from: metric label.
type Origin uint8

// The origins.
const (
	OverHTTP Origin = iota
	OverWebSocket
	OverNATS
	NumOrigins
)

func (o Origin) String() string { return [...]string{"http", "websocket", "nats"}[o] }

// Tracer begins spans. Its methods may be called from any goroutine.
type Tracer struct {
	// Static.
	spans    trace.Tracer
	provider *sdktrace.TracerProvider
	queue    *queue
	most     uint64 // a trace is begun where a random number of 63 bits is below
	limits   [NumOrigins]*rate.Limiter
	open     *unfinished

	// Atomic.
	limited [NumOrigins]atomic.Uint64
}

// Open begins to trace, or says what is wrong with a setting; only the
// variables of the environment are looked at that docs/OPERATIONS.md names. It
// does not speak to the collector yet. Close ends it.
func Open(cfg Config) (*Tracer, error) {
	if disabled() {
		return nil, nil
	}
	up, err := newUpload(cfg.Endpoint)
	if err != nil {
		return nil, err
	}
	about, err := resource.New(context.Background(),
		resource.WithTelemetrySDK(),
		resource.WithAttributes(semconv.ServiceName("pushd"), semconv.ServiceInstanceID(cfg.Node), semconv.ServiceVersion(cfg.Version)),
		resource.WithFromEnv()) // the last is the strongest
	if err != nil {
		return nil, fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	t := &Tracer{most: uint64(cfg.Ratio * (1 << 63)), open: &unfinished{}}
	t.queue = newQueue(otlptrace.NewUnstarted(up), up, t.open, cfg.Log)
	t.provider = sdktrace.NewTracerProvider(
		sdktrace.WithSampler(sdktrace.AlwaysSample()), // who is not sampled does not come so far
		sdktrace.WithResource(about),
		sdktrace.WithSpanProcessor(t.queue))
	t.spans = t.provider.Tracer("github.com/pushd/pushd", trace.WithInstrumentationVersion(cfg.Version), trace.WithSchemaURL(semconv.SchemaURL))
	for o := range t.limits {
		t.limits[o] = rate.NewLimiter(rate.Limit(cfg.Limit), cfg.Limit)
	}
	t.queue.start()
	return t, nil
}

// Close sends what there is, for as long as d at most, and drops the rest.
func (t *Tracer) Close(d time.Duration) {
	t.open.endAll()
	t.queue.close(d)
}

// sampled says whether a message is traced. Where somebody else has decided that,
// it is as he says, within the limit; parent is invalid where nobody has.
func (t *Tracer) sampled(from Origin, parent trace.SpanContext) bool {
	switch {
	case !parent.IsValid():
		return rand.Uint64()>>1 < t.most
	case !parent.IsSampled():
		return false
	case !t.limits[from].Allow():
		t.limited[from].Add(1)
		return false
	}
	return true
}

// Publication is the span of a message that this node hands to NATS; nil: it
// is not traced.
type Publication struct{ span trace.Span }

// Publish begins the span of a publication. header is the traceparent that came
// with it, next the one that it is to carry to NATS; "" stands for none.
func (t *Tracer) Publish(from Origin, topic, namespace string, size int, header string) (p *Publication, next string) {
	parent := traceparent(header).parse()
	if !t.sampled(from, parent) {
		if !parent.IsValid() {
			return nil, ""
		}
		return nil, formatTraceparent(parent.WithTraceFlags(parent.TraceFlags().WithSampled(false))) // so that no node goes on with it, and the trace has no holes
	}
	ctx := trace.ContextWithRemoteSpanContext(context.Background(), parent)
	_, span := t.spans.Start(ctx, "publish "+namespace, trace.WithSpanKind(trace.SpanKindProducer), trace.WithAttributes(
		semconv.MessagingSystemKey.String(system),
		semconv.MessagingOperationName("publish"),
		semconv.MessagingOperationTypeSend,
		semconv.MessagingDestinationName(topic),
		semconv.MessagingMessageBodySize(size),
		attrNamespace.String(namespace),
		attrTransport.String(from.String()),
	))
	return &Publication{span}, formatTraceparent(span.SpanContext())
}

// End ends it: why is "" where NATS has the message, else the error in one word.
func (p *Publication) End(why string) { end(p.span, why) }

// end ends a span that came to nothing, if there is a reason.
func end(span trace.Span, why string) {
	if why != "" {
		span.SetStatus(codes.Error, why)
		span.SetAttributes(semconv.ErrorTypeKey.String(why))
	}
	span.End()
}

// system is messaging.system of all spans.
const system = "nats"

// Attributes that the conventions do not have.
const (
	attrNamespace   = attribute.Key("pushd.namespace")
	attrTransport   = attribute.Key("pushd.transport")
	attrShard       = attribute.Key("pushd.shard")
	attrShards      = attribute.Key("pushd.fanout.shards")
	attrSubscribers = attribute.Key("pushd.fanout.subscribers")
	attrEncoded     = attribute.Key("pushd.fanout.encoded_bytes")
	attrSpread      = attribute.Key("pushd.fanout.spread")
	attrWorked      = attribute.Key("pushd.fanout.duration")
)
