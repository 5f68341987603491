package server

import (
	"bufio"
	"encoding/json"
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

// attackVariable changes the size of the attack, for those who measure: {"Hostile":0,"Topics":1}.
const attackVariable = "PUSHD_TEST_ATTACK"

// attackSize is how large an attack is, and what goes on meanwhile.
type attackSize struct {
	Hostile, Good int
	New           int // good clients that come during the attack
	Topics        int // of the good clients, in turns
	Rate          int // messages a second, on all topics together
	Calm, Attack  time.Duration
	Pause         time.Duration
	Flags         []string // further ones
}

func attackSizes(t *testing.T) attackSize {
	size := attackSize{Hostile: 600, Good: 60, New: 20, Topics: 1, Rate: 200, Calm: 500 * time.Millisecond, Attack: 2 * time.Second, Pause: 300 * time.Millisecond}
	if soaking() {
		size = attackSize{Hostile: 10_000, Good: 1000, New: 300, Topics: 10, Rate: 1000, Calm: 15 * time.Second, Attack: 30 * time.Second, Pause: 2 * time.Second}
	}
	if text := os.Getenv(attackVariable); text != "" {
		if err := json.Unmarshal([]byte(text), &size); err != nil {
			t.Fatal(err)
		}
	}
	return size
}

// TestUnderAttack has clients that receive messages while very many hostile
// ones come from three addresses: not one message is lost, and whoever else
// comes meanwhile is let in. How late messages are, and how long new clients
// wait, is in the log.
func TestUnderAttack(t *testing.T) {
	size := attackSizes(t)
	for _, tc := range []struct {
		name  string
		flags []string
		check func(t *testing.T, metrics string)
	}{
		{"limited by address", []string{fmt.Sprint("--max-connections-per-address=", size.Hostile/10)}, func(t *testing.T, metrics string) {
			n := series(metrics, `pushd_handshakes_total{result="address_full"}`) + series(metrics, `pushd_handshakes_total{result="address_rate"}`)
			if n < size.Hostile/2 {
				t.Errorf("%d were refused, of %d hostile clients", n, size.Hostile)
			}
		}},
		{"all let in", []string{"--max-connections-per-address=-1", "--connection-rate-per-address=0"}, func(t *testing.T, metrics string) {
			if n := series(metrics, "pushd_sockets"); n < size.Good+size.Hostile/4 {
				t.Errorf("%d sockets are open, of %d hostile clients", n, size.Hostile)
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
			bus := natstest.Start(t, natstest.Store(t.TempDir())) // for those who measure with history
			b := startShipped(t, append([]string{"--unlimited=none", "--token-secret-file=" + secret, "--nats=" + bus.URL()}, append(tc.flags, size.Flags...)...)...)
			nc, err := nats.Connect(bus.URL())
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			crowd := openGood(t, b, size)

			p := pacer{nc: nc, rate: size.Rate, topics: size.Topics}
			p.publish(t, calm, size.Calm)
			spec := mobSpec{Address: b.Addr(), Count: size.Hostile, Pause: size.Pause, Topic: goodTopic(0),
				Token: tokenFor(t, "mallory", may{subscribe: ">"}, time.Hour)}
			end := startMob(t, spec)
			used := cpuOf(t, b)
			welcomed := newcomers(t, b, size)
			p.publish(t, attacked, size.Attack)
			spent := cpuOf(t, b) - used
			metrics := b.get("/metrics")
			waits := welcomed()
			crowd.wait(t)
			report := end()
			if size.Hostile > 0 {
				tc.check(t, metrics)
			}
			for kind, n := range report.Connected {
				if n < int64(size.Hostile/len(mobKinds)/2) {
					t.Errorf("only %d connections of the kind %q", n, kind)
				}
			}
			t.Logf("attack: %+v; sockets at its end %d, RSS %d MiB", report, series(metrics, "pushd_sockets"), b.rss()>>20)
			t.Logf("ends: %s", ends(metrics))
			t.Logf("pushd used %v of CPU during it", spent.Round(10*time.Millisecond))
			t.Logf("%d new clients were let in during it: median after %v, 99%% %v, all %v", waits.TotalCount(), lateAt(waits, 50), lateAt(waits, 99), lateAt(waits, 100))
			crowd.log(t)
			eventually(t, "the attackers are gone", func() bool { return series(b.get("/metrics"), "pushd_sockets") <= size.Good })
		})
	}
}

func cpuOf(t *testing.T, b *shipped) time.Duration {
	t.Helper()
	used, err := processCPU(b.cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	return used
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
	lost int
	err  error
}

// openGood opens clients from twenty addresses, who each await all messages of a topic.
func openGood(t *testing.T, b *shipped, size attackSize) *goodClients {
	t.Helper()
	crowd := &goodClients{}
	total := int((size.Calm + size.Attack).Seconds() * float64(size.Rate))
	for i := range size.Good {
		topic := i % size.Topics
		c, err := dialGood(t, b, i, "raw", goodTopic(topic))
		if err != nil {
			t.Fatal(err)
		}
		crowd.clients = append(crowd.clients, c)
		crowd.all.Go(func() { c.err = c.read(topic, size.Topics, total) })
	}
	return crowd
}

// dialGood opens a client of one of twenty addresses.
func dialGood(t *testing.T, b *shipped, i int, format, topic string) (*goodClient, error) {
	dialer := net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+i%20))}}
	conn, err := dialer.Dial("tcp", b.Addr())
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	c := &goodClient{conn: conn, r: bufio.NewReaderSize(conn, 16<<10)}
	for p := range c.late {
		c.late[p] = newLateness()
	}
	fmt.Fprintf(conn, strings.Replace(mobUpgrade, "?", "?format="+format+"&", 1), topic, tokenFor(t, fmt.Sprint("good-", i), may{subscribe: topic}, time.Hour))
	answer, err := http.ReadResponse(c.r, nil)
	if err != nil || answer.StatusCode != http.StatusSwitchingProtocols {
		return nil, fmt.Errorf("good client %d: %v, %w", i, answer, err)
	}
	return c, nil
}

