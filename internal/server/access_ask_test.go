package server

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pushd/pushd/internal/auth"
	"github.com/pushd/pushd/internal/config"
)

// asked is a question as the service gets it.
type asked struct{ Identity, Action, Topic, Address string }

// authorizing runs a server that asks, and the service that it asks.
func authorizing(t *testing.T, answer func(asked) string, change ...func(*config.Config)) (r *running, questions *atomic.Int64) {
	t.Helper()
	r = secure(t, append(change, func(c *config.Config) {
		c.Authorize, c.AuthorizeTimeout = "auth.may", 300*time.Millisecond
	})...)
	questions = &atomic.Int64{}
	nc := r.backend()
	if _, err := nc.Subscribe("auth.may", func(m *nats.Msg) {
		var q asked
		if err := json.Unmarshal(m.Data, &q); err != nil {
			t.Errorf("asked %q", m.Data)
		}
		questions.Add(1)
		if text := answer(q); text != "" {
			m.Respond([]byte(text))
		}
	}); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	return r, questions
}

func TestAuthorize(t *testing.T) {
	r, questions := authorizing(t, func(q asked) string {
		if q.Identity != "alice" || q.Address != "127.0.0.1" || q.Action != "subscribe" && q.Action != "publish" {
			return `{"allow":false}`
		}
		switch {
		case strings.HasPrefix(q.Topic, "yes."):
			return `{"allow":true,"ttl":"30s"}`
		case strings.HasPrefix(q.Topic, "hear.") && q.Action == "subscribe":
			return `{"allow":true}`
		case strings.HasPrefix(q.Topic, "silent."):
			return ""
		case strings.HasPrefix(q.Topic, "broken."):
			return map[string]string{"broken.1": `{"allow":"true"}`, "broken.2": `yes`, "broken.3": `{}`, "broken.4": `{"allow":true,"ttl":"soon"}`, "broken.5": `{"allow":true,"ttl":-1}`}[q.Topic]
		}
		return `{"allow":false}`
	}, func(c *config.Config) {
		open := c.Default
		open.Public = config.PublicAll
		c.Namespaces = map[string]config.Namespace{"open": open}
	})
	token := tokenFor(t, "alice", may{subscribe: "token.>", publish: "token.>"}, time.Hour)
	s := r.signedIn(token)
	s.subscribe("token.a")
	s.subscribe("open.a")
	if n := questions.Load(); n != 0 {
		t.Errorf("%d questions where the token and the namespace permit it", n)
	}
	s.subscribe("yes.a")
	for _, c := range []struct{ topic, subscribe, publish string }{
		{"yes.b", "", ""}, {"yes.*", "", "invalid_topic"}, {"hear.b", "", "forbidden"}, {"no.b", "forbidden", "forbidden"}, {"silent.b", "unavailable", "unavailable"},
		{"broken.1", "forbidden", "forbidden"}, {"broken.2", "forbidden", "forbidden"}, {"broken.3", "forbidden", "forbidden"}, {"broken.4", "forbidden", "forbidden"}, {"broken.5", "forbidden", "forbidden"},
	} {
		for range 2 { // asked, and remembered
			s.send(fmt.Sprintf(`{"type":"publish","topic":%q,"data":1}`, c.topic))
			if m := s.receive(); m.Code != c.publish {
				t.Errorf("publish to %s: %+v", c.topic, m)
			}
			s.send(fmt.Sprintf(`{"type":"presence","topic":%q}`, c.topic))
			if m := s.receive(); m.Code != c.subscribe {
				t.Errorf("presence of %s: %+v", c.topic, m)
			}
			status, _, body := r.request("POST", "http://"+r.Addr()+"/publish/"+c.topic, "", "1", "Authorization", "Bearer "+token)
			want := map[string]int{"": 202, "invalid_topic": 400, "forbidden": 403, "unavailable": 503}[c.publish]
			if status != want {
				t.Errorf("POST to %s: %d %s", c.topic, status, body)
			}
		}
		a := r.upgrade("topic="+c.topic, "Authorization: Bearer "+token)
		a.socket.want("welcome")
		if m := a.socket.receive(); m.Code != c.subscribe || c.subscribe == "" && m.Type != "subscribed" {
			t.Errorf("subscribe to %s: %+v", c.topic, m)
		}
		a = r.upgrade("format=raw&topic=token.a&topic="+c.topic, "Authorization: Bearer "+token)
		if want := map[string]int{"": 101, "forbidden": 403, "unavailable": 503}[c.subscribe]; a.status != want {
			t.Errorf("raw on %s: %d %s", c.topic, a.status, a.body)
		}
		e := r.events("topic=token.a&topic="+c.topic, "Authorization: Bearer "+token)
		if want := map[string]int{"": 200, "forbidden": 403, "unavailable": 503}[c.subscribe]; e.status != want {
			t.Errorf("events of %s: %d %s", c.topic, e.status, e.body)
		}
	}
	other := r.signedIn(tokenFor(t, "bob", may{}, time.Hour))
	other.send(`{"type":"subscribe","topic":"yes.a"}`)
	other.wantError("forbidden")
	before := questions.Load()
	for range 10 {
		s.send(`{"type":"presence","topic":"yes.b"}`)
		s.want("presence")
	}
	if n := questions.Load() - before; n != 0 {
		t.Errorf("%d questions whose answers are remembered", n)
	}
	nobody := r.dial("")
	nobody.want("welcome")
	nobody.send(`{"type":"subscribe","topic":"yes.a"}`)
	nobody.wantError("forbidden")
	if n := questions.Load() - before; n != 0 {
		t.Error("asked about somebody who has shown nothing")
	}
	for _, result := range []string{"allow", "deny", "malformed", "no_answer"} {
		if r.metric(fmt.Sprintf(`pushd_authorize_total{result=%q}`, result)) == "0" {
			t.Errorf("%s was not counted", result)
		}
	}
}

