package server

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/pushd/pushd/internal/config"
)

// pastAnswer is the answer of GET /history/{topic}.
type pastAnswer struct {
	Topic, Cursor, Reason, Code string
	Messages                    []message
	Recovered                   *bool
	More                        bool
}

// past asks for history; query may be empty.
func (r *running) past(topic, query string) (a pastAnswer) {
	r.t.Helper()
	if query != "" {
		query = "?" + query
	}
	status, header, body := r.http("GET", "/history/"+topic+query, "", "")
	if err := json.Unmarshal([]byte(body), &a); err != nil || status != 200 && a.Code == "" || header.Get("Content-Type") != "application/json" {
		r.t.Fatalf("GET /history/%s%s: %d %s", topic, query, status, body)
	}
	return a
}

// data returns what the messages carry.
func (a pastAnswer) data() string {
	var list []string
	for _, m := range a.Messages {
		list = append(list, string(m.Data))
	}
	return strings.Join(list, " ")
}

func after(cursor string) string { return "after=" + url.QueryEscape(cursor) }

// is says what became of a cursor: "", "true", or why not.
func (a pastAnswer) is() string {
	switch {
	case a.Recovered == nil:
		return ""
	case *a.Recovered:
		return "true"
	}
	return a.Reason
}

func TestHistory(t *testing.T) {
	r := start(t, keeping("orders"))
	f := func(topic, query, want, is string, more bool) pastAnswer {
		t.Helper()
		got := r.past(topic, query)
		if got.Topic != topic || got.data() != want || got.is() != is || got.More != more || got.Cursor == "" {
			t.Errorf("%s?%s: %+v with %s, want %s, recovered %q, more %v", topic, query, got, got.data(), want, is, more)
		}
		return got
	}
	before := f("orders.eu", "", "", "", false)
	var cursors []string
	for i := range 5 {
		cursors = append(cursors, r.store("orders.eu", fmt.Sprint(i)))
		r.store("orders.us", fmt.Sprint(10*i))
	}
	all := f("orders.eu", "", "0 1 2 3 4", "", false)
	if m := all.Messages[3]; m.Type != "message" || m.Topic != "orders.eu" || m.Cursor == "" || m.Time == 0 {
		t.Errorf("a message is %+v", m)
	}
	f("orders.eu", "limit=2", "3 4", "", false)
	f("orders.us", "limit=1000", "0 10 20 30 40", "", false)
	f("orders.eu", after(before.Cursor), "0 1 2 3 4", "true", false)
	f("orders.eu", after(all.Messages[1].Cursor), "2 3 4", "true", false)
	f("orders.eu", after(cursors[1])+"&limit=2", "2 3", "true", true)
	end := f("orders.eu", after(cursors[4]), "", "true", false)
	f("orders.eu", after(end.Cursor), "", "true", false)
	r.store("orders.eu", "5")
	f("orders.eu", after(end.Cursor), "5", "true", false)
	f("orders.eu", after(all.Cursor), "5", "true", false)
	f("orders.none", "", "", "", false)

	r.store("latest.a", "1")
	r.store("latest.a", "2")
	f("latest.a", "", "2", "", false)

	for query, code := range map[string]string{
		"limit=0": "bad_request", "limit=1001": "bad_request", "limit=x": "bad_request", "after=k3:41": "bad_request",
	} {
		if got := r.past("orders.eu", query); got.Code != code {
			t.Errorf("%s: %+v, want %s", query, got, code)
		}
	}
	text := r.adminGet("/metrics")
	for _, want := range []string{`{result="refused"} 4`, `{result="failed"} 0`} {
		if !strings.Contains(text, "pushd_history_requests_total"+want) {
			t.Errorf("/metrics lacks %s", want)
		}
	}
}

// A client that pages through a topic sees each message once, in order.
func TestHistoryPages(t *testing.T) {
	r := start(t, keeping("log"))
	const count = 1500
	var lines strings.Builder
	for i := range count {
		fmt.Fprintf(&lines, `{"topic":"log.%s","data":%d}`+"\n", [...]string{"a", "b", "b"}[i%3], i)
	}
	if status, answer := r.post("/publish", "application/x-ndjson", lines.String(), ""); status != 200 || strings.Contains(answer, "code") {
		t.Fatalf("%d %.200s", status, answer)
	}
	query := "limit=64"
	if first := r.past("log.a", "limit=1000"); len(first.Messages) != count/3 {
		t.Errorf("%d messages, want all %d", len(first.Messages), count/3)
	}
	c := r.past("log.a", "limit=1000").Messages[0].Cursor
	for next, more := 3, true; more; {
		got := r.past("log.a", query+"&"+after(c))
		for _, m := range got.Messages {
			if string(m.Data) != fmt.Sprint(next) {
				t.Fatalf("got %s, want %d", m.Data, next)
			}
			next += 3
		}
		if c, more = got.Cursor, got.More; !more && next != count {
			t.Errorf("the pages end before %d, want %d", next, count)
		}
	}
}

