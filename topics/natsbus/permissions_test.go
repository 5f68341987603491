package natsbus

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/pushd/pushd/internal/natstest"
	"github.com/pushd/pushd/topics"
)

// guarded runs a server with a user "u" of these rights, and "admin" of all.
func guarded(t *testing.T, publish, subscribe []string) (s *natstest.Process, url string) {
	t.Helper()
	list := func(subjects []string) string { return `["` + strings.Join(subjects, `", "`) + `"]` }
	s = natstest.Start(t, natstest.Store(t.TempDir()), natstest.Config(fmt.Sprintf(`authorization { users: [
		{ user: u, password: p, permissions: { publish: %s, subscribe: %s } },
		{ user: admin, password: p } ] }`, list(publish), list(subscribe))))
	return s, "nats://u:p@" + s.Addr()
}

// The rights that the package documentation names.
var (
	rightsToPublish   = []string{"push.>", "$JS.API.DIRECT.GET.push_ns", "$JS.API.STREAM.INFO.push_ns", "$JS.API.STREAM.MSG.GET.push_ns"}
	rightsToMake      = []string{"$JS.API.STREAM.CREATE.push_ns", "$JS.API.STREAM.UPDATE.push_ns"}
	rightsToSubscribe = []string{"push.>", "push-live.>", "_INBOX_push.>"}
)

// TestPermissions does everything with exactly the rights that are documented.
func TestPermissions(t *testing.T) {
	s, url := guarded(t, append(rightsToMake, rightsToPublish...), rightsToSubscribe)
	cfg := Config{URLs: []string{url}, Streams: map[string]StreamConfig{"ns": {Messages: 2}}}
	openClose(t, cfg)
	cfg.Streams["ns"] = StreamConfig{Messages: 3}
	openClose(t, cfg)
	use(t, cfg)

	// The stream is there: no right to make one is needed, even where it is changed.
	js := jetStream(t, "nats://admin:p@"+s.Addr())
	made := streamConfig(t, js, "push_ns")
	s, url = guarded(t, rightsToPublish, rightsToSubscribe)
	js = jetStream(t, "nats://admin:p@"+s.Addr())
	cfg.URLs = []string{url}
	want := "namespace ns: this NATS account may not create stream push_ns: allow $JS.API.STREAM.CREATE.push_ns, or have it done: " +
		"nats stream add push_ns --subjects='push.ns,push.ns.>' --storage=file --retention=limits --discard=old --replicas=1 --max-age=0s " +
		"--max-bytes=-1 --max-msgs-per-subject=3 --dupe-window=2m0s --allow-direct --republish-source='push.>' --republish-destination='push-live.>'"
	if got := openFails(t, context.Background(), cfg); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	made.MaxMsgsPerSubject = 2
	if _, err := js.CreateStream(t.Context(), made); err != nil {
		t.Fatal(err)
	}
	want = "namespace ns: this NATS account may not update stream push_ns (max_msgs_per_subject is 2): allow $JS.API.STREAM.UPDATE.push_ns, or have it done: " +
		"nats stream edit push_ns --subjects='push.ns,push.ns.>' --discard=old --replicas=1 --max-age=0s " +
		"--max-bytes=-1 --max-msgs-per-subject=3 --dupe-window=2m0s --allow-direct --republish-source='push.>' --republish-destination='push-live.>'"
	if got := openFails(t, context.Background(), cfg); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	cfg.Streams["ns"] = StreamConfig{Messages: 2}
	use(t, cfg)
}

