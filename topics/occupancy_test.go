package topics

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"
)

// TestOccupancy has connections come and go at random, and holds what is told of
// changes, and all there is, against a plain count.
func TestOccupancy(t *testing.T) {
	r := newRig(t, HubConfig{Occupancy: true}, 3)
	for shard := range 3 {
		for slot := range uint32(300) {
			r.connect(shard, slot)
		}
	}
	rng := rand.New(rand.NewPCG(1, 2))
	patterns := make([]string, 2500)
	for i := range patterns {
		patterns[i] = fmt.Sprintf("%s.t%d", []string{"user", "rooms", "a.b"}[i%3], i)
	}
	type seat struct {
		shard   int
		slot    uint32
		pattern string
	}
	have := make(map[seat]bool)
	told := make(map[string]int)
	for range 40 {
		for range rng.IntN(500) {
			at := seat{rng.IntN(3), uint32(rng.IntN(300)), patterns[rng.IntN(len(patterns))]}
			m := r.shards[at.shard].members
			switch {
			case rng.IntN(20) == 0:
				m.Leave(at.slot)
				maps.DeleteFunc(have, func(s seat, _ bool) bool { return s.shard == at.shard && s.slot == at.slot })
			case have[at]:
				m.Unsubscribe(at.slot, at.pattern)
				delete(have, at)
			default:
				if _, _, err := m.Subscribe(at.slot, 0, at.pattern, "", Want{}); err == nil { // else it has 8
					have[at] = true
				}
			}
			r.bus.answer(nil)
		}
		want := make(map[string]int)
		for s := range have {
			want[s.pattern]++
		}
		r.hub.Changes(func(o Occupied) {
			if told[o.Pattern] = o.Connections; o.Connections == 0 {
				delete(told, o.Pattern)
			}
		})
		if !maps.Equal(told, want) {
			t.Fatalf("told %d patterns, want %d", len(told), len(want))
		}
		all := make(map[string]int)
		r.hub.Occupied(func(o Occupied) { all[o.Pattern] = o.Connections })
		if !maps.Equal(all, want) {
			t.Fatalf("all are %d patterns, want %d", len(all), len(want))
		}
		r.hub.Changes(func(o Occupied) { t.Fatalf("%v has not changed", o) })
	}
}

// TestOccupancyWhileChanging reads all while patterns come and go: what stays is there.
func TestOccupancyWhileChanging(t *testing.T) {
	r := newRig(t, HubConfig{Occupancy: true}, 1)
	m := r.shards[0].members
	r.shards[0].onStanding = func(uint32, string, Standing, error) {}
	subscribe := func(slot, i int) {
		t.Helper()
		if _, _, err := m.Subscribe(uint32(slot), 0, fmt.Sprintf("rooms.t%d", i), "", Want{}); err != nil {
			t.Fatal(err)
		}
	}
	const all = 3 * occupiedSlice
	for i := range all {
		subscribe(i, i)
	}
	seen := make(map[string]bool)
	r.hub.Occupied(func(o Occupied) {
		seen[o.Pattern] = true
		if n := len(seen); n%2 == 0 && n < all {
			m.Leave(uint32(n)) // of those that are read last
		}
	})
	for i := range all {
		if name := fmt.Sprintf("rooms.t%d", i); i%2 == 1 && !seen[name] {
			t.Fatalf("%s was there all the time, and was not read", name)
		}
	}
}
