package topics

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"
	"unsafe"
)

// viewOf makes a string of bytes that change later.
func viewOf(b []byte) string { return unsafe.String(&b[0], len(b)) }

func TestDefaults(t *testing.T) {
	h := NewHub(HubConfig{}, &fakeBus{}, lines{})
	if h.cfg.RingMessages != 1024 || h.cfg.RingMemory != 64<<20 || h.cfg.Linger != 5*time.Second || h.cfg.Settings("any") != (Settings{}) {
		t.Errorf("defaults are not as documented: %+v", h.cfg)
	}
}

// The ring grows by doubling, up to a size that need not be a power of two.
func TestRingGrowsAndShrinks(t *testing.T) {
	for _, size := range []int{1, 2, 7, 8, 9, 100, 1000} {
		r := newRig(t, HubConfig{RingMessages: size}, 1)
		c := r.connect(0, 0)
		c.subscribe("a")
		c.block(0)
		var want []string
		for n := range 3*size + 1 {
			r.publish("a")
			r.run()
			want = append(want, fmt.Sprintf("a %d", n+1))
			r.wantConsistent()
		}
		c.drain()
		r.run()
		c.wants(append([]string{"gap a slow"}, want[len(want)-size:]...)...)
		f := r.hub.feedOf("a")
		if len(f.ring.slots) != nextPowerOfTwo(size) {
			t.Errorf("%d messages have a ring of %d", size, len(f.ring.slots))
		}
		for f.ring.count > 0 {
			r.hub.giveUpOldest(f)
			r.wantConsistent()
		}
		if len(f.ring.slots) > max(minRing, 1) {
			t.Errorf("an empty ring of %d", len(f.ring.slots))
		}
	}
}

func TestRingMemoryIsSharedByAllFeeds(t *testing.T) {
	data := make([]byte, 100)
	weight := (&entry{Message: Message{Topic: "a", Data: data}}).weight()
	r := newRig(t, HubConfig{RingMemory: 5 * weight}, 1)
	slow := r.connect(0, 0)
	slow.subscribe("a", "b", "c")
	slow.block(0)
	deliver := func(topics ...string) {
		for _, topic := range topics {
			r.hub.Deliver([]Message{{Topic: topic, Data: data}})
			r.run()
			r.wantConsistent()
		}
	}
	deliver("a", "a", "b", "a", "c")
	if n := r.hub.Counts().GivenUp; n != 0 {
		t.Fatalf("%d given up, and there is room", n)
	}
	deliver("c", "c", "c") // the two oldest of a and the one of b go
	c := r.hub.Counts()
	if c.GivenUp != 3 || c.RingMessages != 5 || c.RingBytes != 5*weight {
		t.Errorf("counts: %+v", c)
	}
	slow.drain()
	r.run()
	topics := make(map[string]int)
	for _, line := range slow.got {
		if line[:3] != "gap" {
			line = line[:1]
		}
		topics[line]++
	}
	if topics["gap a slow"] != 1 || topics["gap b slow"] != 1 || topics["a"] != 1 || topics["b"] != 0 || topics["c"] != 4 || len(topics) != 4 {
		t.Errorf("got %v", topics)
	}

	// One message larger than everything still reaches those who keep up.
	slow.got = nil
	r.hub.Deliver([]Message{{Topic: "a", Data: make([]byte, 6*weight)}})
	r.run()
	if len(slow.got) != 1 {
		t.Errorf("got %d frames", len(slow.got))
	}
}

func TestFeedLingersAndEnds(t *testing.T) {
	r := newRig(t, HubConfig{Linger: time.Minute}, 2)
	c, d := r.connect(0, 0), r.connect(1, 0)
	in := Interest{Name: "a", Namespace: true}
	c.subscribe("a.x")
	r.publish("a.x")
	c.unsubscribe("a.x")
	r.publish("a.x") // nobody's
	r.hub.sweep(time.Now())
	if !r.bus.standing[in] {
		t.Fatal("the feed does not linger")
	}
	d.subscribe("a.x") // what is in the ring is before its time
	r.run()
	c.wants()
	d.wants()
	r.hub.sweep(time.Now().Add(time.Hour))
	if !r.bus.standing[in] {
		t.Fatal("a feed with a subscriber was ended")
	}
	r.publish("a.x")
	r.run()
	d.wants("a.x 3")

	d.leave()
	r.hub.sweep(time.Now().Add(time.Hour))
	if r.bus.standing[in] {
		t.Fatal("the feed was not ended")
	}
	r.publish("a.x") // was still under way
	r.wantEmpty()
}

