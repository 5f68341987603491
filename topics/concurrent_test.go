package topics

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Shards on goroutines of their own, publishers on theirs, and subscriptions
// that come and go meanwhile. Nobody is blocked, so with rings large enough
// nothing may be missing; with small ones only behind a gap.
func TestConcurrently(t *testing.T) {
	for _, shards := range []int{2, 4} {
		for _, ring := range []int{1 << 16, 32} {
			t.Run(fmt.Sprintf("shards=%d,ring=%d", shards, ring), func(t *testing.T) {
				checkConcurrently(t, shards, ring)
			})
		}
	}
}

const (
	publishers = 3
	published  = 1500 // messages to each topic
)

// topicsOf are the topics that one publisher has for itself.
func topicsOf(publisher int) []string {
	return []string{
		fmt.Sprintf("a.%d.x", publisher), fmt.Sprintf("a.%d.y", publisher),
		fmt.Sprintf("b.%d", publisher), fmt.Sprintf("user.%d", publisher),
	}
}

var lasting = [][]string{{"a.>"}, {"a.*.x", "a.>", "a.1.x"}, {"b.*", "b.1"}, {"user.0", "user.1", "user.2"}, {"a.2.y"}}

func checkConcurrently(t *testing.T, shards, ring int) {
	bus := &promptBus{}
	hub := NewHub(HubConfig{
		RingMessages: ring, RingMemory: 1 << 30, Linger: time.Nanosecond,
		Settings: func(namespace string) Settings {
			delays := map[string]time.Duration{"b": time.Millisecond, "user": 50 * time.Microsecond}
			return Settings{ByTopic: namespace == "user", BatchDelay: delays[namespace]}
		},
	}, bus, lines{})
	var loops []*loop
	var standing sync.WaitGroup
	for range shards {
		l := newLoop(t, hub, &standing)
		loops = append(loops, l)
		standing.Add(1)
		l.post(do(func() { l.joinAll(); standing.Done() }))
	}
	var running sync.WaitGroup
	for _, l := range loops {
		running.Go(l.run)
	}
	standing.Wait()

	var busy sync.WaitGroup
	for p := range publishers {
		busy.Go(func() { publishAll(hub, p) })
	}
	churnDone := make(chan struct{})
	var churning sync.WaitGroup
	for seed, l := range loops {
		churning.Go(func() { l.churn(uint64(seed), churnDone) })
	}
	busy.Wait()
	close(churnDone)
	churning.Wait()
	hub.Close()
	for _, l := range loops {
		close(l.stop)
	}
	running.Wait()
	bus.answers.Wait()

	var order []string // of the feed a, as the first subscriber to all of it saw it
	for _, l := range loops {
		for slot, patterns := range lasting {
			c := l.clients[uint32(slot)]
			c.wantAll(patterns, ring > publishers*published*4)
			if slot != 0 || c.gaps > 0 {
				continue
			}
			if order == nil {
				order = c.got
			}
			for i := range order {
				if order[i] != c.got[i] {
					t.Fatalf("message %d of a feed is %q for one shard and %q for another", i, order[i], c.got[i])
				}
			}
		}
	}
}

// promptBus answers from another goroutine, as buses do.
type promptBus struct{ answers sync.WaitGroup }

func (b *promptBus) Subscribe(_ Interest, ready func(error)) {
	b.answers.Go(func() { ready(nil) })
}

func (b *promptBus) Unsubscribe(Interest) {}

// publishAll publishes the same number of messages to each topic of a publisher.
func publishAll(hub *Hub, publisher int) {
	rnd := rand.New(rand.NewPCG(uint64(publisher), 2))
	topics := topicsOf(publisher)
	var batch []Message
	for n := 1; n <= published; n++ {
		for _, topic := range topics {
			batch = append(batch, Message{Topic: topic, Data: strconv.AppendInt(nil, int64(n), 10)})
			if rnd.IntN(6) == 0 {
				hub.Deliver(batch)
				clear(batch)
				batch = batch[:0]
			}
		}
	}
	hub.Deliver(batch)
}

// do is a function as a task.
type do func()

func (f do) Run() { f() }

// loop is a shard on its own goroutine.
type loop struct {
	// Static.
	t        *testing.T
	members  *Members
	standing *sync.WaitGroup // what must stand before anything is published
	wake     chan struct{}
	stop     chan struct{}

	// Loop-only.
	clients map[uint32]*reader

	// Guarded by mu.
	mu    sync.Mutex
	tasks []Task
}

func newLoop(t *testing.T, hub *Hub, standing *sync.WaitGroup) *loop {
	l := &loop{
		t: t, standing: standing, clients: make(map[uint32]*reader),
		wake: make(chan struct{}, 1), stop: make(chan struct{}),
	}
	l.members = NewMembers(hub, l, l.post, 100)
	return l
}

