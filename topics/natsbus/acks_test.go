package natsbus

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pushd/pushd/internal/natstest"
	"github.com/pushd/pushd/topics"
)

// TestPublishOrder mixes namespaces, and wants the numbers of the stored in
// the order of the calls.
func TestPublishOrder(t *testing.T) {
	b, r := open(t, Config{Streams: map[string]StreamConfig{"ns": {Bytes: 10 << 20}, "other": {Bytes: 10 << 20}}})
	mustSubscribe(t, b, namespace("plain"))
	const n = 3000
	type stored struct {
		i   int
		at  topics.Cursor
		err error
	}
	done := make(chan stored, 3*n)
	for i := range n {
		for _, topic := range []string{"ns.a", "plain.a", "other"} {
			if !b.Publish(Publication{Topic: topic, Done: func(at topics.Cursor, err error) { done <- stored{i, at, err} }}) {
				t.Fatal("Publish refused")
			}
		}
	}
	for range 3 * n {
		s := wait(t, done, "Done")
		if s.err != nil || !s.at.IsZero() && s.at.Seq != uint64(s.i+1) {
			t.Fatalf("publication %d: %+v, %v", s.i, s.at, s.err)
		}
	}
	r.await(t, "all", func(e []event) bool { return len(e) == n })
	if s := b.State(); s.Published != 3*n || s.Acked != 2*n {
		t.Errorf("state %+v", s)
	}
	eventually(t, "none is unacknowledged", func() bool { return b.State().Unacked == 0 }) // counted down after Done
}

// TestUnackedFull counts what has not been answered as waiting.
func TestUnackedFull(t *testing.T) {
	s := natstest.Start(t, natstest.Store(t.TempDir()))
	b, _ := open(t, Config{URLs: []string{s.URL()}, Streams: map[string]StreamConfig{"ns": {Messages: 1}}})
	s.Freeze()
	var answered atomic.Int64
	accepted := int64(0)
	eventually(t, "it is full", func() bool {
		for b.Publish(Publication{Topic: "ns.a", Done: func(topics.Cursor, error) { answered.Add(1) }}) {
			accepted++
		}
		return b.State().Unacked >= maxQueued
	})
	// What the publisher had in hand for a moment was in no number.
	if accepted > 2*maxQueued {
		t.Errorf("%d accepted", accepted)
	}
	s.Thaw()
	eventually(t, "all are answered", func() bool { return answered.Load() == accepted && b.State().Unacked == 0 })
	mustPublish(t, b, "ns.a", "x")
}

