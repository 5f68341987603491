package server

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pushd/pushd/internal/config"
	"github.com/pushd/pushd/topics/natsbus"
)

func TestEvents(t *testing.T) {
	r := start(t, func(c *config.Config) { c.AllowOrigin = []string{"https://app.example.com"} })
	s := r.events("topic=stocks.*&topic=chat.lobby", "Origin: https://app.example.com")
	for name, want := range map[string]string{
		"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no", "Vary": "Origin",
		"Access-Control-Allow-Origin": "https://app.example.com", "Content-Length": "", "Transfer-Encoding": "",
	} {
		if got := s.header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	welcome := s.want("welcome")
	if welcome.Client == "" || welcome.Heartbeat != 25000 {
		t.Errorf("welcome is %s", welcome.data)
	}
	if ms, err := strconv.Atoi(s.retry); err != nil || ms < 2000 || ms >= 4000 {
		t.Errorf("retry: %q, want 2000 to 3999", s.retry)
	}
	if a, b := s.want("subscribed"), s.want("subscribed"); a.Topic != "stocks.*" || b.Topic != "chat.lobby" || b.id != "" {
		t.Errorf("subscribed to %s and %s", a.data, b.data)
	}
	r.http("POST", "/publish/stocks.AAPL", "", `{"price":`+"\n"+`187.2}`)
	if m := s.want("message"); m.Topic != "stocks.AAPL" || string(m.Data) != "{\"price\":\n187.2}" || m.id != "" {
		t.Errorf("message %+v", m)
	}
	r.wantMetric(`pushd_transport_connections{transport="sse"} 1`)
	r.wantMetric(`pushd_transport_connections{transport="websocket"} 0`)
	var list struct{ Connections []connectionInfo }
	r.do(200, "GET", "/connections?topic=stocks.AAPL", &list)
	if len(list.Connections) != 1 || list.Connections[0].Transport != "sse" || list.Connections[0].Format != "json" || list.Connections[0].State != "open" {
		t.Errorf("listed as %+v", list)
	}
	s.conn.Close()
	eventually(t, "its end is counted", func() bool { return r.metric(`pushd_transport_connections{transport="sse"}`) == "0" })
	r.wantMetric(`pushd_transport_connections_total{transport="sse"} 1`)
}

func TestEventsRaw(t *testing.T) {
	r := start(t, keeping("orders"))
	s := r.events("topic=orders.eu&format=raw")
	s.want("welcome")
	s.want("subscribed")
	for _, tc := range []struct{ data, typ, want string }{
		{"plain", "", "plain"},
		{"", "", ""},
		{" two\nlines\r\n", "", " two\nlines\n"},
		{"\xff\x00", "binary", "/wA="},
	} {
		cursor := r.store("orders.eu", tc.data)
		if e := s.next(); e.data != tc.want || e.typ != tc.typ || !strings.HasPrefix(e.id, cursor) || !strings.HasSuffix(e.id, "@orders.eu") {
			t.Errorf("%q came as %q of type %q with id %q", tc.data, e.data, e.typ, e.id)
		}
	}
}

// What cannot be had is refused before the 200, in words that a page may read.
func TestEventsRefused(t *testing.T) {
	r := secure(t, func(c *config.Config) {
		c.AllowOrigin = []string{"https://app.example.com"}
		c.MaxSubscriptions = 2
		c.Namespaces = map[string]config.Namespace{"open": {Delivery: config.DeliveryLive, Interest: config.InterestNamespace, Public: config.PublicSubscribe}}
	})
	token := tokenFor(t, "alice", may{subscribe: "stocks.>"}, time.Hour)
	for _, tc := range []struct {
		query  string
		lines  string
		status int
		code   string
	}{
		{"topic=stocks.a&token=" + token, "", 200, ""},
		{"topic=stocks.a", "Authorization: Bearer " + token, 200, ""},
		{"topic=open.a", "", 200, ""},
		{"", "", 400, "bad_request"},
		{"topic=stocks..a", "", 400, "invalid_topic"},
		{"topic=stocks.a&mode=most", "", 400, "bad_request"},
		{"topic=open.a&mode=all", "", 400, "no_history"},
		{"topic=open.a&cursor=x", "", 400, "bad_request"},
		{"topic=open.a&cursor=&cursor=", "", 400, "bad_request"},
		{"topic=open.a&topic=open.b&topic=open.c", "", 400, "too_many_topics"},
		{"topic=open.a", "Last-Event-ID: nonsense", 400, "bad_request"},
		{"topic=open.a&last_event_id=1.2@a..b", "", 400, "bad_request"},
		{"topic=stocks.a", "", 401, "unauthorized"},
		{"topic=stocks.a&token=x", "", 401, "unauthorized"},
		{"topic=orders.a&token=" + token, "", 403, "forbidden"},
		{"topic=open.a", "Origin: https://other.example.com", 403, "forbidden"},
		{"topic=stocks.a", "Authorization: Bearer x\r\nOrigin: https://app.example.com", 401, "unauthorized"},
		{"topic=orders.a&token=" + token, "Origin: https://app.example.com", 403, "forbidden"},
	} {
		lines := []string{"X: y"}
		if tc.lines != "" {
			lines = append(lines, tc.lines)
		}
		s := r.events(tc.query, lines...)
		if s.status != tc.status || !strings.Contains(s.body, `"code":"`+tc.code+`"`) && tc.code != "" {
			t.Errorf("%s %s: %d %s, want %d %s", tc.query, tc.lines, s.status, s.body, tc.status, tc.code)
		}
		if tc.status == 200 {
			s.want("welcome")
			s.want("subscribed")
		}
		if want := strings.HasSuffix(tc.lines, "app.example.com"); want != (s.header.Get("Access-Control-Allow-Origin") != "") {
			t.Errorf("%s %s: allowed to be read by %q", tc.query, tc.lines, s.header.Get("Access-Control-Allow-Origin"))
		}
		if tc.status == 401 && s.header.Get("WWW-Authenticate") == "" {
			t.Errorf("%s: 401 without a challenge", tc.query)
		}
		s.conn.Close()
	}
}

// A stream hears why it ends, as a WebSocket does, and before that what is coming.
func TestEventsEnd(t *testing.T) {
	t.Parallel()
	r := secure(t, func(c *config.Config) {
		c.Default.Public = config.PublicSubscribe
		c.ShutdownTimeout = 2 * time.Second
	})
	s := r.events("topic=a.b&token=" + tokenFor(t, "alice", may{}, 2*time.Second))
	s.want("welcome")
	s.want("subscribed")
	if e := s.want("token_expires"); e.Expires == 0 {
		t.Errorf("token_expires is %s", e.data)
	}
	if e := s.want("unsubscribed"); e.Topic != "a.b" || e.Reason != "token_expired" {
		t.Errorf("unsubscribed is %s", e.data)
	}
	s.wantClose(4002, "token_expired")

	s = r.events("topic=a.b&token=" + tokenFor(t, "bob", may{}, time.Hour))
	s.want("welcome")
	var done disconnected
	r.do(200, "POST", "/identities/bob/disconnect", &done)
	if done.Disconnected != 1 {
		t.Errorf("%+v", done)
	}
	s.wantClose(4003, "kicked")

	s = r.subscribedTo("a.b")
	talker := r.subscribedTo("a.b")
	talker.ask("GET", "/sse", strings.Repeat("x", 5000))
	talker.wantClose(1003, "unsupported_data")
	var st drainStatus
	r.do(202, "POST", "/drain?window=1", &st)
	if e := s.want("reconnect"); e.Reason != "draining" || e.After > 1000 {
		t.Errorf("reconnect is %s", e.data)
	}
	s.wantClose(1012, "draining")
	if s := r.events("topic=a.b"); s.status != 503 || s.header.Get("Retry-After") == "" {
		t.Errorf("on a node that is drained: %d", s.status)
	}
}

func TestEventsAtShutdown(t *testing.T) {
	r := start(t)
	s := r.subscribedTo("a.b")
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	s.wantClose(1001, "shutdown")
}

func TestEventsHeartbeat(t *testing.T) {
	t.Parallel()
	r := start(t, func(c *config.Config) { c.Heartbeat = time.Second })
	s := r.subscribedTo("a.b")
	eventually(t, "two heartbeats", func() bool { return r.metric("pushd_pings_sent_total") >= "2" })
	r.http("POST", "/publish/a.b", "", "1")
	if s.want("message"); s.comments < 2 {
		t.Errorf("%d comments came before the message", s.comments)
	}
}

// A connection that net/http had comes back to a shard: with a preflight, say, or a
// publication before it.
func TestEventsOnKeptConnection(t *testing.T) {
	secured := startSecured(t)
	plain := start(t)
	dialled, err := net.Dial("tcp", plain.Addr())
	if err != nil {
		t.Fatal(err)
	}
	for c, r := range map[net.Conn]*running{secured.connect(): secured.running, dialled: plain} {
		s := &stream{t: t, conn: c, r: bufio.NewReader(c), status: 200}
		for range 2 {
			s.ask("POST", "/publish/a.b", "Host: localhost", "Content-Length: 0")
			answer, err := http.ReadResponse(s.r, nil)
			if err != nil || answer.StatusCode != 202 {
				t.Fatalf("%v, %v", answer, err)
			}
			io.Copy(io.Discard, answer.Body)
		}
		s.ask("GET", "/sse?topic=a.b", "Host: localhost")
		if answer, err := http.ReadResponse(s.r, nil); err != nil || answer.StatusCode != 200 || answer.Header.Get("Content-Type") != "text/event-stream" {
			t.Fatalf("%v, %v", answer, err)
		}
		s.want("welcome")
		s.want("subscribed")
		r.bus.Publish(natsbus.Publication{Topic: "a.b", Data: []byte("17")})
		if m := s.want("message"); string(m.Data) != "17" {
			t.Errorf("message is %s", m.data)
		}
		eventually(t, "net/http has let it go", func() bool { return r.metric("pushd_http_connections") == "0" })
		c.Close()
	}
}

// Anybody's curl reads it.
func TestEventsWithCurl(t *testing.T) {
	r := start(t)
	cmd := exec.Command("curl", "-sN", "http://"+r.Addr()+"/sse?topic=a.b")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Skip(err)
	}
	lines := bufio.NewReader(out)
	read := func(want string) {
		t.Helper()
		for {
			line, err := lines.ReadString('\n')
			if err != nil {
				t.Fatalf("%v, still waiting for %s", err, want)
			}
			if strings.Contains(line, want) {
				return
			}
		}
	}
	read("event: subscribed")
	r.http("POST", "/publish/a.b", "", `"hello"`)
	read(`"data":"hello"`)
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	read("event: close")
	if _, err := io.Copy(io.Discard, lines); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("curl: %v", err)
	}
}

