package server

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/nats-io/nats.go"

	"github.com/pushd/pushd/internal/config"
	"github.com/pushd/pushd/internal/natstest"
	"github.com/pushd/pushd/topics"
)

// mark is in everything that the hostile client publishes.
const mark = "hostile-7f3a"

// hostileTopics are no topics. Some would be subjects of others, some would break
// the line that NATS reads.
var hostileTopics = []string{
	"", " ", ".", "..", "*", ">", "*.*", "push.>.x", "a..b", ".a", "a.", "push..x", "a b", "a\tb",
	"$SYS.>", "$SYS.REQ.SERVER.PING", "$JS.API.STREAM.LIST", "stocks.$JS", "_INBOX.$x", "*.>", "$", "a.$SYS",
	"a\r\nPUB secret.x 1\r\nx", "a\r\nSUB > 1", "a\nb", "a\x00b", "a\x7fb", "\x1b[2J", "a/b", "../x", "a\\b", "a%2eb", "a%00", "a+b",
	"ä.b", "a\u202eb", "a\u00a0b", "a\ufeff", "\u2024", "。", "a,b", "a;b", "a:b", "a@b", "{{.}}", "'", "\"",
	strings.Repeat("a", topics.MaxLength+1), strings.Repeat("x", 10<<10), strings.Repeat("a.", 5<<10) + "a", strings.Repeat("a.", topics.MaxTokens) + "a",
}

// hostilePatterns may not be subscribed to, and are no topics either.
var hostilePatterns = []string{"*", ">", "*.AAPL", ">.a", "a.>.b", "a.b*", "a.>>", "$SYS.>", "_INBOX.>.x", "push.*x"}

// oddTopics look as if they were somebody else's, and are topics below the prefix.
var oddTopics = []string{"_INBOX.x", "push.x", "push-live.x", "push", "JS.API", "SYS", "-", "_"}

// witness is what the subjects of a NATS account have seen.
type witness struct {
	nc       *nats.Conn
	messages chan *nats.Msg
}

func watchAll(t *testing.T, url string) *witness {
	t.Helper()
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	w := &witness{nc: nc, messages: make(chan *nats.Msg, 1<<16)}
	if _, err := nc.ChanSubscribe(">", w.messages); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	return w
}

// TestSubjectsStayBelowPrefix lets a client try every way to a subject that is not
// below the prefix, and looks at all that passes through NATS, and at what pushd
// has subscribed to there.
func TestSubjectsStayBelowPrefix(t *testing.T) {
	process := natstest.Start(t, natstest.Config(`
		accounts { SYS: { users: [ { user: sys, password: p } ] }, APP: { users: [ { user: u, password: p } ] } }
		system_account: SYS`))
	url := func(user string) string { return "nats://" + user + ":p@" + process.Addr() }
	all, system := watchAll(t, url("u")), watchAll(t, url("sys"))
	before := subscriptions(t, system.nc) // of the server itself, for its accounts
	r := start(t, func(c *config.Config) { c.NATS = []string{url("u")} })

	h := &hostile{running: r, t: t}
	for _, name := range append(hostileTopics, hostilePatterns...) {
		h.commands(name)
		h.query(name)
		h.http(name)
	}
	h.rawLines()
	for _, odd := range oddTopics {
		h.odd(odd)
	}
	subscribed := r.subscribed("stocks.*", "_INBOX.>", "push.*")

	// Secrets of others reach nobody.
	for _, subject := range []string{"secret.x", "push", "pushx.stocks.a", "stocks.a", "_INBOX.abc", "$JS.x", "push-live.stocks.a"} {
		if err := all.nc.Publish(subject, []byte(`"secret"`)); err != nil {
			t.Fatal(err)
		}
	}
	if err := all.nc.Publish("push.stocks.last", []byte(`"`+mark+`"`)); err != nil {
		t.Fatal(err)
	}
	subscribed.wantData("stocks.last", `"`+mark+`"`)

	list := subscriptions(t, system.nc)
	if len(list["push.stocks.>"])+len(list["push._INBOX.>"]) == 0 {
		t.Errorf("the subscriptions of pushd are not seen: %v", list)
	}
	for subject, account := range list {
		if account == "APP" && before[subject] == "" && !strings.HasPrefix(subject, "push.") {
			t.Errorf("pushd has subscribed to %q", subject)
		}
	}
	if status, _, body := r.http("POST", "/publish/stocks.end", "", mark); status != 202 {
		t.Fatalf("%d %s", status, body)
	}
	all.check(t, len(oddTopics))
	for len(system.messages) > 0 {
		if m := <-system.messages; strings.Contains(string(m.Data), mark) && !strings.HasPrefix(m.Subject, "$SYS.") || strings.Contains(m.Subject, "secret") {
			t.Errorf("the system account got %s: %q", m.Subject, m.Data)
		}
	}
}

