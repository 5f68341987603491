package server

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pushd/pushd/internal/config"
)

// keeping makes namespaces keep history: all of each is delivered, and the newest of latest.
func keeping(namespaces ...string) func(*config.Config) {
	return func(c *config.Config) {
		c.Namespaces = map[string]config.Namespace{
			"latest": {Delivery: config.DeliveryLatest, Interest: config.InterestNamespace, History: config.History{Messages: 1}},
		}
		for _, name := range namespaces {
			c.Namespaces[name] = config.Namespace{Delivery: config.DeliveryAll, Interest: config.InterestNamespace, History: config.History{Age: time.Hour, Messages: 10_000}}
		}
	}
}

// post publishes over HTTP, with a key unless it is "".
func (r *running) post(path, contentType, body, key string) (status int, answer string) {
	r.t.Helper()
	var headers []string
	if key != "" {
		headers = []string{keyHeader, key}
	}
	status, _, answer = r.request("POST", "http://"+r.Addr()+path, contentType, body, headers...)
	return status, strings.TrimSuffix(answer, "\n")
}

// store publishes a message that is kept, and returns its cursor.
func (r *running) store(topic, data string) string {
	r.t.Helper()
	status, answer := r.post("/publish/"+topic, "", data, "")
	cursor := cursorOf(answer)
	if status != 200 || cursor == "" {
		r.t.Fatalf("publish to %s: %d %s, want 200 with a cursor", topic, status, answer)
	}
	return cursor
}

// cursorOf returns the cursor of a result, "" where it has none.
func cursorOf(result string) string {
	_, behind, _ := strings.Cut(result, `"cursor":"`)
	cursor, _, _ := strings.Cut(behind, `"`)
	return cursor
}

// A publication is answered when it is stored, and stored once for each key of a topic.
func TestPublishOnce(t *testing.T) {
	r := start(t, keeping("orders"))
	const lines = "application/x-ndjson"
	first := r.store("orders.eu", "0")
	for i := range 3 {
		if status, answer := r.post("/publish/orders.eu", "", fmt.Sprint(1+i), "key"); status != 200 || i > 0 && cursorOf(answer) != first {
			t.Errorf("time %d: %d %s, want 200 with cursor %s", i, status, answer, first)
		} else {
			first = cursorOf(answer)
		}
	}
	r.post("/publish/orders.us", "", "of another topic", "key")
	body := `{"topic":"orders.eu","data":2}` + "\n\n" +
		`{"topic":"orders.eu","data":3,"idempotency_key":"own"}` + "\n" +
		`{"topic":"orders.*","data":0}` + "\n" +
		`{"topic":"elsewhere","data":4}`
	var answers [2]string
	for i := range answers {
		_, answers[i] = r.post("/publish", lines, body, "body")
	}
	if results := strings.Split(answers[0], "\n"); answers[0] != answers[1] || len(results) != 4 ||
		cursorOf(results[0]) == "" || cursorOf(results[1]) == "" || !strings.Contains(results[2], "invalid_topic") || results[3] != `{"topic":"elsewhere"}` {
		t.Errorf("the same lines were answered\n%s\nthen\n%s", answers[0], answers[1])
	}
	r.post("/publish", lines, `{"topic":"orders.eu","data":5,"idempotency_key":"own"}`, "another")
	r.post("/publish/orders.eu", "", "6", "body.1") // the key that the first line was given

	s := r.subscribed()
	var cursors [2]string
	for i := range cursors {
		s.send(`{"type":"publish","topic":"orders.eu","data":7,"idempotency_key":"command"}`)
		cursors[i] = s.want("published").Cursor
	}
	if cursors[0] == "" || cursors[0] != cursors[1] {
		t.Errorf("the same command was answered with cursors %q", cursors)
	}
	if got := r.past("orders.eu", ""); got.data() != "0 1 2 3 7" {
		t.Errorf("orders.eu keeps %s, want each once", got.data())
	}
	if got := r.past("orders.us", ""); got.data() != `"of another topic"` {
		t.Errorf("orders.us keeps %s", got.data())
	}
}
