package natsbus

import (
	"errors"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pushd/pushd/internal/natstest"
	"github.com/pushd/pushd/topics"
)

// stream waits for the answer of Bus.Stream.
func stream(t testing.TB, b *Bus, namespace string) (topics.Stream, error) {
	t.Helper()
	type result struct {
		s   topics.Stream
		err error
	}
	done := make(chan result, 2)
	b.Stream(namespace, func(s topics.Stream, err error) { done <- result{s, err} })
	r := wait(t, done, "Stream")
	return r.s, r.err
}

func mustStream(t testing.TB, b *Bus, namespace string) topics.Stream {
	t.Helper()
	s, err := stream(t, b, namespace)
	if err != nil {
		t.Fatalf("Stream %s: %v", namespace, err)
	}
	return s
}

// read waits for the answer of Bus.Read.
func read(t testing.TB, b *Bus, q topics.Query) (topics.Page, error) {
	t.Helper()
	type result struct {
		page topics.Page
		err  error
	}
	done := make(chan result, 2)
	b.Read(q, func(page topics.Page, err error) { done <- result{page, err} })
	r := wait(t, done, "Read")
	return r.page, r.err
}

func mustRead(t testing.TB, b *Bus, q topics.Query) topics.Page {
	t.Helper()
	page, err := read(t, b, q)
	if err != nil {
		t.Fatalf("Read %+v: %v", q, err)
	}
	return page
}

// keep publishes with an ID and returns the cursor.
func keep(t testing.TB, b *Bus, topic, data, id string) topics.Cursor {
	t.Helper()
	type result struct {
		at  topics.Cursor
		err error
	}
	done := make(chan result, 2)
	if !b.Publish(Publication{Topic: topic, Data: []byte(data), ID: id, Done: func(at topics.Cursor, err error) { done <- result{at, err} }}) {
		t.Fatal("Publish refused")
	}
	r := wait(t, done, "Done")
	if r.err != nil {
		t.Fatalf("publish %s: %v", topic, r.err)
	}
	return r.at
}

func intact(t testing.TB, b *Bus, namespace, pattern string, after uint64) bool {
	t.Helper()
	type result struct {
		intact bool
		err    error
	}
	done := make(chan result, 2)
	b.Intact(namespace, pattern, after, func(intact bool, err error) { done <- result{intact, err} })
	r := wait(t, done, "Intact")
	if r.err != nil {
		t.Fatalf("Intact %s %s %d: %v", namespace, pattern, after, r.err)
	}
	return r.intact
}

// outside publishes as another program would, with headers.
func outside(t testing.TB, nc *nats.Conn, subject, data string, headers ...string) {
	t.Helper()
	m := nats.NewMsg(subject)
	m.Data = []byte(data)
	for i := 0; i < len(headers); i += 2 {
		m.Header.Add(headers[i], headers[i+1])
	}
	if err := nc.PublishMsg(m); err != nil {
		t.Fatal(err)
	}
}