// TestStoredTooLarge is refused here, by the server, or by the stream.
func TestStoredTooLarge(t *testing.T) {
	b, _ := open(t, Config{MaxPayload: 1000, Listen: "127.0.0.1:0", Streams: map[string]StreamConfig{"ns": {Messages: 10}}})
	if err := publish(t, b, "ns.a", string(make([]byte, 1001))); !errors.Is(err, ErrTooLarge) {
		t.Errorf("larger than the server takes: %v", err)
	}
	js := jetStream(t, b.ClientURL())
	c := streamConfig(t, js, "push_ns")
	c.MaxMsgSize = 100
	if _, err := js.UpdateStream(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if err := publish(t, b, "ns.a", string(make([]byte, 500))); !errors.Is(err, ErrTooLarge) {
		t.Errorf("larger than the stream takes: %v", err)
	}
	mustPublish(t, b, "ns.a", "x")
	c.Sealed = true
	if _, err := js.UpdateStream(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if err := publish(t, b, "ns.a", "x"); err == nil || errors.Is(err, ErrAway) {
		t.Errorf("to a sealed stream: %v", err)
	}
	if n := b.State().Acked; n != 1 {
		t.Errorf("%d counted", n)
	}
}

// TestBusy floods a stream that queues little: what it refuses is told, and
// what it acknowledges is stored.
func TestBusy(t *testing.T) {
	s := natstest.Start(t, natstest.Store(t.TempDir()), natstest.Config(`jetstream { max_buffered_msgs: 10 }`))
	b, _ := open(t, Config{URLs: []string{s.URL()}, Streams: map[string]StreamConfig{"ns": {Bytes: 10 << 20}}})
	const n = 10_000
	done := make(chan error, n)
	for range n {
		b.Publish(Publication{Topic: "ns.a", Done: func(_ topics.Cursor, err error) { done <- err }})
	}
	stored, busy := uint64(0), 0
	for range n {
		switch err := wait(t, done, "Done"); {
		case err == nil:
			stored++
		case errors.Is(err, ErrBusy):
			busy++
		default:
			t.Fatal(err)
		}
	}
	if busy == 0 {
		t.Error("never busy: this tested nothing")
	}
	if last := mustStream(t, b, "ns").Last; last != stored {
		t.Errorf("%d acknowledged, %d stored", stored, last)
	}
}

// TestRefusals wants what a stream says to tell whether trying again helps.
func TestRefusals(t *testing.T) {
	f := func(reply string, want error) {
		t.Helper()
		a := &acks{inbox: "in.", drained: func() {}}
		var got error
		h := &history{config: StreamConfig{Name: "push_ns"}}
		_, subject := a.add(Publication{Topic: "ns.a", Done: func(_ topics.Cursor, err error) { got = err }}, h, time.Now())
		a.handle(&nats.Msg{Subject: subject, Data: []byte(reply)})
		if got == nil || want != nil && !errors.Is(got, want) || want == nil && (errors.Is(got, ErrAway) || errors.Is(got, ErrBusy)) {
			t.Errorf("%s: %v, want %v", reply, got, want)
		}
	}
	f(`{"error":{"code":429,"err_code":10167,"description":"too many requests"},"stream":"push_ns","seq":0}`, ErrBusy)
	f(`{"error":{"code":503,"err_code":10008,"description":"JetStream system temporarily unavailable"},"stream":"push_ns","seq":0}`, ErrAway)
	f(`{"error":{"code":409,"err_code":10158,"description":"duplicate message id is in process"},"stream":"push_ns","seq":0}`, ErrAway)
	f(`{"error":{"code":400,"err_code":10054,"description":"message size exceeds maximum allowed"},"stream":"push_ns","seq":0}`, ErrTooLarge)
	f(`{"error":{"code":400,"err_code":10060,"description":"expected stream does not match"},"stream":"push_ns","seq":0}`, nil)
	f(`{"stream":"other","seq":1}`, nil)
}

// TestCloseWaitsForAcks wants what was queued to be stored by the end of Close.
func TestCloseWaitsForAcks(t *testing.T) {
	dir := t.TempDir()
	cfg := Config{Store: dir, Streams: map[string]StreamConfig{"ns": {Bytes: 10 << 20}}, Log: slog.New(slog.DiscardHandler)}
	b, err := Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	const n = 5000
	done := make(chan error, n)
	for range n {
		b.Publish(Publication{Topic: "ns.a", Done: func(_ topics.Cursor, err error) { done <- err }})
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if len(done) != n {
		t.Fatalf("%d of %d Done called by the end of Close", len(done), n)
	}
	for range n {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	b, _ = open(t, cfg)
	if s := mustStream(t, b, "ns"); s.Last != n {
		t.Errorf("%d stored", s.Last)
	}
}

func BenchmarkPublishStored(b *testing.B) {
	f := func(name string, cfg Config) {
		b.Run(name, func(b *testing.B) {
			cfg.Streams = map[string]StreamConfig{"ns": {Bytes: 256 << 20}}
			bus, _ := open(b, cfg)
			b.ReportAllocs()
			done := make(chan error, maxQueued)
			p := Publication{Topic: "ns.a", Data: make([]byte, 128), Done: func(_ topics.Cursor, err error) { done <- err }}
			left := 0
			for range b.N {
				for !bus.Publish(p) {
					if err := <-done; err != nil {
						b.Fatal(err)
					}
					left--
				}
				left++
			}
			for range left {
				if err := <-done; err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	f("memory", Config{})
	f("file", Config{Store: b.TempDir()})
	f("process", Config{URLs: []string{natstest.Start(b, natstest.Store(b.TempDir())).URL()}})
}