// The answer of the bus may come when nobody waits any more, and for a feed
// that has ended while the next of its name waits for its own.
func TestReadyTooLate(t *testing.T) {
	r := newRig(t, HubConfig{}, 1)
	m := r.shards[0].members
	c := r.connect(0, 0)
	m.Subscribe(0, 0, "a.x", "1", Want{})
	c.unsubscribe("a.x")
	m.Subscribe(0, 0, "a.x", "2", Want{})
	c.unsubscribe("a.x")
	c.wants("subscribed a.x 1", "subscribed a.x 2")
	r.hub.sweep(time.Now().Add(time.Hour))
	m.Subscribe(0, 0, "a.x", "3", Want{})
	if len(r.bus.asked) != 2 {
		t.Fatalf("the bus was asked %v", r.bus.asked)
	}
	r.bus.answer(nil) // of the feed that has ended
	r.publish("a.x")
	r.run()
	c.wants()
	r.bus.answer(nil)
	r.publish("a.x")
	r.run()
	c.wants("subscribed a.x 3", "a.x 2")
	c.leave()
	r.hub.sweep(time.Now().Add(time.Hour))
	r.wantEmpty()
}

// What a shard still has of a feed that has ended is not for the next of its name.
func TestFeedEndsBeforeShardHasSentAll(t *testing.T) {
	r := newRig(t, HubConfig{}, 1)
	m := r.shards[0].members
	c := r.connect(0, 0)
	c.subscribe("a.x")
	m.pace.slice, m.pace.turn, m.pace.take = 2, 2, 1
	r.publish("a.x", "a.x", "a.x")
	r.shards[0].runTasks()
	m.Turn()
	c.wants("a.x 1")
	c.unsubscribe("a.x")
	r.hub.sweep(time.Now().Add(time.Hour))
	c.subscribe("a.x")
	r.run()
	c.wants()
	r.publish("a.x")
	r.run()
	c.wants("a.x 4")
}

func TestIdleFeedsAreBounded(t *testing.T) {
	r := newRig(t, HubConfig{Linger: time.Hour}, 1)
	c := r.connect(0, 0)
	for i := range maxIdleFeeds + 10 {
		topic := fmt.Sprintf("user.%d", i)
		c.subscribe(topic)
		c.unsubscribe(topic)
	}
	if n := r.hub.Counts().Feeds; n != maxIdleFeeds {
		t.Errorf("%d feeds linger, at most %d", n, maxIdleFeeds)
	}
	if r.bus.standing[Interest{Name: "user.9"}] || !r.bus.standing[Interest{Name: "user.10"}] {
		t.Error("not the oldest were ended")
	}
}

func TestTickEndsIdleFeeds(t *testing.T) {
	r := newRig(t, HubConfig{Linger: time.Nanosecond}, 2)
	c := r.connect(1, 0)
	c.subscribe("a")
	c.leave()
	for range 8 {
		r.shards[1].members.Tick()
	}
	if len(r.bus.standing) != 1 {
		t.Error("a shard other than the first has swept")
	}
	for range 8 {
		r.shards[0].members.Tick()
	}
	r.run()
	r.wantEmpty()
}

func TestEachTopicAFeed(t *testing.T) {
	r := newRig(t, HubConfig{}, 2)
	c, d := r.connect(0, 0), r.connect(1, 0)
	c.subscribe("user.1", "a.*")
	d.subscribe("user.2", "user.1")
	want := map[Interest]bool{{Name: "user.1"}: true, {Name: "user.2"}: true, {Name: "a", Namespace: true}: true}
	if fmt.Sprint(r.bus.standing) != fmt.Sprint(want) {
		t.Errorf("the bus has %v, want %v", r.bus.standing, want)
	}
	r.publish("user.1", "user.2", "user.3", "user", "a.1")
	r.hub.Lost(Interest{Name: "user.2"})
	r.run()
	slices.Sort(c.got)
	slices.Sort(d.got)
	c.wants("a.1 5", "user.1 1")
	d.wants("gap user.2 upstream", "user.1 1", "user.2 2")
}

