package server

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pushd/pushd/internal/natstest"
)

// TestStormQueues has a crowd come at once to a node that takes a few of them a second,
// and come again to the second when they are told to: it gets in as a queue, and who
// was there before does not notice.
func TestStormQueues(t *testing.T) {
	f := func(name string, crowd, burst, rate int, flags ...string) {
		t.Run(name, func(t *testing.T) { storm(t, min(crowd, crowdSize(t)), burst, rate, flags...) })
	}
	const handshakes, address = "--handshake-rate=", "--connection-rate-per-address="
	if soaking() {
		f("of all", 10_000, 500, 500, handshakes+"500", address+"0")
		f("of one address", 10_000, 3000, 300, handshakes+"0", address+"300")
	} else {
		t.Parallel()
		f("of all", 2000, 400, 400, handshakes+"400", address+"0")
		f("of one address", 1500, 1000, 100, handshakes+"0", address+"100")
	}
}

func storm(t *testing.T, crowd, burst, rate int, flags ...string) {
	port := strconv.Itoa(natstest.FreePort(t))
	b := startShipped(t, append(flags, "--nats-listen="+net.JoinHostPort("127.0.0.1", port), "--unlimited=none", "--max-connections-per-address=-1")...)
	nc, err := nats.Connect("nats://" + net.JoinHostPort("127.0.0.1", port))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	var there []*socket
	for range 20 {
		there = append(there, b.subscribed("live.x"))
	}

	ctx, cancel := context.WithCancel(t.Context())
	var publishing, commuting sync.WaitGroup
	defer commuting.Wait()
	defer cancel()
	published := 0
	publishing.Go(func() {
		for ctx.Err() == nil {
			published++
			if err := nc.Publish("push.live.x", fmt.Append(nil, published)); err != nil {
				t.Error(err)
			}
			time.Sleep(10 * time.Millisecond)
		}
	})
	l := newLine(0, b.addr)
	var all []*commuter
	for i := range crowd {
		c := l.commuter(i, "quiet.x")
		all = append(all, c)
		commuting.Go(func() {
			if err := c.run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	inTime(t, time.Minute+stall, "all are let in", func() bool { return sitting(all) == crowd })
	took := time.Since(l.began)
	for _, c := range all {
		if n := c.connections.Load(); n != 1 {
			t.Errorf("%s made %d connections", c.name, n)
		}
	}
	fastest := l.stops[0].pacedBy(t, burst, rate)
	l.stops[0].spread(t, rate)
	// How often they were refused depends on how punctual they were.
	t.Logf("%d clients, %d a second: all are in after %v, at most %d in a second, with %d refusals", crowd, rate, took.Round(time.Millisecond), fastest, l.refusals())

	cancel()
	publishing.Wait()
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	for _, s := range there {
		for n := range published {
			s.wantData("live.x", fmt.Sprint(n+1))
		}
	}
}

// spread wants clients to be told different times: those of one are the places in the
// queue of one second, and of the time in which they were given out.
func (s *stop) spread(t testing.TB, rate int) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	told, first := map[time.Duration]int{}, map[string]bool{}
	var span time.Duration
	for _, r := range s.refused {
		if !first[r.name] {
			first[r.name] = true
			told[r.after]++
			span = max(span, r.at)
		}
	}
	for after, n := range told {
		if most := rate + 1 + int(float64(rate)*span.Seconds()); n > most {
			t.Errorf("%d clients were told to come after %v, want %d at most", n, after, most)
		}
	}
}

// inTime is eventually for what takes longer.
func inTime(t testing.TB, long time.Duration, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(long); !ok(); time.Sleep(20 * time.Millisecond) {
		if t.Failed() {
			t.FailNow()
		}
		if time.Now().After(end) {
			t.Fatalf("still waiting: %s", what)
		}
	}
}

// sitting is how many are subscribed.
func sitting(all []*commuter) (n int) {
	for _, c := range all {
		if c.sits() {
			n++
		}
	}
	return n
}
