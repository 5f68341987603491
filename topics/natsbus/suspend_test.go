package natsbus

import (
	"context"
	"errors"
	"testing"

	"github.com/nats-io/nats.go"
)

// TestSuspend lends the store and the address of an embedded server to another
// Bus, as a hot upgrade does, and goes on with what that one has left.
func TestSuspend(t *testing.T) {
	cfg := Config{Listen: "127.0.0.1:0", Store: t.TempDir(), Streams: map[string]StreamConfig{"ns": {Messages: 1000}}}
	b, r := open(t, cfg)
	mustSubscribe(t, b, namespace("ns"))
	url := b.ClientURL()
	fill(t, b, "ns", 100, 3)
	before := mustStream(t, b, "ns")

	for round := range uint64(3) {
		if err := b.Suspend(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "away", func() bool { return !b.State().Connected })
		if err := publish(t, b, "ns.1", "x"); !errors.Is(err, ErrAway) {
			t.Errorf("Publish while suspended: %v", err)
		}
		if b.ClientURL() != url {
			t.Errorf("suspended, it is at %s, and was at %s", b.ClientURL(), url)
		}
		if round > 0 { // the first time nobody comes
			other, err := Open(t.Context(), Config{Listen: url[len("nats://"):], Store: cfg.Store, Streams: cfg.Streams, Log: b.embedded.cfg.Log})
			if err != nil {
				t.Fatal(err)
			}
			if err := publish(t, other, "ns.1", "of the other"); err != nil {
				t.Error(err)
			}
			if err := other.Close(); err != nil {
				t.Error(err)
			}
		}

		if err := b.Resume(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "published again", func() bool { return publish(t, b, "ns.1", "after") == nil })
		if s := back(t, b, "ns"); s.Epoch != before.Epoch || s.Last != before.Last+1+2*round {
			t.Errorf("before %+v, after %d times %+v", before, round+1, s)
		}
		if nc := client(t, url, nats.NoReconnect()); !nc.IsConnected() {
			t.Error("nobody listens where it did")
		}
		lost := int(round) + 1
		r.await(t, "LostAll", func(all []event) bool {
			n := 0
			for _, e := range all {
				if e.lostAll {
					n++
				}
			}
			return n >= lost
		})
	}
}

func TestSuspendErrors(t *testing.T) {
	inMemory, _ := open(t, Config{})
	if err := inMemory.Suspend(); err == nil {
		t.Error("what is in memory was thrown away")
	}
	dir := t.TempDir()
	b, _ := open(t, Config{Store: dir})
	if err := b.Suspend(); err != nil {
		t.Fatal(err)
	}
	other, err := Open(context.Background(), Config{Store: dir, Log: b.embedded.cfg.Log})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Resume(); err == nil {
		t.Error("two are on one store")
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	if err := b.Resume(); err != nil {
		t.Error(err)
	}
	eventually(t, "it is back", func() bool { return b.State().Connected })
}
