package server

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"github.com/pushd/pushd/internal/config"
)

// bothPollers runs a test on each backend.
func bothPollers(t *testing.T, f func(t *testing.T, poller func(*config.Config))) {
	for _, name := range []string{"epoll", "easygo"} {
		t.Run(name, func(t *testing.T) { f(t, func(c *config.Config) { c.Poller = name }) })
	}
}

func TestSubscribeAndReceive(t *testing.T) {
	bothPollers(t, func(t *testing.T, poller func(*config.Config)) {
		r := start(t, poller)
		nc := r.backend()
		s := r.dial("")
		if m := s.want("welcome"); m.Heartbeat != 25000 || m.MaxMessage != 65536 || !strings.HasPrefix(m.Client, "c_") {
			t.Errorf("welcome is %+v", m)
		}
		s.send(`{"type":"subscribe","id":7,"topic":"stocks.AAPL"}`)
		if m := s.want("subscribed"); string(m.ID) != "7" || m.Topic != "stocks.AAPL" || m.Cursor != "" {
			t.Errorf("subscribed is %+v", m)
		}
		before := time.Now().UnixMilli()
		if err := nc.Publish("push.stocks.AAPL", []byte(`{"price":187.2}`)); err != nil {
			t.Fatal(err)
		}
		m := s.want("message")
		if m.Topic != "stocks.AAPL" || string(m.Data) != `{"price":187.2}` {
			t.Errorf("message is %+v", m)
		}
		if m.Time < before || m.Time > time.Now().UnixMilli() {
			t.Errorf("time is %d, want one since %d", m.Time, before)
		}
	})
}

// TestReplies holds each command against its reply.
func TestReplies(t *testing.T) {
	r := start(t, func(c *config.Config) {
		c.MaxSubscriptions = 3
		c.Namespaces = map[string]config.Namespace{"user": {Delivery: config.DeliveryLive, Interest: config.InterestTopic}}
	})
	s := r.subscribed()
	f := func(command, typ, id, code string) {
		t.Helper()
		s.send(command)
		m := s.receive()
		if m.Type != typ || string(m.ID) != id || m.Code != code {
			t.Errorf("%s\n  answered by type %q, id %s, code %q (%s)\n  want type %q, id %s, code %q", command, m.Type, m.ID, m.Code, m.Message, typ, id, code)
		}
	}
	f(`{"type":"ping","id":1}`, "pong", `1`, "")
	f(`{"type":"ping"}`, "pong", ``, "")
	f(`{"type":"ping","id":"x"}`, "pong", `"x"`, "")
	f(`{"type":"subscribe","id":2,"topic":"a.b"}`, "subscribed", `2`, "")
	f(`{"type":"subscribe","id":3,"topic":"a.b"}`, "subscribed", `3`, "") // once more is no mistake
	f(`{"type":"subscribe","id":4,"topic":"a.>"}`, "subscribed", `4`, "")
	f(`{"type":"subscribe","id":5,"topic":"user.42"}`, "subscribed", `5`, "")
	f(`{"type":"subscribe","id":6,"topic":"a.c"}`, "error", `6`, "too_many_topics")
	f(`{"type":"subscribe","id":7,"topics":["a","b","c","d"]}`, "error", `7`, "too_many_topics")
	f(`{"type":"unsubscribe","id":8,"topic":"a.>"}`, "unsubscribed", `8`, "")
	f(`{"type":"unsubscribe","id":8,"topic":"never.was"}`, "unsubscribed", `8`, "")
	f(`{"type":"unsubscribe","id":8,"topic":"a..b"}`, "error", `8`, "invalid_topic")
	f(`{"type":"subscribe","id":9,"topic":"user.*"}`, "error", `9`, "invalid_topic") // interest: topic
	f(`{"type":"subscribe","id":10,"topic":">"}`, "error", `10`, "invalid_topic")
	f(`{"type":"subscribe","id":11,"topic":"a b"}`, "error", `11`, "invalid_topic")
	f(`{"type":"subscribe","id":12,"topic":"a.x","cursor":"k3:41"}`, "error", `12`, "bad_request")
	f(`{"type":"subscribe","id":15,"topic":"a.x","mode":"live"}`, "subscribed", `15`, "")
	f(`{"type":"presence","id":16,"topic":"a.b"}`, "presence", `16`, "")
	f(`{"type":"publish","id":17,"topic":"a.*","data":1}`, "error", `17`, "invalid_topic")
	f(`{"type":"publish","id":18,"topic":"z.z","data":1}`, "published", `18`, "")
	f(`{"type":"publish","id":18,"topic":"z.z","data":1,"idempotency_key":"k"}`, "published", `18`, "")
	f(`{"type":"publish","id":18,"topic":"z.z","data":1,"idempotency_key":""}`, "error", `18`, "bad_request")
	f(`{"type":"publish","id":19,"topic":"z.z","data":"!","encoding":"base64"}`, "error", `19`, "bad_request")
	f(`{"type":"auth","id":20,"token":"t"}`, "error", `20`, "bad_request")
	f(`{"type":"dance","id":21}`, "error", `21`, "unknown_type")
	f(`{"type":"subscribe","id":22}`, "error", `22`, "bad_request")
	f(`not JSON`, "error", ``, "bad_request")
}

