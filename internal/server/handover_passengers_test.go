package server

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/nats-io/nats.go"
)

// voyage is what a test of a connection across a hot upgrade has: the server, and
// who publishes.
type voyage struct {
	t *testing.T
	u *upgradable
	*nats.Conn
}

// publish sends numbers to a topic, as JSON.
func (v *voyage) publish(topic string, from, to int) {
	v.t.Helper()
	for n := from; n <= to; n++ {
		v.publishData(topic, fmt.Sprint(n))
	}
	if err := v.Flush(); err != nil {
		v.t.Fatal(err)
	}
}

func (v *voyage) publishData(topic, data string) {
	v.t.Helper()
	if err := v.Publish("push."+topic, []byte(data)); err != nil {
		v.t.Fatal(err)
	}
}

// tokenEnds is how long the token lives of which the end is awaited.
const tokenEnds = 10 * time.Second

// passengers are connections of every kind. Each is made before a hot upgrade, and
// what is returned looks at it afterwards.
var passengers = []struct {
	name  string
	board func(v *voyage) (arrive func())
}{
	{"a session with a token", func(v *voyage) func() {
		ends := time.Now().Add(tokenEnds)
		s := v.u.signedIn(tokenFor(v.t, "alice", may{"secret.> >", "secret.a"}, tokenEnds))
		s.subscribe("secret.a")
		return func() {
			if a := v.u.running.upgrade("", "Authorization: Bearer "+tokenFor(v.t, "alice", may{">", ""}, time.Hour)); a.status != http.StatusTooManyRequests {
				v.t.Errorf("a second connection of the identity got %d %s", a.status, a.body)
			}
			s.send(`{"type":"publish","topic":"secret.a","data":1}`)
			for range 2 { // in no order
				if m := s.receive(); m.Type != "published" && (m.Type != "message" || string(m.Data) != "1") {
					v.t.Errorf("of its own publication: %+v", m)
				}
			}
			s.send(`{"type":"publish","topic":"secret.b","data":1}`)
			if m := s.want("error"); m.Code != "forbidden" {
				v.t.Errorf("a publication that is not permitted: %+v", m)
			}
			if m := s.want("token_expires"); m.Expires > ends.UnixMilli() {
				v.t.Errorf("it ends at %d, want %d at most", m.Expires, ends.UnixMilli())
			}
			if code := s.wantClose(); code != 4002 {
				v.t.Errorf("closed with %d", code)
			}
			if now := time.Now(); now.Before(ends.Add(-time.Second)) { // the claim has whole seconds
				v.t.Errorf("closed %v before its token ended", ends.Sub(now))
			}
		}
	}},
	{"a token that has not been shown", func(v *voyage) func() {
		s := v.u.running.upgrade("", "Sec-WebSocket-Protocol: pushd.v1.json").socket
		return func() {
			s.want("welcome")
			s.send(`{"type":"auth","token":"` + tokenFor(v.t, "bob", may{"secret.>", ""}, time.Hour) + `"}`)
			s.want("authenticated")
			s.subscribe("secret.x")
		}
	}},
	{"events, idle", func(v *voyage) func() {
		s := v.u.subscribedTo("chat.sse")
		return func() {
			v.publish("chat.sse", 1, 3)
			for n := 1; n <= 3; n++ {
				if e := s.want("message"); string(e.Data) != fmt.Sprint(n) {
					v.t.Fatalf("event %s, want %d", e.data, n)
				}
			}
		}
	}},
	{"events, with bytes that were not read", func(v *voyage) func() {
		s := v.u.subscribedTo("scores.sse")
		v.stuff("scores.sse", s.conn)
		return func() {
			for n := range stuffed {
				if e := s.want("message"); !strings.HasPrefix(string(e.Data), fmt.Sprintf(`"%d `, n)) {
					v.t.Fatalf("event %.40s, want %d", e.data, n)
				}
			}
		}
	}},
	{"a WebSocket that reads slowly", func(v *voyage) func() {
		s := v.u.subscribed("scores.slow")
		v.stuff("scores.slow", s.conn)
		return func() {
			for n := range stuffed {
				if m := s.want("message"); !strings.HasPrefix(string(m.Data), fmt.Sprintf(`"%d `, n)) {
					v.t.Fatalf("received %.40s, want %d", m.Data, n)
				}
			}
		}
	}},
	{"a poll that waits, with history", func(v *voyage) func() { return v.polling("scores.poll") }},
	{"a poll that waits, without history", func(v *voyage) func() { return v.polling("chat.poll") }},
	{"a connection kept between two polls", func(v *voyage) func() {
		p := v.u.poller("chat.kept")
		if a, err := p.try("wait=0"); err != nil || a.status != 200 {
			v.t.Fatalf("%+v: %v", a, err)
		}
		kept := p.conn
		return func() {
			v.publish("chat.kept", 1, 1)
			if a, err := p.try("wait=10"); err != nil || len(a.Messages) != 1 || p.conn != kept {
				v.t.Errorf("%+v on another connection %v: %v", a, p.conn != kept, err)
			}
		}
	}},
	{"a connection kept between two requests of net/http", func(v *voyage) func() {
		client := http.Client{Transport: &http.Transport{}}
		get := func() {
			r, err := client.Get("http://" + v.u.Addr() + "/healthz")
			if err != nil || r.StatusCode != 200 {
				v.t.Fatalf("%v %v", r, err)
			}
			r.Body.Close()
		}
		get()
		return func() {
			get()
			client.CloseIdleConnections()
		}
	}},
	{"half the head of a request", func(v *voyage) func() {
		c, err := net.Dial("tcp", v.u.Addr())
		if err != nil {
			v.t.Fatal(err)
		}
		v.t.Cleanup(func() { c.Close() })
		s := &stream{t: v.t, conn: c}
		if _, err := c.Write([]byte("GET /ws?topic=chat.half HTTP/1.1\r\nHost: x\r\nUpgrade: webso")); err != nil {
			v.t.Fatal(err)
		}
		return func() {
			const rest = "cket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
			if _, err := c.Write([]byte(rest)); err != nil {
				v.t.Fatal(err)
			}
			var answer [12]byte
			if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
				v.t.Fatal(err)
			}
			if _, err := s.conn.Read(answer[:]); err != nil || string(answer[:]) != "HTTP/1.1 101" {
				v.t.Errorf("answered %q: %v", answer, err)
			}
		}
	}},
	{"a message in fragments", func(v *voyage) func() {
		s := v.u.subscribed("chat.parts")
		command := []byte(`{"type":"publish","topic":"chat.parts","data":"whole"}`)
		s.frame(ws.MaskFrame(ws.NewFrame(ws.OpText, false, command[:20])))
		last := ws.MustCompileFrame(ws.MaskFrame(ws.NewFrame(ws.OpContinuation, true, command[20:])))
		s.raw(last[:9])
		return func() {
			s.raw(last[9:])
			for range 2 { // in no order
				if m := s.receive(); m.Type != "published" && (m.Type != "message" || string(m.Data) != `"whole"`) {
					v.t.Errorf("of its own publication: %+v", m)
				}
			}
		}
	}},
	{"a connection that is compressed", func(v *voyage) func() {
		s := v.u.dialDeflated("topic=chat.deflated&format=raw")
		text := `"` + strings.Repeat("again ", 1000) + `"`
		return func() {
			v.publishData("chat.deflated", text)
			if got, compressed := s.inflated(); !compressed || !strings.Contains(got, text) {
				v.t.Errorf("compressed: %v, %.100s", compressed, got)
			}
		}
	}},
	{"the latest, at a rate", func(v *voyage) func() {
		s := v.u.subscribed()
		s.send(`{"type":"subscribe","topic":"chat.latest","mode":"latest","max_rate":2}`)
		s.want("subscribed")
		v.publish("chat.latest", 1, 20)
		return func() {
			v.publish("chat.latest", 21, 40)
			for updates, last := 0, 0; last != 40; {
				m := s.receive()
				if m.Type == "skipped" {
					continue
				}
				var n int
				if _, err := fmt.Sscan(string(m.Data), &n); err != nil || n <= last || updates > 5 {
					v.t.Fatalf("update %d is %+v, behind %d", updates, m, last)
				}
				updates, last = updates+1, n
			}
		}
	}},
	{"behind a proxy that says whose it is", func(v *voyage) func() {
		dial := func() *pollClient {
			p := v.u.poller("chat.proxied")
			d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.9:0")), Timeout: patience}
			p.dial = func() (net.Conn, error) {
				c, err := d.Dial("tcp", v.u.Addr())
				if err == nil {
					_, err = c.Write([]byte("PROXY TCP4 203.0.113.9 192.0.2.1 1 2\r\n"))
				}
				return c, err
			}
			return p
		}
		p := dial()
		if a, err := p.try("wait=0"); err != nil || a.status != 200 {
			v.t.Fatalf("%+v: %v", a, err)
		}
		return func() {
			if a, err := p.try("wait=0"); err != nil || a.status != 200 {
				v.t.Errorf("%+v: %v", a, err)
			}
			if a, err := dial().try("wait=0"); err != nil || a.status != http.StatusTooManyRequests {
				v.t.Errorf("a second connection of the client: %+v: %v", a, err)
			}
		}
	}},
}