// TestAuthorizeOrder sends commands whose permissions come late: they are
// obeyed in their order.
func TestAuthorizeOrder(t *testing.T) {
	release := make(chan struct{})
	r, _ := authorizing(t, func(q asked) string {
		if q.Topic == "slow.a" {
			<-release
		}
		return `{"allow":true}`
	}, func(c *config.Config) { c.AuthorizeTimeout = patience })
	s := r.signedIn(tokenFor(t, "alice", may{subscribe: "b"}, time.Hour))
	for _, command := range []string{
		`{"type":"subscribe","id":1,"topic":"slow.a"}`, `{"type":"unsubscribe","id":2,"topic":"slow.a"}`, `{"type":"subscribe","id":3,"topic":"b"}`,
		`{"type":"publish","id":4,"topic":"slow.a","data":1}`, `{"type":"unsubscribe","id":5,"topic":"b"}`, `{"type":"presence","id":6,"topic":"b"}`,
	} {
		s.send(command)
	}
	s.wantNothing() // a ping needs no permission, and is not held up
	close(release)
	got := map[string]int{}
	for n := range 6 {
		m := s.receive()
		got[string(m.ID)] = n
		if m.Type == "error" || m.Type == "message" {
			t.Errorf("%+v", m)
		}
	}
	for _, order := range [][]string{{"1", "2", "3", "5", "6"}, {"3", "4"}} { // the reply to 4 waits for NATS
		for i := range order[1:] {
			if got[order[i]] > got[order[i+1]] {
				t.Errorf("reply %s came behind %s", order[i], order[i+1])
			}
		}
	}
}

// TestAuthorizeWithinOpening has the service answer while the topics of a query
// string are still gone through: the 101 waits for the last of them, of which a
// client of the raw format could not be told later.
func TestAuthorizeWithinOpening(t *testing.T) {
	r, _ := authorizing(t, func(asked) string { return `{"allow":true}` }, func(c *config.Config) { c.MaxSubscriptions = 1000 })
	r.signedIn(tokenFor(t, "alice", may{subscribe: "a"}, time.Hour)).subscribe("a") // to subscribe takes no time
	for i := range 50 {                                                             // each asks anew
		token := tokenFor(t, fmt.Sprint("user-", i), may{}, time.Hour)
		a := r.upgrade("format=raw"+strings.Repeat("&topic=a", 700)+"&topic=a..b", "Authorization: Bearer "+token)
		if a.status != 400 || !strings.Contains(a.body, "invalid_topic") {
			t.Fatalf("upgrade %d: %d %s", i, a.status, a.body)
		}
	}
}

// TestAuthorizeBounds has one connection ask for very much that nobody answers.
func TestAuthorizeBounds(t *testing.T) {
	r, questions := authorizing(t, func(asked) string { return "" }, func(c *config.Config) { c.MaxSubscriptions = 2 * maxPending })
	s := r.signedIn(tokenFor(t, "alice", may{}, time.Hour))
	list := make([]string, maxPending+1)
	for i := range list {
		list[i] = fmt.Sprintf("t.%d", i)
	}
	names, _ := json.Marshal(list)
	s.send(fmt.Sprintf(`{"type":"subscribe","topics":%s}`, names))
	s.wantError("rate_limited") // for the last, at once
	if n := questions.Load(); n > maxAsking {
		t.Errorf("%d questions of one connection under way, want %d at most", n, maxAsking)
	}
	s.conn.Close()
	eventually(t, "the connection is forgotten", func() bool { return r.metric("pushd_connections") == "0" })
	other := r.signedIn(tokenFor(t, "bob", may{publish: "a"}, time.Hour)) // others are not held up
	other.send(`{"type":"publish","topic":"a","data":1}`)
	other.want("published")
}

// TestAuthorizeRefresh has a new token leave to the service what the old one permitted.
func TestAuthorizeRefresh(t *testing.T) {
	r, _ := authorizing(t, func(q asked) string { return fmt.Sprintf(`{"allow":%v}`, q.Topic == "a.yes") })
	s := r.signedIn(tokenFor(t, "alice", may{subscribe: "a.*"}, time.Hour))
	s.subscribe("a.yes")
	s.subscribe("a.no")
	if m := s.auth(tokenFor(t, "alice", may{}, time.Hour)); m.Type != "authenticated" {
		t.Fatalf("%+v", m)
	}
	if m := s.want("unsubscribed"); m.Topic != "a.no" || m.Reason != "forbidden" {
		t.Errorf("%+v", m)
	}
	nc := r.backend()
	nc.Publish("push.a.no", []byte("1"))
	nc.Publish("push.a.yes", []byte("2"))
	s.wantData("a.yes", "2")
}

