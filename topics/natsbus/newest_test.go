package natsbus

import (
	"slices"
	"strconv"
	"testing"

	"github.com/pushd/pushd/topics"
)

// checkNewest wants the newest message of each of over topics, of n that fill
// has published, in the order of their numbers.
func checkNewest(t *testing.T, page topics.Page, n, over int) {
	t.Helper()
	if len(page.Messages) != over || page.Next != uint64(n+1) || !page.End {
		t.Fatalf("%d messages, next %d, end %v", len(page.Messages), page.Next, page.End)
	}
	for i, m := range page.Messages {
		number := n - over + i + 1
		if m.Cursor.Seq != uint64(number) || string(m.Data) != strconv.Itoa(number) || m.Topic != "ns."+strconv.Itoa((number-1)%over) {
			t.Fatalf("message %d is %+v", i, m)
		}
	}
}

// TestNewest reads a snapshot in as few requests as can be.
func TestNewest(t *testing.T) {
	f := func(name string, perTopic, n, over int, wantGets, wantInfos uint64) {
		t.Run(name, func(t *testing.T) {
			b, _ := open(t, Config{Streams: map[string]StreamConfig{"ns": {Messages: perTopic, Bytes: 100 << 20}}})
			fill(t, b, "ns", n, over)
			before := b.State()
			q := topics.Query{Namespace: "ns", Newest: true, Messages: 1, Bytes: 1, Urgency: topics.UrgentAsked}
			checkNewest(t, mustRead(t, b, q), n, over)
			after := b.State()
			gets, infos := after.Gets[topics.UrgentAsked]-before.Gets[topics.UrgentAsked], after.Infos-before.Infos
			if gets != wantGets || infos != wantInfos {
				t.Errorf("%d direct gets and %d questions to the leader, want %d and %d", gets, infos, wantGets, wantInfos)
			}

			q.From = uint64(n - 9) // what changed since
			page := mustRead(t, b, q)
			if len(page.Messages) != 10 || page.Messages[0].Cursor.Seq != q.From || page.Next != uint64(n+1) {
				t.Errorf("from %d: %+v", q.From, page)
			}
			q.From = uint64(n + 1)
			if page := mustRead(t, b, q); len(page.Messages) != 0 || page.Next != q.From || !page.End {
				t.Errorf("from the end: %+v", page)
			}
			q.From, q.Pattern = 0, "ns.7"
			if page := mustRead(t, b, q); len(page.Messages) != 1 || page.Messages[0].Topic != "ns.7" {
				t.Errorf("of a topic: %+v", page)
			}
		})
	}
	f("500 topics", 1, 2000, 500, 1, 0)
	f("as many as fit", 0, 3000, 1024, 1, 0)
	f("3000 topics of one message", 1, 7000, 3000, 1+3, 0)
	f("3000 topics with history", 0, 7000, 3000, 1+3, 1)
}

// TestNewestOfSome reads what has changed of some topics, of which most have not,
// and asks nobody for the names of the others.
func TestNewestOfSome(t *testing.T) {
	b, _ := open(t, Config{Streams: map[string]StreamConfig{"ns": {Bytes: 100 << 20}}})
	const over = 3000
	fill(t, b, "ns", over+1, over) // at last another message of ns.0
	var some []string
	for i := range 2500 {
		some = append(some, "ns."+strconv.Itoa(i+1))
	}
	f := func(name string, some []string, from, next, wantGets uint64, want ...uint64) {
		before := b.State()
		page := mustRead(t, b, topics.Query{Namespace: "ns", Newest: true, Topics: some, From: from})
		after := b.State()
		var got []uint64
		for _, m := range page.Messages {
			got = append(got, m.Cursor.Seq)
		}
		if !slices.Equal(got, want) || page.Next != next || !page.End {
			t.Errorf("%s: got %v, next %d, end %v", name, got, page.Next, page.End)
		}
		gets := after.Gets[topics.UrgentRepair] - before.Gets[topics.UrgentRepair]
		if gets != wantGets || after.Infos != before.Infos {
			t.Errorf("%s: %d direct gets and %d questions to the leader", name, gets, after.Infos-before.Infos)
		}
	}
	f("none has changed", some, over+1, over+2, 3)
	f("one has changed", append(some, "ns.0"), 2502, over+2, 3, over+1)
	f("none is there", []string{"ns.no", "ns.no.more"}, 1, 1, 1)
	var none []string
	for i := range newestTopics {
		none = append(none, "ns.none."+strconv.Itoa(i))
	}
	f("most are not there", append(none, "ns.0"), 3000, over+2, 2+1, over+1)
}

// TestNewestLarge has more data than goes into one request, and topics whose
// newest message is replaced in between.
func TestNewestLarge(t *testing.T) {
	b, _ := open(t, Config{Streams: map[string]StreamConfig{"ns": {Messages: 1}}})
	const over, size = 100, newestBytes / 20
	last := make(map[string]uint64)
	for i := range over {
		topic := "ns." + strconv.Itoa(i)
		last[topic] = keep(t, b, topic, string(make([]byte, size)), "").Seq
	}
	page := mustRead(t, b, topics.Query{Namespace: "ns", Newest: true})
	if len(page.Messages) != over || page.Next != over+1 {
		t.Fatalf("%d messages, next %d", len(page.Messages), page.Next)
	}
	for _, m := range page.Messages {
		if len(m.Data) != size || m.Cursor.Seq != last[m.Topic] {
			t.Errorf("%s: number %d, want %d", m.Topic, m.Cursor.Seq, last[m.Topic])
		}
	}
	if gets := b.State().Gets[topics.UrgentRepair]; gets != 5 {
		t.Errorf("%d direct gets, want 5", gets)
	}
}