// stuffed is how many messages stuff sends, of stuffing bytes each: together more
// than sockets and their owner take.
const stuffed, stuffing = 150, 20 << 10

// stuff publishes what a client does not read, so that some of it waits in its
// socket, some in the server, and some only in the history.
func (v *voyage) stuff(topic string, c net.Conn) {
	v.t.Helper()
	if err := c.(*net.TCPConn).SetReadBuffer(64 << 10); err != nil {
		v.t.Fatal(err)
	}
	for n := range stuffed {
		v.publishData(topic, fmt.Sprintf(`"%d %s"`, n, strings.Repeat("x", stuffing)))
	}
	if err := v.Flush(); err != nil {
		v.t.Fatal(err)
	}
}

// polling has a poll wait, which is answered by the upgrade, and goes on with its cursor.
func (v *voyage) polling(topic string) func() {
	p := v.u.poller(topic)
	if a, err := p.try("wait=0"); err != nil || a.status != 200 { // from now on
		v.t.Fatalf("%+v: %v", a, err)
	}
	type result struct {
		polledAnswer
		err error
	}
	answered := make(chan result, 1)
	go func() {
		a, err := p.try("wait=25")
		answered <- result{a, err}
	}()
	return func() {
		first := <-answered
		if first.err != nil || first.status != 200 {
			v.t.Fatalf("the poll that waited: %+v", first)
		}
		v.publish(topic, 1, 3)
		got := first.Messages
		for len(got) < 3 {
			a, err := p.try("wait=10")
			if err != nil || a.status != 200 || len(a.Messages) == 0 {
				v.t.Fatalf("%+v: %v", a, err)
			}
			got = append(got, a.Messages...)
		}
		for i, m := range got {
			if string(m.Data) != fmt.Sprint(1+i) {
				v.t.Errorf("message %d is %s", i, m.Data)
			}
		}
	}
}

