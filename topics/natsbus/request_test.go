package natsbus

import (
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pushd/pushd/internal/natstest"
)

type answer struct {
	text string
	err  error
}

// ask makes one request and waits for what comes of it.
func ask(t *testing.T, b *Bus, data string, within time.Duration) answer {
	t.Helper()
	done := make(chan answer, 1)
	if !b.Request([]byte(data), within, func(text []byte, err error) { done <- answer{string(text), err} }) {
		t.Fatal("the request was not taken")
	}
	return wait(t, done, "an answer")
}

func TestRequest(t *testing.T) {
	s := natstest.Start(t)
	b, _ := open(t, Config{URLs: []string{s.URL()}, Requests: "may.it"})
	if a := ask(t, b, "x", patience); !errors.Is(a.err, ErrNoAnswer) {
		t.Errorf("where nobody listens: %+v", a)
	}
	nc := client(t, s.URL())
	if _, err := nc.Subscribe("may.it", func(m *nats.Msg) {
		switch string(m.Data) {
		case "silence":
		case "twice":
			m.Respond([]byte("once"))
			m.Respond([]byte("again"))
		default:
			m.Respond(append([]byte("re: "), m.Data...))
		}
	}); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		for data, want := range map[string]string{"a": "re: a", "": "re: ", "twice": "once"} {
			if a := ask(t, b, data, patience); a.err != nil || a.text != want {
				t.Errorf("%q: %+v", data, a)
			}
		}
	}
	if a := ask(t, b, "silence", 20*time.Millisecond); !errors.Is(a.err, ErrNoAnswer) {
		t.Errorf("where nobody answers: %+v", a)
	}
	s.Stop()
	eventually(t, "the loss is noticed", func() bool { return !b.State().Connected })
	if a := ask(t, b, "a", patience); !errors.Is(a.err, ErrAway) {
		t.Errorf("while NATS is away: %+v", a)
	}
}

func TestRequestBounds(t *testing.T) {
	s := natstest.Start(t)
	nc := client(t, s.URL())
	if _, err := nc.Subscribe("may.it", func(*nats.Msg) {}); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	b, _ := open(t, Config{URLs: []string{s.URL()}, Requests: "may.it"})
	outcomes := make(chan error, maxRequests)
	for n := range maxRequests {
		if !b.Request(nil, time.Hour, func(_ []byte, err error) { outcomes <- err }) {
			t.Fatalf("request %d was not taken", n)
		}
	}
	if b.Request(nil, time.Hour, func([]byte, error) { t.Error("one too many") }) {
		t.Error("one more than there may be was taken")
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	for range maxRequests {
		if err := wait(t, outcomes, "an answer"); !errors.Is(err, ErrClosed) {
			t.Fatal(err)
		}
	}
	if b.Request(nil, time.Hour, func([]byte, error) { t.Error("after Close") }) {
		t.Error("a request was taken after Close")
	}
	without, _ := open(t, Config{URLs: []string{s.URL()}})
	if without.Request(nil, time.Hour, func([]byte, error) { t.Error("no subject") }) {
		t.Error("a request was taken without a subject")
	}
}

// TestRequestDenied asks where the account may not: it is told at once.
func TestRequestDenied(t *testing.T) {
	_, url := guarded(t, []string{"push.>"}, []string{"push.>", "_INBOX_push.>"})
	b, _ := open(t, Config{URLs: []string{url}, Requests: "may.it"})
	if a := ask(t, b, "x", patience); !errors.Is(a.err, ErrDenied) {
		t.Errorf("%+v", a)
	}
	mustPublish(t, b, "a", "1") // the denial is no publication's
}
