package natsbus

import (
	"context"
	"errors"
	"log/slog"
	"testing"

	"github.com/pushd/pushd/internal/natstest"
	"github.com/pushd/pushd/topics"
)

func TestPublishTooLarge(t *testing.T) {
	b, r := open(t, Config{MaxPayload: 1000})
	mustSubscribe(t, b, topic("a"))
	type outcome struct {
		size int
		err  error
	}
	done := make(chan outcome, 3)
	for _, size := range []int{1000, 1001, 999} {
		b.Publish(Publication{Topic: "a", Data: make([]byte, size), Done: func(_ topics.Cursor, err error) { done <- outcome{size, err} }})
	}
	for range 3 {
		o := wait(t, done, "Done")
		switch {
		case o.size <= 1000 && o.err != nil:
			t.Errorf("%d bytes: %v", o.size, o.err)
		case o.size > 1000 && !errors.Is(o.err, ErrTooLarge):
			t.Errorf("%d bytes: %v", o.size, o.err)
		case o.size > 1000 && o.err.Error() != ErrTooLarge.Error()+": 1001 bytes, at most 1000":
			t.Error(o.err)
		}
	}
	r.await(t, "two messages", func(e []event) bool { return len(e) == 2 })
	if n := b.State().Published; n != 2 {
		t.Errorf("%d counted as published", n)
	}
}

func TestPublishDenied(t *testing.T) {
	s := natstest.Start(t, natstest.Config(`authorization { users: [
		{ user: u, password: p, permissions: { publish: { allow: ["push.>"], deny: ["push.no"] } } } ] }`))
	b, _ := open(t, Config{URLs: []string{"nats://u:p@" + s.Addr()}})
	// All in one batch, and again: a denial must not stick to what comes later.
	for range 3 {
		const n = 50
		done := make(chan error, 2*n)
		for i := range 2 * n {
			topic := []string{"yes", "no"}[i%2]
			b.Publish(Publication{Topic: topic, Done: func(_ topics.Cursor, err error) {
				if denied := errors.Is(err, ErrDenied); denied != (topic == "no") {
					t.Errorf("%s: %v", topic, err)
				}
				done <- err
			}})
		}
		for range 2 * n {
			wait(t, done, "Done")
		}
		mustPublish(t, b, "yes", "x")
	}
}

// TestPublishFull fills the queue while the publisher's goroutine is held up.
func TestPublishFull(t *testing.T) {
	f := func(name string, size, wantAccepted int) {
		t.Run(name, func(t *testing.T) {
			b, err := Open(context.Background(), Config{Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			hold, held := make(chan struct{}), make(chan struct{})
			b.Publish(Publication{Topic: "a", Done: func(topics.Cursor, error) { close(held); <-hold }})
			wait(t, held, "Done")
			data := make([]byte, size)
			accepted := 0
			for accepted <= maxQueued && b.Publish(Publication{Topic: "a", Data: data}) {
				accepted++
			}
			if accepted != wantAccepted {
				t.Errorf("%d accepted, want %d", accepted, wantAccepted)
			}
			close(hold)
			eventually(t, "room again", func() bool { return b.Publish(Publication{Topic: "a"}) })
		})
	}
	f("messages", 0, maxQueued)
	f("bytes", 1<<20, maxQueuedBytes>>20)
	f("one that is larger than the bound", maxQueuedBytes+1, 1)
}
