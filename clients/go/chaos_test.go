package pushd_test

import (
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	pushd "github.com/pushd/pushd/clients/go"
)

// Subscriptions that overlap, with consumers of any speed and buffers of any
// size, on connections that are cut: each gets each message once, in order.
func TestChaos(t *testing.T) {
	byEach(t, func(t *testing.T, alone func(*pushd.Options)) {
		testChaos(t, alone, func(p *proxy, _ *rand.Rand) { p.cut() })
	})
	t.Run("changing", func(t *testing.T) { // transports, as what is blocked changes
		t.Parallel()
		often := func(o *pushd.Options) { o.RetryBetter = 20 * time.Millisecond }
		paths := []string{"/ws", "/sse"}
		told := testChaos(t, often, func(p *proxy, random *rand.Rand) { p.block(refuses, paths[:random.IntN(3)]...) })
		if len(opened(told)) < 2 {
			t.Error("nothing has changed: this shows nothing")
		}
	})
}

func testChaos(t *testing.T, how func(*pushd.Options), fail func(*proxy, *rand.Rand)) (told *events) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	n := start(t)
	p := newProxy(t, n.cfg.Listen)
	c, told := connect(t, p.url(), how)
	direct, _ := connect(t, n.url())
	topics := []string{"kept.a", "kept.b", "kept.c.d"}
	wants := map[string]func(topic string) bool{
		"kept.a":   func(topic string) bool { return topic == "kept.a" },
		"kept.*":   func(topic string) bool { return topic != "kept.c.d" },
		"kept.>":   func(topic string) bool { return true },
		"kept.c.>": func(topic string) bool { return topic == "kept.c.d" },
		"kept.*.d": func(topic string) bool { return topic == "kept.c.d" },
	}
	const last = 500
	var published []string // its topics
	for range last {
		published = append(published, topics[random.IntN(len(topics))])
	}
	behind := make(chan struct{}) // closed when nobody's buffer can hold what he has not taken
	var running sync.WaitGroup
	for pattern, want := range wants {
		s := subscribe(t, c, pattern, pushd.SubscribeOptions{Buffer: 3 + random.IntN(20)})
		pause := time.Duration(random.IntN(4)) * 500 * time.Microsecond
		running.Go(func() {
			if pattern == "kept.>" {
				<-behind
			}
			for k, topic := range published {
				if !want(topic) {
					continue
				}
				m, err := s.Next(testContext(t))
				if err != nil || string(m.Data) != strconv.Itoa(k) || m.Topic != topic {
					t.Errorf("%s: %s = %s, %v; want %s = %d", pattern, m.Topic, m.Data, err, topic, k)
					return
				}
				if k%3 == 0 {
					time.Sleep(pause)
				}
			}
			if k := s.Buffered(); k > 0 {
				t.Errorf("%s: %d more came", pattern, k)
			}
		})
	}
	running.Go(func() {
		for k, topic := range published {
			if publish(t, direct, topic, k); k == 60 {
				close(behind)
			}
			if k%50 == 25 {
				fail(p, random)
			}
		}
	})
	running.Wait()
	if n := count[*pushd.Gap](told, nil); n != 0 {
		t.Errorf("%d gaps", n)
	}
	paused := map[string]bool{}
	count(told, func(e *pushd.Paused) bool { paused[strings.Join(e.Topics, " ")] = true; return true })
	if len(paused) == 0 {
		t.Error("no consumer was slow: this shows nothing")
	}
	return told
}
