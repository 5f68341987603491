package server

import (
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pushd/pushd/internal/config"
	"github.com/pushd/pushd/topics"
)

// What is published for conflation: so many values of each symbol, in rounds.
const (
	quoteSymbols  = 500
	quoteInterval = 100 * time.Millisecond // of a round: 5,000 updates a second
	quoteRate     = 2.0                    // values a second for each symbol, of those who want that
)

func quoteRounds() int {
	if soaking() {
		return 1200
	}
	return 20
}

// quote is a value, when it was published, and when it came. The clock starts
// before the first.
type quote struct {
	N       int
	At      time.Duration
	arrived time.Duration
	skipped int // said to have been left out before it
}

// TestConflationOfQuotes has clients that want each symbol twice a second, by
// themselves or since the namespace says so, of which five times as many values
// are published: they get no more, know how many they do not get, and end on
// the last. Beside them one gets all.
func TestConflationOfQuotes(t *testing.T) {
	rounds := quoteRounds()
	kept := config.History{Age: time.Hour}
	r := start(t, func(c *config.Config) {
		c.RingMessages = quoteSymbols * 100 // so that nobody falls behind for good who reads
		c.Namespaces = map[string]config.Namespace{
			"plain":  {Delivery: config.DeliveryLive, Interest: config.InterestNamespace},
			"kept":   {Delivery: config.DeliveryAll, Interest: config.InterestNamespace, History: kept},
			"capped": {Delivery: config.DeliveryLatest, Interest: config.InterestNamespace, History: kept, MaxRate: quoteRate},
		}
	})
	clients := []struct{ name, query string }{
		{"without history", "topic=plain.*&mode=latest&max_rate=2"},
		{"another with the same rate", "topic=plain.*&mode=latest&max_rate=2"},
		{"with history", "topic=kept.*&mode=latest&max_rate=2"},
		{"of a namespace with a rate", "topic=capped.*"},
		{"of a namespace with a rate, that wants more", "topic=capped.%3E&max_rate=50"},
		{"one that wants all", "topic=plain.*"},
	}
	began := time.Now()
	seen := make([]map[string][]quote, len(clients))
	var all sync.WaitGroup
	for i, c := range clients {
		s := r.dial(c.query)
		s.want("welcome")
		s.want("subscribed")
		all.Go(func() {
			var err error
			if seen[i], err = s.readQuotes(rounds, began); err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
		})
	}
	eventually(t, "nobody is behind", func() bool { return r.memberCounts().Behind == 0 })
	publishQuotes(t, r.backend(), rounds, began, "plain", "kept", "capped")
	all.Wait()
	if t.Failed() {
		return
	}
	// Who falls behind gets what there is when it reads on, beside what comes at its rate.
	behind := int(r.memberCounts().FellBehind)
	for i, c := range clients {
		values := 0
		for symbol, quotes := range seen[i] {
			values += len(quotes)
			err := complete(quotes, rounds)
			if err == nil && c.query != "topic=plain.*" {
				err = paced(quotes, behind)
			} else if len(quotes) != rounds {
				err = fmt.Errorf("%d values of %d", len(quotes), rounds)
			}
			if err != nil {
				t.Fatalf("%s: %s: %v", c.name, symbol, err)
			}
		}
		t.Logf("%s: %d of %d values", c.name, values, rounds*quoteSymbols)
	}
	t.Logf("clients fell behind %d times", behind)
}

// memberCounts is what all shards have counted.
func (r *running) memberCounts() (c topics.MemberCounts) {
	for _, sh := range r.shards {
		c.Add(sh.members.Counts())
	}
	return c
}

// publishQuotes publishes the values 1 to rounds of each symbol to some
// namespaces in turns.
func publishQuotes(t *testing.T, nc *nats.Conn, rounds int, began time.Time, namespaces ...string) {
	const part = quoteSymbols / 10 // at a time
	tick := time.NewTicker(quoteInterval / 10)
	defer tick.Stop()
	for i := range rounds * quoteSymbols {
		if i%part == 0 {
			<-tick.C
		}
		for _, ns := range namespaces {
			data := fmt.Appendf(nil, `{"n":%d,"at":%d}`, i/quoteSymbols+1, time.Since(began))
			if err := nc.Publish(fmt.Sprintf("push.%s.s%d", ns, i%quoteSymbols), data); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
}

// readQuotes reads up to the last value of each symbol, and returns what came
// of each.
func (s *socket) readQuotes(rounds int, began time.Time) (map[string][]quote, error) {
	seen := make(map[string][]quote, quoteSymbols)
	skipped := make(map[string]int)
	for ended := 0; ended < quoteSymbols; {
		f, err := s.tryNext(patience)
		if err != nil {
			return nil, fmt.Errorf("%d symbols have ended: %w", ended, err)
		}
		var m struct {
			Type, Topic string
			Count       int
			Data        quote
		}
		if err := json.Unmarshal(f.Payload, &m); err != nil {
			return nil, fmt.Errorf("got %.200q: %w", f.Payload, err)
		}
		switch m.Type {
		case "skipped":
			skipped[m.Topic] += m.Count
		case "message":
			q := m.Data
			q.arrived, q.skipped = time.Since(began), skipped[m.Topic]
			delete(skipped, m.Topic)
			seen[m.Topic] = append(seen[m.Topic], q)
			if q.N == rounds {
				ended++
			}
		default:
			return nil, fmt.Errorf("got %.200q", f.Payload)
		}
	}
	return seen, nil
}

// complete checks that each value comes or was told to be skipped, and that the
// last is the last.
func complete(quotes []quote, rounds int) error {
	before := 0
	for _, q := range quotes {
		if q.N != before+q.skipped+1 {
			return fmt.Errorf("value %d came after %d, with %d said to be skipped", q.N, before, q.skipped)
		}
		before = q.N
	}
	if before != rounds {
		return fmt.Errorf("value %d is the last, want %d", before, rounds)
	}
	return nil
}

// paced checks that values come no more often than they may. A value left the
// server after it was published and before it came, whatever kept it on its
// way: so between the one of a value and the other of a later value there is a
// window for each step from value to value.
func paced(quotes []quote, extra int) error {
	for i, first := range quotes {
		for k, q := range quotes[i:] {
			if most := quoteRate*(q.arrived-first.At).Seconds() + float64(extra); float64(k) > most {
				return fmt.Errorf("%d values within %v", k+1, q.arrived-first.At)
			}
		}
	}
	return nil
}