// TestAuthorizeAway asks while nobody is there to answer, and later.
func TestAuthorizeAway(t *testing.T) {
	r := secure(t, func(c *config.Config) { c.Authorize = "auth.may" })
	s := r.signedIn(tokenFor(t, "alice", may{}, time.Hour))
	s.send(`{"type":"subscribe","topic":"a"}`)
	s.wantError("unavailable")
	nc := r.backend()
	nc.Subscribe("auth.may", func(m *nats.Msg) { m.Respond([]byte(`{"allow":true}`)) })
	nc.Flush()
	eventually(t, "the service is asked again", func() bool {
		s.send(`{"type":"subscribe","topic":"a"}`)
		return s.receive().Type == "subscribed"
	})
}

func TestReadVerdict(t *testing.T) {
	for text, want := range map[string]auth.Verdict{
		`{"allow":true,"ttl":"30s"}`: {Allow: true, TTL: 30 * time.Second}, `{"allow":false}`: {}, ` {"allow":true,"x":1} `: {Allow: true},
	} {
		if v, err := readVerdict([]byte(text)); err != nil || v != want {
			t.Errorf("%s: %+v, %v", text, v, err)
		}
	}
	for _, text := range []string{"", "null", "true", "{}", `{"allow":null}`, `{"allow":1}`, `{"allow":"true"}`, `{"allow":true,"ttl":30}`, `{"allow":true,"ttl":"-1s"}`,
		`{"allow":true}x`, `{"allow":true,"x":"` + strings.Repeat("x", maxVerdictSize) + `"}`} {
		if v, err := readVerdict([]byte(text)); err == nil || v.Allow {
			t.Errorf("%.40s: %+v", text, v)
		}
	}
}

// TestChecksFull refuses whoever comes while as many wait as may.
func TestChecksFull(t *testing.T) {
	r := secure(t, func(c *config.Config) { c.Workers = 1 })
	hold, held := make(chan struct{}), make(chan struct{})
	r.access.checks.Submit(func() { close(held); <-hold })
	<-held
	for r.access.checks.Submit(func() {}) {
	}
	token := tokenFor(t, "alice", may{}, time.Hour)
	a := r.upgrade("token=" + token)
	s := r.dial("")
	s.want("welcome")
	m := s.auth(token)
	close(hold)
	if a.status != 503 || !strings.Contains(a.body, "Retry-After") {
		t.Errorf("%d %s", a.status, a.body)
	}
	if m.Code != "unavailable" {
		t.Errorf("%+v", m)
	}
	eventually(t, "there is room again", func() bool { return r.upgrade("token="+token).status == 101 })
	if _, err := r.authenticate(context.Background(), auth.Credentials{}); err == nil || err.Code != "unauthorized" {
		t.Errorf("nothing shown: %v", err)
	}
}

// TestCheckTooSlow has clients wait for a check longer than they may, or want
// to: then it is not done at all.
func TestCheckTooSlow(t *testing.T) {
	r := secure(t, func(c *config.Config) { c.Workers, c.HandshakeTimeout = 1, 200*time.Millisecond })
	hold, held := make(chan struct{}), make(chan struct{})
	r.access.checks.Submit(func() { close(held); <-hold })
	<-held
	token := tokenFor(t, "alice", may{subscribe: "a"}, time.Hour)
	leaver, err := net.Dial("tcp", r.Addr())
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(leaver, "GET /ws?topic=a&token=%s HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", token)
	eventually(t, "its check waits", func() bool { return r.metric("pushd_connections") == "1" })
	leaver.Close()
	late := r.dial("")
	late.want("welcome")
	late.send(`{"type":"auth","token":"` + token + `"}`)
	late.wantNothing()
	late.conn.Close()
	if a := r.upgrade("token=" + token); a.status != 503 || !strings.Contains(a.body, "Retry-After") {
		t.Errorf("%d %s", a.status, a.body)
	}
	if s := r.events("topic=a&token=" + token); s.status != 503 || s.header.Get("Retry-After") == "" {
		t.Errorf("events: %d %s", s.status, s.body)
	}
	eventually(t, "all have gone", func() bool { return r.metric("pushd_connections") == "0" })
	close(hold)
	r.signedIn(token) // behind them
	if n := r.metric(`pushd_auth_total{result="ok"}`); n != "1" {
		t.Errorf("%s checks: those whose clients have gone are skipped", n)
	}
	if n := r.metric("pushd_identities"); n != "1" {
		t.Errorf("%s identities are connected, want 1", n)
	}
	if n := r.metric("pushd_token_keys"); n != "1" {
		t.Errorf("%s keys, want 1", n)
	}
}
