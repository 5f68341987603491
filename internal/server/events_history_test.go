package server

import (
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/pushd/pushd/internal/config"
	"github.com/pushd/pushd/topics/natsbus"
)

// An EventSource that comes back gets what it missed, exactly, whether it had a
// message before or not.
func TestEventsResume(t *testing.T) {
	r := start(t, keeping("orders", "log"))
	r.store("orders.eu", "0")
	s := r.events("topic=orders.eu&topic=orders.us")
	s.want("welcome")
	first := s.want("subscribed")
	if first.Cursor == "" || first.id != first.Cursor+"@orders.eu" || first.Recovered != nil {
		t.Errorf("subscribed is %s with id %q", first.data, first.id)
	}
	if second := s.want("subscribed"); second.id != first.id {
		t.Errorf("the second topic of a feed changes the id to %q", second.id)
	}
	ids := []string{s.lastID}
	for i := 1; i < 6; i++ {
		r.store("orders.eu", fmt.Sprint(i))
		r.store("log.a", fmt.Sprint(i))
		ids = append(ids, s.wantNumbers("orders.eu", i, i).id)
	}
	for from, id := range ids {
		cursor, _, _ := strings.Cut(id, "@")
		for name, open := range map[string]func() *stream{
			"header": func() *stream { return r.events("topic=orders.eu", "Last-Event-ID: "+id) },
			"query":  func() *stream { return r.events("topic=orders.eu&last_event_id=" + url.QueryEscape(id)) },
			"cursor": func() *stream { return r.events("topic=orders.eu", "Last-Event-ID: "+cursor) },
			"beside": func() *stream {
				return r.events("topic=orders.eu&last_event_id=1.1@orders.eu&cursor="+url.QueryEscape(ids[0][:strings.Index(ids[0], "@")]), "Last-Event-ID: "+id)
			},
		} {
			s := open()
			s.want("welcome")
			if m := s.want("subscribed"); m.is() != "true" || m.Cursor != cursor {
				t.Errorf("%s, from %d: subscribed is %s", name, from, m.data)
			}
			s.wantNumbers("orders.eu", from+1, 5)
			s.conn.Close()
		}
	}

	// Topics of another feed begin now, or where their own cursor is, and are told so.
	logged := r.store("log.a", "6")
	r.store("log.a", "7")
	s = r.events("topic=log.b&topic=orders.us&topic=log.a&cursor=&cursor=&cursor="+url.QueryEscape(logged), "Last-Event-ID: "+ids[2])
	s.want("welcome")
	for range 3 {
		switch m := s.want("subscribed"); {
		case m.Topic == "log.b" && (m.is() != "other_feed" || *m.Recovered), m.Topic != "log.b" && m.is() != "true":
			t.Errorf("subscribed is %s", m.data)
		}
	}
	s.wantNumbers("log.a", 7, 7)

	// A history that is gone is told.
	s = r.events("topic=orders.eu", "Last-Event-ID: 1.1@orders.eu")
	s.want("welcome")
	if m := s.want("subscribed"); m.is() != "restarted" {
		t.Errorf("subscribed is %s", m.data)
	}
	s.wantNumbers("orders.eu", 0, 5)
}

// With interest: topic each topic is a feed.
func TestEventsResumeByTopic(t *testing.T) {
	r := start(t, keeping("orders"), func(c *config.Config) {
		ns := c.Namespaces["orders"]
		ns.Interest = config.InterestTopic
		c.Namespaces["orders"] = ns
	})
	s := r.subscribedTo("orders.eu")
	r.store("orders.eu", "1")
	id := s.wantNumbers("orders.eu", 1, 1).id
	r.store("orders.eu", "2")
	s = r.events("topic=orders.us&topic=orders.eu", "Last-Event-ID: "+id)
	s.want("welcome")
	for range 2 {
		if m := s.want("subscribed"); m.Topic == "orders.eu" && m.is() != "true" || m.Topic == "orders.us" && m.is() != "other_feed" {
			t.Errorf("subscribed is %s", m.data)
		}
	}
	s.wantNumbers("orders.eu", 2, 2)
}

