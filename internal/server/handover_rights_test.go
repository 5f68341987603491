package server

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/pushd/pushd/internal/natstest"
)

// reconfigured is a pushd that is upgraded to other settings.
type reconfigured struct {
	*upgradable
	*nats.Conn
	file string
}

func startReconfigured(t *testing.T, settings string) *reconfigured {
	server := natstest.Start(t, natstest.Store(t.TempDir()))
	r := &reconfigured{file: filepath.Join(t.TempDir(), "pushd.yaml")}
	r.write(t, settings)
	var err error
	if r.Conn, err = nats.Connect(server.URL()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Conn.Close)
	r.upgradable = startUpgradable(t, server.URL(), "--config="+r.file)
	return r
}

func (r *reconfigured) write(t *testing.T, settings string) {
	t.Helper()
	if err := os.WriteFile(r.file, []byte(settings), 0o600); err != nil {
		t.Fatal(err)
	}
}

// change upgrades to other settings, with a message to each topic afterwards.
func (r *reconfigured) change(settings string, topics ...string) {
	r.t.Helper()
	r.write(r.t.(*testing.T), settings)
	if _, done := r.mustUpgrade(); done.Left > 0 {
		r.t.Errorf("%d connections stay behind", done.Left)
	}
	for _, topic := range topics {
		if err := r.Publish("push."+topic, []byte(`"after"`)); err != nil {
			r.t.Fatal(err)
		}
	}
}

func (s *socket) wantForbidden(topic string) {
	s.t.Helper()
	if m := s.want("unsubscribed"); m.Topic != topic || m.Reason != "forbidden" {
		s.t.Fatalf("%+v, want that %s is forbidden", m, topic)
	}
}

func (r *reconfigured) raw(query string) *socket { return r.dial("format=raw&" + query) }

// What the new settings forbid ends with the upgrade, without a message more.
func TestHotUpgradeToOtherRights(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte(testSecret), 0o600); err != nil {
		t.Fatal(err)
	}
	auth := "token-secret-file: " + secret + "\nauth-timeout: 300ms\n"
	r := startReconfigured(t, "")

	talks, raw, sse := r.subscribed("chat.a"), r.raw("topic=chat.a"), r.subscribedTo("chat.a")
	r.change(auth, "chat.a")
	talks.wantForbidden("chat.a")
	if code := talks.wantClose(); code != 4001 {
		t.Errorf("who shows no token: closed with %d", code)
	}
	if f := raw.next(); string(f.Payload[:min(2, len(f.Payload))]) != "\x0f\xa1" {
		t.Errorf("who cannot show a token got %q", f.Payload)
	}
	if e := sse.next(); e.typ != "close" || e.data != `{"type":"close","code":4001,"reason":"no_token"}` {
		t.Errorf("a stream that cannot show a token got %q %s", e.typ, e.data)
	}

	r.change(auth + "namespaces: {chat: {public: subscribe}, news: {public: subscribe}, user: {public: subscribe}}\n")
	talks, raw, sse = r.subscribed("chat.a", "news.a"), r.raw("topic=chat.a&topic=news.a"), r.subscribedTo("chat.a", "news.a")
	wild := r.subscribed("user.*", "user.a")
	alice := r.signedIn(tokenFor(t, "alice", may{subscribe: "mine.>"}, patience))
	for _, topic := range []string{"mine.a", "chat.a", "chat.b"} {
		alice.subscribe(topic)
	}
	if _, err := r.Subscribe("auth.may", func(m *nats.Msg) {
		_ = m.Respond([]byte(map[bool]string{true: `{"allow":true}`, false: `{"allow":false}`}[string(m.Data) == `{"identity":"alice","action":"subscribe","topic":"chat.b","address":"127.0.0.1"}`]))
	}); err != nil {
		t.Fatal(err)
	}
	r.change(auth+"authorize: auth.may\nnamespaces: {news: {public: subscribe}, user: {public: subscribe, interest: topic}}\n", "news.a", "user.a", "mine.a")
	talks.wantForbidden("chat.a")
	talks.wantData("news.a", `"after"`)
	if code := raw.wantClose(); code != 4001 {
		t.Errorf("a raw client without a token: closed with %d", code)
	}
	if e := sse.want("unsubscribed"); e.Topic != "chat.a" || e.Reason != "forbidden" {
		t.Errorf("a stream was told %+v", e)
	}
	if e := sse.want("message"); e.Topic != "news.a" {
		t.Errorf("a stream was told %+v", e)
	}
	if m := wild.want("gap"); m.Topic != "user.a" { // another feed than before
		t.Errorf("a topic that is a feed of its own now: %+v", m)
	}
	wild.wantForbidden("user.*")
	wild.wantData("user.a", `"after"`)
	heard := map[string]string{}
	for range 2 {
		m := alice.receive()
		heard[m.Type] = m.Topic + m.Reason
	}
	if heard["unsubscribed"] != "chat.aforbidden" || heard["message"] != "mine.a" {
		t.Errorf("who may by a token, and by nobody's word: %v", heard)
	}
	if err := r.Publish("push.chat.b", []byte("1")); err != nil {
		t.Fatal(err)
	}
	alice.wantData("chat.b", "1")
}
