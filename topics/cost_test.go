package topics

import (
	"fmt"
	"runtime"
	"testing"
	"time"
)

// sink takes everything or nothing, and keeps nothing. It is also an Encoder
// with one frame.
type sink struct {
	frame  []byte
	answer Outcome
}

func (s *sink) Send(uint32, []byte) Outcome                           { return s.answer }
func (s *sink) SendCopy(uint32, []byte) Outcome                       { return s.answer }
func (s *sink) Subscribed(uint32, string, string, Standing, error)    {}
func (s *sink) FannedOut(int, time.Duration)                          {}
func (s *sink) Message(Format, *Message) []byte                       { return s.frame }
func (s *sink) Like(f Format, _ *Message) Format                      { return f }
func (s *sink) Gap(Format, string, LossReason, Cursor, Cursor) []byte { return s.frame }
func (s *sink) Skipped(Format, string, int) []byte                    { return s.frame }

// costs is a hub with one shard whose sockets cost nothing.
type costs struct {
	hub     *Hub
	bus     *fakeBus
	sink    *sink
	members *Members
	tasks   []Task
}

func newCosts(cfg HubConfig) *costs {
	c := &costs{bus: &fakeBus{standing: make(map[Interest]bool)}}
	c.sink = &sink{frame: []byte("frame")}
	c.hub = NewHub(cfg, c.bus, c.sink)
	c.members = NewMembers(c.hub, c.sink, func(t Task) bool { c.tasks = append(c.tasks, t); return true }, 4)
	return c
}

func (c *costs) run() {
	for more := true; more; {
		for _, t := range c.tasks {
			t.Run()
		}
		c.tasks = c.tasks[:0]
		more = c.members.Turn()
	}
}

func (c *costs) subscribe(t testing.TB, slot uint32, pattern string) {
	if _, _, err := c.members.Subscribe(slot, 0, pattern, "", Want{}); err != nil {
		t.Fatal(err)
	}
	for len(c.bus.asked) > 0 {
		c.bus.answer(nil)
		c.run()
	}
}

func (c *costs) publish(topic string) {
	batch := [1]Message{{Topic: topic, Data: []byte("data")}}
	c.hub.Deliver(batch[:])
	c.run()
}

// The fan-out of a message allocates its entry and the data of this test, and
// nothing for each member, be the patterns disjoint or not.
func TestFanOutAllocatesNothingForEachMember(t *testing.T) {
	const each = 2
	for _, patterns := range [][]string{{"a.x"}, {"a.x", "a.*"}} {
		for _, members := range []uint32{1_000, 10_000} {
			c := newCosts(HubConfig{RingMessages: 16})
			for slot := range members {
				for _, pattern := range patterns {
					c.subscribe(t, slot, pattern)
				}
			}
			for range 20 { // the ring has its size
				c.publish("a.x")
			}
			if n := testing.AllocsPerRun(10, func() { c.publish("a.x") }); n > each {
				t.Errorf("%q: %v allocations for a message to %d members, at most %d", patterns, n, members, each)
			}
		}
	}
}

func TestUnheardAllocatesNothing(t *testing.T) {
	c := newCosts(HubConfig{})
	c.subscribe(t, 0, "a.x")
	for _, topic := range []string{"b.x", "a.y"} {
		batch := []Message{{Topic: topic}}
		if n := testing.AllocsPerRun(100, func() { c.hub.Deliver(batch) }); n != 0 {
			t.Errorf("%s: %v allocations for a message that nobody hears", topic, n)
		}
	}
}

func TestJoinAllocatesNothing(t *testing.T) {
	c := newCosts(HubConfig{})
	for slot := range uint32(100) {
		c.subscribe(t, slot, "a.x")
		c.subscribe(t, slot, "a.*")
	}
	if n := testing.AllocsPerRun(1000, func() {
		c.subscribe(t, 100, "a.x")
		c.subscribe(t, 100, "a.*")
		c.members.Unsubscribe(100, "a.x")
		c.members.Leave(100)
	}); n != 0 {
		t.Errorf("%v allocations to join what is there, and to leave", n)
	}
}

// heapInUse says how many bytes are in use.
func heapInUse() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// What a subscription costs, the seating of its slot included.
func TestMemoryOfSubscriptions(t *testing.T) {
	if testing.Short() {
		t.Skip("subscribes 100,000 connections")
	}
	const connections = 100_000
	for _, kind := range []struct {
		name    string
		pattern func(slot uint32) string
		most    int64 // bytes for each, here and now; left over when all have gone
		left    int64
	}{
		{"one topic", func(uint32) string { return "a.x" }, 64, 40},
		{"a topic each", func(slot uint32) string { return fmt.Sprintf("a.%d", slot) }, 800, 64},
		{"a feed each", func(slot uint32) string { return fmt.Sprintf("user.%d", slot) }, 2000, 64},
	} {
		t.Run(kind.name, func(t *testing.T) {
			c := newCosts(HubConfig{Settings: func(namespace string) Settings { return Settings{ByTopic: namespace == "user"} }})
			before := heapInUse()
			for slot := range uint32(connections) {
				c.subscribe(t, slot, kind.pattern(slot))
			}
			each := (heapInUse() - before) / connections
			t.Logf("%d bytes for each of %d subscriptions", each, connections)
			if each > kind.most {
				t.Errorf("%d bytes for each subscription, at most %d", each, kind.most)
			}
			for slot := range uint32(connections) {
				c.members.Leave(slot)
			}
			c.hub.sweep(time.Now().Add(time.Hour))
			c.run()
			c.bus.standing = nil
			left := (heapInUse() - before) / connections
			t.Logf("%d are left when all have gone", left)
			if left > kind.left {
				t.Errorf("%d bytes for each subscription are left, at most %d", left, kind.left)
			}
			runtime.KeepAlive(c)
		})
	}
}
