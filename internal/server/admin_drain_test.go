package server

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/gobwas/ws"
)

// TestDrain empties a node: each client is told its own time, and closed.
func TestDrain(t *testing.T) {
	r := start(t)
	const crowd = 24
	var clients []*socket
	for range crowd {
		clients = append(clients, r.subscribed("a.b"))
	}
	raw := r.dial("format=raw&topic=a.b")
	var st drainStatus
	r.do(200, "GET", "/drain", &st)
	if st != (drainStatus{State: "serving", Connections: crowd + 1}) {
		t.Errorf("before: %+v", st)
	}
	r.do(202, "POST", "/drain?window=1", &st)
	if st.State != "closing" || st.WindowMS != 1000 {
		t.Errorf("begun: %+v", st)
	}
	if status, _, body := r.http("GET", "/readyz", "", ""); status != 503 || !strings.Contains(body, "draining") {
		t.Errorf("/readyz: %d %s", status, body)
	}
	if status, _, _ := r.http("GET", "/healthz", "", ""); status != 200 {
		t.Errorf("/healthz: %d", status)
	}
	after := map[int]int{}
	for _, s := range clients {
		f := s.next()
		var told struct {
			Type, Reason string
			After        int
		}
		if err := json.Unmarshal(f.Payload, &told); err != nil || told.Type != "reconnect" || told.Reason != "draining" || told.After < 0 || told.After > 1000 {
			t.Fatalf("received %s", f.Payload)
		}
		after[told.After]++
	}
	if len(after) < crowd/4 { // two shards may tell the same time, and both begin with the late ones under load
		t.Errorf("the times are not spread: %v", after)
	}
	for _, s := range append(clients, raw) {
		if code := s.wantClose(); code != ws.StatusCode(1012) {
			t.Errorf("closed with %d", code)
		}
	}
	eventually(t, "it is drained", func() bool { r.do(200, "GET", "/drain", &st); return st.State == "drained" })
	if _, err := r.tryDial(""); err == nil || !strings.Contains(fmt.Sprint(err), "503") {
		t.Errorf("a client came in: %v", err)
	}
	var no message
	r.do(409, "DELETE", "/drain", &no)
	r.do(202, "POST", "/drain?window=100", &st) // as it was ordered
	if st.WindowMS != 1000 {
		t.Errorf("again: %+v", st)
	}
	r.wantMetric(`pushd_admin_actions_total{action="drain"} 1`)
	r.wantMetric(fmt.Sprintf(`pushd_connections_closed_total{reason="draining"} %d`, crowd+1))
}

// TestUndrain takes a drain back before anybody was told.
func TestUndrain(t *testing.T) {
	r := start(t)
	s := r.subscribed("a.b")
	var st drainStatus
	r.do(200, "DELETE", "/drain", &st) // of nothing
	for range 2 {
		r.do(202, "POST", "/drain?grace=3600", &st)
		if st.State != "waiting" || st.GraceLeftMS == 0 {
			t.Errorf("ordered: %+v", st)
		}
		if status, _, _ := r.http("GET", "/readyz", "", ""); status != 503 {
			t.Errorf("/readyz: %d", status)
		}
		r.subscribed("a.b") // load balancers take a while
		r.do(200, "DELETE", "/drain", &st)
		if st.State != "serving" {
			t.Errorf("taken back: %+v", st)
		}
		if status, _, _ := r.http("GET", "/readyz", "", ""); status != 200 {
			t.Errorf("/readyz: %d", status)
		}
	}
	nc := r.backend()
	if err := nc.Publish("push.a.b", []byte("1")); err != nil {
		t.Fatal(err)
	}
	s.wantData("a.b", "1")
	r.wantMetric(`pushd_admin_actions_total{action="undrain"} 2`)
	var no message
	for _, bad := range []string{"?grace=-1", "?window=3601", "?window=1s"} {
		r.do(400, "POST", "/drain"+bad, &no)
	}
}
