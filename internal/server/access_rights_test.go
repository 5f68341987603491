package server

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/golang-jwt/jwt/v5"

	"github.com/pushd/pushd/internal/config"
	"github.com/pushd/pushd/poller"
)

// TestPermissions tries each way to hear and to publish, with and without the right to.
func TestPermissions(t *testing.T) {
	r := secure(t, func(c *config.Config) {
		kept := c.Default
		kept.History = config.History{Messages: 10}
		c.Namespaces = map[string]config.Namespace{"kept": kept}
	})
	token := tokenFor(t, "alice", may{subscribe: "a.* kept.a.>", publish: "a.b kept.a.b"}, time.Hour)
	bearer := []string{"Authorization", "Bearer " + token}
	s := r.signedIn(token)
	for topic, allowed := range map[string]bool{
		"a.b": true, "a.*": true, "a.>": false, "a.b.c": false, "a": false, "b.a": false, "kept.a.>": true, "kept.a.b": true, "kept.>": false, "kept.*.b": false, "none.such": false,
	} {
		s.send(fmt.Sprintf(`{"type":"subscribe","topic":%q}`, topic))
		m := s.receive()
		if allowed && m.Type != "subscribed" || !allowed && (m.Code != "forbidden" || !strings.Contains(m.Message, "no permission to subscribe to")) {
			t.Errorf("subscribe to %s: %+v", topic, m)
		}
		s.send(fmt.Sprintf(`{"type":"presence","topic":%q}`, topic))
		if m := s.receive(); allowed != (m.Type == "presence") || !allowed && m.Code != "forbidden" {
			t.Errorf("presence of %s: %+v", topic, m)
		}
		a := r.upgrade("format=raw&topic="+topic, "Authorization: Bearer "+token)
		if allowed != (a.status == 101) || !allowed && a.status != 403 {
			t.Errorf("raw on %s: %d %s", topic, a.status, a.body)
		}
	}
	quiet := r.signedIn(tokenFor(t, "bob", may{publish: "a.b kept.a.b"}, time.Hour))
	for topic, allowed := range map[string]bool{"a.b": true, "kept.a.b": true, "a.c": false, "a.b.c": false, "kept.b": false, "none.such": false} {
		quiet.send(fmt.Sprintf(`{"type":"publish","topic":%q,"data":1}`, topic))
		if m := quiet.receive(); allowed != (m.Type == "published") || !allowed && m.Code != "forbidden" {
			t.Errorf("publish to %s: %+v", topic, m)
		}
		status, header, body := r.request("POST", "http://"+r.Addr()+"/publish/"+topic, "", "1", bearer...)
		if allowed != (status == 200 || status == 202) || !allowed && (status != 403 || !strings.Contains(header.Get("WWW-Authenticate"), "insufficient_scope")) {
			t.Errorf("POST to %s: %d %s", topic, status, body)
		}
		_, _, body = r.request("POST", "http://"+r.Addr()+"/publish", "application/x-ndjson", fmt.Sprintf(`{"topic":%q,"data":1}`, topic), bearer...)
		if allowed == strings.Contains(body, `"code":"forbidden"`) {
			t.Errorf("a line to %s: %s", topic, body)
		}
	}
	for topic, want := range map[string]int{"kept.a.b": 200, "kept.b": 403, "a.b": 400, "b.a": 403, "none.such": 403} { // 400: no history, which who may not hear is not told
		if status, _, body := r.request("GET", "http://"+r.Addr()+"/history/"+topic, "", "", bearer...); status != want {
			t.Errorf("history of %s: %d %s, want %d", topic, status, body, want)
		}
	}
	for _, path := range []string{"/history/kept.a.b", "/history/none.such"} {
		if status, header, body := r.http("GET", path, "", ""); status != 401 || header.Get("WWW-Authenticate") != `Bearer realm="pushd"` {
			t.Errorf("%s without a token: %d %v %s", path, status, header, body)
		}
		if status, _, body := r.http("GET", path+"?token="+token, "", ""); status == 401 {
			t.Errorf("%s with a token in the query: %s", path, body)
		}
	}
	for _, contentType := range []string{"", "application/x-ndjson"} {
		if status, _, body := r.http("POST", "/publish", contentType, `{"topic":"a.b","data":1}`); status != 401 {
			t.Errorf("lines without a token: %d %s", status, body)
		}
	}
	if status, _, body := r.request("GET", "http://"+r.Addr()+"/history/kept.a.b?token=x", "", "", bearer...); status != 400 || !strings.Contains(body, "more than one token") {
		t.Errorf("two tokens: %d %s", status, body)
	}
	if got := r.metric(`pushd_forbidden_total{action="publish"}`); got == "0" || got == "" {
		t.Errorf("%q publications counted as forbidden", got)
	}
	if r.metric(`pushd_forbidden_total{action="subscribe"}`) == "0" {
		t.Error("no subscription counted as forbidden")
	}
}