// An answer holds what fits into its bound of bytes.
func TestHistoryBytes(t *testing.T) {
	r := start(t, keeping("big"), func(c *config.Config) { c.MaxMessage = 1 << 20 })
	for i := range 6 {
		r.store("big.x", fmt.Sprintf(`"%d%s"`, i, strings.Repeat("x", 900<<10)))
	}
	first := r.past("big.x", "")
	if len(first.Messages) != 4 || string(first.Messages[0].Data[1]) != "2" {
		t.Errorf("%d messages of 0.9 MiB, want the newest 4", len(first.Messages))
	}
	next := r.past("big.x", after(first.Messages[0].Cursor)+"&limit=2")
	if len(next.Messages) != 2 || !next.More {
		t.Errorf("%d messages, more %v", len(next.Messages), next.More)
	}
}

// What was lost between is told: by a purge, or with the whole stream.
func TestHistoryLost(t *testing.T) {
	r := start(t, keeping("orders"))
	js, err := r.backend().JetStream()
	if err != nil {
		t.Fatal(err)
	}
	first := r.store("orders.eu", "1")
	second := r.store("orders.eu", "2")
	third := r.store("orders.eu", "3")
	if err := js.PurgeStream("push_orders", &nats.StreamPurgeRequest{Sequence: 3}); err != nil {
		t.Fatal(err)
	}
	if got := r.past("orders.eu", after(first)); got.is() != "expired" || got.data() != "3" {
		t.Errorf("after one of which the next is gone: %+v", got)
	} else if got := r.past("orders.eu", after(got.Cursor)); got.is() != "true" || got.data() != "" {
		t.Errorf("from there on: %+v", got)
	}
	if got := r.past("orders.eu", after(second)); got.is() != "true" || got.data() != "3" {
		t.Errorf("after one that is gone, but none behind it: %+v", got)
	}

	if err := js.DeleteStream("push_orders"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the stream is there again", func() bool {
		status, _ := r.post("/publish/orders.eu", "", "anew", "")
		return status == 200
	})
	got := r.past("orders.eu", after(third))
	if got.is() != "restarted" || !strings.Contains(got.data(), "anew") {
		t.Errorf("after a cursor of a stream that is gone: %+v", got)
	}
	if got := r.past("orders.eu", after(got.Cursor)); got.is() != "true" || got.data() != "" {
		t.Errorf("from there on: %+v", got)
	}
}

// A namespace can be a stream that was there before, with subjects of its own.
func TestHistoryOfAnExistingStream(t *testing.T) {
	first := start(t, func(c *config.Config) { c.Store = t.TempDir() })
	js, err := first.backend().JetStream()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.AddStream(&nats.StreamConfig{
		Name: "ORDERS", Subjects: []string{"shop.orders.>"}, AllowDirect: true,
		RePublish: &nats.RePublish{Source: ">", Destination: "push-live.orders.>"},
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish("shop.orders.eu", []byte("1")); err != nil {
		t.Fatal(err)
	}
	if err := first.stop(); err != nil {
		t.Fatal(err)
	}
	r := start(t, func(c *config.Config) {
		c.Store = first.cfg.Store
		c.Namespaces = map[string]config.Namespace{"orders": {Delivery: config.DeliveryAll, Interest: config.InterestNamespace, Stream: "ORDERS", Subject: "shop.orders"}}
	})
	r.store("orders.eu", "2")
	if got := r.past("orders.eu", ""); got.data() != "1 2" {
		t.Errorf("the stream's past is %s, want 1 2", got.data())
	}
}

// Many may ask at a time: they take turns.
func TestHistoryForMany(t *testing.T) {
	r := start(t, keeping("orders"))
	r.store("orders.eu", "1")
	var asking sync.WaitGroup
	for range 4 * maxHistoryRequests {
		asking.Go(func() {
			if got := r.past("orders.eu", ""); got.data() != "1" {
				t.Errorf("got %+v", got)
			}
		})
	}
	asking.Wait()
	if n := len(r.history); n != 0 {
		t.Errorf("%d requests are still under way", n)
	}
}
