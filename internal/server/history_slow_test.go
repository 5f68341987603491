package server

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pushd/pushd/internal/natstest"
)

// What readers that stopped may cost: the rings, a quarter of that for what is
// read of history, the rest of one write for each, and what pushd needs anyway
// while it works at full speed.
const (
	slowRing     = 8 << 20
	slowUnsent   = 64<<10 + 4<<10
	slowOverhead = 24 << 20
)

// slowRun is how many readers stop, and how long is published.
func slowRun() (readers int, lasts time.Duration) {
	if os.Getenv("PUSHD_SOAK") != "" {
		return 1000, time.Minute
	}
	return 99, time.Second
}

// slowTopics are those that are published to, in turns.
const slowTopics = 10

// TestStoppedReaders has many clients stop reading while all is published that
// can be: memory stays within its budget, those who read miss nothing, and
// those who stopped get what their mode promises when they read on.
func TestStoppedReaders(t *testing.T) {
	readers, lasts := slowRun()
	process := natstest.Start(t, natstest.Store(t.TempDir()))
	r := startShipped(t, "--nats="+process.URL(), "--config="+historyFile(t), fmt.Sprint("--ring-memory=", slowRing), "--heartbeat=1m", "--write-timeout=10m")
	namespaces := []string{"all", "latest", "live"}
	stopped := make([]*socket, readers)
	for i := range stopped {
		stopped[i] = r.subscribed(namespaces[i%3] + ".*")
		if err := stopped[i].conn.(*net.TCPConn).SetReadBuffer(64 << 10); err != nil {
			t.Fatal(err)
		}
	}
	var published [3]atomic.Int64
	var ended atomic.Bool
	var working sync.WaitGroup
	attentive := make([]*socket, 3)
	for i, ns := range namespaces {
		attentive[i] = r.subscribed(ns + ".*")
	}
	before := r.heap()

	var most atomic.Uint64
	working.Go(func() {
		for !ended.Load() {
			most.Store(max(most.Load(), r.heap()))
			time.Sleep(250 * time.Millisecond)
		}
	})
	var publishing sync.WaitGroup
	for i, ns := range namespaces {
		publishing.Go(func() { publishFor(t, process.URL(), ns, lasts, &published[i]) })
	}
	var reading sync.WaitGroup
	total := make(chan struct{})
	for i, ns := range namespaces {
		reading.Go(func() {
			if err := attentive[i].readSlow(ns, &published[i], total, false); err != nil {
				t.Errorf("one who reads %s: %v", ns, err)
			}
		})
	}
	publishing.Wait()
	close(total)
	nc, err := nats.Connect(process.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	for i, ns := range namespaces { // by which all know that they have come to the end
		for n := published[i].Load() - slowTopics; n < published[i].Load(); n++ {
			nc.Publish(fmt.Sprintf("push.%s.t%d", ns, n%slowTopics), fmt.Appendf(nil, `{"n":%d}`, n))
		}
	}
	reading.Wait()
	ended.Store(true)
	working.Wait()

	budget := uint64(slowRing + slowRing/4 + slowOverhead + readers*slowUnsent)
	t.Logf("published %d, %d and %d; %d KiB more at most, of %d KiB", published[0].Load(), published[1].Load(), published[2].Load(),
		(int64(most.Load())-int64(before))>>10, budget>>10)
	if grown := int64(most.Load()) - int64(before); grown > int64(budget) {
		t.Errorf("%d readers that stopped cost %d KiB, want at most %d KiB", readers, grown>>10, budget>>10)
	}
	var all sync.WaitGroup
	for i, s := range stopped {
		all.Go(func() {
			defer s.conn.Close()
			if err := s.conn.(*net.TCPConn).SetReadBuffer(1 << 20); err != nil {
				t.Error(err)
			}
			if err := s.readSlow(namespaces[i%3], &published[i%3], total, true); err != nil {
				t.Errorf("reader %d, of %s, that goes on: %v", i, namespaces[i%3], err)
			}
		})
	}
	all.Wait()
}

// heap is what the process has in use after a garbage collection.
func (b *shipped) heap() (n uint64) {
	b.t.Helper()
	profile := b.get("/debug/pprof/heap?gc=1&debug=1")
	for _, name := range []string{"HeapInuse", "Stack"} {
		_, rest, _ := strings.Cut(profile, "\n# "+name+" = ")
		var part uint64
		if _, err := fmt.Sscan(rest, &part); err != nil {
			b.t.Errorf("%s: %v", name, err)
		}
		n += part
	}
	return n
}

// publishFor publishes numbers to the topics of a namespace, in turns and as
// fast as the stream takes them.
func publishFor(t testing.TB, url, ns string, lasts time.Duration, published *atomic.Int64) {
	nc, err := nats.Connect(url)
	if err != nil {
		t.Error(err)
		return
	}
	defer nc.Close()
	js, err := nc.JetStream(nats.PublishAsyncMaxPending(256))
	if err != nil {
		t.Error(err)
		return
	}
	padding := strings.Repeat("x", 1000)
	n := 0
	for end := time.Now().Add(lasts); time.Now().Before(end); n++ {
		if _, err := js.PublishAsync(fmt.Sprintf("push.%s.t%d", ns, n%slowTopics), fmt.Appendf(nil, `{"n":%d,"padding":%q}`, n, padding), nats.StallWait(patience)); err != nil {
			t.Errorf("publishing %d to %s: %v", n, ns, err)
			return
		}
	}
	select {
	case <-js.PublishAsyncComplete():
	case <-time.After(patience):
		t.Errorf("the stream of %s has not taken all", ns)
	}
	published.Store(int64(n + slowTopics))
}

// readSlow reads what a mode promises, up to the last message of each topic. How
// many there are is known when total is closed.
func (s *socket) readSlow(mode string, published *atomic.Int64, total <-chan struct{}, wasSlow bool) error {
	var newest [slowTopics]int
	for i := range newest {
		newest[i] = -1
	}
	next, gaps, skipped, count := 0, 0, 0, 0
	done := func() bool {
		select {
		case <-total:
		default:
			return false
		}
		n := int(published.Load())
		for i := range newest {
			if last := n - 1 - (n-1-i)%slowTopics; last >= 0 && n > i && newest[i] < last {
				return false
			}
		}
		return true
	}
	for !done() {
		f, err := s.tryNext(patience)
		if err != nil {
			return fmt.Errorf("after %d messages, of %d: %w; newest are %v", count, published.Load(), err, newest)
		}
		text := string(f.Payload)
		switch {
		case strings.HasPrefix(text, `{"type":"gap"`) && mode == "live" && wasSlow:
			gaps++
			next = -1
			continue
		case strings.HasPrefix(text, `{"type":"skipped"`) && mode == "latest":
			skipped++
			continue
		case !strings.HasPrefix(text, `{"type":"message"`):
			return fmt.Errorf("after %d messages: got %.200s", count, text)
		}
		var n int
		_, rest, _ := strings.Cut(text, `"n":`)
		fmt.Sscanf(rest, "%d", &n)
		if mode != "latest" && next >= 0 && n != next {
			return fmt.Errorf("got %d, want %d", n, next)
		}
		if n <= newest[n%slowTopics] {
			return fmt.Errorf("got %d after %d", n, newest[n%slowTopics])
		}
		newest[n%slowTopics] = n
		next = n + 1
		count++
	}
	switch {
	case mode == "live" && wasSlow && gaps == 0 && count < int(published.Load()):
		return fmt.Errorf("%d messages of %d, and no gap", count, published.Load())
	case mode == "latest" && wasSlow && skipped == 0 && count < int(published.Load()):
		return fmt.Errorf("%d values of %d, and none was told to be skipped", count, published.Load())
	}
	return nil
}

// historyFile is a configuration with a namespace of each delivery.
func historyFile(t testing.TB) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "pushd.yaml")
	const text = `namespaces:
  all: {delivery: all, history: {age: 1h}}
  live: {delivery: live, history: {age: 1h}}
  latest: {delivery: latest, history: {messages: 1}}
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// whole is what a process may grow by, in bytes, whatever connects: pages of
// slots and of the heap, which weigh more where connections are few.
const whole = 256 << 10

// TestIdleWithHistory holds that a subscriber who is not behind costs no more
// where there is history.
func TestIdleWithHistory(t *testing.T) {
	file := historyFile(t)
	n := crowdSize(t)
	for _, topic := range []string{"all.x", "latest.x"} {
		t.Run(topic, func(t *testing.T) {
			b := startShipped(t, "--config="+file)
			b.store(topic, "1")
			crowd(t, b.addr, "/ws?topic="+topic, 500)()
			b.goroutines() // collects garbage
			before := b.rss()
			crowd(t, b.addr, "/ws?topic="+topic, n)
			b.goroutines()
			each := (float64(b.rss()-before) - whole) / float64(n)
			t.Logf("%d connections: %.0f bytes each", n, each)
			if each > budget {
				t.Errorf("%.0f bytes for each connection, want at most %d", each, budget)
			}
			if text := b.get("/metrics"); !strings.Contains(text, "\npushd_behind 0\n") {
				t.Errorf("somebody is behind, or the metrics do not say")
			}
		})
	}
}
