package pushd_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	pushd "github.com/pushd/pushd/clients/go"
	"github.com/pushd/pushd/internal/config"
)

// What is published comes back as the same bytes, and a key stores it once.
func TestPublishAndReceive(t *testing.T) {
	t.Parallel()
	n := start(t)
	c, _ := connect(t, n.url())
	ctx := testContext(t)
	for _, topic := range []string{"plain.a", "kept.a"} {
		s := subscribe(t, c, topic, pushd.SubscribeOptions{})
		for _, data := range []string{`{"n": 1}`, `text`, "", "\xde\xad", `17`} {
			receipt, err := c.Publish(ctx, topic, []byte(data), pushd.PublishOptions{})
			if err != nil {
				t.Fatalf("%q: %v", data, err)
			}
			m, err := s.Next(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := m.Bytes(); err != nil || string(got) != data {
				t.Errorf("%s: %q came as %q, %v", topic, data, got, err)
			}
			if kept := topic == "kept.a"; (receipt.Cursor != "") != kept || (m.Cursor != "") != kept || s.Cursor() != m.Cursor || receipt.Topic != topic || m.Topic != topic {
				t.Errorf("%s: %+v for %+v, at %s", topic, receipt, m, s.Cursor())
			}
			if age := time.Since(m.Time); age < -time.Minute || age > time.Minute {
				t.Errorf("%s: its time is %v", topic, m.Time)
			}
		}
	}
	once := pushd.PublishOptions{Key: "order-17"}
	first, err := c.Publish(ctx, "kept.b", []byte("1"), once)
	second, again := c.Publish(ctx, "kept.b", []byte("2"), once)
	if err != nil || again != nil || first != second {
		t.Errorf("%+v, %v and %+v, %v: want the same place", first, err, second, again)
	}
	if k, err := c.Presence(ctx, "kept.a"); err != nil || k != 1 {
		t.Errorf("presence %d, %v", k, err)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	n := start(t, func(cfg *config.Config) { cfg.MaxMessage = 1 << 10; cfg.MaxSubscriptions = 2 })
	c, _ := connect(t, n.url())
	ctx := testContext(t)
	want := func(code string, err error) {
		t.Helper()
		if codeOf(err) != code {
			t.Errorf("%v, want %s", err, code)
		}
	}
	_, err := c.Subscribe(ctx, "a b", pushd.SubscribeOptions{})
	want("invalid_topic", err)
	_, err = c.Subscribe(ctx, "plain.a", pushd.SubscribeOptions{Mode: pushd.All})
	want("no_history", err)
	_, err = c.Subscribe(ctx, "kept.a", pushd.SubscribeOptions{Cursor: "nonsense"})
	want("bad_request", err)
	_, err = c.Publish(ctx, "a.*", []byte("1"), pushd.PublishOptions{})
	want("invalid_topic", err)
	_, err = c.Publish(ctx, "a", make([]byte, 2000), pushd.PublishOptions{})
	want("message_too_large", err)
	a := subscribe(t, c, "a", pushd.SubscribeOptions{})
	if _, err := c.Subscribe(ctx, "a", pushd.SubscribeOptions{}); !errors.Is(err, pushd.ErrSubscribed) {
		t.Errorf("twice: %v", err)
	}
	subscribe(t, c, "b", pushd.SubscribeOptions{})
	_, err = c.Subscribe(ctx, "c", pushd.SubscribeOptions{})
	want("too_many_topics", err)
	a.Close()
	subscribe(t, c, "a", pushd.SubscribeOptions{}) // there is room again, and the name is free
	if state, err := c.State(); state != pushd.Open || err != nil {
		t.Errorf("after all of it the client is %v, %v", state, err)
	}
}

// A context ends whatever waits, and a client that is closed says so.
func TestContexts(t *testing.T) {
	t.Parallel()
	nobody, _ := connect(t, "http://127.0.0.1:1")
	short, cancel := context.WithTimeout(testContext(t), 30*time.Millisecond)
	defer cancel()
	if _, err := nobody.Subscribe(short, "a", pushd.SubscribeOptions{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("subscribe: %v", err)
	}
	if _, err := nobody.Publish(short, "a", nil, pushd.PublishOptions{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("publish: %v", err)
	}
	if _, err := pushd.Dial(short, "http://127.0.0.1:1", pushd.Options{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("dial: %v", err)
	}
	n := start(t)
	c, err := pushd.Dial(testContext(t), n.url(), pushd.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s := subscribe(t, c, "a", pushd.SubscribeOptions{})
	stopped, stop := context.WithCancel(testContext(t))
	stop()
	for _, err := range s.Messages(stopped) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("messages: %v", err)
		}
	}
	time.AfterFunc(10*time.Millisecond, func() { c.Close() })
	for m, err := range s.Messages(testContext(t)) {
		t.Errorf("a message %v, %v of a client that is closed", m, err)
	}
	if _, err := c.Publish(testContext(t), "a", nil, pushd.PublishOptions{}); !errors.Is(err, pushd.ErrClosed) {
		t.Errorf("publish: %v", err)
	}
	if _, err := c.Subscribe(testContext(t), "b", pushd.SubscribeOptions{}); !errors.Is(err, pushd.ErrClosed) {
		t.Errorf("subscribe: %v", err)
	}
}

// A loop that breaks off loses nothing; one whose subscription is closed ends.
func TestBreak(t *testing.T) {
	t.Parallel()
	n := start(t)
	c, _ := connect(t, n.url())
	s := subscribe(t, c, "kept.a", pushd.SubscribeOptions{})
	for k := range 10 {
		publish(t, c, "kept.a", k)
	}
	for k := range 9 {
		for m, err := range s.Messages(testContext(t)) {
			if err != nil || string(m.Data) != strconv.Itoa(k) || m.Cursor != s.Cursor() {
				t.Errorf("%d: %s, %v", k, m.Data, err)
			}
			break
		}
	}
	for range s.Messages(testContext(t)) {
		s.Close()
	}
	other, _ := connect(t, n.url())
	rest := subscribe(t, other, "kept.a", pushd.SubscribeOptions{Cursor: s.Cursor()})
	publish(t, c, "kept.a", 10)
	wantNumbers(t, rest, 10, 10)
}

// Many goroutines publish, subscribe and end at the same time.
func TestManyGoroutines(t *testing.T) {
	t.Parallel()
	n := start(t)
	c, _ := connect(t, n.url())
	var running sync.WaitGroup
	for g := range 16 {
		running.Go(func() {
			topic := fmt.Sprintf("kept.g%d", g)
			for range 4 {
				s, err := c.Subscribe(testContext(t), topic, pushd.SubscribeOptions{})
				if err != nil {
					t.Error(err)
					return
				}
				for k := range 10 {
					publish(t, c, topic, k)
				}
				wantNumbers(t, s, 0, 9)
				s.Close()
			}
		})
	}
	running.Wait()
}

// Several topics come by one iterator, in their order, and once where they overlap.
func TestSubscribeAll(t *testing.T) {
	t.Parallel()
	n := start(t)
	c, told := connect(t, n.url())
	s, err := c.SubscribeAll(testContext(t), []pushd.Position{{Topic: "kept.a"}, {Topic: "kept.*"}, {Topic: "bad topic"}, {Topic: "kept.b"}}, pushd.SubscribeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	await(t, "the answers", func() bool { return count[*pushd.Refused](told, nil) == 1 })
	for k := range 20 {
		publish(t, c, []string{"kept.a", "kept.b", "kept.c"}[k%3], k)
	}
	wantNumbers(t, s, 0, 19)
	at := s.Positions()
	if at[0].Cursor == at[1].Cursor || at[1].Cursor != at[3].Cursor || at[2].Cursor != "" {
		t.Errorf("positions %v: the last was to kept.b, and the one before to kept.a", at)
	}
}
