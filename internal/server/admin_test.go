package server

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/pushd/pushd/topics"
)

func (r *running) adminGet(path string) string {
	r.t.Helper()
	status, _, body := r.request("GET", "http://"+r.AdminAddr()+path, "", "")
	if status != 200 {
		r.t.Fatalf("GET %s: %d %s", path, status, body)
	}
	return body
}

// TestMetrics holds the figures against what has happened, and their names
// against Prometheus' conventions.
func TestMetrics(t *testing.T) {
	r := start(t)
	nc := r.backend()
	a, b := r.subscribed("stocks.AAPL", "stocks.*"), r.subscribed("stocks.AAPL")
	r.http("GET", "/history/stocks.AAPL", "", "")
	nc.Publish("push.stocks.AAPL", []byte("1"))
	a.wantData("stocks.AAPL", "1")
	b.wantData("stocks.AAPL", "1")
	b.send("?")
	b.want("error")
	b.conn.Close()
	eventually(t, "one connection has ended", func() bool { return r.quota.Open() == 1 })
	want := []string{
		`pushd_connections 1`,
		`pushd_handshakes_total{result="upgraded"} 2`,
		`pushd_handshakes_total{result="handed_over"} 1`,
		`pushd_connections_closed_total{reason="client_gone"} 1`,
		`pushd_deliveries_total{way="live"} 2`,
		`pushd_subscriptions 2`,
		`pushd_patterns 2`,
		`pushd_feeds 1`,
		`pushd_behind 0`,
		`pushd_gaps_total{reason="slow"} 0`,
		`pushd_gaps_total{reason="upstream"} 0`,
		`pushd_gaps_total{reason="expired"} 0`,
		`pushd_gaps_total{reason="restarted"} 0`,
		`pushd_history_requests_total{result="served"} 0`,
		`pushd_history_requests_total{result="refused"} 1`,
		`pushd_commands_total{type="subscribe"} 3`,
		`pushd_command_errors_total{code="bad_request"} 1`,
		`pushd_nats_connected 1`,
		`pushd_messages_total{heard="true"} 1`,
		`pushd_fanout_seconds_count`,
		`pushd_loop_lag_seconds_count`,
		`go_goroutines`,
		`process_resident_memory_bytes`,
	}
	var text string
	eventually(t, "the metrics show it", func() bool { // shards publish at the end of a turn
		text = r.adminGet("/metrics")
		return strings.Contains(text, "\n"+want[3]+"\n")
	})
	for _, line := range want {
		if !strings.Contains(text, "\n"+line) {
			t.Errorf("/metrics lacks %s", line)
		}
	}
	problems, err := testutil.GatherAndLint(r.metrics.registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestDebugPages(t *testing.T) {
	r := start(t)
	s := r.dial("topic=a.b&topic=a.*&format=raw")
	seen := r.look(t)
	if len(seen) != 1 {
		t.Fatalf("%d connections, want 1", len(seen))
	}
	c := seen[0]
	if c.Format != "raw" || c.State != "open" || strings.Join(c.Subscriptions, " ") != "a.b a.*" || c.Peer != s.conn.LocalAddr().String() || !strings.HasPrefix(c.Client, "c_") {
		t.Errorf("the connection is shown as %+v", c)
	}
	var feeds []topics.FeedInfo
	if err := json.Unmarshal([]byte(r.adminGet("/debug/topics")), &feeds); err != nil {
		t.Fatal(err)
	}
	if len(feeds) != 1 || feeds[0].Name != "a" || feeds[0].Interest != "namespace" || feeds[0].Patterns != 2 || !feeds[0].Ready {
		t.Errorf("the feeds are shown as %+v", feeds)
	}
	if text := r.adminGet("/debug/pprof/goroutine?debug=1"); !strings.HasPrefix(text, "goroutine profile") {
		t.Errorf("pprof answered %.100s", text)
	}
	if status, _, body := r.request("GET", "http://"+r.AdminAddr()+"/connections?limit=x", "", ""); status != 400 {
		t.Errorf("limit=x: %d %s", status, body)
	}
}
