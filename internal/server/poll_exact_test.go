package server

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pushd/pushd/internal/config"
)

// Many clients poll while much is published, and each lets some answers get lost
// and goes over to new connections, and so to other shards. Over all answers each
// gets what a WebSocket gets that never ends: every message once and in its order.
func TestPollsGetEveryMessageOnce(t *testing.T) {
	const clients, messages = 32, 1500
	r := start(t, keeping("orders"), func(c *config.Config) { c.RingMessages = 4 * messages }) // however slow a client is
	nc := r.backend()
	namespaces := []string{"orders", "chat"} // with history, and without
	topicsOf := func(ns string) []string { return []string{ns + ".a", ns + ".b", ns + ".c"} }

	witness := r.subscribed("orders.*", "chat.*")
	var witnessed = make(map[string][]string) // by namespace: what came, in its order
	var done sync.WaitGroup
	done.Go(func() {
		for n := 0; n < 2*messages; n++ {
			m := witness.want("message")
			ns, _, _ := strings.Cut(m.Topic, ".")
			witnessed[ns] = append(witnessed[ns], m.Topic+" "+string(m.Data))
		}
	})

	type crowdMember struct {
		*pollClient
		patterns []string
		got      []string
	}
	var crowd []*crowdMember
	var polling, ready sync.WaitGroup
	var ended, polls, lost atomic.Int64
	for i := range clients {
		ns := namespaces[i%2]
		patterns := [][]string{{ns + ".a"}, {ns + ".*"}, {ns + ".b", ns + ".>"}, {"orders.a", "chat.b"}}[i/2%4]
		c := &crowdMember{pollClient: r.poller(patterns...), patterns: patterns}
		crowd = append(crowd, c)
		ready.Add(1)
		polling.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(i), 7))
			c.poll("wait=0")
			ready.Done()
			for quiet := 0; quiet < 2; {
				before := c.cursor
				a := c.poll(fmt.Sprintf("wait=%v", []float64{0, 0.1, 1}[rnd.IntN(3)]))
				polls.Add(1)
				switch rnd.IntN(8) {
				case 0:
					c.cursor = before // the answer was lost
					lost.Add(1)
					continue
				case 1:
					c.close()
				case 2:
					time.Sleep(time.Duration(rnd.IntN(30)) * time.Millisecond)
				}
				if quiet++; len(a.Messages) > 0 || ended.Load() == 0 {
					quiet = 0
				}
				c.got = append(c.got, a.words()...)
			}
		})
	}
	ready.Wait()
	for _, ns := range namespaces {
		done.Go(func() {
			topics := topicsOf(ns)
			for n := range messages {
				publish(t, nc, "push."+topics[n%len(topics)], strconv.Itoa(n))
				if n%20 == 0 {
					time.Sleep(2 * time.Millisecond)
				}
			}
			nc.Flush()
		})
	}
	done.Wait()
	ended.Store(1)
	polling.Wait()
	for i, c := range crowd {
		byNamespace := make(map[string][]string)
		for _, line := range c.got {
			ns, _, _ := strings.Cut(line, ".")
			byNamespace[ns] = append(byNamespace[ns], line)
		}
		for _, ns := range namespaces {
			var want []string
			for _, line := range witnessed[ns] {
				topic, _, _ := strings.Cut(line, " ")
				if matchesAny(c.patterns, topic) {
					want = append(want, line)
				}
			}
			got := byNamespace[ns]
			for n := 0; n < max(len(want), len(got)); n++ {
				if n >= len(want) || n >= len(got) || got[n] != want[n] {
					t.Fatalf("client %d of %q: message %d of %d of %s is %q, want %d with %q", i, c.patterns, n, len(got), ns,
						got[n:min(n+3, len(got))], len(want), want[n:min(n+3, len(want))])
				}
			}
		}
	}
	t.Logf("%d polls, %d answers lost", polls.Load(), lost.Load())
}

func publish(t testing.TB, nc *nats.Conn, subject, data string) {
	if err := nc.Publish(subject, []byte(data)); err != nil {
		t.Error(err)
	}
}

func matchesAny(patterns []string, topic string) bool {
	for _, p := range patterns {
		ns, rest, _ := strings.Cut(p, ".")
		if p == topic || strings.HasPrefix(topic, ns+".") && (rest == "*" || rest == ">") {
			return true
		}
	}
	return false
}
