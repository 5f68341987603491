package natsbus

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"
)

// What a publisher's flush has confirmed has been delivered when CatchUp returns,
// also while the sink is slow.
func TestCatchUp(t *testing.T) {
	b, r := openEmbedded(t)
	mustSubscribe(t, b, namespace("ns"))
	nc := client(t, b.ClientURL())
	published := 0
	for range 20 {
		for range 500 {
			published++
			if err := nc.Publish("push.ns.x", fmt.Append(nil, published)); err != nil {
				t.Fatal(err)
			}
		}
		if err := nc.Flush(); err != nil {
			t.Fatal(err)
		}
		if err := b.CatchUp(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.mu.Lock()
		n := len(r.events)
		r.mu.Unlock()
		if n != published {
			t.Fatalf("%d of %d messages have been delivered", n, published)
		}
	}

	r.mu.Lock()
	r.hold = make(chan struct{})
	r.mu.Unlock()
	defer close(r.hold)
	if err := nc.Publish("push.ns.x", nil); err != nil {
		t.Fatal(err)
	}
	<-r.held
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := b.CatchUp(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a sink that hangs: %v", err)
	}
}
