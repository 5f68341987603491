package server

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/golang-jwt/jwt/v5"

	"github.com/pushd/pushd/internal/auth"
	"github.com/pushd/pushd/internal/config"
)

// TestTokenPlaces opens a WebSocket with the token in each place where it may stand.
func TestTokenPlaces(t *testing.T) {
	file, private := ed25519Key(t)
	plain, hash := auth.NewAPIKey()
	r := secure(t, func(c *config.Config) {
		c.TokenKeys = []string{file}
		c.APIKeys = []config.APIKey{{Name: "backend", Hash: hash, Subscribe: []string{"news.>"}}}
	})
	good := tokenFor(t, "alice", may{subscribe: "news.>"}, time.Hour)
	signed, err := jwt.NewWithClaims(jwt.SigningMethodEdDSA, jwt.MapClaims{"sub": "bob", "exp": time.Now().Add(time.Hour).Unix(),
		"pushd": map[string]any{"subscribe": []string{"news.>"}}}).SignedString(private)
	if err != nil {
		t.Fatal(err)
	}
	other := tokenFor(t, "alice", may{}, time.Hour)
	for _, c := range []struct {
		name, query string
		lines       []string
		status      int
		protocol    string
	}{
		{"header", "", []string{"Authorization: Bearer " + good}, 101, ""},
		{"header in small letters", "", []string{"Authorization: bearer " + good}, 101, ""},
		{"query", "token=" + good, nil, 101, ""},
		{"subprotocol", "", []string{"Sec-WebSocket-Protocol: pushd.token." + good + ", pushd.v1.json"}, 101, "pushd.v1.json"},
		{"subprotocol behind", "", []string{"Sec-WebSocket-Protocol: pushd.v1.json, pushd.token." + good}, 101, "pushd.v1.json"},
		{"EdDSA", "token=" + signed, nil, 101, ""},
		{"API key", "", []string{"Authorization: Bearer " + plain}, 101, ""},
		{"the same twice", "token=" + good, []string{"Authorization: Bearer " + good}, 101, ""},
		{"two", "token=" + good, []string{"Authorization: Bearer " + other}, 400, ""},
		{"two in the query", "token=" + good + "&token=" + other, nil, 400, ""},
		{"none that is good", "token=" + good[:len(good)-4] + "AAAA", nil, 401, ""},
		{"bad in the subprotocol", "", []string{"Sec-WebSocket-Protocol: pushd.v1.json, pushd.token.x"}, 401, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			q := "topic=news.x"
			if c.query != "" {
				q += "&" + c.query
			}
			a := r.upgrade(q, c.lines...)
			if a.status != c.status || a.protocol != c.protocol {
				t.Fatalf("%d with protocol %q, want %d with %q: %s", a.status, a.protocol, c.status, c.protocol, a.body)
			}
			if a.socket == nil {
				return
			}
			a.socket.want("welcome")
			if m := a.socket.want("subscribed"); m.Topic != "news.x" {
				t.Errorf("%+v", m)
			}
			a.socket.wantNothing()
		})
	}
	if got := r.metric(`pushd_auth_total{result="conflict"}`); got != "2" {
		t.Errorf("%s conflicts counted, want 2", got)
	}
}

