package natsbus

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"github.com/pushd/pushd/internal/natstest"
	"github.com/pushd/pushd/topics"
)

func TestMain(m *testing.M) {
	natstest.Main()
	if dir := os.Getenv(envChild); dir != "" {
		publishUntilKilled(dir)
	}
	goleak.VerifyTestMain(m)
}

// patience bounds every wait for something that must happen.
const patience = 30 * time.Second

// event is one call of a sink, as the recorder saw it.
type event struct {
	topic, data string
	time        int64
	cursor      topics.Cursor
	prev        uint64
	lost        topics.Interest
	lostAll     bool
}

// recorder is a sink that keeps what it is told, and may be held up.
type recorder struct {
	mu      sync.Mutex
	events  []event
	batches []int         // sizes
	hold    chan struct{} // not nil: Deliver waits until it is closed
	held    chan struct{} // gets a value when Deliver begins to wait
	changed chan struct{}
}

func newRecorder() *recorder {
	return &recorder{held: make(chan struct{}, 1), changed: make(chan struct{}, 1)}
}

func (r *recorder) add(events ...event) {
	r.mu.Lock()
	r.events = append(r.events, events...)
	r.mu.Unlock()
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

func (r *recorder) Deliver(batch []topics.Message) {
	r.mu.Lock()
	hold := r.hold
	r.batches = append(r.batches, len(batch))
	r.mu.Unlock()
	if hold != nil {
		select {
		case r.held <- struct{}{}:
		default:
		}
		<-hold
	}
	events := make([]event, len(batch))
	for i, m := range batch {
		events[i] = event{topic: m.Topic, data: string(m.Data), time: m.Time, cursor: m.Cursor, prev: m.Prev}
	}
	r.add(events...)
}

func (r *recorder) Lost(in topics.Interest) { r.add(event{lost: in}) }
func (r *recorder) LostAll()                { r.add(event{lostAll: true}) }

// holdUp makes Deliver wait until release is called, or the test ends: Close
// waits for the sink, so a test that fails in between would hang.
func (r *recorder) holdUp(t testing.TB) (release func()) {
	hold := make(chan struct{})
	r.mu.Lock()
	r.hold = hold
	r.mu.Unlock()
	release = sync.OnceFunc(func() {
		r.mu.Lock()
		r.hold = nil
		r.mu.Unlock()
		close(hold)
	})
	t.Cleanup(release)
	return release
}

func (r *recorder) all() []event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.events)
}

// messages are the data of what was delivered.
func (r *recorder) messages() []string {
	var data []string
	for _, e := range r.all() {
		if e.topic != "" {
			data = append(data, e.data)
		}
	}
	return data
}

// await waits until what was recorded satisfies done.
func (r *recorder) await(t testing.TB, what string, done func([]event) bool) {
	t.Helper()
	deadline := time.After(patience)
	for !done(r.all()) {
		select {
		case <-r.changed:
		case <-deadline:
			all := r.all()
			t.Fatalf("no %s in %v; %d events, the last: %+v", what, patience, len(all), all[max(0, len(all)-5):])
		}
	}
}

func (r *recorder) awaitMessage(t testing.TB, data string) {
	t.Helper()
	r.await(t, "message "+data, func(events []event) bool {
		return slices.ContainsFunc(events, func(e event) bool { return e.data == data })
	})
}

// eventually is for conditions that nobody signals.
func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in %v: %s", patience, what)
		}
	}
}

// open opens a Bus and starts it with a recorder.
func open(t testing.TB, cfg Config) (*Bus, *recorder) {
	t.Helper()
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	b, err := Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	r := newRecorder()
	b.Start(r)
	return b, r
}

func openEmbedded(t testing.TB) (*Bus, *recorder) {
	t.Helper()
	return open(t, Config{Listen: "127.0.0.1:0"})
}

// subscribe waits until the interest is ready and returns its error.
func subscribe(t testing.TB, b *Bus, in topics.Interest) error {
	t.Helper()
	ready := make(chan error, 2)
	b.Subscribe(in, func(err error) { ready <- err })
	return wait(t, ready, "ready")
}

func mustSubscribe(t testing.TB, b *Bus, interests ...topics.Interest) {
	t.Helper()
	for _, in := range interests {
		if err := subscribe(t, b, in); err != nil {
			t.Fatalf("subscribe %+v: %v", in, err)
		}
	}
}

// publish waits for Done and returns its error.
func publish(t testing.TB, b *Bus, topic, data string) error {
	t.Helper()
	done := make(chan error, 2)
	if !b.Publish(Publication{Topic: topic, Data: []byte(data), Done: func(_ topics.Cursor, err error) { done <- err }}) {
		t.Fatal("Publish refused")
	}
	return wait(t, done, "Done")
}

func mustPublish(t testing.TB, b *Bus, topic, data string) {
	t.Helper()
	if err := publish(t, b, topic, data); err != nil {
		t.Fatalf("publish %s: %v", topic, err)
	}
}

func wait[T any](t testing.TB, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("no %s in %v", what, patience)
		panic("unreachable")
	}
}

