package server

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"github.com/pushd/pushd/conn"
)

func TestHTTP(t *testing.T) {
	r := start(t)
	f := func(method, path, contentType, body string, status int, answer string) http.Header {
		t.Helper()
		got, header, text := r.http(method, path, contentType, body)
		if got != status || !strings.Contains(text, answer) {
			t.Errorf("%s %s: %d %s, want %d with %s", method, path, got, text, status, answer)
		}
		return header
	}
	f("GET", "/healthz", "", "", 200, `{"status":"alive"}`)
	f("GET", "/readyz", "", "", 200, `{"status":"ready"}`)
	f("GET", "/", "", "", 200, `<!doctype html>`)
	f("GET", "/nothing/here", "", "", 404, `"code":"bad_request"`)
	f("DELETE", "/publish/a.b", "", "", 405, `POST`)
	f("POST", "/", "", "", 405, `GET`)
	h := f("GET", "/ws", "", "", 426, `"code":"bad_request"`)
	if h.Get("Sec-WebSocket-Version") != "13" || h.Get("Upgrade") != "websocket" {
		t.Errorf("426 came with %v", h)
	}
	f("POST", "/publish/a.b", "", "anything", 202, `{"topic":"a.b"}`)
	f("POST", "/publish/a.*", "", "1", 400, `"code":"invalid_topic"`)
	f("POST", "/publish/a%20b", "", "1", 400, `"code":"invalid_topic"`)
	f("POST", "/publish/$SYS.x", "", "1", 400, `"code":"invalid_topic"`)
	f("POST", "/publish/a.b", "", strings.Repeat("x", 65536), 202, `a.b`)
	f("POST", "/publish/a.b", "", strings.Repeat("x", 65537), 413, `"code":"message_too_large"`)
	f("POST", "/publish", "application/json", `{}`, 415, `application/x-ndjson`)
	f("GET", "/history/a.b", "", "", 400, `"code":"no_history"`)
	f("GET", "/history/a.*", "", "", 400, `"code":"invalid_topic"`)
	f("POST", "/history/a.b", "", "", 405, `GET`)
}

func TestPublishOverHTTP(t *testing.T) {
	r := start(t)
	s := r.subscribed("chat.>", "chat")
	r.http("POST", "/publish/chat.lobby", "", `{"text":"hi"}`)
	s.wantData("chat.lobby", `{"text":"hi"}`)
	r.http("POST", "/publish/chat.lobby", "", `not JSON`)
	s.wantData("chat.lobby", `"not JSON"`)
	r.http("POST", "/publish/chat", "", ``)
	s.wantData("chat", `""`)
}

func TestPublishLines(t *testing.T) {
	r := start(t)
	s := r.subscribed("log.>")
	status, header, answer := r.http("POST", "/publish", "application/x-ndjson", strings.Join([]string{
		`{"topic":"log.a","data":1}`,
		``,
		`{"topic":"log.b","data":{"x":"y"}}`,
		`{"topic":"log.*","data":1}`,
		`{"topic":"log.c"`,
		`{"topic":"log.d","data":"aGk=","encoding":"base64"}`,
	}, "\n"))
	if status != 200 || header.Get("Content-Type") != "application/x-ndjson" {
		t.Errorf("answered %d, %v", status, header)
	}
	lines := strings.Split(strings.TrimSpace(answer), "\n")
	want := []string{`{"topic":"log.a"}`, `{"topic":"log.b"}`, `"code":"invalid_topic"`, `"code":"bad_request"`, `{"topic":"log.d"}`}
	if len(lines) != len(want) {
		t.Fatalf("%d result lines, want %d:\n%s", len(lines), len(want), answer)
	}
	for i, line := range lines {
		if !strings.Contains(line, want[i]) {
			t.Errorf("line %d is %s, want %s", i, line, want[i])
		}
	}
	s.wantData("log.a", "1")
	s.wantData("log.b", `{"x":"y"}`)
	s.wantData("log.d", `"hi"`)
}

// A key that is none is refused before anything is published.
func TestIdempotencyKeys(t *testing.T) {
	r := start(t)
	s := r.subscribed("a.b")
	publish := func(path, contentType, body string, keys ...string) (int, string) {
		headers := []string{}
		for _, k := range keys {
			headers = append(headers, keyHeader, k)
		}
		status, _, answer := r.request("POST", "http://"+r.Addr()+path, contentType, body, headers...)
		return status, answer
	}
	for _, keys := range [][]string{{""}, {"a b"}, {"a\tb"}, {"caf\u00e9"}, {strings.Repeat("x", 129)}, {"a", "b"}} {
		for path, contentType := range map[string]string{"/publish/a.b": "", "/publish": "application/x-ndjson"} {
			if status, answer := publish(path, contentType, `{"topic":"a.b","data":1}`, keys...); status != 400 || !strings.Contains(answer, `"code":"bad_request"`) {
				t.Errorf("%s with %q: %d %s", path, keys, status, answer)
			}
		}
	}
	// A namespace without history has nothing to compare a key with.
	longest := strings.Repeat("x", 128)
	for range 2 {
		if status, answer := publish("/publish/a.b", "", "1", longest); status != 202 {
			t.Errorf("%d %s", status, answer)
		}
	}
	if status, answer := publish("/publish", "application/x-ndjson", `{"topic":"a.b","data":2}`+"\n"+`{"topic":"a.b","data":3,"idempotency_key":"a b"}`, longest); status != 200 ||
		!strings.HasPrefix(answer, `{"topic":"a.b"}`+"\n"+`{"topic":"a.b","code":"bad_request"`) {
		t.Errorf("%d %s", status, answer)
	}
	for _, data := range []string{"1", "1", "2"} {
		s.wantData("a.b", data)
	}
}

