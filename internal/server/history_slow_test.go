package server

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pushd/pushd/internal/config"
	"github.com/pushd/pushd/internal/natstest"
	"github.com/pushd/pushd/topics"
)

// The test of readers that stop is sized by what a client and a machine of two
// CPUs can read again: were each to get everything, a third of 1,000 would lack
// a million messages each, which is 350 GB. So most of these want one topic of many.
type slowSize struct {
	readers int           // that stop, a third of them in each mode
	wide    int           // of those in mode all, so many want all topics, and the others one of the first four
	topics  int           // of each namespace, published to in turns
	lasts   time.Duration // how long is published when all have stopped
}

func slowRun() slowSize {
	if os.Getenv("PUSHD_SOAK") != "" {
		return slowSize{readers: 1000, wide: 4, topics: 100, lasts: time.Minute}
	}
	return slowSize{readers: 99, wide: 8, topics: 10, lasts: time.Second}
}

var slowModes = [...]string{"all", "latest", "live"} // and their namespaces

const (
	// slowHeld is --ring-messages, and slowRing --ring-memory: room for so many in
	// each feed, so that none of them loses its share to the others.
	slowHeld = 1024
	slowRing = 8 << 20

	// slowWindow is how many messages of a namespace are on their way to the one who
	// keeps reading there: fewer than slowHeld, so that in mode live too it misses
	// nothing, however little of the CPU it gets.
	slowWindow = slowHeld / 2

	// slowUnsent is what pushd keeps of one that does not read: what is left of one
	// write, which is 64 KiB and a frame at most, and where it stands.
	slowUnsent = 64<<10 + 2<<10
)

// TestStoppedReaders has many clients stop reading while as much is published as
// others read: memory stays within its budget, those others miss nothing, nothing
// is done for those who stopped, and these get what their mode promises when
// they read on.
//
// Their receive buffers are left to the kernel. It does not enlarge one of a size
// that was asked for, and small messages take more room there than their bytes: it
// drops some for which its window was open. Who sent them tries again at intervals
// that double as long as the reader stops, so that with a minute of that nothing
// came for another one after it read on.
func TestStoppedReaders(t *testing.T) {
	size := slowRun()
	process := natstest.Start(t, natstest.Store(t.TempDir()))
	r := startShipped(t, "--nats="+process.URL(), "--config="+historyFile(t), fmt.Sprint("--ring-memory=", slowRing),
		fmt.Sprint("--ring-messages=", slowHeld), "--heartbeat=1m", "--write-timeout=10m")
	l := newSlowLoad(t, process.URL(), size.topics)
	var reading sync.WaitGroup
	for i := range slowModes {
		s := l.reader(r, i, everyTopic)
		s.keeps = true
		reading.Go(func() {
			if err := s.run(); err != nil {
				t.Errorf("one who keeps reading %v", err)
				l.fail()
			}
		})
	}

	var alone, beside, later memory
	fast := l.during(func() {
		eventually(t, "the rings are full", func() bool { return r.metric("pushd_ring_messages") == len(slowModes)*slowHeld })
		alone.look(r, max(time.Second, size.lasts/10))
	})
	stopped := make([]*slowReader, size.readers)
	for i := range stopped {
		namespace, topic := i%len(slowModes), everyTopic
		if slowModes[namespace] == "all" && i/len(slowModes) >= size.wide {
			topic = i % 4
		}
		stopped[i] = l.reader(r, namespace, topic)
	}
	slower := l.during(func() {
		for end := time.Now().Add(size.lasts + patience); r.metric("pushd_behind") < size.readers; time.Sleep(slowLook) {
			if time.Now().After(end) {
				t.Errorf("%d are behind of %d who do not read", r.metric("pushd_behind"), size.readers)
				break
			}
		}
		beside.look(r, size.lasts/2)
		before := r.clientReads()
		beside.look(r, size.lasts/2)
		if n := r.clientReads() - before; n > 0 {
			t.Errorf("history was read %d times for clients who do not read", n)
		}
	})
	l.end()
	reading.Wait()
	t.Logf("published %.0f messages a second alone, and %.0f beside %d who do not read", fast, slower, size.readers)

	var goingOn sync.WaitGroup
	for i, s := range stopped {
		goingOn.Go(func() {
			defer s.conn.Close()
			if err := s.run(); err != nil {
				t.Errorf("reader %d, who goes on, of %v", i, err)
			}
		})
	}
	began, before, repairs := time.Now(), r.clientReads(), r.reads(topics.UrgentRepair)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		goingOn.Wait()
	}()
	for waiting := true; waiting; {
		later.look(r, slowLook)
		select {
		case <-ended:
			waiting = false
		default:
		}
	}
	messages, volume := 0, 0
	for _, s := range stopped {
		messages += s.count
		volume += s.bytes
	}
	t.Logf("%d messages, %d MiB, were caught up with in %v and %d reads of history, beside %d for shards and %d until then",
		messages, volume>>20, time.Since(began), r.clientReads()-before, r.reads(topics.UrgentRepair)-repairs, repairs)

	// What it varies by anyway is seen while nobody is slow.
	budget := slowRing/4 + size.readers*slowUnsent + alone.most - alone.least
	t.Logf("memory: %d KiB alone, %d beside those who do not read, %d while these catch up; may grow by %d", alone.most>>10, beside.most>>10, later.most>>10, budget>>10)
	if grown := max(beside.most, later.most) - alone.most; grown > budget {
		t.Errorf("%d readers that stopped cost %d KiB, want at most %d KiB", size.readers, grown>>10, budget>>10)
	}
}