// TestBadTokens shows what is no token, in each place.
func TestBadTokens(t *testing.T) {
	r := secure(t, func(c *config.Config) { c.TokenIssuer, c.TokenAudience = "us", "pushd" })
	claims := func(change func(jwt.MapClaims)) jwt.MapClaims {
		c := jwt.MapClaims{"sub": "eve", "iss": "us", "aud": "pushd", "exp": time.Now().Add(time.Hour).Unix(), "pushd": map[string]any{"subscribe": []string{">"}}}
		change(c)
		return c
	}
	good := sign(t, claims(func(jwt.MapClaims) {}))
	none, err := jwt.NewWithClaims(jwt.SigningMethodNone, claims(func(jwt.MapClaims) {})).SignedString(jwt.UnsafeAllowNoneSignatureType)
	if err != nil {
		t.Fatal(err)
	}
	wrong, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims(func(jwt.MapClaims) {})).SignedString([]byte("another secret of 32 bytes, yes.."))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		reason auth.Reason
		token  string
	}{
		{auth.Malformed, "x"},
		{auth.BadAlgorithm, none},
		{auth.BadSignature, wrong},
		{auth.BadSignature, good[:len(good)-6] + "AAAAAA"},
		{auth.Expired, sign(t, claims(func(c jwt.MapClaims) { c["exp"] = time.Now().Add(-time.Minute).Unix() }))},
		{auth.NotYetValid, sign(t, claims(func(c jwt.MapClaims) { c["nbf"] = time.Now().Add(time.Hour).Unix() }))},
		{auth.BadIssuer, sign(t, claims(func(c jwt.MapClaims) { c["iss"] = "them" }))},
		{auth.BadAudience, sign(t, claims(func(c jwt.MapClaims) { c["aud"] = "them" }))},
		{auth.BadClaims, sign(t, claims(func(c jwt.MapClaims) { delete(c, "exp") }))},
		{auth.UnknownKey, "pushd_" + strings.Repeat("0", 64)},
	} {
		t.Run(string(c.reason), func(t *testing.T) {
			for _, a := range []answer{
				r.upgrade("token=" + c.token), r.upgrade("format=raw&token=" + c.token),
				r.upgrade("", "Authorization: Bearer "+c.token), r.upgrade("", "Sec-WebSocket-Protocol: pushd.v1.json, pushd.token."+c.token),
			} {
				if a.status != 401 || !strings.Contains(a.body, `"code":"unauthorized"`) || !strings.Contains(a.body, `WWW-Authenticate: Bearer realm="pushd", error="invalid_token"`) {
					t.Errorf("%d %s", a.status, a.body)
				}
			}
			status, header, body := r.request("POST", "http://"+r.Addr()+"/publish/a.b", "", "1", "Authorization", "Bearer "+c.token)
			if status != 401 || header.Get("WWW-Authenticate") != `Bearer realm="pushd", error="invalid_token"` {
				t.Errorf("HTTP: %d %v %s", status, header, body)
			}
			s := r.dial("")
			s.want("welcome")
			if m := s.auth(c.token); m.Code != "unauthorized" || string(m.ID) != `"a"` {
				t.Errorf("the command: %+v", m)
			}
			if r.metric(fmt.Sprintf(`pushd_auth_total{result=%q}`, c.reason)) == "0" {
				t.Error("it was not counted")
			}
		})
	}
	if s := r.signedIn(good); s != nil {
		s.subscribe("a.b")
	}
}

// TestAuthCommand comes without a token and sends it over the WebSocket.
func TestAuthCommand(t *testing.T) {
	r := secure(t)
	a := r.upgrade("topic=news.x")
	if a.status != 101 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	s := a.socket
	s.want("welcome")
	s.wantError("unauthorized") // for the query string
	for _, command := range []string{
		`{"type":"subscribe","topic":"news.x"}`, `{"type":"publish","topic":"news.x","data":1}`, `{"type":"presence","topic":"news.x"}`,
		`{"type":"unsubscribe","topic":"news.x"}`, `{"type":"subscribe","topic":"*"}`,
	} {
		s.send(command)
		s.wantError("unauthorized")
	}
	s.wantNothing()
	end := time.Now().Add(time.Hour).Truncate(time.Second)
	if m := s.auth(tokenFor(t, "alice", may{subscribe: "news.*"}, time.Until(end)+500*time.Millisecond)); m.Type != "authenticated" || string(m.ID) != `"a"` || m.Expires != end.UnixMilli() {
		t.Fatalf("%+v, want it to end at %d", m, end.UnixMilli())
	}
	s.subscribe("news.x")
	s.send(`{"type":"subscribe","id":3,"topic":"news.>"}`)
	if m := s.wantError("forbidden"); string(m.ID) != "3" || !strings.Contains(m.Message, `"news.>"`) {
		t.Errorf("%+v", m)
	}
	r.backend().Publish("push.news.x", []byte("1"))
	s.wantData("news.x", "1")
	if a := r.upgrade("format=raw&topic=news.x"); a.status != 401 || !strings.Contains(a.body, "WWW-Authenticate: Bearer realm=\"pushd\"\r\n") {
		t.Errorf("raw, which can send no command: %d %s", a.status, a.body)
	}
}

