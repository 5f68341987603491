package server

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/gobwas/ws"
	"github.com/nats-io/nats.go"

	"github.com/pushd/pushd/internal/natstest"
)

// attackSize is how large an attack is, and what goes on meanwhile.
type attackSize struct {
	hostile, good int
	topics        int // of the good clients, in turns
	rate          int // messages a second, on all topics together
	calm, attack  time.Duration
	pause         time.Duration
}

func attackSizes() attackSize {
	if soaking() {
		return attackSize{hostile: 10_000, good: 1000, topics: 10, rate: 1000, calm: 15 * time.Second, attack: 30 * time.Second, pause: 2 * time.Second}
	}
	return attackSize{hostile: 600, good: 60, topics: 1, rate: 200, calm: 500 * time.Millisecond, attack: 2 * time.Second, pause: 300 * time.Millisecond}
}

// TestUnderAttack has clients that receive messages while very many hostile
// ones come from three addresses: not one message is lost. How late they are
// is in the log, with the attack and before it.
func TestUnderAttack(t *testing.T) {
	size := attackSizes()
	for _, tc := range []struct {
		name  string
		flags []string
		check func(t *testing.T, metrics string)
	}{
		{"limited by address", []string{fmt.Sprint("--max-connections-per-address=", size.hostile/10)}, func(t *testing.T, metrics string) {
			n := series(metrics, `pushd_handshakes_total{result="address_full"}`) + series(metrics, `pushd_handshakes_total{result="address_rate"}`)
			if n < size.hostile/2 {
				t.Errorf("%d were refused, of %d hostile clients", n, size.hostile)
			}
		}},
		{"all let in", []string{"--max-connections-per-address=-1", "--connection-rate-per-address=0"}, func(t *testing.T, metrics string) {
			if n := series(metrics, "pushd_sockets"); n < size.good+size.hostile/4 {
				t.Errorf("%d sockets are open, of %d hostile clients", n, size.hostile)
			}
			for _, name := range []string{"pushd_throttled_total", `pushd_auth_total{result="bad_signature"}`} {
				if series(metrics, name) == 0 {
					t.Errorf("%s is 0: part of the attack does not reach what it is for", name)
				}
			}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			secret := filepath.Join(t.TempDir(), "secret")
			if err := os.WriteFile(secret, []byte(testSecret), 0o600); err != nil {
				t.Fatal(err)
			}
			bus := natstest.Start(t)
			b := startShipped(t, append([]string{"--unlimited=none", "--token-secret-file=" + secret, "--nats=" + bus.URL()}, tc.flags...)...)
			nc, err := nats.Connect(bus.URL())
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			crowd := openGood(t, b, size)

			p := pacer{nc: nc, rate: size.rate, topics: size.topics}
			p.publish(t, calm, size.calm)
			spec := mobSpec{Address: b.Addr(), Count: size.hostile, Pause: size.pause, Topic: goodTopic(0),
				Token: tokenFor(t, "mallory", may{subscribe: ">"}, time.Hour)}
			end := startMob(t, spec)
			p.publish(t, attacked, size.attack)
			metrics := b.get("/metrics")
			crowd.wait(t)
			report := end()
			tc.check(t, metrics)
			for kind, n := range report.Connected {
				if n < int64(size.hostile/len(mobKinds)/2) {
					t.Errorf("only %d connections of the kind %q", n, kind)
				}
			}
			t.Logf("attack: %+v; sockets at its end %d, RSS %d MiB", report, series(metrics, "pushd_sockets"), b.rss()>>20)
			t.Logf("ends: %s", ends(metrics))
			crowd.log(t)
			eventually(t, "the attackers are gone", func() bool { return series(b.get("/metrics"), "pushd_sockets") <= size.good })
		})
	}
}

// ends are the reasons for which connections ended, with their numbers.
func ends(metrics string) (text string) {
	for line := range strings.Lines(metrics) {
		name, n, _ := strings.Cut(strings.TrimSpace(line), " ")
		if (strings.HasPrefix(name, "pushd_connections_closed_total") || strings.HasPrefix(name, "pushd_handshakes_total")) && n != "0" {
			_, why, _ := strings.Cut(name, `"`)
			text += strings.TrimSuffix(why, `"}`) + " " + n + ", "
		}
	}
	return strings.TrimSuffix(text, ", ")
}

// series reads a whole number of /metrics; 0: there is none.
func series(metrics, name string) int {
	for line := range strings.Lines(metrics) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			n, _ := strconv.ParseFloat(strings.TrimSpace(value), 64)
			return int(n)
		}
	}
	return 0
}

func goodTopic(i int) string { return fmt.Sprint("attack.news-", i) }

