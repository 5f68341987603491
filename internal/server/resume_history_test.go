package server

import (
	"fmt"
	"net/url"
	"testing"

	"github.com/gobwas/ws"
	"github.com/nats-io/nats.go"

	"github.com/pushd/pushd/internal/config"
)

// is says what became of a subscription's cursor: "", "true", or why not.
func (m message) is() string {
	return pastAnswer{Recovered: m.Recovered, Reason: m.Reason}.is()
}

// wantNumbers reads messages of a topic that carry numbers.
func (s *socket) wantNumbers(topic string, from, to int) (last message) {
	s.t.Helper()
	for n := from; n <= to; n++ {
		if last = s.want("message"); last.Topic != topic || string(last.Data) != fmt.Sprint(n) || last.Cursor == "" {
			s.t.Fatalf("received %+v with %s, want %s = %d with a cursor", last, last.Data, topic, n)
		}
	}
	return last
}

// Whoever comes back with a cursor gets what it missed, then what comes,
// however it says so.
func TestResume(t *testing.T) {
	r := start(t, keeping("orders"))
	cursors := []string{r.store("orders.eu", "0")}
	s := r.dial("topic=orders.eu")
	s.want("welcome")
	position := s.want("subscribed")
	if position.Cursor == "" || position.is() != "" {
		t.Errorf("subscribed is %+v, want a cursor and nothing of recovery", position)
	}
	for i := 1; i < 5; i++ {
		cursors = append(cursors, r.store("orders.eu", fmt.Sprint(i)))
		r.store("orders.us", fmt.Sprint(i))
	}
	last := s.wantNumbers("orders.eu", 1, 4)
	s.conn.Close()

	escape := url.QueryEscape
	count := 5
	for from, cursor := range map[int]string{1: position.Cursor, 2: cursors[1], 4: cursors[3], 5: last.Cursor} {
		f := func(query, command string) {
			t.Helper()
			s := r.dial(query)
			defer s.conn.Close()
			s.want("welcome")
			if command != "" {
				s.send(command)
			}
			if m := s.want("subscribed"); m.is() != "true" || m.Cursor != cursor {
				t.Errorf("from %d: subscribed is %+v, want it recovered from %s", from, m, cursor)
			}
			s.wantNumbers("orders.eu", from, count-1)
			r.store("orders.eu", fmt.Sprint(count))
			s.wantNumbers("orders.eu", count, count)
			count++
		}
		f("topic=orders.eu&cursor="+escape(cursor), "")
		f("", fmt.Sprintf(`{"type":"subscribe","topic":"orders.eu","cursor":%q}`, cursor))
	}

	raw := r.dial("format=raw&topic=orders.us&cursor=" + escape(cursors[0]))
	for i := 1; i < 5; i++ {
		if f := raw.next(); f.Header.OpCode != ws.OpText || string(f.Payload) != fmt.Sprint(i) {
			t.Fatalf("raw: got %v %q, want %d", f.Header.OpCode, f.Payload, i)
		}
	}
}

// One cursor may be empty where another is not.
func TestResumeSome(t *testing.T) {
	r := start(t, keeping("orders", "log"))
	first := r.store("orders.eu", "1")
	r.store("orders.eu", "2")
	r.store("log.a", "1")
	s := r.dial("topic=log.a&topic=orders.eu&cursor=&cursor=" + url.QueryEscape(first))
	s.want("welcome")
	for range 2 {
		if m := s.want("subscribed"); m.Topic == "log.a" && m.is() != "" || m.Topic == "orders.eu" && m.is() != "true" {
			t.Errorf("subscribed is %+v", m)
		}
	}
	s.wantNumbers("orders.eu", 2, 2)
}

