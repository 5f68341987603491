package server

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pushd/pushd/internal/config"
)

// tricks are names that would be another subject, several, or none, if they
// reached NATS.
var tricks = []string{
	"$SYS.>", "$SYS.REQ.SERVER.PING", "$JS.API.STREAM.DELETE.push_a", "$KV.x", "_INBOX.>", "_INBOX..x", "", ".", "..", ".a", "a.", "push..x", "a..b", "a. .b", " a", "a ",
	"a b", "a\tb", "a\r\nPUB evil 1\r\nx", "a\nb", "a\x00b", "a\x7fb", "\u202ea", "caf\u00e9", "a\u00a0b", "\uff0e\uff0e", ">", "*", "*.a", "a.*", "a.>", "a>", "a*", "a.>.b", "../a", "a/../b", "a%2eb",
	"a,b", "a;b", `a"b`, "a\\b", strings.Repeat("a", 256), strings.Repeat("a.", 17) + "a",
}

// TestSubjectTricks publishes and subscribes under names that are no topics,
// with the right to do everything. A NATS client that hears all hears nothing.
func TestSubjectTricks(t *testing.T) {
	r := secure(t, func(c *config.Config) {
		c.MaxSubscriptions = 10
		c.Authorize, c.AuthorizeTimeout = "auth.may", time.Second
	})
	nc := r.backend()
	var mu sync.Mutex
	var heard []string
	last := make(chan struct{})
	for _, subject := range []string{">", "$SYS.>", "$JS.>", "auth.>"} { // the server refuses what it will not have heard
		if _, err := nc.Subscribe(subject, func(m *nats.Msg) {
			mu.Lock()
			defer mu.Unlock()
			if m.Subject == "push.the.last" {
				select {
				case <-last:
				default:
					close(last)
				}
				return
			}
			if strings.HasPrefix(m.Subject, "push._pushd.nodes.") {
				return // what the node says of itself
			}
			heard = append(heard, m.Subject+" "+string(m.Data))
		}); err != nil {
			t.Fatal(err)
		}
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	token := tokenFor(t, "mallory", may{subscribe: ">", publish: ">"}, time.Hour)
	bearer := []string{"Authorization", "Bearer " + token}
	s := r.signedIn(token)
	for _, name := range tricks {
		quoted, _ := json.Marshal(name)
		for _, command := range []string{`{"type":"publish","topic":%s,"data":"boom"}`, `{"type":"publish","topic":%s,"data":"boom","idempotency_key":"k"}`} {
			s.send(fmt.Sprintf(command, quoted))
			s.wantError("invalid_topic")
		}
		_, _, body := r.request("POST", "http://"+r.Addr()+"/publish", "application/x-ndjson", fmt.Sprintf(`{"topic":%s,"data":"boom"}`, quoted), bearer...)
		if !strings.Contains(body, `"code":"invalid_topic"`) {
			t.Errorf("a line to %q: %s", name, body)
		}
		status, _, body := rawHTTP(t, r.Addr(), "POST /publish/"+url.PathEscape(name)+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 4\r\nAuthorization: Bearer "+token+"\r\n\r\nboom")
		if status < 300 || status >= 500 {
			t.Errorf("POST to %q: %d %s", name, status, body)
		}
		if name == "a.*" || name == "a.>" || name == "_INBOX.>" {
			continue // patterns, of topics: push._INBOX.> is nobody's inbox
		}
		for _, command := range []string{`{"type":"subscribe","topic":%s}`, `{"type":"presence","topic":%s}`, `{"type":"unsubscribe","topic":%s}`} {
			s.send(fmt.Sprintf(command, quoted))
			s.wantError("invalid_topic")
		}
		if a := r.upgrade("format=raw&topic="+url.QueryEscape(name), "Authorization: Bearer "+token); a.status != 400 {
			t.Errorf("raw on %q: %d %s", name, a.status, a.body)
		}
		status, _, body = rawHTTP(t, r.Addr(), "GET /history/"+url.PathEscape(name)+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer "+token+"\r\n\r\n")
		if status < 300 || status >= 500 {
			t.Errorf("history of %q: %d %s", name, status, body)
		}
	}
	s.send(`{"type":"publish","topic":"the.last","data":"1"}`)
	s.want("published")
	select {
	case <-last:
	case <-time.After(patience):
		t.Fatal("the last message did not come")
	}
	mu.Lock()
	defer mu.Unlock()
	if len(heard) > 0 {
		t.Errorf("NATS heard %q", heard)
	}
}

// rawHTTP sends what no library would, and reads the answer whole.
func rawHTTP(t *testing.T, address, request string) (status int, head, body string) {
	t.Helper()
	c, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(c) // a reset ends it too
	head, body, _ = strings.Cut(string(text), "\r\n\r\n")
	fmt.Sscanf(head, "HTTP/1.1 %d", &status)
	return status, head, body
}

// TestHeaderInjection puts line ends and quotes where they might come back in a header.
func TestHeaderInjection(t *testing.T) {
	r := secure(t)
	const evil = "x\r\nX-Evil: 1\r\n\r\n\", X-Evil=\""
	token := tokenFor(t, "alice", may{}, time.Hour)
	const upgrade = " HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	escaped := url.QueryEscape(evil)
	for _, request := range []string{
		"GET /ws?format=raw&token=" + escaped + upgrade + "\r\n",
		"GET /ws?format=raw&token=" + token + "&topic=" + escaped + upgrade + "\r\n",
		"GET /ws?format=raw&topic=" + escaped + upgrade + "\r\n",
		"GET /ws?format=" + escaped + upgrade + "\r\n",
		"GET /ws?%zz" + escaped + upgrade + "\r\n",
		"GET /ws?token=a&token=" + escaped + upgrade + "\r\n",
		"GET /ws?format=raw" + upgrade + "Authorization: Bearer a\"b\\c, X-Evil=1\r\n\r\n",
		"GET /ws" + upgrade + "Sec-WebSocket-Protocol: pushd.token." + evil + "\r\n\r\n",
		"GET /history/" + url.PathEscape(evil) + "?token=" + token + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
		"GET /history/a?token=" + escaped + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
		"POST /publish/" + url.PathEscape(evil) + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\nAuthorization: Bearer x\"y\r\n\r\n",
	} {
		status, head, body := rawHTTP(t, r.Addr(), request)
		if status < 400 || status >= 500 {
			t.Errorf("%q: %d", request, status)
		}
		if strings.Contains(strings.ToLower(head), "x-evil") {
			t.Errorf("%q: the head of the answer is\n%s", request, head)
		}
		if body != "" && !json.Valid([]byte(body)) {
			t.Errorf("%q: %s", request, body)
		}
	}
}

// TestTokensStaySecret looks for tokens in the log at its most talkative, in
// what clients are told, and on the admin listener.
func TestTokensStaySecret(t *testing.T) {
	var log logged
	cfg := config.Default()
	cfg.Listen, cfg.Admin, cfg.NATSListen, cfg.Store, cfg.Shards = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", "memory", 1
	cfg.TokenSecret = testSecret
	s, err := New(cfg, log.logger())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	r := &running{Server: s, t: t}

	good := tokenFor(t, "alice", may{subscribe: "a.>"}, time.Hour)
	expired := tokenFor(t, "alice", may{subscribe: "a.>"}, -time.Hour)
	forged := good[:len(good)-10] + "AAAAAAAAAA"
	guess := "pushd_" + strings.Repeat("0123456789abcdef", 4)
	var told strings.Builder
	for _, token := range []string{good, expired, forged, guess, "not.a.token", "x=" + good} {
		escaped := url.QueryEscape(token)
		for _, a := range []answer{
			r.upgrade("token=" + escaped), r.upgrade("topic=b&format=raw&token=" + escaped), r.upgrade("", "Authorization: Bearer "+token),
			r.upgrade("token=x&token=" + escaped), r.upgrade("format=bad&token=" + escaped), r.upgrade("%zz&token=" + escaped),
		} {
			fmt.Fprintln(&told, a.body)
		}
		for _, path := range []string{"/history/a.b?token=", "/publish/a.b?token=", "/nothing?token=", "/ws?token="} {
			for _, method := range []string{"GET", "POST"} {
				_, _, body := r.http(method, path+escaped, "", "1")
				fmt.Fprintln(&told, body)
			}
		}
		c := r.dial("token=" + url.QueryEscape(good))
		fmt.Fprintln(&told, c.want("welcome"), c.auth(token))
		c.send(`{"type":"auth","token":"` + token + `","token":""}`)
		fmt.Fprintln(&told, c.receive())
		c.send(`{"type":"auth","token":"` + token + `"`)
		fmt.Fprintln(&told, c.receive())
	}
	for _, path := range []string{"/connections", "/debug/topics", "/metrics", "/debug/pprof/cmdline", "/debug/pprof/goroutine?debug=2"} {
		_, _, body := r.request("GET", "http://"+r.AdminAddr()+path, "", "")
		fmt.Fprintln(&told, body)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	for what, text := range map[string]string{"the log": log.String(), "an answer": told.String()} {
		for _, secret := range []string{testSecret, guess, good[strings.LastIndex(good, ".")+1:], expired[strings.LastIndex(expired, ".")+1:], strings.Split(good, ".")[1]} {
			if i := strings.Index(text, secret); i >= 0 {
				t.Errorf("%s has a secret: %q", what, text[max(0, i-200):i+20])
			}
		}
	}
	if !strings.Contains(log.String(), "credentials refused") {
		t.Error("refused credentials were not logged at all")
	}
}