// memory is what a process had in use, over many looks.
type memory struct{ least, most int }

const slowLook = 100 * time.Millisecond

// look looks for a while, once at least.
func (m *memory) look(b *shipped, lasts time.Duration) {
	for end := time.Now().Add(lasts); ; time.Sleep(slowLook) {
		n := b.heap()
		if m.most = max(m.most, n); m.least == 0 || n < m.least {
			m.least = n
		}
		if time.Now().After(end) {
			return
		}
	}
}

// heap is what the process has in use after a garbage collection.
func (b *shipped) heap() (n int) {
	b.t.Helper()
	profile := b.get("/debug/pprof/heap?gc=1&debug=1")
	for _, name := range []string{"HeapInuse", "Stack"} {
		_, rest, _ := strings.Cut(profile, "\n# "+name+" = ")
		var part int
		if _, err := fmt.Sscan(rest, &part); err != nil {
			b.t.Errorf("%s: %v", name, err)
		}
		n += part
	}
	return n
}

// metric is the value of a series, which is to be there.
func (b *shipped) metric(series string) (n int) {
	b.t.Helper()
	_, rest, _ := strings.Cut(b.get("/metrics"), "\n"+series+" ")
	var value float64
	if _, err := fmt.Sscan(rest, &value); err != nil {
		b.t.Fatalf("%s: %v", series, err)
	}
	return int(value)
}

// clientReads says how often a stream was read for clients.
func (b *shipped) clientReads() (n int) {
	for _, u := range []topics.Urgency{topics.UrgentResume, topics.UrgentSlow} {
		n += b.reads(u)
	}
	return n
}

func (b *shipped) reads(u topics.Urgency) int {
	b.t.Helper()
	return b.metric(fmt.Sprintf("pushd_history_reads_total{urgency=%q}", u))
}

// TestTinyReceiveBuffer has clients whose sockets take a few frames at a time get
// all of what is far more than the rings hold: they cost no more than others.
func TestTinyReceiveBuffer(t *testing.T) {
	const messages, ring = 2000, 2 << 20
	r := start(t, keeping("orders"), func(c *config.Config) { c.RingMemory, c.MaxMessage = ring, 16<<10 })
	clients := make([]*socket, 5)
	d := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error { return receiveBuffer(raw, 4<<10) }}
	for i := range clients {
		s, err := openSocket(t.Context(), &d, "ws://"+r.Addr()+"/ws?topic=orders.*")
		if err != nil {
			t.Fatal(err)
		}
		defer s.conn.Close()
		clients[i] = s
	}
	var lines strings.Builder
	for n := range messages {
		fmt.Fprintf(&lines, `{"topic":"orders.eu","data":{"n":%d,"padding":%q}}`+"\n", n, slowPadding)
	}
	if status, answer := r.post("/publish", "application/x-ndjson", lines.String(), ""); status != 200 {
		t.Fatalf("publish: %d, %.200s", status, answer)
	}
	eventually(t, "all have fallen behind, and the ring holds the end alone", func() bool {
		for _, c := range r.look(t) {
			if c.BehindFeeds == 0 {
				return false
			}
		}
		return r.hub.Counts().GivenUp > messages/2
	})
	var reading sync.WaitGroup
	for i, s := range clients {
		reading.Go(func() {
			if err := s.readNumbers(messages); err != nil {
				t.Errorf("client %d: %v", i, err)
			}
		})
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		reading.Wait()
	}()
	for waiting := true; waiting; {
		if c := r.hub.Counts(); c.RingBytes > ring || c.SharedBytes > ring/4 {
			t.Errorf("the rings hold %d bytes of %d, and pages of history %d", c.RingBytes, ring, c.SharedBytes)
		}
		for _, c := range r.look(t) {
			if c.UnsentBytes > slowUnsent {
				t.Errorf("%d bytes wait for a client, want at most %d", c.UnsentBytes, slowUnsent)
			}
		}
		select {
		case <-ended:
			waiting = false
		case <-time.After(5 * time.Millisecond):
		}
	}
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
