package natsbus

import (
	"strconv"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pushd/pushd/topics"
)

// TestIntact says what is whole, against a record of all that was published.
func TestIntact(t *testing.T) {
	b, _ := open(t, Config{Listen: "127.0.0.1:0", Streams: map[string]StreamConfig{
		"all":  {Bytes: 1 << 20},
		"some": {Messages: 3},
		"one":  {Messages: 1},
	}})
	js, err := jetstream.New(client(t, b.ClientURL()))
	if err != nil {
		t.Fatal(err)
	}
	f := func(namespace, pattern string, after uint64, want bool) {
		t.Helper()
		if got := intact(t, b, namespace, pattern, after); got != want {
			t.Errorf("%s %q after %d: %v", namespace, pattern, after, got)
		}
	}

	f("all", "", 0, true) // nothing yet
	f("all", "", 1, false)
	for i := range 10 {
		keep(t, b, "all."+strconv.Itoa(i), "x", "")
	}
	f("all", "", 0, true)
	f("all", "all.3", 10, true)
	f("all", "", 11, false) // a number of another stream
	all, err := js.Stream(t.Context(), "push_all")
	if err != nil {
		t.Fatal(err)
	}
	if err := all.DeleteMsg(t.Context(), 5); err != nil {
		t.Fatal(err)
	}
	f("all", "", 4, false)
	f("all", "", 5, true)
	if s := mustStream(t, b, "all"); s.Whole {
		t.Errorf("stream %+v, of which 5 was deleted", s)
	}
	if err := all.DeleteMsg(t.Context(), 10); err != nil {
		t.Fatal(err)
	}
	f("all", "", 9, false)
	f("all", "", 10, true)
	if err := all.Purge(t.Context(), jetstream.WithPurgeSequence(8)); err != nil {
		t.Fatal(err)
	}
	f("all", "", 6, false) // 7 is gone
	if err := all.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	f("all", "", 9, false)
	f("all", "", 10, true)

	// Of some.busy 2, 4, 6, 8, 10, 12 were published, and the last three are kept.
	keep(t, b, "some.idle", "x", "")
	for range 5 {
		keep(t, b, "some.busy", "x", "")
		keep(t, b, "some.b."+strconv.Itoa(int(mustStream(t, b, "some").Last)), "x", "")
	}
	keep(t, b, "some.busy", "x", "")
	if s := mustStream(t, b, "some"); !s.Whole {
		t.Errorf("stream %+v, of which only its bound has dropped any", s)
	}
	f("some", "some.busy", 6, false) // 8 is there, but 7 could have been dropped
	f("some", "some.busy", 7, true)
	f("some", "some.busy", 8, true)
	f("some", "some.idle", 0, true)
	f("some", "some.b.*", 0, true)
	f("some", "some.*", 6, false)
	f("some", "", 7, true)
	f("some", "", 6, false)

	// More topics at their bound than are looked at, but nothing dropped.
	for i := range maxFull + 1 {
		keep(t, b, "one."+strconv.Itoa(i), "x", "")
	}
	f("one", "", 0, true)
	keep(t, b, "one.5", "x", "") // number 6 goes
	f("one", "", 1, false)       // too many to look at
	f("one", "one.7", 1, false)  // 8 is there, and 7 could have been its own
	f("one", "one.7", 7, true)

	before := b.State()
	intact(t, b, "some", "some.busy", 8)
	after := b.State()
	if after.Infos-before.Infos != 2 || after.Calls-before.Calls != 1 || after.Gets != before.Gets {
		t.Errorf("asked: %+v, then %+v", before, after)
	}
	if s := mustStream(t, b, "all"); s.First != 11 || s.Last != 10 || s.Stamp != 0 || !s.Whole {
		t.Errorf("purged stream %+v", s)
	}
	if page := mustRead(t, b, topics.Query{Namespace: "all"}); len(page.Messages) != 0 || !page.End {
		t.Errorf("read %+v of a purged stream", page)
	}
}

// TestIntactRaised raises the bound of each topic: what was dropped before does
// not come back, although no topic is at its bound any more.
func TestIntactRaised(t *testing.T) {
	dir := t.TempDir()
	bus := func(messages int) *Bus {
		b, _ := open(t, Config{Store: dir, Streams: map[string]StreamConfig{"ns": {Messages: messages}}})
		return b
	}
	closeBus := func(b *Bus) {
		t.Helper()
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
	b := bus(2)
	keep(t, b, "ns.idle", "x", "")
	for range 5 { // 2 to 6, of which 5 and 6 are kept
		keep(t, b, "ns.busy", "x", "")
	}
	closeBus(b)
	f := func(messages int, wholeAfter uint64) {
		t.Helper()
		b := bus(messages)
		defer closeBus(b)
		keep(t, b, "ns.busy", "x", "")
		for after := range mustStream(t, b, "ns").Last {
			if got := intact(t, b, "ns", "", after); got != (after >= wholeAfter) {
				t.Errorf("%d messages: intact after %d: %v", messages, after, got)
			}
		}
	}
	f(10, 6) // raised at 6
	f(10, 6)
	f(3, 6)  // of 5 to 9 the last three are kept
	f(20, 9) // raised at 9
	f(20, 9)
}
