package server

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"github.com/pushd/pushd/internal/config"
)

// tryOperator opens a WebSocket of the admin listener, with headers ("Name",
// "value") and subprotocols.
func (r *running) tryOperator(query string, protocols []string, headers ...string) (*socket, error) {
	r.t.Helper()
	header := make(http.Header)
	dialer := ws.Dialer{Timeout: patience, Protocols: protocols}
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			dialer.Host = headers[i+1]
			continue
		}
		header.Add(headers[i], headers[i+1])
	}
	dialer.Header = ws.HandshakeHeaderHTTP(header)
	c, early, _, err := dialer.Dial(context.Background(), "ws://"+r.AdminAddr()+"/ws"+query)
	if err != nil {
		return nil, err
	}
	s := &socket{t: r.t, conn: c, read: c}
	if early != nil {
		s.read = io.MultiReader(io.LimitReader(early, int64(early.Buffered())), c)
	}
	r.t.Cleanup(func() { c.Close() })
	return s, nil
}

func (r *running) operator() *socket {
	r.t.Helper()
	s, err := r.tryOperator("", []string{"pushd.v1.json"})
	if err != nil {
		r.t.Fatal(err)
	}
	s.want("welcome")
	return s
}

// TestOperatorMayAll uses a server that lets nobody do anything: for an
// operator there are no permissions.
func TestOperatorMayAll(t *testing.T) {
	r := secure(t)
	s := r.operator()
	s.subscribe("secret.>")
	s.send(`{"type":"publish","id":1,"topic":"secret.x","data":1}`)
	got := map[string]bool{}
	for range 2 {
		got[s.receive().Type] = true
	}
	if !got["published"] || !got["message"] {
		t.Errorf("received %v", got)
	}
	s.subscribe("_pushd.nodes.*")
	if m := s.want("message"); m.Topic != "_pushd.nodes."+r.name {
		t.Errorf("received %+v", m)
	}
	var list struct{ Connections []connectionInfo }
	r.do(200, "GET", "/connections", &list)
	if len(list.Connections) != 1 || !list.Connections[0].Operator {
		t.Errorf("listed as %+v", list)
	}
	s.conn.Close()
	eventually(t, "the operator has gone", func() bool { return r.quota.Operators() == 0 })
}

// TestOperatorToken lets nobody open a WebSocket who does not show the token.
func TestOperatorToken(t *testing.T) {
	const token = "+/= \"" + adminSecret // what no entry of the header could hold as it is
	file := writeToken(t, token)
	r := start(t, func(c *config.Config) { c.AdminTokenFile = file })
	entry := func(s string) string { return "pushd.token." + base64.RawURLEncoding.EncodeToString([]byte(s)) }
	f := func(ok bool, query string, protocols []string, headers ...string) {
		t.Helper()
		s, err := r.tryOperator(query, protocols, headers...)
		if (err == nil) != ok {
			t.Errorf("%s with %q and %q: %v", query, protocols, headers, err)
		}
		if s != nil {
			s.want("welcome")
			s.conn.Close()
		}
	}
	f(true, "", []string{"pushd.v1.json", entry(token)})
	f(true, "", []string{entry(token), "pushd.v1.json"}, "Origin", "https://console.example.com") // who knows the token is no page of a stranger
	f(true, "", nil, "Authorization", "Bearer "+token)
	f(false, "", nil)
	f(false, "", []string{"pushd.v1.json"})
	f(false, "", []string{"pushd.v1.json", entry("")})
	f(false, "", []string{"pushd.v1.json", entry(token[1:])})
	f(false, "", []string{"pushd.v1.json", "pushd.token." + adminSecret})
	f(false, "", []string{"pushd.v1.json", "pushd.token.!"})
	f(false, "?token="+adminSecret, []string{"pushd.v1.json"})
	f(false, "", nil, "Authorization", "Bearer "+adminSecret)

	// The page itself is for anybody, since it asks for the token; nothing else is.
	for path, want := range map[string]int{"/console/": 200, "/console/app.js": 200, "/": 200, "/statistics": 401, "/ws": 401, "/console/nothing": 404} {
		if status, _, _ := r.request("GET", "http://"+r.AdminAddr()+path, "", ""); status != want {
			t.Errorf("GET %s: %d, want %d", path, status, want)
		}
	}
}