// What was found for a topic does not outlive the subscriptions.
func TestMatchesAreForgotten(t *testing.T) {
	r := newRig(t, HubConfig{}, 2)
	c, d := r.connect(0, 0), r.connect(1, 0)
	publish := func() {
		r.publish("a.x")
		r.run()
	}
	c.subscribe("a.y")
	publish()
	c.wants()
	c.subscribe("a.x")
	publish()
	c.wants("a.x 2")
	d.subscribe("a.x") // the pattern is there, the shard is new
	publish()
	c.wants("a.x 3")
	d.wants("a.x 3")
	c.unsubscribe("a.x")
	publish()
	c.wants()
	d.wants("a.x 4")
	c.subscribe("a.*")
	publish()
	c.wants("a.x 5")
	d.wants("a.x 5")
	c.unsubscribe("a.*")
	d.unsubscribe("a.x")
	publish()
	c.wants()
	d.wants()
	if n := r.hub.Counts().Unheard; n != 2 {
		t.Errorf("%d unheard, want 2", n)
	}
}

// A wildcard that comes or goes leaves alone what was found for other topics.
func TestOnlyMatchesOfAPatternAreForgotten(t *testing.T) {
	r := newRig(t, HubConfig{}, 1)
	c := r.connect(0, 0)
	c.subscribe("a.>")
	cached := func() []string { return slices.Sorted(maps.Keys(r.hub.feedOf("a").cache)) }
	wants := func(want ...string) {
		t.Helper()
		if got := cached(); !slices.Equal(got, want) {
			t.Errorf("matches are kept of %q, want %q", got, want)
		}
		r.publish("a.x", "a.y.1", "a.y.2")
	}
	wants()
	c.subscribe("a.y.*")
	wants("a.x")
	c.unsubscribe("a.y.*")
	wants("a.x")
	c.subscribe("a.y.1")
	wants("a.x", "a.y.2")
	c.unsubscribe("a.>")
	wants()
	c.leave()
}

func TestMatchesAreBounded(t *testing.T) {
	r := newRig(t, HubConfig{RingMessages: 1}, 1)
	c := r.connect(0, 0)
	c.subscribe("a.>")
	for i := range maxCachedMatches + 100 {
		r.publish(fmt.Sprintf("a.%d", i))
	}
	if n := len(r.hub.feedOf("a").cache); n > maxCachedMatches {
		t.Errorf("%d matches are kept, at most %d", n, maxCachedMatches)
	}
}

func TestDescribe(t *testing.T) {
	r := newRig(t, HubConfig{}, 2)
	c, d := r.connect(0, 0), r.connect(1, 0)
	c.subscribe("a.x", "user.1")
	d.subscribe("a.x", "b.>", "a.>")
	r.publish("a.x", "a.y")

	for pattern, want := range map[string]int{"a.x": 2, "a.>": 1, "a.y": 0, "user.1": 1, "user.2": 0, "none": 0} {
		if got := r.hub.Connections(pattern); got != want {
			t.Errorf("Connections(%q) = %d, want %d", pattern, got, want)
		}
	}
	got := r.hub.Describe(10)
	want := []FeedInfo{
		{"a", "namespace", true, 2, 2, 2, []PatternInfo{{"a.x", 2}, {"a.>", 1}}},
		{"b", "namespace", true, 0, 0, 1, []PatternInfo{{"b.>", 1}}},
		{"user.1", "topic", true, 0, 0, 1, []PatternInfo{{"user.1", 1}}},
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("Describe(10)\n got %v\nwant %v", got, want)
	}
	for limit := range 3 {
		got := r.hub.Describe(limit)
		if len(got) != limit || !slices.IsSortedFunc(got, func(a, b FeedInfo) int { return int(a.Name[0]) - int(b.Name[0]) }) {
			t.Errorf("Describe(%d) = %v", limit, got)
		}
		for _, f := range got {
			if len(f.Subscribed) > limit {
				t.Errorf("Describe(%d) shows %d patterns", limit, len(f.Subscribed))
			}
		}
	}

	r.run()
	total := MemberCounts{}
	for _, sh := range r.shards {
		total.Add(sh.members.Counts())
	}
	if total.Deliveries != 3 || total.Subscriptions != 5 || total.Behind != 0 {
		t.Errorf("counts: %+v", total)
	}
}

// Who subtracts one count from the other must not wrap, whatever comes meanwhile.
func TestUnheardIsNeverMoreThanMessages(t *testing.T) {
	h := NewHub(HubConfig{}, &fakeBus{}, lines{})
	var delivering sync.WaitGroup
	delivering.Go(func() {
		batch := []Message{{Topic: "nobody"}}
		for range 50_000 {
			h.Deliver(batch)
		}
	})
	for c := (HubCounts{}); c.Messages < 50_000; {
		if c = h.Counts(); c.Unheard > c.Messages {
			t.Errorf("%d unheard of %d messages", c.Unheard, c.Messages)
			break
		}
	}
	delivering.Wait()
}
