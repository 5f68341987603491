package server

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/pushd/pushd/internal/config"
	"github.com/pushd/pushd/internal/tooltest"
)

// A connection that polls carries other requests too, in any order, pipelined or
// not, and at last a WebSocket.
func TestPollKeepsItsConnection(t *testing.T) {
	r := start(t)
	p := r.poller("chat.a")
	p.wants("wait=0")
	first := p.conn
	post := func(data string) {
		t.Helper()
		fmt.Fprintf(p.conn, "POST /publish/chat.a HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(data), data)
		resp, err := http.ReadResponse(p.read, nil)
		if err != nil || resp.StatusCode != 202 {
			t.Fatalf("publish: %v %v", resp, err)
		}
		io.Copy(io.Discard, resp.Body)
	}
	for i := range 3 {
		post(fmt.Sprint(i))
		p.wants("", fmt.Sprintf("chat.a %d", i))
		p.wants("wait=0")
	}
	eventually(t, "net/http has let go of it", func() bool { return r.plain.open.Load() == 0 })

	request := p.request("wait=0.1")
	io.WriteString(p.conn, request+request+"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
	for range 2 {
		if a, err := p.answer(); err != nil || len(a.Messages) > 0 || a.status != 200 {
			t.Fatalf("pipelined: %+v, %v", a, err)
		}
	}
	resp, err := http.ReadResponse(p.read, nil)
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("/healthz behind polls: %v, %v", resp, err)
	}
	io.Copy(io.Discard, resp.Body)
	p.wants("wait=0")
	if p.conn != first {
		t.Fatal("the connection was not kept")
	}
	io.WriteString(p.conn, "GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	if resp, err = http.ReadResponse(p.read, nil); err != nil || resp.StatusCode != 101 {
		t.Fatalf("an upgrade behind polls: %v, %v", resp, err)
	}
	s := &socket{t: t, conn: p.conn, read: p.read}
	s.want("welcome")
	s.subscribe("chat.a")
	r.http("POST", "/publish/chat.a", "", "9")
	s.wantData("chat.a", "9")
	r.wantMetric(`pushd_polls_total{result="messages"} 3`)
}

// HTTP/1.0, and who says so, have one answer and the end of the connection.
func TestPollEndsItsConnection(t *testing.T) {
	r := start(t)
	for _, tc := range []struct {
		head string
		ends bool
	}{
		{"GET /poll?topic=a&wait=0 HTTP/1.0\r\n\r\n", true},
		{"GET /poll?topic=a&wait=0 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", false},
		{"GET /poll?topic=a&wait=0 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", true},
		{"GET http://x/poll?topic=a&wait=0 HTTP/1.1\r\nHost: y\r\n\r\n", false},
	} {
		p := r.poller("a")
		p.open()
		c := p.conn
		io.WriteString(c, tc.head)
		a, err := p.answer()
		if err != nil || a.status != 200 || (p.conn == nil) != tc.ends {
			t.Errorf("%q: %+v, %v; it ended: %v, want %v", tc.head, a, err, p.conn == nil, tc.ends)
		}
		if want := map[bool]string{true: "close", false: "keep-alive"}[tc.ends]; a.header.Get("Connection") != want && !tc.ends {
			t.Errorf("%q: Connection is %q, want %q", tc.head, a.header.Get("Connection"), want)
		}
	}
}

// What there is of a large backlog comes in answers of bounded size, each once,
// also to a client that reads slowly.
func TestPollLargeBacklog(t *testing.T) {
	r := start(t, keeping("orders"))
	p := r.poller("orders.x")
	p.wants("wait=0")
	const messages = 900
	padding := strings.Repeat("x", 2000)
	nc := r.backend()
	for i := range messages {
		publish(t, nc, "push.orders.x", fmt.Sprintf(`{"n":%d,"padding":%q}`, i, padding))
	}
	nc.Flush()
	eventually(t, "all is stored", func() bool { return r.hub.Counts().Messages >= messages })
	next, polls := 0, 0
	for next < messages {
		io.WriteString(p.conn, p.request(""))
		if polls++; polls == 2 {
			time.Sleep(300 * time.Millisecond) // its socket is full, and it reads again
		}
		a, err := p.answer()
		if err != nil {
			t.Fatal(err)
		}
		size := 0
		for _, m := range a.Messages {
			if want := fmt.Sprintf(`{"n":%d,`, next); !bytes.HasPrefix(m.Data, []byte(want)) {
				t.Fatalf("got %.30s, want %s", m.Data, want)
			}
			next++
			size += len(m.Data)
		}
		if size > maxPolled {
			t.Errorf("an answer has %d bytes of data, of at most %d", size, maxPolled)
		}
	}
	if least := messages * len(padding) / maxPolled; polls < least || polls > 3*least {
		t.Errorf("%d polls, want about %d", polls, least)
	}
	p.wants("wait=0")
}

// Who leaves while it waits is no subscriber any more.
func TestPollLeft(t *testing.T) {
	r := start(t)
	p := r.poller("chat.a")
	p.open()
	io.WriteString(p.conn, p.request("wait=60"))
	r.waitPolls(1)
	p.close()
	eventually(t, "nobody is subscribed", func() bool { return r.hub.Connections("chat.a") == 0 })
	eventually(t, "nobody is connected", func() bool { return r.quota.Open() == 0 })
}

// curl is a client too.
func TestPollCurl(t *testing.T) {
	curl := tooltest.Find(t, "curl", "curl")
	r := start(t)
	url := "http://" + r.Addr() + "/poll?topic=chat.a&wait=0.1"
	out, err := exec.Command(curl, "-sS", "--fail", url, url, "--http1.0", url).CombinedOutput()
	if err != nil || strings.Count(string(out), `"messages":[]`) != 3 {
		t.Errorf("curl: %v: %s", err, out)
	}
}

// Over TLS a poll is as it is without.
func TestPollOverTLS(t *testing.T) {
	s := startSecured(t)
	p := s.poller("chat.a")
	p.dial = func() (net.Conn, error) { return s.connect(), nil }
	p.wants("wait=0")
	first := p.conn
	for i := range 3 {
		fmt.Fprintf(p.conn, "POST /publish/chat.a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\n%d", i)
		resp, err := http.ReadResponse(p.read, nil)
		if err != nil || resp.StatusCode != 202 {
			t.Fatalf("publish: %v %v", resp, err)
		}
		io.Copy(io.Discard, resp.Body)
		p.wants("", fmt.Sprintf("chat.a %d", i))
		p.wants("wait=0.1")
	}
	if p.conn != first {
		t.Error("the connection was not kept")
	}
	curl := tooltest.Find(t, "curl", "curl")
	out, err := exec.Command(curl, "-sS", "--fail", "--insecure", "https://"+s.Addr()+"/poll?topic=chat.a&wait=0").CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte(`"messages":[]`)) {
		t.Errorf("curl: %v: %s", err, out)
	}
}