// Of mode latest one pattern goes on with what changed. Several begin anew: each
// brings its newest value in its own time, and none may be passed over.
func TestEventsResumeLatest(t *testing.T) {
	r := start(t, keeping())
	r.store("latest.a", "1")
	r.store("latest.b", "1")
	s := r.subscribedTo("latest.*")
	s.want("message")
	id := s.want("message").id
	r.store("latest.b", "2")
	s = r.events("topic=latest.*", "Last-Event-ID: "+id)
	s.want("welcome")
	if m := s.want("subscribed"); m.is() != "true" {
		t.Errorf("subscribed is %s", m.data)
	}
	s.wantNumbers("latest.b", 2, 2)
	s = r.events("topic=latest.a&topic=latest.b&max_rate=1", "Last-Event-ID: "+s.lastID)
	s.want("welcome")
	for range 2 {
		if m := s.want("subscribed"); m.is() != "" {
			t.Errorf("subscribed is %s", m.data)
		}
	}
	values := map[string]string{}
	for range 2 {
		m := s.want("message")
		values[m.Topic] = string(m.Data)
	}
	if values["latest.a"] != "1" || values["latest.b"] != "2" {
		t.Errorf("the current values came as %v", values)
	}

	// What max_rate leaves out is told, before the value that replaces it.
	for n := 2; n <= 9; n++ {
		r.store("latest.a", fmt.Sprint(n))
	}
	skipped, last := 0, ""
	for last != "9" {
		switch e := s.next(); e.Type {
		case "skipped":
			if skipped += e.Count; e.typ != "skipped" || e.Topic != "latest.a" {
				t.Errorf("event %q with %s", e.typ, e.data)
			}
		case "message":
			last = string(e.Data)
		}
	}
	if skipped == 0 {
		t.Error("nothing was told of the values between")
	}
}

// A stream that does not read falls behind, and then gets from history what it
// missed, or where there is none is told of it: as a WebSocket.
func TestEventsSlow(t *testing.T) {
	const size, enough = 8 << 10, 1500
	r := start(t, keeping("orders"), func(c *config.Config) { c.RingMessages = 64 })
	padding := strings.Repeat("x", size)
	live, kept, ws := r.slowEvents("chat.a"), r.slowEvents("orders.a"), r.subscribed("chat.a")
	for n := range enough {
		data, _ := json.Marshal(map[string]any{"n": n, "padding": padding})
		r.bus.Publish(natsbus.Publication{Topic: "chat.a", Data: data})
		if n == enough-1 {
			r.store("orders.a", string(data))
		} else if n%8 == 0 { // all else would only cost
			r.store("orders.a", string(data))
		}
		if m := ws.want("message"); paddedNumber(m) != n { // who reads is not held up
			t.Fatalf("a WebSocket got %d, want %d", paddedNumber(m), n)
		}
	}
	eventually(t, "both fell behind", func() bool { return r.metric("pushd_fell_behind_total") >= "2" })

	last, gaps := -1, 0
	for last < enough-1 {
		switch e := live.next(); e.Type {
		case "gap":
			if gaps++; e.Topic != "chat.a" || e.Reason != "slow" || e.typ != "gap" {
				t.Errorf("told %s", e.data)
			}
		case "message":
			if n := paddedNumber(e.message); n != last+1 && gaps == 0 || n <= last {
				t.Fatalf("%d came after %d and %d gaps", n, last, gaps)
			} else {
				last = n
			}
		}
	}
	if gaps == 0 {
		t.Error("nothing was told of what is missing")
	}
	for n := 0; n < enough-1; n += 8 {
		if m := kept.want("message"); paddedNumber(m.message) != n {
			t.Fatalf("history brought %d, want %d", paddedNumber(m.message), n)
		}
	}
	if m := kept.want("message"); paddedNumber(m.message) != enough-1 {
		t.Errorf("history ended with %d", paddedNumber(m.message))
	}
}

func paddedNumber(m message) int {
	var v struct{ N int }
	if err := json.Unmarshal(m.Data, &v); err != nil {
		return -1
	}
	return v.N
}

// slowEvents is subscribedTo with a socket that takes little.
func (r *running) slowEvents(topic string) *stream {
	r.t.Helper()
	c, err := net.Dial("tcp", r.Addr())
	if err != nil {
		r.t.Fatal(err)
	}
	if err := c.(*net.TCPConn).SetReadBuffer(128 << 10); err != nil {
		r.t.Fatal(err)
	}
	s := eventsOver(r.t, c, "topic="+topic)
	s.want("welcome")
	s.want("subscribed")
	return s
}

// A client that takes nothing at all is cut off.
func TestEventsStalled(t *testing.T) {
	r := start(t, func(c *config.Config) { c.WriteTimeout = time.Second })
	r.slowEvents("chat.a")
	data := []byte(strings.Repeat("x", 32<<10))
	eventually(t, "it is cut off", func() bool {
		for range 20 {
			r.bus.Publish(natsbus.Publication{Topic: "chat.a", Data: data})
		}
		return r.metric(`pushd_connections_closed_total{reason="too_slow"}`) == "1"
	})
}