// TestForbiddenSaysNothing compares what is said of topics that are there with
// what is said of those that are not.
func TestForbiddenSaysNothing(t *testing.T) {
	r := secure(t, func(c *config.Config) {
		kept := c.Default
		kept.History, kept.Delivery, kept.MaxMessage = config.History{Messages: 10}, config.DeliveryAll, 8
		c.Namespaces = map[string]config.Namespace{"secret1": kept}
	})
	owner := r.signedIn(tokenFor(t, "owner", may{subscribe: ">", publish: ">"}, time.Hour))
	owner.subscribe("secret1.x")
	owner.send(`{"type":"publish","topic":"secret1.x","data":1}`)
	for got := 0; got < 2; got++ { // the message and the reply, in any order
		owner.receive()
	}
	token := tokenFor(t, "eve", may{subscribe: "a", publish: "a"}, time.Hour)
	s := r.signedIn(token)
	for _, command := range []string{
		`{"type":"subscribe","topic":"NS.x"}`, `{"type":"subscribe","topic":"NS.x","mode":"all"}`, `{"type":"subscribe","topic":"NS.*","mode":"latest","max_rate":1}`,
		`{"type":"subscribe","topic":"NS.x","cursor":"k3:1"}`,
		`{"type":"presence","topic":"NS.x"}`, `{"type":"publish","topic":"NS.x","data":1}`, `{"type":"publish","topic":"NS.x","data":"longer than 8"}`,
	} {
		var said [2]string
		for i, namespace := range []string{"secret1", "secret2"} {
			s.send(strings.ReplaceAll(command, "NS", namespace))
			said[i] = strings.ReplaceAll(string(s.next().Payload), namespace, "NS")
		}
		if said[0] != said[1] || strings.Contains(command, `"k3:1"`) == strings.Contains(said[0], "forbidden") {
			t.Errorf("%s\nthere:     %s\nnot there: %s", command, said[0], said[1])
		}
	}
	for _, request := range []struct{ method, path, body string }{
		{"GET", "/history/NS.x", ""}, {"GET", "/history/NS.x?limit=bad", ""}, {"POST", "/publish/NS.x", "1"}, {"POST", "/publish/NS.x", "longer than 8"},
	} {
		var said [2]string
		for i, namespace := range []string{"secret1", "secret2"} {
			status, _, body := r.request(request.method, "http://"+r.Addr()+strings.ReplaceAll(request.path, "NS", namespace), "", request.body, "Authorization", "Bearer "+token)
			said[i] = strings.ReplaceAll(fmt.Sprint(status, " ", body), namespace, "NS")
		}
		if said[0] != said[1] || !strings.Contains(said[0], "forbidden") {
			t.Errorf("%+v\nthere:     %s\nnot there: %s", request, said[0], said[1])
		}
	}
}

// TestLostRight refreshes a token with one that permits less.
func TestLostRight(t *testing.T) {
	r := secure(t)
	nc := r.backend()
	s := r.signedIn(tokenFor(t, "alice", may{subscribe: "a.> b.*", publish: "a.x"}, time.Hour))
	s.subscribe("a.*")
	s.subscribe("b.x")
	s.send(`{"type":"publish","topic":"a.x","data":1}`)
	for range 2 {
		s.receive()
	}
	if m := s.auth(tokenFor(t, "alice", may{subscribe: "b.x a.y"}, time.Hour)); m.Type != "authenticated" {
		t.Fatalf("%+v", m)
	}
	if m := s.want("unsubscribed"); m.Topic != "a.*" || m.Reason != "forbidden" {
		t.Errorf("%+v", m)
	}
	for range 20 {
		nc.Publish("push.a.x", []byte("2"))
	}
	nc.Publish("push.b.x", []byte("3"))
	s.wantData("b.x", "3") // and none of a.x, which came before it
	s.send(`{"type":"publish","topic":"a.x","data":1}`)
	s.wantError("forbidden")
	s.send(`{"type":"subscribe","topic":"a.*"}`)
	s.wantError("forbidden")
	s.subscribe("a.y")

	// One that is refused changes nothing.
	if m := s.auth(tokenFor(t, "alice", may{}, -time.Hour)); m.Code != "unauthorized" {
		t.Errorf("an expired token: %+v", m)
	}
	if m := s.auth(tokenFor(t, "mallory", may{subscribe: ">"}, time.Hour)); m.Code != "unauthorized" || !strings.Contains(m.Message, "identity") {
		t.Errorf("the token of another: %+v", m)
	}
	nc.Publish("push.a.y", []byte("4"))
	s.wantData("a.y", "4")
	if m := s.auth(tokenFor(t, "alice", may{subscribe: ">"}, time.Hour)); m.Type != "authenticated" {
		t.Errorf("%+v", m)
	}
	s.subscribe("a.*")
}