// TestPublishLinesAsTheyCome holds that a line is answered before the next is
// sent, in one request that stays open.
func TestPublishLinesAsTheyCome(t *testing.T) {
	r := start(t)
	body, lines := io.Pipe()
	req, err := http.NewRequest("POST", "http://"+r.Addr()+"/publish", body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-ndjson")
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	go fmt.Fprintln(lines, `{"topic":"log.first","data":0}`)
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answers := bufio.NewScanner(resp.Body)
	for i := range 5 {
		if !answers.Scan() {
			t.Fatalf("the answer ended: %v", answers.Err())
		}
		if i == 0 && answers.Text() != `{"topic":"log.first"}` {
			t.Errorf("answered %s", answers.Text())
		}
		fmt.Fprintf(lines, `{"topic":"log.x%d","data":%d}`+"\n", i, i)
	}
	lines.Close()
	io.Copy(io.Discard, resp.Body)
}

// TestUpgradeOnAKeptConnection does what proxies do: an ordinary request
// first, then, on the same connection, a WebSocket.
func TestUpgradeOnAKeptConnection(t *testing.T) {
	r := start(t)
	nc := r.backend()
	c, err := net.Dial("tcp", r.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	in := bufio.NewReader(c)
	for range 3 {
		fmt.Fprint(c, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
	}
	fmt.Fprint(c, "GET /ws?topic=a.b HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	resp, err := http.ReadResponse(in, nil)
	if err != nil || resp.StatusCode != 101 || resp.Header.Get("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		t.Fatalf("got %+v, %v", resp, err)
	}
	s := &socket{t: t, conn: c, read: in}
	s.want("welcome")
	s.want("subscribed")
	nc.Publish("push.a.b", []byte("1"))
	s.wantData("a.b", "1")
	s.frame(ws.MaskFrame(ws.NewCloseFrame(ws.NewCloseFrameBody(1000, ""))))
	if code := s.wantClose(); code != 1000 {
		t.Errorf("closed with %d", code)
	}
	eventually(t, "nothing of it is left", func() bool { return r.plain.open.Load() == 0 && r.quota.Open() == 0 })
}

// TestUpgradeWithBodyOnAKeptConnection announces a body, which must not become
// frames: it is refused as it is on a fresh connection.
func TestUpgradeWithBodyOnAKeptConnection(t *testing.T) {
	r := start(t)
	for _, body := range []string{"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "Content-Length: 2\r\n\r\nhi"} {
		c, err := net.Dial("tcp", r.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(patience))
		in := bufio.NewReader(c)
		for _, request := range []string{
			"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
			"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
				"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" + body,
		} {
			fmt.Fprint(c, request)
			resp, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Fatal(err)
			}
			io.Copy(io.Discard, resp.Body)
			if strings.Contains(request, "/ws") && resp.StatusCode != 400 {
				t.Errorf("%q: %d, want 400", body, resp.StatusCode)
			}
		}
	}
}

func TestUpgradeElsewhere(t *testing.T) {
	r := start(t)
	_, _, _, err := ws.Dial(t.Context(), "ws://"+r.Addr()+"/other")
	if refused, ok := err.(ws.StatusError); !ok || refused != 404 {
		t.Errorf("got %v, want 404", err)
	}
}

// TestUpgradeThatIsNone sends requests about which net/http and a shard might
// disagree: each is answered once, and nobody plays ball with it.
func TestUpgradeThatIsNone(t *testing.T) {
	r := start(t)
	for _, upgrade := range []string{"\u00a0websocket", "web\u017focket", "\u0085websocket", "websoc\u212aet", "h2c"} {
		c, err := net.Dial("tcp", r.Addr())
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(patience))
		fmt.Fprintf(c, "GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: %s\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"+
			"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", upgrade)
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || resp.StatusCode != 400 && resp.StatusCode != 426 {
			t.Errorf("Upgrade: %q: %v, %v", upgrade, resp, err)
		}
		c.Close()
	}
	handed := uint64(0)
	for _, sh := range r.shards {
		handed += sh.table.Counts().Refused[conn.ReasonHandedOver]
	}
	if handed > 5 {
		t.Errorf("5 requests were handed over %d times", handed)
	}
}

// TestProbesWhileHTTPIsFull has clients hold all the room that HTTP has: probes
// are answered all the same, and others told to come again.
func TestProbesWhileHTTPIsFull(t *testing.T) {
	r := start(t)
	for range maxPlainConns {
		c, err := net.Dial("tcp", r.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprint(c, "POST /publish/a.b HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf")
	}
	eventually(t, "HTTP is full", func() bool { return r.plain.open.Load() >= maxPlainConns })
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 200, "/": 503} {
		if status, header, body := r.http("GET", path, "", ""); status != want || header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: %d %v %s, want %d", path, status, header, body, want)
		}
	}
	r.subscribed("a.b") // WebSockets have room of their own
}