// raw sends bytes that need be no whole frame.
func (s *socket) raw(p []byte) {
	s.t.Helper()
	if _, err := s.conn.Write(p); err != nil {
		s.t.Fatal(err)
	}
}

const passengerSettings = `
token-leeway: 0s
handshake-timeout: 60s
max-connections-per-identity: 1
max-connections-per-address: 1
proxy-protocol: [127.0.0.9/32]
default: {public: all}
namespaces:
  scores: {delivery: all, history: {age: 1h}, public: all}
  secret: {public: none}
`

// TestHotUpgradeOfEverything takes one connection of each kind through two hot upgrades.
func TestHotUpgradeOfEverything(t *testing.T) {
	t.Parallel()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte(testSecret), 0o600); err != nil {
		t.Fatal(err)
	}
	u, nc := startUpgradableOn(t, passengerSettings, "--token-secret-file="+secret)
	var arrivals []func()
	for _, p := range passengers {
		arrivals = append(arrivals, p.board(&voyage{t: t, u: u, Conn: nc}))
	}
	for range 2 {
		before, _ := u.mustUpgrade()
		u.wantEnd(before)
	}
	for i, p := range passengers {
		func() {
			failed := t.Failed()
			defer func() {
				if t.Failed() && !failed {
					t.Log("that was ", p.name)
				}
			}()
			arrivals[i]()
		}()
	}
}
