package natsbus

import (
	"testing"

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

// TestStored follows messages from publication to live delivery and to reading.
func TestStored(t *testing.T) {
	b, r := open(t, Config{Streams: map[string]StreamConfig{"scores": {Messages: 100}}})
	mustSubscribe(t, b, namespace("scores"), namespace("plain"))
	var stored []topics.Cursor
	for _, topic := range []string{"scores", "scores.a", "scores.a.b", "scores.a"} {
		stored = append(stored, keep(t, b, topic, topic, ""))
		mustPublish(t, b, "plain", topic)
	}
	r.await(t, "all", func(e []event) bool { return len(e) == 8 })
	page := mustRead(t, b, topics.Query{Namespace: "scores"})
	s := mustStream(t, b, "scores")
	t.Logf("%+v\n%+v\n%+v\n%+v", r.all(), stored, page, s)
	t.Logf("%+v", b.State())
}
