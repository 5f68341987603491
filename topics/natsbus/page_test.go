package natsbus

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"

	"github.com/pushd/pushd/topics"
)

// fill publishes n messages to topics NS.0, NS.1, ..., whose data are their
// numbers, and waits until all are stored.
func fill(t testing.TB, b *Bus, namespace string, n, over int) {
	t.Helper()
	done := make(chan error, n)
	for i := range n {
		p := Publication{Topic: namespace + "." + strconv.Itoa(i%over), Data: []byte(strconv.Itoa(i + 1)), Done: func(_ topics.Cursor, err error) { done <- err }}
		for !b.Publish(p) {
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			n--
		}
	}
	for range n {
		if err := wait(t, done, "Done"); err != nil {
			t.Fatal(err)
		}
	}
}

// readAll reads pages until the end.
func readAll(t testing.TB, b *Bus, q topics.Query) (all []topics.Message, pages int) {
	t.Helper()
	for {
		page := mustRead(t, b, q)
		pages++
		all = append(all, page.Messages...)
		if page.End {
			return all, pages
		}
		if page.Next <= q.From {
			t.Fatalf("next page of %d begins at %d", q.From, page.Next)
		}
		q.From = page.Next
	}
}

// TestReadAll compares 20,000 messages that were read in pages with those
// published; 100,000 where PUSHD_SOAK is set.
func TestReadAll(t *testing.T) {
	t.Parallel()
	const over = 20
	n := 20_000
	if os.Getenv("PUSHD_SOAK") != "" {
		n = 100_000
	}
	f := func(name string, cfg Config) {
		t.Run(name, func(t *testing.T) {
			cfg.Listen, cfg.Streams = "127.0.0.1:0", map[string]StreamConfig{"scores": {Bytes: 100 << 20}}
			b, _ := open(t, cfg)
			nc := client(t, b.ClientURL())
			for i := range n { // not acknowledged, which would take most of the time
				if err := nc.Publish("push.scores."+strconv.Itoa(i%over), []byte(strconv.Itoa(i+1))); err != nil {
					t.Fatal(err)
				}
				if i%10_000 == 0 {
					eventually(t, "stored", func() bool { return mustStream(t, b, "scores").Last == uint64(i+1) })
				}
			}
			eventually(t, "stored", func() bool { return mustStream(t, b, "scores").Last == uint64(n) })
			all, pages := readAll(t, b, topics.Query{Namespace: "scores", Messages: 2000})
			if len(all) != n || pages != n/2000 {
				t.Fatalf("%d messages in %d pages", len(all), pages)
			}
			for i, m := range all {
				if m.Cursor.Seq != uint64(i+1) || string(m.Data) != strconv.Itoa(i+1) || m.Topic != "scores."+strconv.Itoa(i%over) {
					t.Fatalf("message %d is %+v", i, m)
				}
			}
			got, _ := readAll(t, b, topics.Query{Namespace: "scores", Pattern: "scores.7", Messages: 1000})
			want := slices.DeleteFunc(all, func(m topics.Message) bool { return m.Topic != "scores.7" })
			if len(got) != n/over || !slices.EqualFunc(got, want, func(a, b topics.Message) bool { return a.Cursor == b.Cursor }) {
				t.Fatalf("%d messages of a topic", len(got))
			}
		})
	}
	f("memory", Config{})
	f("file", Config{Store: t.TempDir()})
}

// TestPages compares pages of any query with a plain list.
func TestPages(t *testing.T) {
	b, _ := open(t, Config{Streams: map[string]StreamConfig{"ns": {Messages: 7}}})
	var all []topics.Message
	names := []string{"ns", "ns.a", "ns.b", "ns.a.x", "ns.b.x", "ns.b.x.y"}
	for range 200 {
		topic := names[rand.IntN(len(names))]
		data := fmt.Sprintf("%0*d", rand.IntN(50), 0)
		all = append(all, topics.Message{Topic: topic, Data: []byte(data), Cursor: keep(t, b, topic, data, "")})
	}
	kept := make(map[string]int)
	for i := len(all) - 1; i >= 0; i-- {
		if kept[all[i].Topic]++; kept[all[i].Topic] > 7 {
			all = slices.Delete(all, i, i+1)
		}
	}

	// model reads as the server and the client do: the one stops once the
	// subjects and data it sent reach the limit, the other before topics and
	// data exceed it. The next page may begin as late as at following.
	model := func(q topics.Query) (page topics.Page, following uint64) {
		page.Next, page.End = max(q.From, 1), true
		sent, size := 0, 0
		for _, m := range all {
			if m.Cursor.Seq < q.From || q.Pattern != "" && !topics.Match(q.Pattern, m.Topic) {
				continue
			}
			size += len(m.Topic) + len(m.Data)
			if len(page.Messages) == q.Messages || sent >= q.Bytes || len(page.Messages) > 0 && size > q.Bytes {
				page.End = false
				return page, m.Cursor.Seq
			}
			sent += len("push.") + len(m.Topic) + len(m.Data)
			page.Messages = append(page.Messages, m)
			page.Next = m.Cursor.Seq + 1
		}
		if q.Messages == 1 && len(page.Messages) == 1 {
			page.End = false // not known
		}
		return page, page.Next
	}
	patterns := []string{"", "ns", "ns.>", "ns.*", "ns.a", "ns.*.x", "ns.b.>", "ns.nobody", "ns.*.*.*.*"}
	for range 300 {
		q := topics.Query{
			Namespace: "ns",
			Pattern:   patterns[rand.IntN(len(patterns))],
			From:      uint64(rand.IntN(210)),
			Messages:  1 + rand.IntN(30),
			Bytes:     1 + rand.IntN(1000),
			Urgency:   topics.Urgency(rand.IntN(int(topics.NumUrgencies))),
		}
		got := mustRead(t, b, q)
		want, following := model(q)
		same := slices.EqualFunc(got.Messages, want.Messages, func(a, b topics.Message) bool {
			return a.Topic == b.Topic && string(a.Data) == string(b.Data) && a.Cursor.Seq == b.Cursor.Seq && a.Cursor.Epoch == b.Cursor.Epoch
		})
		if !same || got.Next < want.Next || got.Next > following || got.End != want.End {
			t.Fatalf("%+v: got %+v, want %+v", q, got, want)
		}
	}
	asked := b.State().Gets
	for urgency, n := range asked {
		if n == 0 {
			t.Errorf("no direct get counted of urgency %d", urgency)
		}
	}
}

func BenchmarkRead(b *testing.B) {
	bus, _ := open(b, Config{Store: b.TempDir(), Streams: map[string]StreamConfig{"ns": {Bytes: 1 << 30}}})
	fill(b, bus, "ns", 50_000, 500)
	f := func(name string, q topics.Query, want int) {
		b.Run(name, func(b *testing.B) {
			q.Namespace = "ns"
			b.ReportAllocs()
			for range b.N {
				if got := len(mustRead(b, bus, q).Messages); got != want {
					b.Fatalf("%d messages, want %d", got, want)
				}
			}
		})
	}
	f("one by number", topics.Query{From: 40_000, Messages: 1}, 1)
	f("one of a topic", topics.Query{Pattern: "ns.7", From: 40_000, Messages: 1}, 1)
	f("page of 500", topics.Query{From: 20_000}, 500)
	f("newest of 500 topics", topics.Query{Newest: true}, 500)
}
