package server

import (
	"strings"
	"testing"
	"time"

	"github.com/pushd/pushd/internal/config"
)

// ourPage is an origin of the allow list in these tests.
const ourPage = "https://app.example.com"

// heldStream asks for topics as a stream of events in the name of a page, which is
// to be refused so that our pages alone may read it.
func (r *running) heldStream(query, origin string, status int, code string) {
	r.t.Helper()
	s := r.events(query, originLine(origin))
	defer s.conn.Close()
	r.wantHeld("a stream", query, origin, status, code, polledAnswer{status: s.status, header: s.header}, s.body)
}

// held is heldStream, and the same for a poll.
func (r *running) held(query, origin string, status int, code string) {
	r.t.Helper()
	r.heldStream(query, origin, status, code)
	p := r.poller()
	p.query, p.lines = query, originLine(origin)+"\r\n"
	defer p.close()
	a, err := p.try("wait=0")
	if err != nil {
		r.t.Fatal(err)
	}
	r.wantHeld("a poll", query, origin, status, code, a, `"`+a.Code+`"`)
}

func originLine(origin string) string {
	if origin == "" {
		return "X-No: page"
	}
	return "Origin: " + origin
}

func (r *running) wantHeld(transport, query, origin string, status int, code string, a polledAnswer, body string) {
	r.t.Helper()
	if a.status != status || !strings.Contains(body, `"`+code+`"`) {
		r.t.Errorf("%s of %.20s: %d %s, want %d %s", transport, query, a.status, body, status, code)
	}
	if origin != ourPage {
		origin = ""
	}
	if allowed := a.header.Get("Access-Control-Allow-Origin"); allowed != origin || a.header.Get("Vary") != "Origin" {
		r.t.Errorf("%s of %.20s, %d: Access-Control-Allow-Origin %q, want %q; Vary %q", transport, query, a.status, allowed, origin, a.header.Get("Vary"))
	}
}

// A page can read why it is refused what somebody else had to be asked for first.
func TestHeldRefusals(t *testing.T) {
	r, _ := authorizing(t, func(q asked) string {
		if strings.HasPrefix(q.Topic, "silent.") {
			return ""
		}
		return `{"allow":false}`
	}, func(c *config.Config) { c.AllowOrigin = []string{ourPage} })
	token := tokenFor(t, "alice", may{}, time.Hour)
	for _, origin := range []string{ourPage, ""} {
		r.held("topic=no.a&token="+token, origin, 403, "forbidden")
		r.held("topic=no.a&topic=no.b&token="+token, origin, 403, "forbidden")
		r.held("topic=silent.a&token="+token, origin, 503, "unavailable")
		r.held("topic=no.a&token=x", origin, 401, "unauthorized")
	}
	r.held("topic=no.a&token="+token, "https://evil.example.com", 403, "forbidden")
}

// So it can where the answer takes longer than a request may be held.
func TestHeldTooLong(t *testing.T) {
	r := secure(t, func(c *config.Config) {
		c.AllowOrigin, c.HandshakeTimeout = []string{ourPage}, 300*time.Millisecond
		c.Authorize, c.AuthorizeTimeout = "auth.may", 20*time.Second
	})
	nc := r.backend()
	if _, err := nc.SubscribeSync("auth.may"); err != nil || nc.Flush() != nil { // which answers nothing
		t.Fatal(err)
	}
	token := tokenFor(t, "alice", may{}, time.Hour)
	for _, origin := range []string{ourPage, ""} {
		r.heldStream("topic=silent.a&token="+token, origin, 503, "unavailable")
	}
	eventually(t, "it was the streams that were held too long", func() bool {
		return r.metric(`pushd_connections_closed_total{reason="handshake_timeout"}`) == "2"
	})
}

// What NATS does not let the server hear is refused before the 200, which waits for it.
func TestHeldDeniedByNATS(t *testing.T) {
	conf := without(t, documentedBlock(t, "conf"), "subscribe", "push.>")
	conf = strings.Replace(conf, `"push-live.>"`, `"push-live.>", "push._pushd.>", "push.chat", "push.chat.>"`, 1)
	g := startGuarded(t, conf)
	r, err := g.pushd(t, func(c *config.Config) { c.AllowOrigin = []string{ourPage} })
	if err != nil {
		t.Fatal(err)
	}
	nc := g.client(t, "operator", "o")
	for _, origin := range []string{ourPage, ""} {
		r.held("topic=other.a", origin, 403, "forbidden")
		r.held("topic=chat.a&topic=other.a", origin, 403, "forbidden")
	}
	r.held("topic=other.a&topic=chat.a&topic=more.a", ourPage, 403, "forbidden")
	if s := r.events("topic=other.a&format=raw"); s.status != 403 {
		t.Errorf("a raw stream: %d", s.status)
	}
	// Nothing of those is left, and what is permitted comes.
	eventually(t, "they are over", func() bool { return r.quota.Open() == 0 && r.metric("pushd_subscriptions") == "0" })
	s := r.subscribedTo("chat.a")
	nc.Publish("push.chat.a", []byte("1"))
	nc.Publish("push.other.a", []byte("2"))
	nc.Publish("push.chat.a", []byte("3"))
	for _, want := range []string{"1", "3"} {
		if e := s.want("message"); string(e.Data) != want {
			t.Errorf("got %s, want %s", e.data, want)
		}
	}
}