func (l *loop) post(task Task) bool {
	l.mu.Lock()
	l.tasks = append(l.tasks, task)
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
	return true
}

// run ends after stop is closed, when there is nothing left to do.
func (l *loop) run() {
	stop, stopping := l.stop, false
	for {
		l.mu.Lock()
		tasks := l.tasks
		l.tasks = nil
		l.mu.Unlock()
		for _, task := range tasks {
			task.Run()
		}
		if l.members.Turn() {
			continue
		}
		if stopping && len(tasks) == 0 {
			return
		}
		if stopping {
			continue
		}
		select {
		case <-l.wake:
		case <-stop:
			stopping = true
		}
	}
}

// joinAll connects those who stay.
func (l *loop) joinAll() {
	for slot, patterns := range lasting {
		l.clients[uint32(slot)] = &reader{t: l.t, last: make(map[string]seen), keep: slot == 0}
		for _, pattern := range patterns {
			l.subscribe(uint32(slot), pattern)
		}
	}
}

func (l *loop) subscribe(slot uint32, pattern string) {
	_, stands, err := l.members.Subscribe(slot, 0, pattern, "lasting", Want{})
	if err != nil {
		l.t.Error(err)
	}
	if !stands && slot < firstChurner {
		l.standing.Add(1)
	}
}

const firstChurner = 100

// churn has connections come and go until done is closed.
func (l *loop) churn(seed uint64, done chan struct{}) {
	rnd := rand.New(rand.NewPCG(seed, 3))
	patterns := []string{"a.>", "a.*.x", "a.1.x", "a.0.y", "b.*", "b.2", "user.0", "user.9"}
	for {
		ended := make(chan struct{})
		l.post(do(func() {
			defer close(ended)
			slot := firstChurner + uint32(rnd.IntN(20))
			l.members.Tick()
			if l.clients[slot] != nil && rnd.IntN(3) == 0 {
				l.members.Leave(slot)
				delete(l.clients, slot)
				return
			}
			if l.clients[slot] == nil {
				l.clients[slot] = &reader{t: l.t, last: make(map[string]seen)}
			}
			pattern := patterns[rnd.IntN(len(patterns))]
			if rnd.IntN(3) == 0 {
				if l.members.Unsubscribe(slot, pattern) {
					clear(l.clients[slot].last)
				}
			} else {
				l.subscribe(slot, pattern)
			}
		}))
		<-ended
		select {
		case <-done:
			return
		default:
		}
	}
}

// Send implements Sender.
func (l *loop) Send(slot uint32, frames []byte) Outcome {
	if c := l.clients[slot]; c != nil {
		for frame := range strings.Lines(string(frames)) {
			c.frame(frame)
		}
		return Sent
	}
	l.t.Errorf("a frame for slot %d, which has left", slot)
	return Gone
}

// SendCopy implements Sender.
func (l *loop) SendCopy(slot uint32, frames []byte) Outcome { return l.Send(slot, frames) }

// Subscribed implements Sender.
func (l *loop) Subscribed(slot uint32, _, _ string, _ Standing, _ error) {
	if slot < firstChurner {
		l.standing.Done()
	}
}

// FannedOut implements Sender.
func (l *loop) FannedOut(int, time.Duration) {}

// reader is a client that checks what it reads.
type reader struct {
	t    *testing.T
	last map[string]seen // by topic
	gaps int
	keep bool
	got  []string
}

// seen is the latest message of a topic, and how many gaps there were then.
type seen struct{ number, gaps int }

func (c *reader) frame(line string) {
	topic, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
	if topic == "gap" {
		c.gaps++
		return
	}
	n, err := strconv.Atoi(rest)
	if err != nil {
		c.t.Error(err)
	}
	last, ok := c.last[topic]
	if ok && (n <= last.number || n > last.number+1 && c.gaps == last.gaps) {
		c.t.Errorf("%s: message %d after %d, gaps %d and then %d", topic, n, last.number, last.gaps, c.gaps)
	}
	c.last[topic] = seen{n, c.gaps}
	if c.keep {
		c.got = append(c.got, line)
	}
}

// wantAll checks that nothing is missing at the end of any topic, nor at all
// where there is room for everything.
func (c *reader) wantAll(patterns []string, room bool) {
	if room && c.gaps > 0 {
		c.t.Errorf("%q: %d gaps", patterns, c.gaps)
	}
	for p := range publishers {
		for _, topic := range topicsOf(p) {
			wanted := false
			for _, pattern := range patterns {
				wanted = wanted || Match(pattern, topic)
			}
			last := c.last[topic]
			if !wanted && last.number > 0 || wanted && last.number < published && c.gaps == last.gaps {
				c.t.Errorf("%q: the last of %s was %d, with %d gaps", patterns, topic, last.number, c.gaps)
			}
		}
	}
}
