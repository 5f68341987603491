package natsbus

import (
	"context"
	"errors"
	"strconv"
	"testing"

	"github.com/pushd/pushd/internal/natstest"
)

// What NATS had when it was asked has been delivered, each time.
func TestCatchUp(t *testing.T) {
	server := natstest.Start(t)
	b, r := open(t, Config{URLs: []string{server.URL()}})
	mustSubscribe(t, b, namespace("n"))
	nc := client(t, server.URL())
	sent := 0
	for range 20 {
		for range 1000 {
			if err := nc.Publish("push.n.x", strconv.AppendInt(nil, int64(sent), 10)); err != nil {
				t.Fatal(err)
			}
			sent++
		}
		if err := nc.Flush(); err != nil {
			t.Fatal(err)
		}
		if err := b.CatchUp(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := len(r.messages()); got != sent {
			t.Fatalf("%d of %d messages were delivered", got, sent)
		}
	}
	server.Stop()
	if err := b.CatchUp(context.Background()); !errors.Is(err, ErrAway) {
		t.Errorf("without NATS: %v", err)
	}
}