// A page of an allowed origin is shown answers and refusals; others get nothing.
func TestPollOrigin(t *testing.T) {
	r := start(t, func(c *config.Config) { c.AllowOrigin = []string{"https://app.example"} })
	for _, tc := range []struct {
		origin, query string
		status        int
		shown         string
	}{
		{"https://app.example", "topic=a&wait=0", 200, "https://app.example"},
		{"https://app.example", "topic=a..b", 400, "https://app.example"},
		{"https://evil.example", "topic=a&wait=0", 403, ""},
		{"", "topic=a&wait=0", 200, ""},
	} {
		status, header, body := r.request("GET", "http://"+r.Addr()+"/poll?"+tc.query, "", "", headerOf(tc.origin)...)
		if status != tc.status || header.Get("Access-Control-Allow-Origin") != tc.shown {
			t.Errorf("%+v: %d %v %s", tc, status, header, body)
		}
	}
	status, header, _ := r.request("OPTIONS", "http://"+r.Addr()+"/poll", "", "", "Origin", "https://app.example",
		"Access-Control-Request-Method", "GET", "Access-Control-Request-Headers", "authorization")
	if status != 204 || header.Get("Access-Control-Allow-Origin") != "https://app.example" {
		t.Errorf("preflight: %d %v", status, header)
	}
	for _, method := range []string{"POST", "DELETE"} {
		if status, _, body := r.http(method, "/poll?topic=a", "", ""); status != 405 && status != 404 {
			t.Errorf("%s: %d %s", method, status, body)
		}
	}
}

// So is what refuses a request before the handler has seen it.
func TestLimitOrigin(t *testing.T) {
	r := start(t, func(c *config.Config) {
		c.AllowOrigin, c.HandshakeRate, c.Unlimited = []string{"https://app.example"}, 1, []string{"none"}
	})
	for origin, want := range map[string]string{"https://app.example": "https://app.example", "https://evil.example": "", "": ""} {
		status, header := 0, http.Header(nil)
		for tries := 0; status != 503; tries++ { // as many as the rate lets in are answered
			if status, header, _ = r.request("GET", "http://"+r.Addr()+"/poll?wait=0&topic=a", "", "", headerOf(origin)...); tries > 1000 {
				t.Fatalf("%d after a thousand", status)
			}
		}
		if header.Get("Access-Control-Allow-Origin") != want || header.Get("Vary") != "Origin" || header.Get("Retry-After") == "" {
			t.Errorf("%q: %v, want it shown to %q", origin, header, want)
		}
	}
}

func headerOf(origin string) []string {
	if origin == "" {
		return nil
	}
	return []string{"Origin", origin}
}

// Who has said its last with its request gets the answer that can be given at once.
func TestPollHalfClosed(t *testing.T) {
	r := start(t)
	r.poller("chat.a").wants("wait=0") // from here on NATS need not be asked
	for range 20 {
		p := r.poller("chat.a")
		p.open()
		io.WriteString(p.conn, p.request("wait=0"))
		p.conn.(*net.TCPConn).CloseWrite()
		if a, err := p.answer(); err != nil || a.status != 200 {
			t.Fatalf("%+v, %v", a, err)
		}
	}
}
