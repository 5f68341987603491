package cluster

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"github.com/pushd/pushd/internal/statistics"
)

// speaker is a node as a plain model has it: a map, and what it tells others.
type speaker struct {
	name    string
	started int64
	counts  map[string]int
	teller  *Teller
	down    bool // it was killed
}

func (s *speaker) restart() {
	s.started++
	s.counts, s.teller, s.down = make(map[string]int), NewTeller(s.name, s.started), false
}

func (s *speaker) change(topic string, n int) {
	if n == 0 {
		delete(s.counts, topic)
	} else {
		s.counts[topic] = n
	}
	s.teller.Changed(topic, n)
}

// tell is a second of it: its pieces, then what it says of itself.
func (s *speaker) tell(t *testing.T, size int) (pieces []*Piece, n *statistics.Node) {
	t.Helper()
	s.teller.Tick(size, func(yield func(string, int)) {
		for topic, n := range s.counts {
			yield(topic, n)
		}
	}, func(data []byte) {
		if len(data) > size {
			t.Errorf("a piece of %d bytes, at most %d", len(data), size)
		}
		p := new(Piece)
		if err := json.Unmarshal(data, p); err != nil {
			t.Fatal(err)
		}
		pieces = append(pieces, p)
	})
	return pieces, &statistics.Node{Node: s.name, Started: s.started, State: "serving", Occupancy: s.teller.Sequence()}
}

// TestModel has four nodes tell a fifth, over a way that loses, repeats and delays
// messages, while they are killed and begin anew. Whenever the way was good for
// long enough, the fifth knows what a plain map of all of them has.
func TestModel(t *testing.T) {
	for seed := range uint64(25) {
		rng := rand.New(rand.NewPCG(seed, 7))
		c := New("self", 1000)
		var speakers []*speaker
		for i := range 4 {
			s := &speaker{name: fmt.Sprintf("n%d", i), started: 100}
			s.restart()
			speakers = append(speakers, s)
		}
		topics := make([]string, 60)
		for i := range topics {
			topics[i] = fmt.Sprintf("rooms.<%d>.%s", i, "abcdefgh"[:rng.IntN(8)])
		}
		var late []*Piece
		second := func(bad bool) {
			for _, p := range late {
				c.Told(p)
			}
			late = late[:0]
			ask, _ := c.Tick()
			for _, s := range speakers {
				if s.down {
					continue
				}
				if slices.Contains(ask, s.name) && !(bad && rng.IntN(3) == 0) {
					s.teller.Want()
				}
				pieces, n := s.tell(t, 1200)
				for _, p := range pieces {
					switch chance := rng.IntN(10); {
					case bad && chance < 2: // lost
					case bad && chance < 4:
						late = append(late, p)
					case bad && chance < 5:
						c.Told(p)
						c.Told(p)
					default:
						c.Told(p)
					}
				}
				if !bad || rng.IntN(4) > 0 {
					c.Heard(n)
				}
			}
		}
		for range 12 {
			for range rng.IntN(20) {
				s := speakers[rng.IntN(len(speakers))]
				switch chance := rng.IntN(40); {
				case chance == 0:
					s.down = true
				case chance == 1:
					s.restart()
				case !s.down:
					for range rng.IntN(30) {
						s.change(topics[rng.IntN(len(topics))], rng.IntN(4))
					}
				}
				second(true)
			}
			// Silent nodes are gone, holes asked for and told, and what had to wait
			// for its turn has had it.
			for range silence + askEvery + stateRest + 3 {
				second(false)
			}
			for _, topic := range topics {
				want := make(map[string]int)
				for _, s := range speakers {
					if n := s.counts[topic]; n > 0 && !s.down {
						want[s.name] = n
					}
				}
				if got := c.ByNode(topic); !maps.Equal(got, want) {
					t.Fatalf("seed %d: %s has %v, want %v", seed, topic, got, want)
				}
			}
			kept := 0
			for _, o := range c.others {
				kept += len(o.counts)
			}
			if got, unkept := c.Counts(); got != kept || unkept != 0 {
				t.Fatalf("seed %d: %d are said to be kept, %d unkept, and %d are", seed, got, unkept, kept)
			}
		}
	}
}