// check reads up to the last message: whatever is the client's is below the prefix.
func (w *witness) check(t *testing.T, least int) {
	t.Helper()
	seen := 0
	for end := time.After(patience); ; {
		select {
		case m := <-w.messages:
			if !strings.Contains(string(m.Data), mark) {
				continue // the test's own
			}
			seen++
			topic, below := strings.CutPrefix(m.Subject, "push.")
			if !below || topics.CheckTopic(topic) != nil || m.Reply != "" {
				t.Errorf("%q (reply %q) got %q", m.Subject, m.Reply, m.Data)
			}
			if topic == "stocks.end" {
				if seen < least {
					t.Errorf("%d messages were seen, of at least %d: the test sees nothing", seen, least)
				}
				return
			}
		case <-end:
			t.Fatal("the last message does not come")
		}
	}
}

// subscriptions asks the server for all that there are: accounts by subject.
func subscriptions(t *testing.T, system *nats.Conn) map[string]string {
	t.Helper()
	m, err := system.Request("$SYS.REQ.SERVER.PING.SUBSZ", []byte(`{"subscriptions":true,"limit":10000}`), patience)
	if err != nil {
		t.Fatal(err)
	}
	var reply struct {
		Data struct {
			List []struct {
				Subject string `json:"subject"`
				Account string `json:"account"`
			} `json:"subscriptions_list"`
		} `json:"data"`
	}
	if err := json.Unmarshal(m.Data, &reply); err != nil {
		t.Fatalf("%v: %s", err, m.Data)
	}
	list := make(map[string]string)
	for _, s := range reply.Data.List {
		if list[s.Subject] == "" || s.Account == "APP" {
			list[s.Subject] = s.Account
		}
	}
	return list
}

// hostile is a client that tries.
type hostile struct {
	*running
	t *testing.T
}

// commands sends a name in each command, the bytes of which may break its JSON.
func (h *hostile) commands(name string) {
	h.t.Helper()
	s := h.subscribed()
	defer s.conn.Close()
	quoted, err := json.Marshal(name)
	if err != nil {
		h.t.Fatal(err)
	}
	for _, text := range []string{string(quoted), `"` + name + `"`, `["ok","` + name + `"]`} {
		for _, command := range []string{`{"type":"publish","topic":%s,"data":"` + mark + `"}`, `{"type":"subscribe","topic":%s}`, `{"type":"presence","topic":%s}`, `{"type":"unsubscribe","topic":%s}`} {
			s.send(fmt.Sprintf(command, text))
		}
	}
	s.send(`{"type":"ping"}`)
	for {
		switch m := s.receive(); m.Type {
		case "error":
		case "subscribed", "unsubscribed": // the one in the list that is a topic, and nothing else
			if m.Topic != "ok" && m.Topic != name || topics.CheckPattern(m.Topic) != nil {
				h.t.Errorf("%q: %+v", name, m)
			}
		case "pong":
			return
		default:
			h.t.Errorf("%q: %+v", name, m)
		}
	}
}