// Methods other than GET, and preflights, are net/http's.
func TestEventsMethods(t *testing.T) {
	r := start(t, func(c *config.Config) { c.AllowOrigin = []string{"https://app.example.com"} })
	for _, method := range []string{"POST", "HEAD", "PUT"} {
		if status, header, _ := r.http(method, "/sse?topic=a.b", "", ""); status != 405 || header.Get("Allow") != "GET" {
			t.Errorf("%s: %d, Allow %q", method, status, header.Get("Allow"))
		}
	}
	status, header, _ := r.request(http.MethodOptions, "http://"+r.Addr()+"/sse", "", "", "Origin", "https://app.example.com",
		"Access-Control-Request-Method", "GET", "Access-Control-Request-Headers", "last-event-id")
	if status != 204 || !strings.Contains(header.Get("Access-Control-Allow-Headers"), "Last-Event-ID") {
		t.Errorf("preflight: %d %v", status, header)
	}
}

// A message of any size is one event.
func TestEventsLarge(t *testing.T) {
	r := start(t)
	s := r.subscribedTo("a.b")
	large := fmt.Sprintf("%q", strings.Repeat("x", 60_000))
	r.http("POST", "/publish/a.b", "", large)
	if m := s.want("message"); string(m.Data) != large {
		t.Errorf("%d bytes came, want %d", len(m.Data), len(large))
	}
}