// TestGone counts the ticks until a silent node's counts have vanished.
func TestGone(t *testing.T) {
	c := New("self", 1000)
	s := &speaker{name: "n"}
	s.restart()
	s.change("a", 3)
	tell := func() {
		pieces, n := s.tell(t, 1<<20)
		for _, p := range pieces {
			c.Told(p)
		}
		c.Heard(n)
	}
	tell()
	if n := c.Connections("a"); n != 3 || len(c.Nodes()) != 1 {
		t.Fatalf("%d connections of %d nodes", n, len(c.Nodes()))
	}
	for tick := 1; tick <= silence; tick++ {
		if _, gone := c.Tick(); len(gone) != 0 || c.Connections("a") != 3 {
			t.Fatalf("after %d ticks: %d connections, gone %v", tick, c.Connections("a"), gone)
		}
	}
	if _, gone := c.Tick(); len(gone) != 1 || c.Connections("a") != 0 || len(c.Nodes()) != 0 {
		t.Fatalf("after %d ticks: %d connections, gone %v", silence+1, c.Connections("a"), gone)
	}
	tell() // it was but cut off, and its next words show that something is missing
	if ask, _ := c.Tick(); len(ask) != 1 {
		t.Errorf("asked %v for their state", ask)
	}
	_, n := s.tell(t, 1<<20)
	n.State = statistics.StateGone
	c.Heard(n)
	if len(c.Nodes()) != 0 {
		t.Error("it has said goodbye, and is there")
	}
}

// TestBound keeps no more counts than it may, and takes more when there is room.
func TestBound(t *testing.T) {
	c := New("self", 10)
	s := &speaker{name: "n"}
	s.restart()
	for i := range 15 {
		s.change(fmt.Sprint("t", i), 1)
	}
	told := func() {
		pieces, _ := s.tell(t, 1<<20)
		for _, p := range pieces {
			c.Told(p)
		}
	}
	told()
	if kept, unkept := c.Counts(); kept != 10 || unkept != 5 {
		t.Errorf("%d kept, %d unkept", kept, unkept)
	}
	for i := range 10 {
		s.change(fmt.Sprint("t", i), 0)
	}
	told()
	s.teller.Want()
	for range stateRest + 1 {
		told()
	}
	sum := 0
	for i := range 15 {
		sum += c.Connections(fmt.Sprint("t", i))
	}
	if kept, _ := c.Counts(); kept != 5 || sum != 5 {
		t.Errorf("%d kept, %d connections", kept, sum)
	}
}

// TestFlood has more changes than may wait: the state is told instead.
func TestFlood(t *testing.T) {
	s := &speaker{name: "n"}
	s.restart()
	for i := range most + 1 {
		s.change(fmt.Sprint(i), 1)
	}
	pieces, _ := s.tell(t, 512<<10)
	c, sum := New("self", 1<<30), 0
	for _, p := range pieces {
		if p.Kind != State {
			t.Fatalf("told %s", p.Kind)
		}
		c.Told(p)
		sum += len(p.Topics)
	}
	if kept, _ := c.Counts(); sum != most+1 || kept != sum || len(s.teller.waiting) != 0 {
		t.Errorf("%d told in %d pieces, %d kept, %d wait", sum, len(pieces), kept, len(s.teller.waiting))
	}
}

// TestCountMemory bounds what a count costs, with its name.
func TestCountMemory(t *testing.T) {
	const counts = 50_000
	s := &speaker{name: "n"}
	s.restart()
	for i := range counts {
		s.change(fmt.Sprintf("rooms.lobby-%08d", i), 1)
	}
	pieces, _ := s.tell(t, 512<<10)
	for range 5 {
		more, _ := s.tell(t, 512<<10)
		pieces = append(pieces, more...)
	}
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	c, before := New("self", counts), heap()
	for _, p := range pieces {
		c.Told(p)
	}
	names := int64(0) // they are of the pieces, which are held here
	for topic := range s.counts {
		names += int64(len(topic))
	}
	each := (heap() - before + names) / counts
	t.Logf("%d bytes for each count", each)
	if kept, _ := c.Counts(); kept != counts || each > 90 {
		t.Errorf("%d counts, %d bytes each", kept, each)
	}
	runtime.KeepAlive(pieces)
	runtime.KeepAlive(s)
}

// BenchmarkCounts is a second in which 10,000 topics have changed: telling, and hearing.
func BenchmarkCounts(b *testing.B) {
	const topics = 10_000
	names := make([]string, topics)
	for i := range names {
		names[i] = fmt.Sprintf("rooms.lobby-%05d", i)
	}
	teller, c, bytes, messages := NewTeller("n", 1), New("self", topics), 0, 0
	b.ReportAllocs()
	for b.Loop() {
		for i, name := range names {
			teller.Changed(name, i%7+1)
		}
		teller.since = 0
		teller.Tick(512<<10, nil, func(data []byte) {
			bytes += len(data)
			messages++
			var p Piece
			if err := json.Unmarshal(data, &p); err != nil {
				b.Fatal(err)
			}
			c.Told(&p)
		})
	}
	b.ReportMetric(float64(bytes)/float64(b.N), "bytes/op")
	b.ReportMetric(float64(messages)/float64(b.N), "messages/op")
}
