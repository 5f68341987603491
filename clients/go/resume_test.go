package pushd_test

import (
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	pushd "github.com/pushd/pushd/clients/go"
	"github.com/pushd/pushd/internal/config"
	"github.com/pushd/pushd/internal/natstest"
)

// Nothing is lost and nothing comes twice while connections are cut in the
// middle of what they carry, also where subscriptions overlap.
func TestCutConnections(t *testing.T) { byEach(t, testCutConnections) }

func testCutConnections(t *testing.T, alone func(*pushd.Options)) {
	n := start(t)
	p := newProxy(t, n.cfg.Listen)
	c, told := connect(t, p.url(), alone)
	direct, _ := connect(t, n.url())
	const last = 300
	subs := map[string]*pushd.Subscription{}
	for _, topic := range []string{"kept.a", "kept.*", "kept.>", "kept.b"} {
		subs[topic] = subscribe(t, c, topic, pushd.SubscribeOptions{})
	}
	var running sync.WaitGroup
	running.Go(func() {
		for k := range last + 1 {
			publish(t, direct, "kept.a", k)
			if k%30 == 15 {
				p.cut()
			}
		}
	})
	for topic, s := range subs {
		if topic != "kept.b" {
			running.Go(func() { wantNumbers(t, s, 0, last) })
		}
	}
	running.Wait()
	publish(t, direct, "kept.b", 7)
	for topic, s := range subs {
		if topic != "kept.a" {
			wantNumbers(t, s, 7, 7)
		}
	}
	if n := count(told, func(e *pushd.StateChange) bool { return e.State == pushd.Waiting }); n < 3 && c.Transport() != pushd.Poll { // which asks again at once
		t.Errorf("%d connections were cut, want more", n)
	}
	if n := count[*pushd.Gap](told, nil); n != 0 {
		t.Errorf("%d gaps", n)
	}
}

// A server that is stopped and started again goes on where it was, for
// subscribers and publishers.
func TestServerRestarts(t *testing.T) { byEach(t, testServerRestarts) }

func testServerRestarts(t *testing.T, alone func(*pushd.Options)) {
	backend := natstest.Start(t, natstest.Store(t.TempDir()))
	n := start(t, func(cfg *config.Config) { cfg.NATS = []string{backend.URL()} })
	c, told := connect(t, n.url(), alone)
	s := subscribe(t, c, "kept.>", pushd.SubscribeOptions{})
	const last = 200
	var running sync.WaitGroup
	running.Go(func() {
		for k := range last + 1 {
			publish(t, c, "kept.a", k) // waits while there is no server
		}
	})
	running.Go(func() { wantNumbers(t, s, 0, last) })
	for range 2 {
		time.Sleep(50 * time.Millisecond)
		n.stop()
		n.run()
	}
	running.Wait()
	if n := count[*pushd.Gap](told, nil); n != 0 {
		t.Errorf("%d gaps", n)
	}
}

// A connection on which nothing moves any more is noticed, and replaced.
func TestFrozenConnection(t *testing.T) {
	byEach(t, func(t *testing.T, alone func(*pushd.Options)) {
		if strings.HasSuffix(t.Name(), "poll") {
			t.Skip("a poll waits for 25 s: TestBlockedTransports has one that gets no answer")
		}
		n := start(t, func(cfg *config.Config) { cfg.Heartbeat = time.Second })
		p := newProxy(t, n.cfg.Listen)
		c, told := connect(t, p.url(), alone, func(o *pushd.Options) { o.Timeout = time.Second })
		direct, _ := connect(t, n.url())
		s := subscribe(t, c, "kept.a", pushd.SubscribeOptions{})
		publish(t, direct, "kept.a", 0)
		wantNumbers(t, s, 0, 0)
		p.freeze()
		publish(t, direct, "kept.a", 1)
		wantNumbers(t, s, 1, 1)
		if n := count(told, func(e *pushd.StateChange) bool { return e.State == pushd.Waiting && e.Err == pushd.ErrDead }); n == 0 {
			t.Error("it was not found dead")
		}
	})
}

// A slow consumer in a namespace with history loses nothing, and another on the
// same connection does not wait for it.
func TestSlowConsumer(t *testing.T) { byEach(t, testSlowConsumer) }

func testSlowConsumer(t *testing.T, alone func(*pushd.Options)) {
	n := start(t)
	c, told := connect(t, n.url(), alone)
	slow := subscribe(t, c, "kept.a", pushd.SubscribeOptions{Buffer: 10})
	also := subscribe(t, c, "kept.*", pushd.SubscribeOptions{})
	const last = 500
	for k := range last + 1 {
		publish(t, c, "kept.a", k)
	}
	wantNumbers(t, also, 0, last)
	if n := count(told, func(e *pushd.Paused) bool { return e.Paused }); n != 1 || slow.Buffered() != 10 {
		t.Errorf("paused %d times with %d messages, want once with 10", n, slow.Buffered())
	}
	wantNumbers(t, slow, 0, last)
	publish(t, c, "kept.a", last+1)
	wantNumbers(t, slow, last+1, last+1)
	wantNumbers(t, also, last+1, last+1) // and not what was replayed to the other
	if n := count[*pushd.Gap](told, nil); n != 0 {
		t.Errorf("%d gaps", n)
	}
}

// Without history a slow consumer gets the newest, behind a gap with the number
// of those that are missing.
func TestSlowConsumerWithoutHistory(t *testing.T) { byEach(t, testSlowConsumerWithoutHistory) }

func testSlowConsumerWithoutHistory(t *testing.T, alone func(*pushd.Options)) {
	node := start(t)
	c, told := connect(t, node.url(), alone)
	slow := subscribe(t, c, "plain.a", pushd.SubscribeOptions{Buffer: 10})
	also := subscribe(t, c, "plain.*", pushd.SubscribeOptions{})
	const last = 99
	for k := range last + 1 {
		publish(t, c, "plain.a", k)
	}
	wantNumbers(t, also, 0, last)
	gaps := 0
	for k := 0; k <= last; {
		m, err := slow.Next(testContext(t))
		gap, missing := err.(*pushd.Gap)
		switch {
		case missing && gap.Lost > 0 && gap.Reason == "slow" && gap.Topic == "plain.a":
			k += gap.Lost
			gaps++
		case err != nil || string(m.Data) != strconv.Itoa(k):
			t.Fatalf("got %s, %v; want %d or a gap", m.Data, err, k)
		default:
			k++
		}
	}
	n := count[*pushd.Gap](told, nil)
	if c.Transport() == pushd.WebSocket && (gaps != 1 || n != 1) || gaps < 1 || n < 1 {
		t.Errorf("%d gaps, told %d times; want once for all", gaps, n) // by other transports what came to one says nothing of the other
	}
}
