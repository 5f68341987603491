package server

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pushd/pushd/internal/config"
)

// withSecret is settings by which the tests' tokens are good.
func withSecret(t *testing.T) string {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte(testSecret), 0o600); err != nil {
		t.Fatal(err)
	}
	return "token-secret-file: " + secret + "\n"
}

// What the service has to decide stands still until it has: nothing comes before a
// no, and nothing is missing after a yes.
func TestHotUpgradeAsksFirst(t *testing.T) {
	auth := withSecret(t)
	r := startReconfigured(t, auth+"namespaces: {chat: {public: subscribe}}\n")
	alice := r.signedIn(tokenFor(t, "alice", may{}, patience))
	alice.subscribe("chat.no")
	alice.subscribe("chat.yes")
	bob := r.signedIn(tokenFor(t, "bob", may{subscribe: "chat.>"}, patience))
	bob.subscribe("chat.*")
	questions := make(chan *nats.Msg, 8)
	if _, err := r.ChanSubscribe("auth.may", questions); err != nil {
		t.Fatal(err)
	}
	r.change(auth+"authorize: auth.may\nauthorize-timeout: 20s\n", "chat.no", "chat.yes")
	bob.wantData("chat.no", `"after"`) // so it has come before the answers
	bob.wantData("chat.yes", `"after"`)
	for range 2 {
		select {
		case q := <-questions:
			_ = q.Respond(fmt.Appendf(nil, `{"allow":%t}`, strings.Contains(string(q.Data), "chat.yes")))
		case <-time.After(patience):
			t.Fatal("nobody was asked")
		}
	}
	alice.wantForbidden("chat.no")
	alice.wantData("chat.yes", `"after"`)
	if err := r.Publish("push.chat.yes", []byte("1")); err != nil {
		t.Fatal(err)
	}
	alice.wantData("chat.yes", "1")
}

// More questions than may wait at a time end nobody's connection.
func TestHotUpgradeAsksAboutMany(t *testing.T) {
	const clients, each = 80, 16
	auth := withSecret(t)
	r := startReconfigured(t, auth+"namespaces: {chat: {public: subscribe}}\n")
	token := tokenFor(t, "alice", may{}, patience)
	var topics []string
	for i := range each {
		topics = append(topics, fmt.Sprintf("topic=chat.%d", i))
	}
	all := make([]*socket, clients)
	for i := range all {
		all[i] = r.dial("token=" + token + "&" + strings.Join(topics, "&"))
		all[i].want("welcome")
		for range each {
			all[i].want("subscribed")
		}
	}
	if _, err := r.Subscribe("auth.may", func(m *nats.Msg) {
		time.AfterFunc(200*time.Millisecond, func() { _ = m.Respond([]byte(`{"allow":true}`)) }) // all can be under way by then
	}); err != nil {
		t.Fatal(err)
	}
	r.change(auth+"authorize: auth.may\n", "chat.15")
	for _, s := range all {
		s.wantData("chat.15", `"after"`)
	}
}

// A stream that has nothing left to hear ends.
func TestHotUpgradeEndsIdleStream(t *testing.T) {
	auth := withSecret(t)
	r := startReconfigured(t, auth+"namespaces: {chat: {public: subscribe}, news: {public: subscribe}}\n")
	nobody := r.subscribedTo("chat.a", "chat.b")
	alice := r.events("topic=chat.a&token=" + tokenFor(t, "alice", may{}, patience))
	alice.want("welcome")
	alice.want("subscribed")
	r.change(auth + "namespaces: {news: {public: subscribe}}\n")
	for _, c := range []struct {
		*stream
		topics int
		code   string
	}{{nobody, 2, `"code":4001`}, {alice, 1, `"code":1008`}} {
		for range c.topics {
			c.want("unsubscribed")
		}
		if e := c.next(); e.typ != "close" || !strings.Contains(e.data, c.code) {
			t.Errorf("got %q %s, want a close with %s", e.typ, e.data, c.code)
		}
	}
}

func TestHandoverComparesAccess(t *testing.T) {
	base := func() config.Config {
		return config.Config{TokenSecret: testSecret, Authorize: "auth.may", Namespaces: map[string]config.Namespace{"news": {Public: config.PublicSubscribe}}}
	}
	for _, c := range []struct {
		what   string
		change func(*config.Config)
		same   bool
	}{
		{"nothing", func(*config.Config) {}, true},
		{"another namespace", func(c *config.Config) { c.Namespaces["chat"] = config.Namespace{Public: config.PublicNone} }, true},
		{"who may publish", func(c *config.Config) { c.Namespaces["news"] = config.Namespace{Public: config.PublicAll} }, true},
		{"a namespace for nobody", func(c *config.Config) { delete(c.Namespaces, "news") }, false},
		{"the rest for everybody", func(c *config.Config) { c.Default.Public = config.PublicSubscribe }, false},
		{"another service", func(c *config.Config) { c.Authorize = "may" }, false},
		{"no tokens", func(c *config.Config) { c.TokenSecret = "" }, false},
	} {
		was, is := base(), base()
		c.change(&is)
		if same := accessOf(&was) == accessOf(&is); same != c.same {
			t.Errorf("%s: the same: %t, want %t", c.what, same, c.same)
		}
	}
}