// TestStored follows messages from their publication to live delivery and to
// reading: each has the same place, time and data everywhere.
func TestStored(t *testing.T) {
	f := func(name string, config StreamConfig, cfg Config) {
		t.Run(name, func(t *testing.T) {
			cfg.Streams = map[string]StreamConfig{"scores": config}
			b, r := open(t, cfg)
			mustSubscribe(t, b, namespace("scores"), namespace("plain"))
			before := time.Now().UnixMilli()
			names := []string{"scores", "scores.a", "scores.a.b", "scores.a", "scores"}
			prev := []uint64{0, 0, 0, 2, 1}
			var acked []topics.Cursor
			for i, topic := range names {
				acked = append(acked, keep(t, b, topic, strconv.Itoa(i), ""))
			}
			if at := keep(t, b, "plain.x", "end", ""); !at.IsZero() {
				t.Errorf("cursor %v without history", at)
			}
			r.awaitMessage(t, "end")

			page := mustRead(t, b, topics.Query{Namespace: "scores"})
			s := mustStream(t, b, "scores")
			live := r.all()[:len(names)]
			if len(page.Messages) != len(names) || page.Next != 6 || !page.End {
				t.Fatalf("read %+v", page)
			}
			for i, m := range page.Messages {
				e := live[i]
				want := event{topic: names[i], data: strconv.Itoa(i), time: m.Time, cursor: m.Cursor, prev: prev[i]}
				if e != want || m.Topic != names[i] || string(m.Data) != e.data || m.Prev != 0 {
					t.Errorf("live %+v, want %+v; read %+v", e, want, m)
				}
				if m.Cursor.Seq != uint64(i+1) || m.Cursor.Epoch != s.Epoch || m.Cursor.Stamp == 0 || acked[i] != (topics.Cursor{Epoch: s.Epoch, Seq: m.Cursor.Seq}) {
					t.Errorf("cursor %+v, acknowledged %+v, stream %+v", m.Cursor, acked[i], s)
				}
				if m.Time < before || m.Time > time.Now().UnixMilli() {
					t.Errorf("time %d", m.Time)
				}
			}
			want := topics.Stream{Epoch: s.Epoch, First: 1, Last: 5, Stamp: live[4].cursor.Stamp, PerTopic: config.Messages, Replicas: 1, Whole: true}
			if s != want || s.Epoch == 0 {
				t.Errorf("stream %+v, want %+v", s, want)
			}
			got := b.State()
			if got.Acked != 5 || got.Published != 6 || got.Gets != [topics.NumUrgencies]uint64{2} ||
				got.Streams["scores"].Last != 5 || got.Streams["scores"].Epoch != s.Epoch || !got.Connected {
				t.Errorf("state %+v", got)
			}
		})
	}
	external := Config{URLs: []string{natstest.Start(t, natstest.Store(t.TempDir())).URL()}}
	f("embedded in memory", StreamConfig{Messages: 100}, Config{})
	f("embedded on disk", StreamConfig{Age: time.Hour}, Config{Store: t.TempDir()})
	f("external", StreamConfig{Bytes: 1 << 20}, external)
	f("external in memory", StreamConfig{Name: "M", Age: time.Hour, Subject: "push.mem", InMemory: true}, external)
	f("subject elsewhere", StreamConfig{Name: "ACME", Subject: "acme.eu.games", Messages: 10}, external)
	f("subject of one token", StreamConfig{Name: "BARE", Subject: "games", Messages: 10}, external)
	f("prefix of tokens", StreamConfig{Messages: 10}, Config{Prefix: "acme.push"})
}

// TestTopicInterest wants one topic's messages alone.
func TestTopicInterest(t *testing.T) {
	b, r := open(t, Config{Streams: map[string]StreamConfig{"user": {Messages: 10}}})
	mustSubscribe(t, b, topic("user.1"), topic("user"))
	for _, name := range []string{"user.2", "user.1.x", "user.1", "user"} {
		keep(t, b, name, name, "")
	}
	r.awaitMessage(t, "user")
	if got := r.messages(); !slices.Equal(got, []string{"user.1", "user"}) {
		t.Errorf("delivered %q", got)
	}
	b.Unsubscribe(topic("user.1"))
	mustSubscribe(t, b, topic("barrier"))
	keep(t, b, "user.1", "unheard", "")
	keep(t, b, "user", "heard", "")
	r.awaitMessage(t, "heard")
	if slices.Contains(r.messages(), "unheard") {
		t.Error("delivered after Unsubscribe")
	}
}

// TestNotFromStream publishes past the stream, and with the stream's own
// headers through it.
func TestNotFromStream(t *testing.T) {
	b, r := open(t, Config{Listen: "127.0.0.1:0", Streams: map[string]StreamConfig{"scores": {Messages: 10}}})
	mustSubscribe(t, b, namespace("scores"))
	nc := client(t, b.ClientURL())
	outside(t, nc, "push-live.scores.a", "bare")
	outside(t, nc, "push-live.scores.a", "other stream", nats.JSStream, "other", nats.JSSequence, "1")
	outside(t, nc, "push-live.scores.a", "no number", nats.JSStream, "push_scores", nats.JSSubject, "push.scores.a")
	outside(t, nc, "push-live.scores.a", "other subject", nats.JSStream, "push_scores", nats.JSSequence, "1",
		nats.JSTimeStamp, time.Now().Format(time.RFC3339Nano), nats.JSSubject, "push.else")
	outside(t, nc, "push.scores.b!", "invalid topic")
	outside(t, nc, "push.scores.a", "forged", nats.JSStream, "other", nats.JSSequence, "7000", nats.JSSubject, "push.x",
		nats.JSTimeStamp, "1970-01-01T00:00:00Z", nats.JSLastSequence, "none", "Status", "404")
	r.awaitMessage(t, "forged")
	if got := r.all(); len(got) != 1 || got[0].cursor.Seq != 2 || got[0].topic != "scores.a" || got[0].prev != 0 {
		t.Errorf("delivered %+v", got)
	}
	dropped := b.State().Dropped
	if dropped[DropNotFromStream] != 3 || dropped[DropInvalidTopic] != 2 {
		t.Errorf("dropped %v", dropped)
	}
	for _, q := range []topics.Query{{Namespace: "scores"}, {Namespace: "scores", From: 2, Messages: 1}, {Namespace: "scores", Newest: true}} {
		page := mustRead(t, b, q)
		if len(page.Messages) != 1 || page.Messages[0].Cursor != r.all()[0].cursor || page.Next != 3 {
			t.Errorf("%+v: read %+v", q, page)
		}
	}
}