// TestTokenExpires lets tokens end, with a warning before it.
func TestTokenExpires(t *testing.T) {
	t.Parallel()
	r := secure(t)
	life := func(seconds int) string {
		return sign(t, jwt.MapClaims{"sub": "alice", "exp": time.Now().Unix() + int64(seconds), "pushd": map[string]any{"subscribe": []string{"a.>"}}})
	}
	ends, renewed := r.signedIn(life(4)), r.signedIn(life(4))
	raw := r.upgrade("format=raw&topic=a.b&token=" + life(4)).socket
	for _, s := range []*socket{ends, renewed} {
		s.subscribe("a.b")
		s.subscribe("a.*")
	}
	warned := func(s *socket) {
		t.Helper()
		m := s.want("token_expires")
		if left := time.Until(time.UnixMilli(m.Expires)); m.After <= 0 || m.After > 3000 || left > 4*time.Second {
			t.Errorf("warned with %d ms left, of a token that ends in %v", m.After, left)
		}
	}
	warned(renewed)
	if m := renewed.auth(tokenFor(t, "alice", may{subscribe: "a.>"}, time.Hour)); m.Type != "authenticated" {
		t.Fatalf("%+v", m)
	}
	warned(ends)
	gone := map[string]bool{}
	for range 2 {
		m := ends.want("unsubscribed")
		gone[m.Topic] = m.Reason == "token_expired"
	}
	if !gone["a.b"] || !gone["a.*"] {
		t.Errorf("ended: %v", gone)
	}
	for _, s := range []*socket{ends, raw} {
		if code := s.wantClose(); code != 4002 {
			t.Errorf("closed with %d, want 4002", code)
		}
	}
	eventually(t, "the connections are forgotten", func() bool { return r.metric(`pushd_connections_closed_total{reason="token_expired"}`) == "2" })
	r.backend().Publish("push.a.b", []byte("1"))
	renewed.wantData("a.b", "1")
	if r.metric("pushd_identities") != "1" {
		t.Errorf("%s identities", r.metric("pushd_identities"))
	}
}

// TestTokenOfLinesExpires ends a request that would go on for ever.
func TestTokenOfLinesExpires(t *testing.T) {
	r := secure(t)
	ends := monotonic(time.Now().Add(-time.Second))
	v := visitor{identity: "alice", rights: nil, ends: ends}
	if err := r.permit(t.Context(), v, "publish", "a.b"); err == nil || err.Code != "unauthorized" || !strings.Contains(err.Message, "expired") {
		t.Errorf("%v", err)
	}
}

// TestClockJumps gives lifetimes as a wall clock would that was set: what
// counts later is the shard's own.
func TestClockJumps(t *testing.T) {
	r := secure(t)
	sh := r.shards[0]
	done := make(chan struct{})
	sh.loop.Post(poller.Func(func() {
		defer close(done)
		now := time.Now()
		for _, c := range []struct {
			expires time.Time
			ticks   uint32
			lead    uint8
		}{
			{now.Add(time.Minute), 600, 30}, {now.Add(10 * time.Second), 100, 5}, {now.Add(time.Second), 10, 1}, {now.Add(-time.Hour), 0, 0},
			{now.Add(100 * 365 * 24 * time.Hour), uint32(longestLife / (100 * time.Millisecond)), 30},
		} {
			at := sh.loop.Now()
			if _, ends, lead := sh.lifetime(c.expires, now); ends-at != c.ticks || lead != c.lead {
				t.Errorf("%v: %d ticks and %d s, want %d and %d", c.expires.Sub(now), ends-at, lead, c.ticks, c.lead)
			}
		}
		if seconds, ends, lead := sh.lifetime(time.Time{}, now); seconds != 0 || ends != 0 || lead != 0 {
			t.Error("what never expires has an end")
		}
	}))
	<-done
}

// TestIdentityLimit opens more connections than an identity may have.
func TestIdentityLimit(t *testing.T) {
	r := secure(t, func(c *config.Config) { c.MaxConnectionsPerIdentity = 2 })
	alice, bob := tokenFor(t, "alice", may{}, time.Hour), tokenFor(t, "bob", may{}, time.Hour)
	first, _ := r.signedIn(alice), r.signedIn(alice)
	a := r.upgrade("token=" + alice)
	if a.status != 429 || !strings.Contains(a.body, "Retry-After: 2") || !strings.Contains(a.body, "rate_limited") {
		t.Errorf("%d %s", a.status, a.body)
	}
	late := r.dial("")
	late.want("welcome")
	if m := late.auth(alice); m.Code != "rate_limited" {
		t.Errorf("%+v", m)
	}
	f := late.next()
	code, reason := ws.ParseCloseFrameData(f.Payload)
	if f.Header.OpCode != ws.OpClose || code != 1008 || reason != "identity_full" {
		t.Errorf("%v %d %s", f.Header.OpCode, code, reason)
	}
	r.signedIn(bob)
	if m := first.auth(alice); m.Type != "authenticated" { // no further connection
		t.Errorf("%+v", m)
	}
	first.conn.Close()
	eventually(t, "there is room again", func() bool { return r.upgrade("token="+alice).status == 101 })
	if r.metric("pushd_identities") != "2" || r.metric(`pushd_auth_total{result="identity_full"}`) == "0" {
		t.Errorf("%s identities, %s refused", r.metric("pushd_identities"), r.metric(`pushd_auth_total{result="identity_full"}`))
	}
	if _, _, text := r.request("GET", "http://"+r.AdminAddr()+"/connections", "", ""); !strings.Contains(text, `"identity": "alice"`) || !strings.Contains(text, `"identity": "bob"`) {
		t.Errorf("/connections: %s", text)
	}
}
