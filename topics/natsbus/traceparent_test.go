package natsbus

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/pushd/pushd/internal/natstest"
	"github.com/pushd/pushd/topics"
)

const testTraceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

// asked has what Config.Follow was asked.
type asked struct {
	mu  sync.Mutex
	all []string // guarded by mu
}

func (a *asked) follow(topic string, size int, traceparent string) *topics.Trail {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.all = append(a.all, fmt.Sprint(topic, " ", size, " ", traceparent))
	return nil
}

func (a *asked) since() (all []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	all, a.all = a.all, nil
	return all
}

// A traceparent goes with a publication and comes back, also by way of a
// stream, and from publishers that write it as HTTP does.
func TestTraceparent(t *testing.T) {
	var a asked
	b, r := open(t, Config{
		Listen: "127.0.0.1:0", Follow: a.follow,
		Streams: map[string]StreamConfig{"kept": {Name: "kept", Subject: "push.kept", Messages: 10, InMemory: true}},
	})
	mustSubscribe(t, b, namespace("plain"), namespace("kept"))
	for _, topic := range []string{"plain.a", "kept.a"} {
		for _, p := range []Publication{
			{Topic: topic, Data: []byte("12345"), Traceparent: testTraceparent},
			{Topic: topic, Data: []byte("1"), Traceparent: testTraceparent, ID: "id"},
			{Topic: topic, Data: []byte("12")},
		} {
			done := make(chan error, 1)
			p.Done = func(_ topics.Cursor, err error) { done <- err }
			b.Publish(p)
			if err := wait(t, done, "Done"); err != nil {
				t.Fatal(err)
			}
		}
	}
	r.await(t, "six messages", func(e []event) bool { return len(e) == 6 })
	got := a.since()
	slices.Sort(got) // live and stored messages come by two ways
	want := []string{
		"kept.a 1 " + testTraceparent, "kept.a 2 ", "kept.a 5 " + testTraceparent,
		"plain.a 1 " + testTraceparent, "plain.a 2 ", "plain.a 5 " + testTraceparent,
	}
	if !slices.Equal(got, want) {
		t.Errorf("asked %q, want %q", got, want)
	}

	nc := client(t, b.ClientURL())
	for _, name := range []string{"traceparent", "Traceparent"} {
		if err := nc.PublishMsg(&nats.Msg{Subject: "push.plain.b", Header: nats.Header{name: {testTraceparent}}}); err != nil {
			t.Fatal(err)
		}
	}
	r.await(t, "two more", func(e []event) bool { return len(e) == 8 })
	if got, want := a.since(), []string{"plain.b 0 " + testTraceparent, "plain.b 0 " + testTraceparent}; !slices.Equal(got, want) {
		t.Errorf("asked %q, want %q", got, want)
	}
}

// Nothing is refused for the sake of its trace: a message for which NATS has just
// room goes without.
func TestTraceparentHasNoRoom(t *testing.T) {
	for _, embedded := range []bool{true, false} {
		var a asked
		cfg := Config{MaxPayload: 1000, Follow: a.follow}
		if !embedded {
			cfg.URLs = []string{natstest.Start(t, natstest.Config("max_payload: 1000")).URL()}
		}
		b, r := open(t, cfg)
		mustSubscribe(t, b, topic("a"))
		for _, size := range []int{1000, 1000 - traceparentRoom} {
			done := make(chan error, 1)
			b.Publish(Publication{Topic: "a", Data: make([]byte, size), Traceparent: testTraceparent, Done: func(_ topics.Cursor, err error) { done <- err }})
			if err := wait(t, done, "Done"); err != nil {
				t.Errorf("%d bytes: %v", size, err)
			}
		}
		r.await(t, "two messages", func(e []event) bool { return len(e) == 2 })
		if got, want := a.since(), []string{"a 1000 ", "a 744 " + testTraceparent}; !slices.Equal(got, want) {
			t.Errorf("asked %q, want %q", got, want)
		}
	}
}