// TestOperatorPages lets pages of the admin listener itself in where there is no
// token, and neither those of other sites nor those that rebind their name.
func TestOperatorPages(t *testing.T) {
	r := start(t)
	addr := r.AdminAddr()
	_, port, _ := strings.Cut(addr, ":")
	f := func(ok bool, headers ...string) {
		t.Helper()
		s, err := r.tryOperator("", []string{"pushd.v1.json"}, headers...)
		if (err == nil) != ok {
			t.Errorf("%q: %v", headers, err)
		}
		if s != nil {
			s.conn.Close()
		}
		status, _, body := r.request("POST", "http://"+addr+"/connections/x/disconnect", "", "", headers...)
		if len(headers) > 0 && headers[0] == "Host" {
			return // net/http has that elsewhere
		}
		if (status == 404) != ok { // the guard let it through, to no such client
			t.Errorf("POST with %q: %d %s", headers, status, body)
		}
	}
	f(true)
	f(true, "Origin", "http://"+addr)
	f(true, "Origin", "http://"+addr, "Sec-Fetch-Site", "same-origin")
	f(true, "Host", "localhost:"+port, "Origin", "http://localhost:"+port)
	f(false, "Origin", "http://"+addr, "Sec-Fetch-Site", "cross-site")
	f(false, "Origin", "http://127.0.0.1:1") // another program of this machine
	f(false, "Origin", "http://127.0.0.1")   // the same
	f(false, "Origin", "http://"+addr+".evil.example")
	f(false, "Origin", "http://evil@"+addr)
	f(false, "Origin", "http://localhost:"+port) // another name than the request's
	f(false, "Origin", "file://"+addr)
	f(false, "Origin", "null")
	f(false, "Origin", "")
	f(false, "Origin", "http://"+addr, "Origin", "http://evil.example")
	f(false, "Host", "evil.example:"+port, "Origin", "http://evil.example:"+port) // rebound
	f(false, "Host", "evil.example:"+port)
	if status, header, _ := r.request("GET", "http://"+addr+"/ws", "", ""); status != 426 || header.Get("Sec-WebSocket-Version") != "13" {
		t.Errorf("GET /ws without an upgrade: %d", status)
	}
	r.wantMetric(`pushd_admin_refused_total{reason="bad_host"} 2`)
}

// TestOperatorWhenFull lets an operator see a node that has no room for clients,
// and that is being drained.
func TestOperatorWhenFull(t *testing.T) {
	r := start(t, func(c *config.Config) {
		c.MaxConnections, c.HandshakeRate, c.Unlimited = 1, 1, []string{"none"}
	})
	var operators []*socket
	for range 4 {
		operators = append(operators, r.operator())
	}
	client := r.subscribed() // whom they leave the one place
	if _, err := r.tryDial(""); err == nil {
		t.Fatal("a client too many was let in")
	}
	operators = append(operators, r.operator())
	r.wantMetric(`pushd_connections 1`)
	r.wantMetric(`pushd_transport_connections{transport="websocket"} 1`)
	var st drainStatus
	r.do(202, "POST", "/drain?window=0", &st)
	if got := client.wantClose(); got != 1012 {
		t.Errorf("the client was closed with %d", got)
	}
	client.conn.Close()
	eventually(t, "the node is drained", func() bool { r.do(200, "GET", "/drain", &st); return st.State == "drained" && st.Connections == 0 })
	operators = append(operators, r.operator())
	time.Sleep(300 * time.Millisecond) // some ticks, in which a drain would close them
	for _, o := range operators {
		o.send(`{"type":"ping"}`)
		o.want("pong")
	}
}

// TestOperatorsAreBounded has a script open consoles without end: the listener of
// operators is no way around the bounds of clients.
func TestOperatorsAreBounded(t *testing.T) {
	const most = 64
	r := start(t)
	var operators []*socket
	for range most {
		operators = append(operators, r.operator())
	}
	for range 3 {
		if _, err := r.tryOperator("", []string{"pushd.v1.json"}); err == nil || !strings.Contains(err.Error(), "503") {
			t.Errorf("one too many: %v", err)
		}
	}
	if n := r.quota.Operators(); n != most {
		t.Errorf("%d connections of operators, of %d", n, most)
	}
	r.subscribed() // clients are none of them
	operators[0].conn.Close()
	eventually(t, "there is a place", func() bool { return r.quota.Operators() == most-1 })
	r.operator()
}

// TestConnectionDetail shows all that one connection has.
func TestConnectionDetail(t *testing.T) {
	r := start(t)
	s, name := r.welcomed()
	for i := range 30 {
		s.subscribe("a.t" + string(rune('a'+i%26)) + string(rune('a'+i/26)))
	}
	var c connectionInfo
	r.do(200, "GET", "/connections/"+name, &c)
	if c.Client != name || len(c.Subscriptions) != 30 || c.Format != "json" || c.State != "open" {
		t.Errorf("shown as %+v", c)
	}
	var no message
	r.do(404, "GET", "/connections/c_nobody", &no)
	s.conn.Close()
	eventually(t, "it has gone", func() bool {
		status, _, _ := r.request("GET", "http://"+r.AdminAddr()+"/connections/"+name, "", "")
		return status == 404
	})
	r.do(400, "GET", "/connections?behind=perhaps", &no)
	var list struct{ Connections []json.RawMessage }
	r.do(200, "GET", "/connections?behind=true", &list)
	if len(list.Connections) != 0 {
		t.Errorf("behind: %s", list.Connections)
	}
}
