package tracing

import (
	"fmt"
	"sync"
	"testing"
	"time"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/pushd/pushd/internal/tracetest"
	"github.com/pushd/pushd/topics"
)

// One trace has the publication, its receipt, and the fan-out of two shards,
// with what the conventions call them.
func TestSpans(t *testing.T) {
	c := tracetest.Start(t, nil)
	tracer := open(t, c.URL, func(c *Config) { c.Ratio = 0 })
	p, next := tracer.publish(theirs)
	f := tracer.receive(next)
	f.Queued(2)
	f.FannedOut(topics.Stretch{Shard: 1, Subscribers: 3, Encoded: 100, Began: time.Now()})
	f.FannedOut(topics.Stretch{Shard: 0, Subscribers: 4, Encoded: 170, Began: time.Now()})
	p.End("")
	spans := c.Await(3)

	publish, receive, fanOut := named(spans, "publish scores")[0], named(spans, "receive scores")[0], named(spans, "fan-out scores")[0]
	for _, s := range []struct {
		span   tracetest.Span
		parent string
		kind   tracepb.Span_SpanKind
	}{
		{publish, theirSpan, tracepb.Span_SPAN_KIND_PRODUCER},
		{receive, publish.ID, tracepb.Span_SPAN_KIND_CONSUMER},
		{fanOut, receive.ID, tracepb.Span_SPAN_KIND_INTERNAL},
	} {
		if s.span.Trace != theirTrace || s.span.Parent != s.parent || s.span.Kind != s.kind || s.span.Status.GetCode() != tracepb.Status_STATUS_CODE_UNSET {
			t.Errorf("%v is not below %s in %s", s.span, s.parent, theirTrace)
		}
		for key, want := range map[string]string{"messaging.system": "nats", "messaging.destination.name": "scores.match", "pushd.namespace": "scores"} {
			if got := s.span.Attribute(key).GetStringValue(); got != want {
				t.Errorf("%s: %s is %q, not %q", s.span.Name, key, got, want)
			}
		}
	}
	for _, a := range []struct {
		span tracetest.Span
		key  string
		want any
	}{
		{publish, "messaging.operation.type", "send"},
		{publish, "messaging.operation.name", "publish"},
		{publish, "messaging.message.body.size", int64(5)},
		{publish, "pushd.transport", "http"},
		{receive, "messaging.operation.type", "process"},
		{fanOut, "pushd.fanout.shards", int64(2)},
		{fanOut, "pushd.fanout.subscribers", int64(7)},
		{fanOut, "pushd.fanout.encoded_bytes", int64(170)},
	} {
		v := a.span.Attribute(a.key)
		if got := fmt.Sprint(v.GetStringValue(), v.GetIntValue()); got != fmt.Sprint(a.want, 0) && got != fmt.Sprint("", a.want) {
			t.Errorf("%s: %s is %v, not %v", a.span.Name, a.key, v, a.want)
		}
	}
	if fanOut.Attribute("pushd.fanout.spread") == nil || len(fanOut.Events) != 2 {
		t.Errorf("the fan-out does not tell of its shards: %v", fanOut.Span)
	}
	for key, want := range map[string]string{"service.name": "pushd", "service.instance.id": "n1", "service.version": "v1.2.3"} {
		if got := publish.Service[key]; got != want {
			t.Errorf("%s is %q, not %q", key, got, want)
		}
	}
	eventually(t, "three spans are counted as sent", func() bool { return tracer.Counts().Sent == 3 })
}

// A message that nobody hears ends with its receipt, and is told of only where
// somebody else follows it.
func TestUnheard(t *testing.T) {
	c := tracetest.Start(t, nil)
	tracer := open(t, c.URL)
	tracer.receive("").Queued(0)
	tracer.receive(theirs).Queued(0)
	tracer.Close(patience)
	if spans := c.Spans(); len(spans) != 1 || spans[0].Trace != theirTrace {
		t.Errorf("%v", spans)
	}
}

// A publication that NATS did not take says why.
func TestPublicationFails(t *testing.T) {
	c := tracetest.Start(t, nil)
	tracer := open(t, c.URL)
	p, _ := tracer.publish("")
	p.End("unavailable")
	tracer.Close(patience)
	s := c.Spans()[0]
	if s.Status.Code != tracepb.Status_STATUS_CODE_ERROR || s.Attribute("error.type").GetStringValue() != "unavailable" {
		t.Errorf("%v", s.Span)
	}
}

// A fan-out of which nobody tells any more ends all the same: with the process,
// and where there are too many. What is told afterwards counts for nothing.
func TestIncomplete(t *testing.T) {
	c := tracetest.Start(t, nil)
	tracer := open(t, c.URL, func(c *Config) { c.Limit = 1_000_000 })
	first := tracer.receive(theirs)
	first.Queued(2)
	first.FannedOut(topics.Stretch{Subscribers: 1})
	for range maxUnfinished {
		tracer.receive(theirs)
	}
	first.FannedOut(topics.Stretch{Shard: 1, Subscribers: 1}) // it has been abandoned
	eventually(t, "the oldest is sent", func() bool { return len(named(c.Spans(), "fan-out scores")) == 1 })
	s := named(c.Spans(), "fan-out scores")[0]
	if s.Attribute("error.type").GetStringValue() != "incomplete" || s.Attribute("pushd.fanout.subscribers").GetIntValue() != 1 {
		t.Errorf("%v", s.Span)
	}
	tracer.Close(patience)
	n := tracer.Counts()
	if total := n.Sent + n.Dropped[DropQueueFull] + n.Dropped[DropShutdown]; total != maxUnfinished+2 {
		t.Errorf("%d spans of %d are accounted for: %+v", total, maxUnfinished+2, n)
	}
}

// Old ones are abandoned, those that are over are let go wherever they stand.
func TestUnfinished(t *testing.T) {
	tracer := open(t, tracetest.Start(t, nil).URL)
	old, young := tracer.receive("").(*received), tracer.receive("").(*received)
	old.since = time.Now().Add(-time.Minute)
	tracer.open.endOld(time.Now().Add(-unfinishedTime))
	if !old.over() || young.over() {
		t.Errorf("old over: %v, young over: %v", old.over(), young.over())
	}
	young.Queued(0)
	tracer.receive("")
	if n := len(tracer.open.all); n != 1 {
		t.Errorf("%d are on their way", n)
	}
}

// Shards tell at the same time, while others give up.
func TestConcurrently(t *testing.T) {
	c := tracetest.Start(t, nil)
	tracer := open(t, c.URL)
	var shards sync.WaitGroup
	const messages = 50
	for range messages {
		f := tracer.receive("")
		f.Queued(8)
		for i := range 8 {
			shards.Go(func() { f.FannedOut(topics.Stretch{Shard: i, Subscribers: 1, Began: time.Now()}) })
		}
	}
	shards.Go(tracer.open.endAll)
	shards.Wait()
	tracer.Close(patience)
	if n := len(c.Spans()); n != 2*messages {
		t.Errorf("%d spans of %d", n, 2*messages)
	}
}