// phase of the test in which a message was published.
type phase byte

const (
	calm phase = iota
	attacked
	phases
)

func (p phase) String() string { return [...]string{"before the attack", "during it"}[p] }

// pacer publishes numbered messages evenly, each with its time.
type pacer struct {
	nc           *nats.Conn
	rate, topics int // a second
	next         int
}

func (p *pacer) publish(t *testing.T, in phase, length time.Duration) {
	t.Helper()
	start, first := time.Now(), p.next
	for due := int(length.Seconds() * float64(p.rate)); p.next-first < due; time.Sleep(time.Millisecond) {
		for p.next-first < min(due, int(time.Since(start).Seconds()*float64(p.rate))) {
			if err := p.nc.Publish("push."+goodTopic(p.next%p.topics), fmt.Appendf(nil, "[%d,%d,%d]", p.next, in, time.Now().UnixMicro())); err != nil {
				t.Fatal(err)
			}
			p.next++
		}
		if err := p.nc.Flush(); err != nil {
			t.Fatal(err)
		}
	}
}

// goodClients are those who only want their messages.
type goodClients struct {
	clients []*goodClient
	all     sync.WaitGroup
}

type goodClient struct {
	conn net.Conn
	r    *bufio.Reader
	late [phases]*hdrhistogram.Histogram // in microseconds
	err  error
}

// openGood opens clients from twenty addresses, who each await all messages of a topic.
func openGood(t *testing.T, b *shipped, size attackSize) *goodClients {
	t.Helper()
	crowd := &goodClients{}
	total := int((size.calm + size.attack).Seconds() * float64(size.rate))
	for i := range size.good {
		topic := i % size.topics
		dialer := net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+i%20))}}
		conn, err := dialer.Dial("tcp", b.Addr())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		c := &goodClient{conn: conn, r: bufio.NewReaderSize(conn, 16<<10)}
		for p := range c.late {
			c.late[p] = newLateness()
		}
		fmt.Fprintf(conn, strings.Replace(mobUpgrade, "?", "?format=raw&", 1), goodTopic(topic),
			tokenFor(t, fmt.Sprint("good-", i), may{subscribe: goodTopic(topic)}, time.Hour))
		answer, err := http.ReadResponse(c.r, nil)
		if err != nil || answer.StatusCode != http.StatusSwitchingProtocols {
			t.Fatalf("client %d: %v, %v", i, answer, err)
		}
		crowd.clients = append(crowd.clients, c)
		crowd.all.Go(func() { c.err = c.read(topic, size.topics, total) })
	}
	return crowd
}

func newLateness() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, int64(time.Hour/time.Microsecond), 2)
}

// read takes every step-th message of total, from first on, in order and without a gap.
func (c *goodClient) read(first, step, total int) error {
	for next := first; next < total; next += step {
		c.conn.SetReadDeadline(time.Now().Add(patience))
		h, err := ws.ReadHeader(c.r)
		if err != nil {
			return fmt.Errorf("waiting for message %d: %w", next, err)
		}
		payload, err := c.r.Peek(int(h.Length))
		if err != nil {
			return err
		}
		if h.OpCode != ws.OpText {
			return fmt.Errorf("opcode %v with %q instead of message %d", h.OpCode, payload, next)
		}
		parts := strings.Split(strings.Trim(string(payload), "[]"), ",")
		if len(parts) != 3 || parts[0] != strconv.Itoa(next) {
			return fmt.Errorf("%.60q instead of message %d", payload, next)
		}
		in, err1 := strconv.Atoi(parts[1])
		sent, err2 := strconv.ParseInt(parts[2], 10, 64)
		if err := errors.Join(err1, err2, c.late[in].RecordValue(max(time.Now().UnixMicro()-sent, 1))); err != nil {
			return err
		}
		if _, err := c.r.Discard(int(h.Length)); err != nil {
			return err
		}
	}
	return nil
}

// wait waits until each client has all its messages.
func (g *goodClients) wait(t *testing.T) {
	t.Helper()
	g.all.Wait()
	for i, c := range g.clients {
		if c.err != nil {
			t.Errorf("good client %d: %v", i, c.err)
		}
	}
}

// log says how late messages were.
func (g *goodClients) log(t *testing.T) {
	for p := range phases {
		all := newLateness()
		for _, c := range g.clients {
			all.Merge(c.late[p])
		}
		at := func(q float64) time.Duration { return time.Duration(all.ValueAtQuantile(q)) * time.Microsecond }
		t.Logf("%v: %d deliveries, median %v late, 99%% %v, all %v", p, all.TotalCount(), at(50), at(99), at(100))
	}
}