// client is a NATS client besides the Bus.
func client(t testing.TB, url string, opts ...nats.Option) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(url, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

func namespace(name string) topics.Interest { return topics.Interest{Name: name, Namespace: true} }
func topic(name string) topics.Interest     { return topics.Interest{Name: name} }

func TestDeliver(t *testing.T) {
	b, r := openEmbedded(t)
	mustSubscribe(t, b, namespace("ns"), topic("user.1"), topic("bare"))

	before := time.Now().UnixMilli()
	for _, p := range []string{
		"ns", "ns.a", "ns.a.b", "user.1", "bare", // wanted
		"nsx", "other.a", "user", "user.1.x", "user.2", "bare.x", // not
		"ns.last",
	} {
		mustPublish(t, b, p, p)
	}
	r.awaitMessage(t, "ns.last")
	want := []string{"ns", "ns.a", "ns.a.b", "user.1", "bare", "ns.last"}
	if got := r.messages(); !slices.Equal(got, want) {
		t.Fatalf("delivered %q, want %q", got, want)
	}
	for _, e := range r.all() {
		if e.topic != e.data || e.time < before || e.time > time.Now().UnixMilli() {
			t.Errorf("event %+v: want its topic as data, and a time of now", e)
		}
	}
	s := b.State()
	if !s.Connected || !s.Embedded || !s.JetStream || s.MaxPayload != 1<<20 || s.Interests != 3 || s.Published != 12 || s.Received != 6 {
		t.Errorf("state %+v", s)
	}

	b.Unsubscribe(namespace("ns"))
	mustSubscribe(t, b, topic("again")) // its ready comes after the UNSUB
	mustPublish(t, b, "ns.a", "unheard")
	mustPublish(t, b, "again", "heard")
	r.awaitMessage(t, "heard")
	if slices.Contains(r.messages(), "unheard") {
		t.Error("delivered after Unsubscribe had reached NATS")
	}
}

// TestOrder wants one publisher's messages in their order, whatever subjects
// and interests they belong to.
func TestOrder(t *testing.T) {
	b, r := openEmbedded(t)
	mustSubscribe(t, b, namespace("a"), namespace("b"), topic("c.1"), topic("c.2"))
	nc := client(t, b.ClientURL())
	var want []string
	for i := range 20_000 {
		data := fmt.Sprint(i)
		want = append(want, data)
		subject := []string{"push.a", "push.a.x", "push.b.y", "push.c.1", "push.c.2"}[rand.IntN(5)]
		if err := nc.Publish(subject, []byte(data)); err != nil {
			t.Fatal(err)
		}
	}
	r.awaitMessage(t, want[len(want)-1])
	if got := r.messages(); !slices.Equal(got, want) {
		t.Fatalf("%d messages of %d, or not in order", len(got), len(want))
	}
}

// TestEmbeddedLeavesNothing opens and closes, used and unused.
func TestEmbeddedLeavesNothing(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	f := func(name string, cfg Config, use func(*Bus)) {
		t.Run(name, func(t *testing.T) {
			cfg.Log = slog.New(slog.DiscardHandler)
			ignore := goleak.IgnoreCurrent()
			fds := openFDs(t)
			b, err := Open(context.Background(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			use(b)
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
			if err := b.Close(); err != nil {
				t.Fatalf("second Close: %v", err)
			}
			goleak.VerifyNone(t, ignore)
			eventually(t, "all fds closed", func() bool { return openFDs(t) <= fds })
			if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
				t.Errorf("left in %s: %v, %v", tmp, left, err)
			}
		})
	}
	f("unused", Config{}, func(*Bus) {})
	f("started", Config{Listen: "127.0.0.1:0"}, func(b *Bus) { b.Start(newRecorder()) })
	f("store", Config{Store: t.TempDir()}, func(b *Bus) { b.Start(newRecorder()) })
	f("used", Config{Listen: "127.0.0.1:0"}, func(b *Bus) {
		r := newRecorder()
		b.Start(r)
		mustSubscribe(t, b, namespace("ns"), topic("user.1"))
		mustPublish(t, b, "ns.a", "x")
		r.awaitMessage(t, "x")
	})
}

func openFDs(t *testing.T) int {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(fds)
}

// TestClose wants what was queued to be published and delivered, and what
// comes afterwards to be refused.
func TestClose(t *testing.T) {
	cfg := Config{Log: slog.New(slog.DiscardHandler)}
	b, err := Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	r := newRecorder()
	b.Start(r)
	mustSubscribe(t, b, topic("a"))
	const n = 1000
	done := make(chan error, n)
	for range n {
		if !b.Publish(Publication{Topic: "a", Done: func(_ topics.Cursor, err error) { done <- err }}) {
			t.Fatal("Publish refused")
		}
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if len(done) != n {
		t.Fatalf("%d of %d Done called by the end of Close", len(done), n)
	}
	for range n {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	if b.Publish(Publication{Topic: "a"}) {
		t.Error("Publish after Close accepted")
	}
	b.Subscribe(topic("b"), func(err error) { t.Errorf("Subscribe after Close answered %v", err) })
	b.Unsubscribe(topic("a"))
}

func BenchmarkDeliver(b *testing.B) {
	bus, err := Open(context.Background(), Config{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	defer bus.Close()
	arrived := make(chan int, 1024)
	bus.Start(counter(arrived))
	mustSubscribe(b, bus, namespace("ns"))
	payload := make([]byte, 128)
	nc := client(b, "", nats.InProcessServer(bus.embedded))

	b.ReportAllocs()
	b.SetBytes(int64(len(payload)))
	b.ResetTimer()
	const window = 16384 // messages under way at most, so that none is dropped
	got := 0
	for sent := range b.N {
		for sent-got >= window {
			got += <-arrived
		}
		if err := nc.Publish("push.ns.a", payload); err != nil {
			b.Fatal(err)
		}
	}
	if err := nc.Flush(); err != nil {
		b.Fatal(err)
	}
	for got < b.N {
		got += <-arrived
	}
}

// counter is a sink that sends on the size of each batch.
type counter chan int

func (c counter) Deliver(batch []topics.Message) { c <- len(batch) }
func (c counter) Lost(topics.Interest)           { panic("benchmark lost messages") }
func (c counter) LostAll()                       { panic("benchmark lost its connection") }