// use does what a Bus does with a namespace of which at most 3 messages of a
// topic are kept.
func use(t *testing.T, cfg Config) {
	t.Helper()
	b, r := open(t, cfg)
	mustSubscribe(t, b, namespace("ns"), namespace("plain"), topic("other"))
	keep(t, b, "plain.a", "plain", "")
	for _, data := range []string{"1", "2", "3", "4"} {
		keep(t, b, "ns.a", data, "id"+data)
	}
	r.awaitMessage(t, "4")
	if page := mustRead(t, b, topics.Query{Namespace: "ns", Newest: true}); len(page.Messages) != 1 {
		t.Errorf("read %+v", page)
	}
	if !intact(t, b, "ns", "", 3) {
		t.Error("not intact")
	}
	if s := b.State(); s.Denied != 0 {
		t.Errorf("%d refusals", s.Denied)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestDeniedHistory takes rights away one by one.
func TestDeniedHistory(t *testing.T) {
	without := func(rights []string, denied string) (left []string) {
		for _, right := range append(rightsToMake, rights...) {
			if right != denied {
				left = append(left, right)
			}
		}
		return left
	}
	streams := map[string]StreamConfig{"ns": {Messages: 1}}
	bus := func(t *testing.T, denied string) *Bus {
		_, url := guarded(t, without(rightsToPublish, denied), rightsToSubscribe)
		b, _ := open(t, Config{URLs: []string{url}, Streams: streams})
		return b
	}
	wants := func(t *testing.T, err error, subject string) {
		t.Helper()
		if !errors.Is(err, ErrDenied) || !strings.HasSuffix(err.Error(), ": "+subject) {
			t.Errorf("got %v, want %v: %s", err, ErrDenied, subject)
		}
	}
	t.Run("publish", func(t *testing.T) {
		b := bus(t, "push.>")
		for range 3 { // alone, and beside a namespace without history
			done := make(chan error, 2)
			b.Publish(Publication{Topic: "plain", Done: func(_ topics.Cursor, err error) { done <- err }})
			wants(t, publish(t, b, "ns.a", "x"), "push.ns.a")
			wants(t, wait(t, done, "Done"), "push.plain")
		}
		if b.pub.refused() != nil {
			t.Error("denials of streams are kept for nobody")
		}
	})
	t.Run("direct get", func(t *testing.T) {
		b := bus(t, "$JS.API.DIRECT.GET.push_ns")
		_, err := read(t, b, topics.Query{Namespace: "ns"})
		wants(t, err, "$JS.API.DIRECT.GET.push_ns")
	})
	t.Run("message get", func(t *testing.T) {
		b := bus(t, "$JS.API.STREAM.MSG.GET.push_ns")
		for _, topic := range []string{"ns.a", "ns.b", "ns.c", "ns.b"} { // one of each is kept, so the second is missing
			keep(t, b, topic, "x", "")
		}
		done := make(chan error, 2)
		b.Intact("ns", "", 2, func(_ bool, err error) { done <- err })
		wants(t, wait(t, done, "Intact"), "$JS.API.STREAM.MSG.GET.push_ns")
	})
	t.Run("info", func(t *testing.T) {
		_, url := guarded(t, without(rightsToPublish, "$JS.API.STREAM.INFO.push_ns"), rightsToSubscribe)
		want := "namespace ns: stream push_ns: denied by the NATS server's permissions: $JS.API.STREAM.INFO.push_ns: allow this account to ask for it"
		if got := openFails(t, context.Background(), Config{URLs: []string{url}, Streams: streams}); got != want {
			t.Error(got)
		}
	})
	t.Run("inbox", func(t *testing.T) {
		_, url := guarded(t, without(rightsToPublish, ""), []string{"push.>", "push-live.>"})
		got := openFails(t, context.Background(), Config{URLs: []string{url}, Streams: streams})
		if !strings.HasPrefix(got, "cannot subscribe to replies of NATS: denied by the NATS server's permissions: _INBOX_push.") || !strings.HasSuffix(got, ": allow this account to subscribe to _INBOX_push.>") {
			t.Error(got)
		}
	})
	t.Run("live", func(t *testing.T) {
		_, url := guarded(t, without(rightsToPublish, ""), []string{"push.>", "_INBOX_push.>"})
		b, _ := open(t, Config{URLs: []string{url}, Streams: streams})
		if err := subscribe(t, b, namespace("ns")); !errors.Is(err, ErrDenied) {
			t.Error(err)
		}
	})
}
