package server

import (
	"bufio"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/pushd/pushd/internal/config"
	"github.com/pushd/pushd/internal/natstest"
	"github.com/pushd/pushd/topics"
)

// gets is how many direct gets the server has made for clients. Beside them it
// looks now and then whether its feeds are complete.
func (r *running) gets() (n uint64) {
	for urgency, gets := range r.bus.State().Gets {
		if topics.Urgency(urgency) != topics.UrgentRepair {
			n += gets
		}
	}
	return n
}

// fill stores messages 0 to count-1 in turns of some topics, and returns their cursors.
func (r *running) fill(count int, topics ...string) (cursors []string) {
	r.t.Helper()
	var lines strings.Builder
	for i := range count {
		fmt.Fprintf(&lines, `{"topic":%q,"data":%d}`+"\n", topics[i%len(topics)], i)
	}
	status, answer := r.post("/publish", "application/x-ndjson", lines.String(), "")
	for result := range strings.Lines(answer) {
		if c := cursorOf(result); c != "" {
			cursors = append(cursors, c)
		}
	}
	if status != 200 || len(cursors) != count {
		r.t.Fatalf("%d, and %d cursors of %d: %.200s", status, len(cursors), count, answer)
	}
	return cursors
}

// storm has clients come back with cursors spread over the messages, all at
// once. Each must get what it missed. They stay until all have.
func (r *running) storm(topic string, cursors []string, clients int) {
	r.t.Helper()
	var all sync.WaitGroup
	slots := make(chan struct{}, 256) // dials under way
	conns := make([]net.Conn, clients)
	defer func() {
		for _, c := range conns {
			if c != nil {
				c.Close()
			}
		}
	}()
	for i := range clients {
		at := (i*7 + 3) % len(cursors)
		all.Go(func() {
			slots <- struct{}{}
			s, err := r.tryDial("topic=" + topic + "&cursor=" + url.QueryEscape(cursors[at]))
			<-slots
			if err != nil {
				r.t.Errorf("client %d: %v", i, err)
				return
			}
			conns[i] = s.conn
			s.read = bufio.NewReader(s.read)
			if err := s.readResumed(at+1, len(cursors)); err != nil {
				r.t.Errorf("client %d, who had %d messages: %v", i, at+1, err)
			}
		})
	}
	all.Wait()
}

// readResumed reads the answer to a resume, and messages from up to end-1.
func (s *socket) readResumed(from, end int) error {
	recovered := false
	for next := from; next < end || !recovered; {
		f, err := s.tryNext(patience)
		if err != nil {
			return fmt.Errorf("waiting for message %d: %w", next, err)
		}
		text := string(f.Payload) // by hand: this is most of the test
		switch {
		case strings.HasPrefix(text, `{"type":"welcome"`):
		case strings.HasPrefix(text, `{"type":"subscribed"`) && strings.Contains(text, `"recovered":true`):
			recovered = true
		case recovered && strings.HasPrefix(text, `{"type":"message"`) && strings.Contains(text, fmt.Sprintf(`"data":%d}`, next)):
			next++
		default:
			return fmt.Errorf("got %.200s, want message %d", text, next)
		}
	}
	return nil
}

// stormSizes are two numbers of clients that come back.
func stormSizes(t testing.TB) [2]int {
	if soaking() {
		return [2]int{500, min(10_000, crowdSize(t))}
	}
	return [2]int{50, 800}
}

// maxStormGets is how many requests a storm may cost: a ring is filled in a few
// pages, and places in it need none.
const maxStormGets = 12

// stormed is a node to which many come back.
type stormed struct {
	*running
	gets func() uint64
	stop func() error
}

// startStormed starts a node with the history of "orders": where it has very
// many clients in a process of its own, for they all have a file on either side.
func startStormed(t testing.TB, nats string) stormed {
	t.Helper()
	if !soaking() {
		r := start(t, keeping("orders"), func(c *config.Config) {
			c.NATS = []string{nats}
			ns := c.Namespaces["orders"]
			ns.History.Storage = config.StorageMemory
			c.Namespaces["orders"] = ns
		})
		return stormed{r, r.gets, r.stop}
	}
	file := filepath.Join(t.TempDir(), "pushd.yaml")
	const text = "namespaces:\n  orders: {delivery: all, history: {age: 1h, messages: 10000, storage: memory}}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	b := startShipped(t, "--nats="+nats, "--config="+file)
	return stormed{&b.running, b.gets, func() error { return nil }} // it ends with the test
}

