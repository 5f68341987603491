package natsbus

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/pushd/pushd/internal/natstest"
	"github.com/pushd/pushd/topics"
)

// TestReady publishes on another connection as soon as an interest is ready:
// that message must arrive, every time.
func TestReady(t *testing.T) {
	f := func(name string, cfg Config) {
		t.Run(name, func(t *testing.T) {
			b, r := open(t, cfg)
			nc := client(t, b.ClientURL())
			for i := range 300 {
				in := topics.Interest{Name: fmt.Sprintf("t%d", i), Namespace: i%2 == 0}
				mustSubscribe(t, b, in)
				if err := nc.Publish("push."+in.Name, []byte(in.Name)); err != nil {
					t.Fatal(err)
				}
				r.awaitMessage(t, in.Name)
			}
		})
	}
	f("embedded", Config{Listen: "127.0.0.1:0"})
	f("external", Config{URLs: []string{natstest.Start(t).URL()}})
}

func TestSubscribeTwice(t *testing.T) {
	b, r := openEmbedded(t)
	mustSubscribe(t, b, topic("a"), topic("a"))
	mustPublish(t, b, "a", "once")
	mustPublish(t, b, "a", "end")
	r.awaitMessage(t, "end")
	if got := r.messages(); !slices.Equal(got, []string{"once", "end"}) {
		t.Errorf("delivered %q", got)
	}
	if n := b.State().Interests; n != 1 {
		t.Errorf("%d interests", n)
	}
}

func TestSubscribeInvalidName(t *testing.T) {
	b, _ := openEmbedded(t)
	var bad *topics.NameError
	if err := subscribe(t, b, topic("a b")); !errors.As(err, &bad) {
		t.Errorf("got %v", err)
	}
	mustSubscribe(t, b, topic("good"))
}

// TestChurn lets interests come and go from many goroutines while messages
// arrive, and compares what stands in the end with a plain map.
func TestChurn(t *testing.T) {
	b, r := openEmbedded(t)
	mustSubscribe(t, b, namespace("end"))
	nc := client(t, b.ClientURL())
	const interests, rounds, workers = 1000, 20, 4

	stands := make([]bool, interests)
	var churn sync.WaitGroup
	for w := range workers {
		churn.Go(func() {
			for round := range rounds {
				var ready sync.WaitGroup
				for i := w; i < interests; i += workers {
					in := topic("churn." + strconv.Itoa(i))
					if err := nc.Publish("push."+in.Name, []byte("load")); err != nil {
						t.Error(err)
					}
					stands[i] = (i+round)%3 != 0
					if !stands[i] {
						b.Unsubscribe(in)
						continue
					}
					ready.Add(1)
					b.Subscribe(in, func(err error) {
						if err != nil {
							t.Errorf("%+v: %v", in, err)
						}
						ready.Done()
					})
				}
				ready.Wait()
			}
		})
	}
	churn.Wait()

	mustSubscribe(t, b, topic("barrier")) // what was unsubscribed is so at NATS now
	want := map[string]bool{}
	for i, stands := range stands {
		name := "churn." + strconv.Itoa(i)
		if stands {
			want[name] = true
		}
		if err := nc.Publish("push."+name, []byte("final")); err != nil {
			t.Fatal(err)
		}
	}
	if err := nc.Publish("push.end", []byte("end")); err != nil {
		t.Fatal(err)
	}
	r.awaitMessage(t, "end")
	got := map[string]int{}
	for _, e := range r.all() {
		if e.data == "final" {
			got[e.topic]++
			if got[e.topic] > 1 || !want[e.topic] {
				t.Errorf("%s delivered %d times, stands: %v", e.topic, got[e.topic], want[e.topic])
			}
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d topics delivered, want %d", len(got), len(want))
	}
	if n := b.State().Interests; n != len(want)+2 {
		t.Errorf("%d interests stand, want %d", n, len(want)+2)
	}
}

// TestStale has one interest that cannot be subscribed: the others must be, and
// what is stale is tried again although nothing wakes run.
func TestStale(t *testing.T) {
	b, _ := openEmbedded(t)
	s := newInterests("push", nil, b.live, make(chan *nats.Msg, 1000), b.reader, slog.New(slog.DiscardHandler))
	want := func(in topics.Interest) { s.note(wish{in, func(error) {}}) }
	bad := topic("a b") // nats.go refuses white space; subscribe would too
	want(bad)
	for i := range 20 {
		want(topic(strconv.Itoa(i)))
	}
	if err := s.reconcile(); err != nil {
		t.Fatal(err)
	}
	if _, stale := s.stale[bad]; !stale || len(s.stale) != 1 {
		t.Fatalf("stale: %v, want %v alone", s.stale, bad)
	}

	want(topic("late"))
	var running sync.WaitGroup
	running.Go(s.run)
	defer running.Wait()
	defer s.close()
	eventually(t, "subscribed", func() bool {
		mustPublish(t, b, "late", "x")
		return len(s.arrived) > 0
	})
}

// TestLateAnswer has a server that does not answer in time and yet keeps its
// connections: a gap must be told once it does, though nothing reconnects.
func TestLateAnswer(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b, r := open(t, Config{URLs: []string{s.URL()}})
	mustSubscribe(t, b, topic("before"))
	s.Freeze()
	late := namespace("late")
	if err := subscribe(t, b, late); !errors.Is(err, ErrAway) {
		t.Errorf("Subscribe: %v", err)
	}
	s.Thaw()
	r.await(t, "Lost", func(events []event) bool { return len(events) > 0 })
	mustPublish(t, b, "late", "heard")
	r.awaitMessage(t, "heard")
	mustSubscribe(t, b, topic("after")) // a second Lost would have been told by now
	mustPublish(t, b, "after", "end")
	r.awaitMessage(t, "end")
	if got := r.all(); len(got) != 3 || got[0].lost != late {
		t.Errorf("got %+v, want Lost of %+v and two messages", got, late)
	}
	if n := b.State().Reconnects; n != 0 {
		t.Errorf("%d reconnects: this tested nothing", n)
	}
}

func TestDeniedSubscription(t *testing.T) {
	s := natstest.Start(t, natstest.Config(`authorization { users: [
		{ user: u, password: p, permissions: { subscribe: { allow: ["push.>"], deny: ["push.no.>", "push.never"] } } } ] }`))
	b, r := open(t, Config{URLs: []string{"nats://u:p@" + s.Addr()}})
	for _, in := range []topics.Interest{namespace("no"), topic("never")} {
		if err := subscribe(t, b, in); !errors.Is(err, ErrDenied) {
			t.Errorf("%+v: %v", in, err)
		}
	}
	mustSubscribe(t, b, namespace("yes"), topic("neverland"))
	mustPublish(t, b, "yes", "heard")
	r.awaitMessage(t, "heard")
	if n := b.State().Denied; n != 2 {
		t.Errorf("%d denials counted, want 2", n)
	}
}