// What cannot be brought back is told.
func TestResumeInVain(t *testing.T) {
	r := start(t, keeping("orders"))
	js, err := r.backend().JetStream()
	if err != nil {
		t.Fatal(err)
	}
	resume := func(topic, cursor, reason string, data ...string) {
		t.Helper()
		s := r.dial("topic=" + topic + "&cursor=" + url.QueryEscape(cursor))
		defer s.conn.Close()
		s.want("welcome")
		if m := s.want("subscribed"); m.is() != reason {
			t.Errorf("%s from %s: subscribed is %+v, want it not recovered: %s", topic, cursor, m, reason)
		}
		for _, d := range data {
			m := s.receive()
			for m.Type == "gap" && m.Reason == reason {
				m = s.receive()
			}
			if m.Topic != topic || string(m.Data) != d {
				t.Errorf("%s from %s: got %+v with %s, want %s", topic, cursor, m, m.Data, d)
			}
		}
	}
	first := r.store("orders.eu", "1")
	r.store("orders.eu", "2")
	r.store("orders.eu", "3")
	resume("chat.lobby", first, "expired")
	if err := js.PurgeStream("push_orders", &nats.StreamPurgeRequest{Sequence: 3}); err != nil {
		t.Fatal(err)
	}
	resume("orders.eu", first, "expired", "3")
	if err := js.DeleteStream("push_orders"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the stream is there again", func() bool {
		status, _ := r.post("/publish/orders.eu", "", "4", "")
		return status == 200
	})
	// The node hears of it by the first message, or when it asks the stream next.
	eventually(t, "the node knows of the new stream", func() bool {
		s := r.dial("topic=orders.eu&cursor=" + url.QueryEscape(first))
		defer s.conn.Close()
		s.want("welcome")
		return s.want("subscribed").is() == "restarted"
	})
	resume("orders.eu", first, "restarted", "4")
}

// A new subscriber of a latest namespace gets the value of each topic at once.
func TestSnapshot(t *testing.T) {
	r := start(t, keeping())
	const symbols = 200
	for i := range symbols {
		r.store(fmt.Sprintf("latest.s%d", i), "0")
	}
	for i := range symbols {
		r.store(fmt.Sprintf("latest.s%d", i), "1")
	}
	s := r.subscribed("latest.*")
	seen := map[string]bool{}
	for range symbols {
		if m := s.want("message"); string(m.Data) != "1" || seen[m.Topic] {
			t.Fatalf("got %s = %s, seen before: %v", m.Topic, m.Data, seen[m.Topic])
		} else {
			seen[m.Topic] = true
		}
	}
	r.store("latest.s0", "2")
	s.wantData("latest.s0", "2")
}

// Each mode and rate, in a namespace of each kind.
func TestModes(t *testing.T) {
	r := start(t, keeping("all"), func(c *config.Config) {
		c.Namespaces["live"] = config.Namespace{Delivery: config.DeliveryLive, Interest: config.InterestNamespace, History: config.History{Messages: 1}}
	})
	s := r.subscribed()
	f := func(topic, more, typ, code string) {
		t.Helper()
		s.send(fmt.Sprintf(`{"type":"subscribe","topic":%q%s}`, topic, more))
		if m := s.receive(); m.Type != typ || m.Code != code {
			t.Errorf("%s%s is answered by %s %s (%s), want %s %s", topic, more, m.Type, m.Code, m.Message, typ, code)
		}
	}
	for _, mode := range []string{"all", "live", "latest"} {
		f("all.x", `,"mode":"`+mode+`"`, "subscribed", "")
	}
	f("live.x", `,"mode":"all"`, "error", "bad_request")
	f("live.x", `,"mode":"latest"`, "subscribed", "")
	f("latest.x", `,"mode":"all"`, "error", "bad_request")
	f("latest.x", `,"mode":"live"`, "error", "bad_request")
	f("latest.x", `,"max_rate":2`, "subscribed", "")
	f("all.x", `,"max_rate":2`, "error", "bad_request")
	f("all.x", `,"mode":"live","max_rate":2`, "error", "bad_request")
	f("all.x", `,"mode":"latest","max_rate":0.5`, "subscribed", "")
	f("none.x", `,"mode":"all"`, "error", "no_history")
	if _, err := r.tryDial("topic=none.x&mode=all&format=raw"); err != ws.StatusError(400) {
		t.Errorf("a raw subscriber that asks for too much: %v, want status 400", err)
	}
}