var readsLine = regexp.MustCompile(`(?m)^pushd_history_reads_total\{urgency="(\w+)"\} (\d+)$`)

// gets is what the metrics say of the same.
func (b *shipped) gets() (n uint64) {
	b.t.Helper()
	found := readsLine.FindAllStringSubmatch(b.get("/metrics"), -1)
	if len(found) != int(topics.NumUrgencies) {
		b.t.Fatalf("the metrics have %d kinds of reads, want %d", len(found), topics.NumUrgencies)
	}
	for _, line := range found {
		if line[1] != topics.UrgentRepair.String() {
			count, err := strconv.ParseUint(line[2], 10, 64)
			if err != nil {
				b.t.Fatal(err)
			}
			n += count
		}
	}
	return n
}

// TestStorm has all clients of a topic come back at once, to a node that was
// there all the time, and to one that has just been started.
func TestStorm(t *testing.T) {
	const missed = 500
	process := natstest.Start(t, natstest.Store(t.TempDir()))
	old := startStormed(t, process.URL())
	listener := old.subscribed("orders.eu") // so that the node has listened all the time
	cursors := old.fill(missed, "orders.eu")
	listener.wantNumbers("orders.eu", 0, missed-1)
	for _, n := range stormSizes(t) {
		before := old.gets()
		old.storm("orders.eu", cursors, n)
		used := old.gets() - before
		t.Logf("%d clients of a node that has all in its ring: %d direct gets", n, used)
		if used > 0 {
			t.Errorf("%d clients of a node that has all in its ring: %d direct gets, want none", n, used)
		}
	}
	if err := old.stop(); err != nil {
		t.Fatal(err)
	}
	for _, n := range stormSizes(t) {
		r := startStormed(t, process.URL())
		r.storm("orders.eu", cursors, n)
		used := r.gets()
		t.Logf("%d clients of a node just started: %d direct gets", n, used)
		if used > maxStormGets {
			t.Errorf("%d clients of a node just started: %d direct gets, want at most %d", n, used, maxStormGets)
		}
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSnapshotForMany has many subscribers want all symbols at once: history
// is read once for all of them, however many topics there are.
func TestSnapshotForMany(t *testing.T) {
	clients := stormSizes(t)[1] / 4
	for _, symbols := range []int{500, 1500} {
		t.Run(fmt.Sprint(symbols), func(t *testing.T) {
			process := natstest.Start(t, natstest.Store(t.TempDir()))
			node := func() *running {
				return start(t, keeping(), func(c *config.Config) { c.NATS = []string{process.URL()} })
			}
			first := node()
			names := make([]string, symbols)
			for i := range names {
				names[i] = fmt.Sprintf("latest.s%d", i)
			}
			first.fill(symbols, names...)
			first.fill(symbols, names...)
			if err := first.stop(); err != nil {
				t.Fatal(err)
			}
			r := node()
			few := min(clients, clients*500/symbols)
			var all sync.WaitGroup
			for i := range few {
				pattern := []string{"latest.*", "latest.>"}[i%2]
				all.Go(func() {
					s, err := r.tryDial("topic=" + pattern)
					if err != nil {
						t.Errorf("client %d: %v", i, err)
						return
					}
					defer s.conn.Close()
					if err := s.readSnapshot(symbols); err != nil {
						t.Errorf("client %d: %v", i, err)
					}
				})
			}
			all.Wait()
			used := r.gets()
			t.Logf("%d clients, %d symbols: %d direct gets", few, symbols, used)
			if used > maxStormGets {
				t.Errorf("%d clients wanted %d symbols: %d direct gets, want at most %d", few, symbols, used, maxStormGets)
			}
		})
	}
}

// readSnapshot reads one value of each of so many topics, and nothing else.
func (s *socket) readSnapshot(symbols int) error {
	seen := make(map[string]bool, symbols)
	for len(seen) < symbols {
		f, err := s.tryNext(patience)
		if err != nil {
			return fmt.Errorf("after %d topics: %w", len(seen), err)
		}
		text := string(f.Payload)
		if strings.HasPrefix(text, `{"type":"welcome"`) || strings.HasPrefix(text, `{"type":"subscribed"`) {
			continue
		}
		_, rest, _ := strings.Cut(text, `"topic":"`)
		topic, _, _ := strings.Cut(rest, `"`)
		if !strings.HasPrefix(text, `{"type":"message"`) || seen[topic] {
			return fmt.Errorf("after %d topics: got %.200s", len(seen), text)
		}
		seen[topic] = true
	}
	return nil
}