func TestPresenceCountsThisNode(t *testing.T) {
	r := start(t)
	first := r.subscribed("chat.lobby")
	count := func() int {
		first.send(`{"type":"presence","topic":"chat.lobby"}`)
		return first.want("presence").Connections
	}
	if n := count(); n != 1 {
		t.Errorf("presence is %d, want 1", n)
	}
	others := []*socket{r.subscribed("chat.lobby"), r.subscribed("chat.lobby"), r.subscribed("chat.*")}
	if n := count(); n != 3 {
		t.Errorf("presence is %d, want 3: a pattern does not count", n)
	}
	for _, s := range others {
		s.conn.Close()
	}
	eventually(t, "presence is 1 again", func() bool { return count() == 1 })
}

func TestOverlappingSubscriptionsDeliverOnce(t *testing.T) {
	r := start(t)
	nc := r.backend()
	s := r.subscribed("a.b", "a.*", "a.>", "c.d")
	for i := range 50 {
		nc.Publish("push.a.b", fmt.Appendf(nil, "%d", i))
		nc.Publish("push.c.d", fmt.Appendf(nil, "%d", i))
	}
	nc.Publish("push.a.x.y", []byte("1"))
	last := map[string]int{"a.b": -1, "c.d": -1}
	for range 101 {
		m := s.want("message")
		if m.Topic == "a.x.y" {
			continue
		}
		if want := fmt.Sprint(last[m.Topic] + 1); string(m.Data) != want {
			t.Fatalf("%s brought %s, want %s", m.Topic, m.Data, want)
		}
		last[m.Topic]++
	}
	s.send(`{"type":"unsubscribe","topic":"a.>"}`)
	s.want("unsubscribed")
	s.send(`{"type":"unsubscribe","topic":"a.b"}`)
	s.want("unsubscribed")
	nc.Publish("push.a.x.y", []byte("2")) // nobody's now
	nc.Publish("push.a.b", []byte(`"still by a.*"`))
	s.wantData("a.b", `"still by a.*"`)
}

func TestPublishFromAClient(t *testing.T) {
	r := start(t)
	listener, publisher := r.subscribed("chat.lobby"), r.subscribed()
	publisher.send(`{"type":"publish","id":1,"topic":"chat.lobby","data":{"text":"hi"}}`)
	if m := publisher.want("published"); m.Topic != "chat.lobby" || string(m.ID) != "1" {
		t.Errorf("published is %+v", m)
	}
	listener.wantData("chat.lobby", `{"text":"hi"}`)
	publisher.send(`{"type":"publish","topic":"chat.lobby","data":"3q2+7w==","encoding":"base64"}`)
	publisher.want("published")
	if m := listener.want("message"); m.Encoding != "base64" || string(m.Data) != `"3q2+7w=="` {
		t.Errorf("binary data came as %+v", m)
	}
}

func TestInterestTopic(t *testing.T) {
	r := start(t, func(c *config.Config) { c.Default.Interest = config.InterestTopic })
	nc := r.backend()
	a, b := r.subscribed("user.1"), r.subscribed("user.2")
	nc.Publish("push.user.2", []byte("2"))
	nc.Publish("push.user.1", []byte("1"))
	nc.Publish("push.user.3", []byte("3"))
	a.wantData("user.1", "1")
	b.wantData("user.2", "2")
	if c := r.hub.Counts(); c.Messages != 2 || c.Feeds != 2 {
		t.Errorf("the node took %d messages in %d feeds, want only those of its 2 topics", c.Messages, c.Feeds)
	}
}

func TestRaw(t *testing.T) {
	r := start(t)
	nc := r.backend()
	for _, query := range []string{"topic=iot.x&format=raw", "format=raw&topic=iot.y&topic=iot.x"} {
		s := r.dial(query)
		nc.Publish("push.iot.x", []byte("plain text"))
		if f := s.next(); f.Header.OpCode != ws.OpText || string(f.Payload) != "plain text" {
			t.Errorf("%s: got %v %q", query, f.Header.OpCode, f.Payload)
		}
		nc.Publish("push.iot.x", []byte{0xff, 0xfe})
		if f := s.next(); f.Header.OpCode != ws.OpBinary || string(f.Payload) != "\xff\xfe" {
			t.Errorf("%s: got %v %q", query, f.Header.OpCode, f.Payload)
		}
		s.send(`{"type":"ping"}`)
		if code := s.wantClose(); code != ws.StatusUnsupportedData {
			t.Errorf("%s: closed with %d, want 1003", query, code)
		}
	}
}

