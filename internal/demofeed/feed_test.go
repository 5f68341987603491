package demofeed

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/pushd/pushd/topics"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestSymbolsAreTopicsOfTheirOwn(t *testing.T) {
	seen := make(map[string]int)
	for i := range symbols {
		name := symbol(i)
		if before, twice := seen[name]; twice {
			t.Errorf("symbols %d and %d are both %s", before, i, name)
		}
		seen[name] = i
		if err := topics.CheckPattern(Stocks + "." + name); err != nil {
			t.Errorf("symbol %d: %v", i, err)
		}
	}
}

// TestMarketMoves plays ten seconds of trade: prices go both ways, stay prices, and
// say how far they are from the first.
func TestMarketMoves(t *testing.T) {
	m := newMarket(rand.New(rand.NewPCG(1, 2)))
	first := make(map[string]float64)
	last := make(map[string]struct{ Price, Change float64 })
	take := func(topic string, payload []byte) {
		var q struct {
			Price, Change float64
			Simulated     bool
		}
		if err := json.Unmarshal(payload, &q); err != nil || q.Price <= 0 || !q.Simulated {
			t.Fatalf("%s %s: %v", topic, payload, err)
		}
		if _, known := first[topic]; !known {
			first[topic] = q.Price
		}
		last[topic] = struct{ Price, Change float64 }{q.Price, q.Change}
	}
	m.open(take)
	if len(first) != symbols {
		t.Fatalf("%d symbols have a price at the start, want %d", len(first), symbols)
	}
	for range 10 * time.Second / marketBeat {
		m.move(take)
	}
	up, down := 0, 0
	for topic, q := range last {
		switch {
		case q.Price > first[topic]:
			up++
		case q.Price < first[topic]:
			down++
		}
		if want := 100 * (q.Price/first[topic] - 1); q.Change-want > 0.006 || want-q.Change > 0.006 {
			t.Errorf("%s went from %v to %v, which is said to be %v %%", topic, first[topic], q.Price, q.Change)
		}
	}
	if up < symbols/4 || down < symbols/4 {
		t.Errorf("%d of %d symbols rose and %d fell", up, symbols, down)
	}
}

// TestReplay plays the match twice.
func TestReplay(t *testing.T) {
	var r replay
	var events []event
	take := func(topic string, payload []byte) {
		var e event
		if err := json.Unmarshal(payload, &e); err != nil || topic != Match+".bra-ger" {
			t.Fatalf("%s %s: %v", topic, payload, err)
		}
		events = append(events, e)
	}
	for range 2 {
		events = nil
		for range lastMinute + pause {
			r.minute(take)
		}
		goals, minutes := 0, 0
		for i, e := range events {
			if i > 0 && e.Minute < events[i-1].Minute {
				t.Errorf("minute %d comes after minute %d", e.Minute, events[i-1].Minute)
			}
			if i == 0 || e.Minute > events[i-1].Minute {
				minutes++
			}
			if e.Kind == "goal" {
				goals++
			}
			if e.Score[0]+e.Score[1] != goals {
				t.Errorf("%+v after %d goals", e, goals)
			}
		}
		end := events[len(events)-1]
		if minutes != lastMinute || events[0].Kind != "kick-off" || end.Kind != "full-time" || end.Score != [2]int{1, 7} {
			t.Errorf("%d minutes from %+v to %+v", minutes, events[0], end)
		}
	}
}

// TestNobodyListens wants each price once, and nothing else.
func TestNobodyListens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		listens, got := "", make(map[string]int)
		bus := Bus{
			Publish: func(topic string, _ []byte) {
				mu.Lock()
				defer mu.Unlock()
				got[topics.Namespace(topic)]++
			},
			Heard: func(namespace string) bool {
				mu.Lock()
				defer mu.Unlock()
				return namespace == listens
			},
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { Run(ctx, bus); close(done) }()
		count := func(namespace string) map[string]int {
			mu.Lock()
			listens, got = namespace, make(map[string]int)
			mu.Unlock()
			time.Sleep(10*time.Second + time.Millisecond)
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			return got
		}
		synctest.Wait()
		mu.Lock()
		if got[Stocks] != symbols || len(got) != 1 {
			t.Errorf("published at the start: %v, want each price once", got)
		}
		mu.Unlock()
		if got := count(""); len(got) != 0 {
			t.Errorf("published while nobody listens: %v", got)
		}
		for _, namespace := range []string{Stocks, Match, Crowd} {
			if got := count(namespace); len(got) != 1 || got[namespace] == 0 {
				t.Errorf("published while somebody listens to %s: %v", namespace, got)
			}
		}
		stop()
		<-done
	})
}
