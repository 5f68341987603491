package natsbus

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/pushd/pushd/internal/natstest"
)

// Inspect says of each stream what Open would do, and does it not.
func TestInspect(t *testing.T) {
	server := natstest.Start(t, natstest.Store(t.TempDir()))
	quiet := slog.New(slog.DiscardHandler)
	stream := func(name string, age time.Duration) StreamConfig {
		return StreamConfig{Name: name, Subject: "push." + strings.TrimPrefix(name, "push_"), Age: age, Replicas: 1}
	}
	first := Config{URLs: []string{server.URL()}, Log: quiet, Streams: map[string]StreamConfig{
		"same": stream("push_same", time.Hour), "longer": stream("push_longer", time.Hour), "moved": stream("push_moved", time.Hour),
	}}
	b, err := Open(context.Background(), first)
	if err != nil {
		t.Fatal(err)
	}
	b.Close()

	second := first
	inMemory := stream("push_moved", time.Hour)
	inMemory.InMemory = true
	second.Streams = map[string]StreamConfig{
		"same": stream("push_same", time.Hour), "longer": stream("push_longer", 2*time.Hour), "moved": inMemory,
		"new": stream("push_new", time.Hour), "theirs": {Name: "THEIRS", Subject: "shop.theirs", Existing: true},
	}
	for range 2 { // the second time shows that the first has made nothing
		found, err := Inspect(context.Background(), second)
		if err != nil {
			t.Fatal(err)
		}
		if found.Version == "" || !found.JetStream || found.MaxPayload == 0 || found.RoundTrip <= 0 || found.URL == "" {
			t.Errorf("%+v", found)
		}
		if !found.Clock || found.Ahead.Abs() > 10*time.Second { // it is the same machine's
			t.Errorf("its clock is ahead by %v (known: %v)", found.Ahead, found.Clock)
		}
		says := make(map[string]string)
		for _, s := range found.Streams {
			switch {
			case s.Err != nil:
				says[s.Namespace] = s.Err.Error()
			case s.Missing:
				says[s.Namespace] = "missing"
			default:
				says[s.Namespace] = strings.Join(s.Changes, "; ")
			}
		}
		for namespace, want := range map[string]string{"same": "", "longer": "max_age: 1h0m0s to 2h0m0s", "moved": "is kept in file and should be in memory", "new": "missing", "theirs": "stream THEIRS does not exist"} {
			if got, there := says[namespace]; !there || (want == "") != (got == "") || !strings.Contains(got, want) {
				t.Errorf("%s: %q, want %q", namespace, got, want)
			}
		}
	}
}

func TestInspectErrors(t *testing.T) {
	dead := natstest.Start(t)
	dead.Kill()
	guarded := natstest.Start(t, natstest.Config(`authorization { users = [ { user: u, password: p, permissions: { publish: ["push.>"], subscribe: ["_INBOX_push.>"] } } ] }`))
	quiet := slog.New(slog.DiscardHandler)
	for _, test := range []struct {
		url, want string
	}{
		{dead.URL(), "connection refused"},
		{guarded.URL(), "Authorization Violation"},
		{"", "embedded"},
	} {
		cfg := Config{Log: quiet}
		if test.url != "" {
			cfg.URLs = []string{test.url}
		}
		if _, err := Inspect(context.Background(), cfg); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q: %v, want %s", test.url, err, test.want)
		}
	}
	found, err := Inspect(context.Background(), Config{Log: quiet, URLs: []string{"nats://u:p@" + guarded.Addr()},
		Streams: map[string]StreamConfig{"scores": {Name: "push_scores", Subject: "push.scores", Age: time.Hour, Replicas: 1}}})
	if err != nil {
		t.Fatal(err)
	}
	if got := found.Streams[0].Err; !errors.Is(got, ErrDenied) || !strings.Contains(got.Error(), "$JS.API.STREAM.INFO.push_scores") {
		t.Errorf("without the permission: %v", got)
	}
}