// TestAuthDeadline opens connections that never show a token.
func TestAuthDeadline(t *testing.T) {
	r := secure(t, func(c *config.Config) { c.AuthTimeout = 300 * time.Millisecond })
	silent, chatty, good := r.dial(""), r.dial(""), r.dial("")
	for _, s := range []*socket{silent, chatty, good} {
		s.want("welcome")
	}
	if m := good.auth(tokenFor(t, "alice", may{subscribe: "a"}, time.Hour)); m.Type != "authenticated" {
		t.Fatalf("%+v", m)
	}
	chatty.send(`{"type":"auth","token":"x"}`)
	chatty.wantError("unauthorized")
	chatty.send(`{"type":"ping"}`)
	for _, s := range []*socket{silent, chatty} {
		if code := s.wantClose(); code != 4001 {
			t.Errorf("closed with %d, want 4001", code)
		}
	}
	good.subscribe("a")
}

// TestAuthGuessing tries one token after the other, with good commands between them.
func TestAuthGuessing(t *testing.T) {
	r := secure(t)
	for _, s := range []*socket{r.dial(""), r.signedIn(tokenFor(t, "alice", may{}, time.Hour))} {
		for range maxDenials {
			s.send(`{"type":"ping"}`)
			s.send(`{"type":"auth","token":"guess"}`)
			for {
				f := s.next()
				if strings.Contains(string(f.Payload), "unauthorized") {
					break
				}
				if f.Header.OpCode == ws.OpClose {
					t.Fatal("closed too early")
				}
			}
		}
		if code := s.wantClose(); code != ws.StatusPolicyViolation {
			t.Errorf("closed with %d, want 1008", code)
		}
	}
}

// TestPublicNamespaces is what may be done without a token.
func TestPublicNamespaces(t *testing.T) {
	r := secure(t, func(c *config.Config) {
		news, talk, drop := c.Default, c.Default, c.Default
		news.Public, talk.Public, drop.Public = config.PublicSubscribe, config.PublicAll, config.PublicPublish
		c.Namespaces = map[string]config.Namespace{"news": news, "talk": talk, "drop": drop}
	})
	for _, c := range []struct{ topic, subscribe, publish string }{
		{"news.x", "subscribed", "error"}, {"talk.x", "subscribed", "published"}, {"drop.x", "error", "published"}, {"else.x", "error", "error"}, {"newsx", "error", "error"},
	} {
		s := r.dial("")
		s.want("welcome")
		s.send(fmt.Sprintf(`{"type":"subscribe","topic":%q}`, c.topic))
		if m := s.receive(); m.Type != c.subscribe || m.Type == "error" && m.Code != "forbidden" {
			t.Errorf("subscribe %s: %+v", c.topic, m)
		}
		s.send(fmt.Sprintf(`{"type":"publish","topic":%q,"data":1}`, c.topic))
		for {
			m := s.receive()
			if m.Type == "message" {
				continue
			}
			if m.Type != c.publish || m.Type == "error" && m.Code != "forbidden" {
				t.Errorf("publish %s: %+v", c.topic, m)
			}
			break
		}
		status, _, body := r.http("POST", "/publish/"+c.topic, "", "1")
		if (status == 202) != (c.publish == "published") || status != 202 && status != 401 {
			t.Errorf("POST to %s: %d %s", c.topic, status, body)
		}
		a := r.upgrade("format=raw&topic=" + c.topic)
		if (a.status == 101) != (c.subscribe == "subscribed") || a.status != 101 && a.status != 401 {
			t.Errorf("raw on %s: %d %s", c.topic, a.status, a.body)
		}
	}
	s := r.dial("") // who has come without a token may still send one
	s.want("welcome")
	if m := s.auth(tokenFor(t, "alice", may{subscribe: "else.>"}, time.Hour)); m.Type != "authenticated" {
		t.Fatalf("%+v", m)
	}
	s.subscribe("else.x")
	s.subscribe("news.>")
}