// newcomers has new good clients come, evenly over the attack. The returned
// function waits until all have been, and says how long each took from its
// connect to its subscription.
func newcomers(t *testing.T, b *shipped, size attackSize) (welcomed func() *hdrhistogram.Histogram) {
	waits := newLateness()
	come := func(i int) error {
		c, err := dialGood(t, b, i, "json", goodTopic(i%size.Topics))
		if err != nil {
			return err
		}
		defer c.conn.Close()
		for _, want := range []string{"welcome", "subscribed"} {
			if text, err := c.next(); err != nil || !strings.Contains(string(text), `"type":"`+want+`"`) {
				return fmt.Errorf("good client %d got %q instead of %s: %w", i, text, want, err)
			}
		}
		return nil
	}
	var all sync.WaitGroup
	all.Go(func() {
		begin := time.Now()
		for i := range size.New {
			time.Sleep(time.Until(begin.Add(size.Attack * time.Duration(i) / time.Duration(size.New))))
			start := time.Now()
			if err := come(i); err != nil {
				t.Errorf("during the attack: %v", err)
				return
			}
			waits.RecordValue(time.Since(start).Microseconds())
		}
	})
	return func() *hdrhistogram.Histogram {
		all.Wait()
		if n := waits.TotalCount(); n != int64(size.New) {
			t.Errorf("%d new good clients were let in, of %d", n, size.New)
		}
		return waits
	}
}

func newLateness() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, int64(time.Hour/time.Microsecond), 2)
}

// next reads a message, which is valid until the next.
func (c *goodClient) next() ([]byte, error) {
	h, err := ws.ReadHeader(c.r)
	if err != nil {
		return nil, err
	}
	text, err := c.r.Peek(int(h.Length))
	if err != nil {
		return nil, err
	}
	if h.OpCode != ws.OpText {
		return nil, fmt.Errorf("opcode %v with %q instead of text", h.OpCode, text)
	}
	_, err = c.r.Discard(len(text))
	return text, err
}

// read takes every step-th message of total, from first on, in order, and counts those that are missing.
func (c *goodClient) read(first, step, total int) error {
	for next := first; next < total; next += step {
		c.conn.SetReadDeadline(time.Now().Add(patience))
		payload, err := c.next()
		if err != nil {
			return fmt.Errorf("waiting for message %d: %w", next, err)
		}
		parts := strings.Split(strings.Trim(string(payload), "[]"), ",")
		if len(parts) != 3 {
			return fmt.Errorf("%.60q instead of message %d", payload, next)
		}
		number, err := strconv.Atoi(parts[0])
		if err != nil || number < next || (number-next)%step != 0 {
			return fmt.Errorf("%.60q instead of message %d", payload, next)
		}
		c.lost += (number - next) / step
		next = number
		in, err1 := strconv.Atoi(parts[1])
		sent, err2 := strconv.ParseInt(parts[2], 10, 64)
		if err := errors.Join(err1, err2, c.late[in].RecordValue(max(time.Now().UnixMicro()-sent, 1))); err != nil {
			return err
		}
	}
	return nil
}

// wait waits until each client has all its messages.
func (g *goodClients) wait(t *testing.T) {
	t.Helper()
	g.all.Wait()
	clients, messages := 0, 0
	for i, c := range g.clients {
		if c.err != nil {
			t.Errorf("good client %d: %v", i, c.err)
		}
		if c.lost > 0 {
			clients++
			messages += c.lost
		}
	}
	if messages > 0 {
		t.Errorf("%d good clients lost %d messages", clients, messages)
	}
}

// log says how late messages were.
func (g *goodClients) log(t *testing.T) {
	for p := range phases {
		all := newLateness()
		for _, c := range g.clients {
			all.Merge(c.late[p])
		}
		t.Logf("%v: %d deliveries, median %v late, 99%% %v, all %v", p, all.TotalCount(), lateAt(all, 50), lateAt(all, 99), lateAt(all, 100))
	}
}

func lateAt(h *hdrhistogram.Histogram, quantile float64) time.Duration {
	return time.Duration(h.ValueAtQuantile(quantile)) * time.Microsecond
}