// query asks for a name in the query string, escaped and as it is.
func (h *hostile) query(name string) {
	h.t.Helper()
	for _, format := range []string{"raw", "json"} {
		s, err := h.tryDial("format=" + format + "&topic=" + url.QueryEscape(name))
		switch {
		case err == nil && format == "raw" && topics.CheckPattern(name) != nil:
			h.t.Errorf("%.40q: a raw client is let in", name)
		case err == nil:
			s.conn.Close()
		default:
			if status, refused := err.(ws.StatusError); !refused || status < 400 || status >= 500 {
				h.t.Errorf("%.40q: %v", name, err)
			}
		}
	}
	h.raw("GET /ws?format=raw&topic=" + name + " HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
}

// http publishes to a name, and asks for its past.
func (h *hostile) http(name string) {
	h.t.Helper()
	escaped := url.PathEscape(name)
	for _, request := range [][2]string{{"POST", "/publish/" + escaped}, {"GET", "/history/" + escaped}} {
		if strings.Trim(name, ".") == "" {
			continue // net/http takes it for a way up, and the client follows: raw does not
		}
		if status, _, body := h.request(request[0], "http://"+h.Addr()+request[1], "", mark); status < 400 {
			h.t.Errorf("%s %.60s: %d %s", request[0], request[1], status, body)
		}
	}
	line, err := json.Marshal(map[string]string{"topic": name, "data": mark})
	if err != nil {
		h.t.Fatal(err)
	}
	if _, _, body := h.running.http("POST", "/publish", "application/x-ndjson", string(line)+"\n"); !strings.Contains(body, `"code"`) {
		h.t.Errorf("a line with topic %.60q: %s", name, body)
	}
	h.raw("POST /publish/" + name + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: " + fmt.Sprint(len(mark)) + "\r\n\r\n" + mark)
}

// rawLines are requests that no library would make.
func (h *hostile) rawLines() {
	h.t.Helper()
	body := " HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: " + fmt.Sprint(len(mark)) + "\r\n\r\n" + mark
	for _, path := range []string{
		"/publish/a%0d%0aPUB%20secret.x%201%0d%0ax", "/publish/a%2Fb", "/publish/..%2f%24SYS", "/publish/../$SYS.x", "/publish//$SYS.x", "//publish/$SYS.x",
		"/publish/%24SYS.REQ", "/publish/a%2e%2eb", "/publish/%2a", "/publish/%3e", "/publish/a%00", "/publish/%ff%fe", "/publish/a%", "/publish/a%zz",
		"/publish/a?topic=secret.x", "/publish/;secret", "http://x/publish/$SYS.x", "*", "/publish/%C0%AE%C0%AE",
	} {
		h.raw("POST " + path + body)
	}
}

// raw sends bytes and reads what comes until the end, or for a moment.
func (h *hostile) raw(request string) {
	h.t.Helper()
	c, err := net.Dial("tcp", h.Addr())
	if err != nil {
		h.t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte(request)); err != nil {
		return // it was answered, and closed, before its end
	}
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		h.t.Fatal(err)
	}
	_, _ = bufio.NewReader(c).ReadString('\n') // what counts is what NATS sees
}

// odd publishes to a topic that is one, in all ways.
func (h *hostile) odd(topic string) {
	h.t.Helper()
	s := h.subscribed(topic)
	defer s.conn.Close()
	s.send(fmt.Sprintf(`{"type":"publish","topic":%q,"data":"%s"}`, topic, mark))
	for range 2 {
		if m := s.receive(); m.Topic != topic || m.Type != "published" && m.Type != "message" {
			h.t.Errorf("%s: %+v", topic, m)
		}
	}
	if status, _, body := h.running.http("POST", "/publish/"+topic, "", `"`+mark+`"`); status != 202 {
		h.t.Errorf("%s: %d %s", topic, status, body)
	}
}
