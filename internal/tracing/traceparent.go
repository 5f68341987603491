package tracing

import (
	"context"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// traceparent is that header alone. The other one, tracestate, may hold anything,
// and would be stored and passed to everybody: it is left out, which is allowed
// (W3C Trace Context, 6.1 and 6.2).
type traceparent string

// Get implements propagation.TextMapCarrier.
func (p traceparent) Get(key string) string {
	if key == "traceparent" {
		return string(p)
	}
	return ""
}

// Set implements propagation.TextMapCarrier.
func (traceparent) Set(string, string) {}

// Keys implements propagation.TextMapCarrier.
func (traceparent) Keys() []string { return nil }

// parse returns an invalid context for what is not as it should be: it counts as
// absent (the same, 4.3).
func (p traceparent) parse() (parent trace.SpanContext) {
	if p == "" {
		return parent
	}
	return trace.SpanContextFromContext(propagation.TraceContext{}.Extract(context.Background(), p))
}

func formatTraceparent(c trace.SpanContext) string {
	return "00-" + c.TraceID().String() + "-" + c.SpanID().String() + "-" + c.TraceFlags().String()
}
