package server

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pushd/pushd/internal/config"
	"github.com/pushd/pushd/internal/tracing"
	"github.com/pushd/pushd/internal/wire"
	"github.com/pushd/pushd/topics"
	"github.com/pushd/pushd/topics/natsbus"
)

// leastForTraces is what is left for the collector when all else has used up
// the time to shut down.
const leastForTraces = 100 * time.Millisecond

// openTracer begins to trace where that is wanted.
func (s *Server) openTracer() (err error) {
	if s.cfg.TraceEndpoint == "" {
		return nil
	}
	s.tracer, err = tracing.Open(tracing.Config{
		Endpoint: s.cfg.TraceEndpoint, Ratio: s.cfg.TraceRatio, Limit: s.cfg.TraceLimit,
		Node: s.name, Version: software(), Log: s.log,
	})
	return err
}

// closeTracer sends what there is until end.
func (s *Server) closeTracer(end time.Time) {
	if s.tracer != nil {
		s.tracer.Close(max(time.Until(end), leastForTraces))
	}
}

// followed is natsbus.Config.Follow. What nodes say of themselves is not traced.
func (s *Server) followed(topic string, size int, traceparent string) *topics.Trail {
	namespace := topics.Namespace(topic)
	if namespace == config.ReservedNamespace {
		return nil
	}
	if f := s.tracer.Receive(topic, namespace, size, traceparent); f != nil {
		return &topics.Trail{Follower: f}
	}
	return nil
}

// traceparentOf is what a request says of the trace of its messages, "" where
// nobody would look. An anonymous visitor decides nothing where others show who they are.
func (s *Server) traceparentOf(r *http.Request, v visitor) string {
	if s.tracer == nil || s.access != nil && v.rights == nil {
		return ""
	}
	return r.Header.Get("Traceparent") // W3C Trace Context, 3.2.1: names are compared as in HTTP
}

// handToNATS is Publish of the bus, for what clients publish.
func (s *Server) handToNATS(p natsbus.Publication, from tracing.Origin) (taken bool) {
	if s.tracer == nil {
		return s.bus.Publish(p)
	}
	span, header := s.tracer.Publish(from, p.Topic, topics.Namespace(p.Topic), len(p.Data), p.Traceparent)
	p.Traceparent = header
	if span == nil {
		return s.bus.Publish(p)
	}
	done := p.Done
	p.Done = func(at topics.Cursor, err error) {
		span.End(failure(err))
		done(at, err)
	}
	if taken = s.bus.Publish(p); !taken {
		span.End(string(wire.Unavailable))
	}
	return taken
}

// failure is what became of a publication, in the protocol's word.
func failure(err error) string {
	if err == nil {
		return ""
	}
	return string(publishError(err).Code)
}

var (
	descSpans         = desc("pushd_trace_spans_total", "Spans that the collector of --trace-endpoint has taken.")
	descSpansDropped  = desc("pushd_trace_spans_dropped_total", "Spans that the collector does not have, by reason: queue_full (it is too slow), export_failed, rejected (it did not want them), shutdown.", "reason")
	descTracesLimited = desc("pushd_trace_limited_total", "Messages of sampled traces that were not followed because of --trace-limit, by where they came from: http, nats.", "origin")
)

// collectTraces shows what became of traces.
func (s *Server) collectTraces(count func(d *prometheus.Desc, v uint64, labels ...string)) {
	if s.tracer == nil {
		return
	}
	c := s.tracer.Counts()
	count(descSpans, c.Sent)
	for d := range tracing.NumDrops {
		count(descSpansDropped, c.Dropped[d], d.String())
	}
	for _, o := range []tracing.Origin{tracing.OverHTTP, tracing.OverNATS} { // no command of a WebSocket has a traceparent
		count(descTracesLimited, c.Limited[o], o.String())
	}
}