// TestQuery holds what a query string leads to: an HTTP status where the
// upgrade is refused, else the first messages.
func TestQuery(t *testing.T) {
	r := start(t)
	f := func(query string, status int, messages ...string) {
		t.Helper()
		s, err := r.tryDial(query)
		if status != 101 {
			if refused, ok := err.(ws.StatusError); !ok || int(refused) != status {
				t.Errorf("%s: got %v, want status %d", query, err, status)
			}
			return
		}
		if err != nil {
			t.Errorf("%s: %v", query, err)
			return
		}
		defer s.conn.Close()
		for _, want := range messages {
			if m := s.receive(); m.Type+m.Code != want {
				t.Errorf("%s: got %+v, want %s", query, m, want)
			}
		}
	}
	f("", 101, "welcome")
	f("topic=a.b&topic=a.*", 101, "welcome", "subscribed", "subscribed")
	f("topic=a..b&topic=a.b", 101, "welcome", "errorinvalid_topic", "subscribed")
	f("topic=a.b&cursor=k1:1", 101, "welcome", "errorbad_request")
	f("topic=a.b&topic=a.c&cursor=k1:1&cursor=", 101, "welcome", "errorbad_request", "subscribed")
	f("topic=a.b&mode=live", 101, "welcome", "subscribed")
	f("topic=a.b&unknown=1&token=x", 101, "welcome", "subscribed")
	f("topic=a%2Eb", 101, "welcome", "subscribed")
	f("topic=a..b&format=raw", 400)
	f("topic=a.b&cursor=k1:1&format=raw", 400)
	f("topic=a.b&mode=wild", 400)
	f("topic=a.b&max_rate=-1", 400)
	f("topic=a.b&topic=a.c&cursor=k1:1", 400)
	f("format=xml", 400)
	f("topic=%zz", 400)
}

// TestFirstSubscriberWaits holds that the 101 waits for NATS: a message
// published right after it reaches the client, each time.
func TestFirstSubscriberWaits(t *testing.T) {
	r := start(t)
	nc := r.backend()
	for i := range 50 {
		topic := fmt.Sprintf("n%d.x", i) // a namespace of which nobody has heard
		s := r.dial("topic=" + topic)
		nc.Publish("push."+topic, []byte("1"))
		s.want("welcome")
		s.want("subscribed")
		s.wantData(topic, "1")
		s.conn.Close()
	}
}

func TestBadClients(t *testing.T) {
	r := start(t)
	t.Run("binary in json", func(t *testing.T) {
		s := r.subscribed()
		s.frame(ws.MaskFrame(ws.NewBinaryFrame([]byte("{}"))))
		if code := s.wantClose(); code != ws.StatusUnsupportedData {
			t.Errorf("closed with %d, want 1003", code)
		}
	})
	t.Run("unmasked", func(t *testing.T) {
		s := r.subscribed()
		s.frame(ws.NewTextFrame([]byte("{}")))
		if code := s.wantClose(); code != ws.StatusProtocolError {
			t.Errorf("closed with %d, want 1002", code)
		}
	})
	t.Run("too big", func(t *testing.T) {
		s := r.subscribed()
		s.send(strings.Repeat("x", 65537))
		if code := s.wantClose(); code != ws.StatusMessageTooBig {
			t.Errorf("closed with %d, want 1009", code)
		}
	})
	t.Run("bad UTF-8", func(t *testing.T) {
		s := r.subscribed()
		s.send("\xff")
		if code := s.wantClose(); code != ws.StatusInvalidFramePayloadData {
			t.Errorf("closed with %d, want 1007", code)
		}
	})
	t.Run("nothing but mistakes", func(t *testing.T) {
		s := r.subscribed()
		for range maxStrikes {
			s.send("?")
		}
		for range maxStrikes {
			s.want("error")
		}
		if code := s.wantClose(); code != ws.StatusPolicyViolation {
			t.Errorf("closed with %d, want 1008", code)
		}
	})
	t.Run("a mistake now and then", func(t *testing.T) {
		s := r.subscribed()
		for range 2 * maxStrikes {
			s.send("?")
			s.want("error")
			s.send(`{"type":"ping"}`)
			s.want("pong")
		}
	})
}
