package server

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"

	"github.com/gobwas/ws"
)

// do makes a request of the admin listener and reads its answer into v.
func (r *running) do(status int, method, path string, v any) {
	r.t.Helper()
	got, _, body := r.request(method, "http://"+r.AdminAddr()+path, "", "")
	if got != status {
		r.t.Fatalf("%s %s: %d %s, want %d", method, path, got, body, status)
	}
	if err := json.Unmarshal([]byte(body), v); err != nil {
		r.t.Fatalf("%s %s: %q: %v", method, path, body, err)
	}
}

func (r *running) wantMetric(line string) {
	r.t.Helper()
	if !strings.Contains(r.adminGet("/metrics"), "\n"+line+"\n") {
		r.t.Errorf("/metrics lacks %s", line)
	}
}

func TestDisconnectClient(t *testing.T) {
	r := start(t)
	for reason, code := range map[string]ws.StatusCode{"": 4003, "?reason=kicked": 4003, "?reason=token_expired": 4002, "?reason=policy": 1008, "?reason=draining": 1012, "?reason=overloaded": 1013} {
		s, name := r.welcomed("a.b")
		other, _ := r.welcomed("a.b")
		var did disconnected
		r.do(200, "POST", "/connections/"+name+"/disconnect"+reason, &did)
		if did.Client != name || did.Disconnected != 1 || did.Reason == "" {
			t.Errorf("%s: %+v", reason, did)
		}
		if got := s.wantClose(); got != code {
			t.Errorf("%s: closed with %d, want %d", reason, got, code)
		}
		other.send(`{"type":"ping"}`)
		other.want("pong")
		var no message
		r.do(404, "POST", "/connections/"+name+"/disconnect"+reason, &no) // once
	}
	r.wantMetric(`pushd_admin_actions_total{action="disconnect_client"} 6`)

	s, name := r.welcomed()
	var no message
	for _, bad := range []string{"x", "c_", "c_aaaa", name[2:], name + "a", strings.ToUpper(name), name[:len(name)-3] + "aaa", "c_" + strings.Repeat("7", len(name)-2)} {
		r.do(404, "POST", "/connections/"+bad+"/disconnect", &no)
	}
	r.do(400, "POST", "/connections/"+name+"/disconnect?reason=shutdown", &no)
	if status, _, body := r.request("GET", "http://"+r.AdminAddr()+"/connections/"+name+"/disconnect", "", ""); status != 405 {
		t.Errorf("GET: %d %s", status, body)
	}
	s.send(`{"type":"ping"}`)
	s.want("pong")
}

func TestDisconnectIdentity(t *testing.T) {
	r := secure(t)
	who := []string{"alice", "bob", "team/alice@eu"}
	of := map[string][]*socket{}
	for i := range 30 {
		s, _ := r.welcomedAs(who[i%3], "a.b")
		of[who[i%3]] = append(of[who[i%3]], s)
	}
	var did disconnected
	r.do(200, "POST", "/identities/nobody/disconnect", &did)
	if did.Disconnected != 0 {
		t.Errorf("nobody: %+v", did)
	}
	for _, gone := range []string{"alice", "team/alice@eu"} {
		r.do(200, "POST", "/identities/"+url.PathEscape(gone)+"/disconnect", &did)
		if did.Disconnected != 10 || did.Identity != gone || did.Reason != "kicked" {
			t.Errorf("%s: %+v", gone, did)
		}
		for _, s := range of[gone] {
			if code := s.wantClose(); code != 4003 {
				t.Errorf("%s: closed with %d", gone, code)
			}
		}
	}
	for _, s := range of["bob"] {
		s.send(`{"type":"ping"}`)
		s.want("pong")
	}
	r.wantMetric(`pushd_admin_actions_total{action="disconnect_identity"} 3`)
	r.wantMetric(`pushd_connections_closed_total{reason="kicked"} 20`)
}
