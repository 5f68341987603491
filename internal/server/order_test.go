package server

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/pushd/pushd/internal/config"
)

// TestOrder has many publishers, shards and clients whose subscriptions come
// and go. The model is plain: within the life of a subscription the numbers of
// a topic follow each other by one.
func TestOrder(t *testing.T) {
	const (
		topicCount = 40
		clients    = 60
		publishers = 4
	)
	rounds := 150 // changes of subscription by each client
	if os.Getenv("PUSHD_SOAK") != "" {
		rounds = 5000
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := start(t, func(c *config.Config) {
		c.Shards = 4
		c.Namespaces = map[string]config.Namespace{"user": {Delivery: config.DeliveryLive, Interest: config.InterestTopic}}
	})
	name := func(i int) string { return fmt.Sprintf("%s.t%d", [...]string{"a", "b", "user"}[i%3], i) }

	stop := make(chan struct{})
	var publishing sync.WaitGroup
	for p := range publishers {
		nc := r.backend()
		publishing.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					nc.Flush()
					return
				default:
				}
				for i := p; i < topicCount; i += publishers { // each topic has one publisher
					nc.Publish("push."+name(i), fmt.Appendf(nil, `{"n":%d}`, n))
				}
				nc.Flush()
				time.Sleep(2 * time.Millisecond)
			}
		})
	}

	var checking sync.WaitGroup
	for c := range clients {
		s := r.subscribed()
		checking.Go(func() {
			if err := follow(s, rand.New(rand.NewPCG(seed, uint64(c))), rounds, topicCount, name); err != nil {
				t.Errorf("client %d: %v", c, err)
			}
		})
	}
	checking.Wait()
	close(stop)
	publishing.Wait()
}

// follow subscribes and unsubscribes at random and checks all that comes.
func follow(s *socket, random *rand.Rand, rounds, topicCount int, name func(int) string) error {
	patterns := []string{"a.*", "a.>", "b.*"}
	subscribed := map[string]bool{} // as the server has confirmed
	last := map[string]int{}        // of each topic, while some subscription that matches stands
	asked := 0
	covers := func(pattern, topic string) bool {
		return pattern == topic || len(pattern) == 3 && pattern[:2] == topic[:2]
	}
	covered := func(topic string) bool {
		for pattern := range subscribed {
			if covers(pattern, topic) {
				return true
			}
		}
		return false
	}
	for received := 0; asked < rounds || received < 3*rounds; {
		if asked < rounds && random.IntN(3) == 0 {
			asked++
			pattern := name(random.IntN(topicCount))
			if random.IntN(4) == 0 {
				pattern = patterns[random.IntN(len(patterns))]
			}
			verb := "subscribe"
			if subscribed[pattern] {
				verb = "unsubscribe"
			}
			s.send(fmt.Sprintf(`{"type":%q,"id":%d,"topic":%q}`, verb, asked, pattern))
			for answered := false; !answered; {
				m, err := s.tryReceive()
				if err != nil {
					return err
				}
				switch m.Type {
				case "subscribed":
					subscribed[m.Topic], answered = true, true
				case "unsubscribed":
					delete(subscribed, m.Topic)
					answered = true
					for topic := range last {
						if !covered(topic) {
							delete(last, topic)
						}
					}
				case "message":
					received++
					if err := inOrder(m, last, covered); err != nil {
						return err
					}
				default:
					return fmt.Errorf("got %+v", m)
				}
			}
			continue
		}
		if len(subscribed) == 0 {
			if asked == rounds {
				return nil
			}
			continue
		}
		m, err := s.tryReceive()
		if err != nil {
			return err
		}
		if m.Type != "message" {
			return fmt.Errorf("got %+v, want a message", m)
		}
		received++
		if err := inOrder(m, last, covered); err != nil {
			return err
		}
	}
	return nil
}

// inOrder checks one message against the model.
func inOrder(m message, last map[string]int, covered func(string) bool) error {
	n := numberOf(m)
	before, known := last[m.Topic]
	switch {
	case !covered(m.Topic):
		return fmt.Errorf("got %s %d without a subscription", m.Topic, n)
	case known && n != before+1:
		return fmt.Errorf("got %s %d after %d", m.Topic, n, before)
	}
	last[m.Topic] = n
	return nil
}

func (s *socket) tryReceive() (m message, err error) {
	f, err := s.tryNext(patience)
	if err != nil {
		return m, err
	}
	return m, json.Unmarshal(f.Payload, &m)
}
