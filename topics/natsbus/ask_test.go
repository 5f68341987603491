package natsbus

import (
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pushd/pushd/internal/natstest"
	"github.com/pushd/pushd/topics"
)

// TestPick takes requests in the order of urgency and then of arrival, no more
// at once than their stream, and the connection, may have.
func TestPick(t *testing.T) {
	const streams, requests = 3, 300
	histories := make(map[string]*history)
	for i := range streams {
		histories[string(rune('a'+i))] = &history{}
	}
	a := newAsker(&link{}, histories, slog.New(slog.DiscardHandler))
	waiting := make(map[*request]bool)
	for id := range uint64(requests) {
		r := &request{
			lane:    a.lanes[rand.IntN(streams)],
			urgency: topics.Urgency(rand.IntN(int(topics.NumUrgencies))),
			cost:    rand.IntN(maxOutstanding / 3),
			id:      id,
			done:    func(error) {},
		}
		r.lane.waiting[r.urgency] = append(r.lane.waiting[r.urgency], r)
		waiting[r] = true
	}
	before := func(a, b *request) bool { return a.urgency < b.urgency || a.urgency == b.urgency && a.id < b.id }

	refusedForBytes := 0
	for len(waiting) > 0 {
		var first *request // of those whose stream has room
		for r := range waiting {
			if r.lane.sent < maxGets && (first == nil || before(r, first)) {
				first = r
			}
		}
		if first != nil && a.outstanding > 0 && a.outstanding+first.cost > maxOutstanding {
			first = nil
			refusedForBytes++
		}
		if got := a.pickLocked(); got != first {
			t.Fatalf("picked %+v, want %+v", got, first)
		}
		if first != nil {
			delete(waiting, first)
			continue
		}
		for id := range a.sent { // any of them ends
			a.finish(id, nil)
			break
		}
	}
	if refusedForBytes == 0 {
		t.Error("bytes never held a request back: this tested nothing")
	}
	for id := range a.sent {
		a.finish(id, nil)
	}
	if a.outstanding != 0 || slices.ContainsFunc(a.lanes, func(l *lane) bool { return l.sent != 0 }) {
		t.Errorf("%d bytes, lanes %+v left", a.outstanding, a.lanes)
	}
}

// TestLargerThanAll passes although it alone is beyond the bound.
func TestLargerThanAll(t *testing.T) {
	b, _ := open(t, Config{Streams: map[string]StreamConfig{"ns": {Messages: 10}}})
	keep(t, b, "ns.a", "x", "")
	if page := mustRead(t, b, topics.Query{Namespace: "ns", Bytes: 2 * maxOutstanding}); len(page.Messages) != 1 {
		t.Errorf("read %+v", page)
	}
}

// TestBatchReplies has replies of a direct get that are not as they were sent.
func TestBatchReplies(t *testing.T) {
	h := &history{namespace: "ns", config: StreamConfig{Subject: "push.ns"}}
	reply := func(seq, before string) *nats.Msg {
		return &nats.Msg{Header: nats.Header{
			nats.JSSequence: {seq}, nats.JSLastSequence: {before}, nats.JSSubject: {"push.ns.a"}, nats.JSTimeStamp: {"2026-01-02T03:04:05.000006Z"},
		}}
	}
	end := func(status, last, pending string) *nats.Msg {
		return &nats.Msg{Header: nats.Header{"Status": {status}, nats.JSLastSequence: {last}, "Nats-Num-Pending": {pending}}}
	}
	f := func(name string, want error, replies ...*nats.Msg) {
		t.Helper()
		b := &batch{h: h, from: 5, more: func(topics.Message) bool { return true }}
		for i, m := range replies {
			done, err := b.take(m)
			if last := i == len(replies)-1; done != last || !last && err != nil || last && !errors.Is(err, want) {
				t.Errorf("%s: reply %d: %v, %v", name, i, done, err)
			}
		}
	}
	f("whole", nil, reply("5", "0"), reply("9", "5"), end("204", "9", "0"))
	f("first lost", ErrAway, reply("9", "5"))
	f("middle lost", ErrAway, reply("5", "0"), reply("10", "9"))
	f("last lost", ErrAway, reply("5", "0"), end("204", "9", "0"))
	f("twice", ErrAway, reply("5", "0"), reply("5", "5"))
	f("below the first", ErrAway, reply("4", "0"))
	f("nothing", errNothing, end("404", "", ""))
	f("too many", errTooMany, end("413", "", ""))
	f("nobody", ErrAway, end("503", "", ""))
	f("bad request", ErrAway, end("408", "", ""))
	f("no time", ErrAway, &nats.Msg{Header: nats.Header{nats.JSSequence: {"5"}}})
}

// TestNoAnswer has a server that keeps its connection and says nothing.
func TestNoAnswer(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t, natstest.Store(t.TempDir()))
	b, _ := open(t, Config{URLs: []string{s.URL()}, Streams: map[string]StreamConfig{"ns": {Messages: 10}}})
	keep(t, b, "ns.a", "x", "")
	s.Freeze()
	const n = 10 // more than may be under way at once
	var answered atomic.Int64
	done := make(chan error, n+2)
	for range n {
		b.Read(topics.Query{Namespace: "ns"}, func(_ topics.Page, err error) { answered.Add(1); done <- err })
	}
	b.Stream("ns", func(_ topics.Stream, err error) { done <- err })
	b.Publish(Publication{Topic: "ns.a", Done: func(_ topics.Cursor, err error) { done <- err }})
	for range maxGets + 2 {
		if err := wait(t, done, "answer"); !errors.Is(err, ErrAway) {
			t.Errorf("got %v", err)
		}
	}
	s.Thaw()
	for range n - maxGets {
		if err := wait(t, done, "answer"); err != nil && !errors.Is(err, ErrAway) {
			t.Errorf("got %v", err)
		}
	}
	mustRead(t, b, topics.Query{Namespace: "ns"})
}

// TestCloseWhileAsking wants every answer by the end of Close.
func TestCloseWhileAsking(t *testing.T) {
	s := natstest.Start(t, natstest.Store(t.TempDir()))
	b, _ := open(t, Config{URLs: []string{s.URL()}, Streams: map[string]StreamConfig{"ns": {Messages: 10}}})
	keep(t, b, "ns.a", "x", "")
	s.Freeze()
	const n = 20
	done := make(chan error, 4*n)
	for range n {
		b.Read(topics.Query{Namespace: "ns"}, func(_ topics.Page, err error) { done <- err })
		b.Stream("ns", func(_ topics.Stream, err error) { done <- err })
		b.Intact("ns", "", 0, func(_ bool, err error) { done <- err })
		b.Publish(Publication{Topic: "ns.a", Done: func(_ topics.Cursor, err error) { done <- err }})
	}
	if err := b.CloseWithin(100 * time.Millisecond); err != nil {
		t.Fatal(err)
	}
	for range 4 * n {
		if err := wait(t, done, "answer"); !errors.Is(err, ErrAway) && !errors.Is(err, ErrClosed) {
			t.Errorf("got %v", err)
		}
	}
}