// TestDuplicate publishes the same IDs again.
func TestDuplicate(t *testing.T) {
	b, r := open(t, Config{Streams: map[string]StreamConfig{"scores": {Messages: 10}}})
	mustSubscribe(t, b, namespace("scores"))
	first := keep(t, b, "scores.a", "first", "id 1")
	other := keep(t, b, "scores.a", "other", "id\r\n2") // no header may come of it
	if again := keep(t, b, "scores.a", "again", "id 1"); again != first || other.Seq != 2 {
		t.Errorf("%+v, %+v, again %+v", first, other, again)
	}
	keep(t, b, "scores.a", "end", "")
	r.awaitMessage(t, "end")
	if got := r.messages(); !slices.Equal(got, []string{"first", "other", "end"}) {
		t.Errorf("delivered %q", got)
	}
}

// TestMaxMessageOfHistory wants what is too large neither live nor read.
func TestMaxMessageOfHistory(t *testing.T) {
	b, r := open(t, Config{Listen: "127.0.0.1:0", MaxMessage: 10, Streams: map[string]StreamConfig{"scores": {Messages: 10}}})
	mustSubscribe(t, b, namespace("scores"))
	nc := client(t, b.ClientURL())
	outside(t, nc, "push.scores", "much too large")
	outside(t, nc, "push.scores", "fits")
	r.await(t, "loss", func(e []event) bool { return len(e) == 2 })
	if page := mustRead(t, b, topics.Query{Namespace: "scores"}); len(page.Messages) != 1 || string(page.Messages[0].Data) != "fits" || page.Next != 3 {
		t.Errorf("read %+v", page)
	}
	if n := b.State().Dropped[DropTooLarge]; n != 1 {
		t.Errorf("%d counted", n)
	}
	page := mustRead(t, b, topics.Query{Namespace: "scores", Bytes: 1})
	if len(page.Messages) != 0 || len(page.LeftOut) != 1 || page.LeftOut[0].Seq != 1 || page.Next != 2 || page.End {
		t.Errorf("a page of nothing else: %+v", page)
	}
}

func TestNoHistory(t *testing.T) {
	f := func(cfg Config) {
		b, _ := open(t, cfg)
		if _, err := stream(t, b, "none"); !errors.Is(err, ErrNoHistory) {
			t.Errorf("Stream: %v", err)
		}
		if _, err := read(t, b, topics.Query{Namespace: "none"}); !errors.Is(err, ErrNoHistory) {
			t.Errorf("Read: %v", err)
		}
		var bad *topics.NameError
		for _, pattern := range []string{"other.a", "*", "scores..a", ">"} {
			if _, err := read(t, b, topics.Query{Namespace: "scores", Pattern: pattern}); !errors.As(err, &bad) {
				t.Errorf("Read %s: %v", pattern, err)
			}
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		want := ErrNoHistory
		if len(cfg.Streams) > 0 {
			want = ErrClosed
		}
		if _, err := stream(t, b, "scores"); !errors.Is(err, want) {
			t.Errorf("Stream after Close: %v", err)
		}
		if _, err := read(t, b, topics.Query{Namespace: "scores"}); !errors.Is(err, want) {
			t.Errorf("Read after Close: %v", err)
		}
	}
	f(Config{})
	f(Config{Streams: map[string]StreamConfig{"scores": {Messages: 1}}})
}
