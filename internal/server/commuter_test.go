package server

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"github.com/pushd/pushd/topics"
)

// commuter is a client that obeys docs/PROTOCOL.md: it keeps its cursor, leaves when
// it is advised to, waits as it is told and for a time of chance, and then tries
// another node. It wants each message once and in order, and never to hear that
// something is missing.
type commuter struct {
	// Static.
	name    string
	pattern string
	line    *line

	// Its goroutine's.
	stop     *stop
	cursor   string
	failures int

	// Atomic.
	seat        atomic.Pointer[seat] // where it is subscribed; nil: nowhere
	connections atomic.Int32

	mu   sync.Mutex
	seen map[string]int // the number of each topic's last message, guarded by mu
}

// seat is a place at one process of a node.
type seat struct {
	stop *stop
	run  int32
}

// line is the nodes that commuters go to.
type line struct {
	began  time.Time
	jitter time.Duration // beside what they are told to wait
	stops  []*stop
}

// stop is one node of them.
type stop struct {
	host  string
	began time.Time
	run   atomic.Int32 // counts its processes

	// Guarded by mu.
	mu      sync.Mutex
	visits  []visit         // to this process
	leaving []time.Duration // when somebody left because it was drained
	refused []refused
}

// visit is one client that was let in, sometime between the two. Times are since line.began.
type visit struct{ came, in time.Duration }

// refused is one that was not.
type refused struct {
	name  string
	at    time.Duration
	after time.Duration
}

func newLine(jitter time.Duration, hosts ...string) *line {
	l := &line{began: time.Now(), jitter: jitter}
	for _, host := range hosts {
		l.stops = append(l.stops, &stop{host: host, began: l.began})
	}
	return l
}

func (l *line) commuter(i int, pattern string) *commuter {
	return &commuter{name: fmt.Sprintf("client %d of %s", i, pattern), pattern: pattern, line: l, stop: l.stops[i%len(l.stops)], seen: map[string]int{}}
}

// run ends with ctx, or with what must not be.
func (c *commuter) run(ctx context.Context) error {
	for ctx.Err() == nil {
		wait, err := c.visit(ctx)
		c.seat.Store(nil)
		if err != nil && ctx.Err() == nil {
			return fmt.Errorf("%s, at %s behind %q: %w", c.name, c.stop.host, c.cursor, err)
		}
		if others := len(c.line.stops) - 1; others > 0 {
			i := slices.Index(c.line.stops, c.stop)
			c.stop = c.line.stops[(i+1+rand.IntN(others))%len(c.line.stops)]
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
	return nil
}

// backoff is how long to wait where nobody says it.
func (c *commuter) backoff() time.Duration {
	c.failures++
	return rand.N(500 * time.Millisecond << min(c.failures-1, 4))
}

// visit is one connection, or the attempt at one. wait: until the next.
func (c *commuter) visit(ctx context.Context) (wait time.Duration, err error) {
	here, came := &seat{c.stop, c.stop.run.Load()}, time.Since(c.line.began)
	conn, err := (&net.Dialer{Timeout: stall}).DialContext(ctx, "tcp", c.stop.host)
	if err != nil {
		return c.backoff(), nil
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	query := "topic=" + url.QueryEscape(c.pattern)
	if c.cursor != "" {
		query += "&cursor=" + url.QueryEscape(c.cursor)
	}
	fmt.Fprintf(conn, "GET /ws?%s HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", query)
	in := bufio.NewReaderSize(conn, 2048)
	conn.SetReadDeadline(time.Now().Add(stall))
	response, err := http.ReadResponse(in, nil)
	if err != nil {
		return c.backoff(), notStalled(err)
	}
	now := time.Since(c.line.began)
	switch response.StatusCode {
	case http.StatusSwitchingProtocols:
		here.letIn(visit{came, now})
		c.connections.Add(1)
		return c.read(conn, in, here)
	case http.StatusServiceUnavailable, http.StatusTooManyRequests:
		seconds, err := strconv.Atoi(response.Header.Get("Retry-After"))
		if err != nil || seconds < 1 {
			return 0, fmt.Errorf("refused, to come again after %q", response.Header.Get("Retry-After"))
		}
		after := time.Duration(seconds) * time.Second
		c.stop.refuse(refused{c.name, now, after})
		return after + rand.N(c.line.jitter+1), nil
	}
	body, _ := io.ReadAll(response.Body)
	return 0, fmt.Errorf("answered %s: %s", response.Status, body)
}

// notStalled is an error only where nothing has come for a long time.
func notStalled(err error) error {
	var network net.Error
	if errors.As(err, &network) && network.Timeout() {
		return fmt.Errorf("nothing came for %v", stall)
	}
	return nil
}

// read reads up to the end of the connection.
func (c *commuter) read(conn net.Conn, in *bufio.Reader, here *seat) (wait time.Duration, err error) {
	var leave time.Time // zero: nobody has advised it
	var payload []byte
	for {
		deadline := time.Now().Add(stall)
		if !leave.IsZero() {
			deadline = leave
		}
		conn.SetReadDeadline(deadline)
		head, err := ws.ReadHeader(in)
		if err == nil {
			payload = slices.Grow(payload[:0], int(head.Length))[:head.Length]
			_, err = io.ReadFull(in, payload)
		}
		if !leave.IsZero() && (err != nil || head.OpCode == ws.OpClose) {
			here.stop.left(time.Since(c.line.began))
			return max(0, time.Until(leave)), nil
		}
		if err != nil {
			return c.backoff(), notStalled(err)
		}
		switch head.OpCode {
		case ws.OpPing:
			err = ws.WriteFrame(conn, ws.MaskFrame(ws.NewPongFrame(payload)))
		case ws.OpClose:
			if code, why := ws.ParseCloseFrameData(payload); code != ws.StatusGoingAway {
				return 0, fmt.Errorf("closed by %d %s", code, why)
			}
			return c.backoff(), nil
		default:
			leave, err = c.take(conn, payload, leave, here)
		}
		if err != nil {
			return 0, err
		}
	}
}

// take takes a message, or says why it must not have come.
func (c *commuter) take(conn net.Conn, text []byte, leave time.Time, here *seat) (time.Time, error) {
	var m struct {
		told
		After int64
	}
	if err := json.Unmarshal(text, &m); err != nil {
		return leave, fmt.Errorf("got %q: %w", text, err)
	}
	switch {
	case m.Type == "welcome":
		return leave, nil
	case m.Type == "reconnect":
		return time.Now().Add(time.Duration(m.After) * time.Millisecond), nil
	case m.Type == "error" && m.Code == "unavailable": // NATS is away: ask again
		time.Sleep(c.backoff())
		command := fmt.Sprintf(`{"type":"subscribe","topic":%q}`, c.pattern)
		if c.cursor != "" {
			command = fmt.Sprintf(`{"type":"subscribe","topic":%q,"cursor":%q}`, c.pattern, c.cursor)
		}
		ws.WriteFrame(conn, ws.MaskFrame(ws.NewTextFrame([]byte(command)))) // reading tells if it fails
		return leave, nil
	case m.Type == "subscribed" && m.Topic == c.pattern && (c.cursor == "" || m.Cursor == c.cursor && m.Recovered != nil && *m.Recovered):
		c.cursor, c.failures = m.Cursor, 0
		c.seat.Store(here)
		return leave, nil
	case m.Type == "message" && topics.Match(c.pattern, m.Topic):
		before, err1 := topics.ParseCursor(c.cursor)
		now, err2 := topics.ParseCursor(m.Cursor)
		c.mu.Lock()
		defer c.mu.Unlock()
		if n := c.seen[m.Topic]; m.Data.N != n+1 || now.Seq <= before.Seq || err1 != nil || err2 != nil {
			return leave, fmt.Errorf("got %s after number %d", text, n)
		}
		c.seen[m.Topic], c.cursor = m.Data.N, m.Cursor
		return leave, nil
	}
	return leave, fmt.Errorf("nothing was lost, and %s came", text)
}

// sits reports whether it is subscribed at a process that is still there.
func (c *commuter) sits() bool {
	s := c.seat.Load()
	return s != nil && s.run == s.stop.run.Load()
}

// has reports whether it has seen all messages of topics, up to their last numbers.
func (c *commuter) has(last map[string]int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for topic, n := range last {
		if topics.Match(c.pattern, topic) && c.seen[topic] < n {
			return false
		}
	}
	return true
}

func (c *commuter) count() (messages int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range c.seen {
		messages += n
	}
	return messages
}

func (s *seat) letIn(v visit) {
	s.stop.mu.Lock()
	defer s.stop.mu.Unlock()
	if s.run == s.stop.run.Load() {
		s.stop.visits = append(s.stop.visits, v)
	}
}

func (s *stop) refuse(r refused) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refused = append(s.refused, r)
}

func (s *stop) left(at time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leaving = append(s.leaving, at)
}

// refusals is how many have been refused so far.
func (l *line) refusals() (n int) {
	for _, s := range l.stops {
		s.mu.Lock()
		n += len(s.refused)
		s.mu.Unlock()
	}
	return n
}

// most is how many at least were let in within the worst window of so long.
// mu must be held, and visits in the order in which they came.
func (s *stop) most(window time.Duration) (worst int) {
	for i, first := range s.visits {
		n := 0
		for _, v := range s.visits[i:] {
			if v.came > first.came+window {
				break
			}
			if v.in <= first.came+window {
				n++
			}
		}
		worst = max(worst, n)
	}
	return worst
}

// pacedBy holds a process to what is promised, so many clients at once
// and then so many a second, and returns the most in one second. Each client was let
// in between the two times that it noted, so a late machine hides some, and invents none.
func (s *stop) pacedBy(t testing.TB, burst, rate int) (fastest int) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	slices.SortFunc(s.visits, func(a, b visit) int { return int(a.came - b.came) })
	for _, window := range []time.Duration{100 * time.Millisecond, 300 * time.Millisecond, time.Second, 3 * time.Second, 10 * time.Second} {
		n, most := s.most(window), burst+1+int(float64(rate)*window.Seconds())
		if n > most {
			t.Errorf("%s let %d clients in within %v, and may let in %d", s.host, n, window, most)
		}
		if window == time.Second {
			fastest = n
		}
	}
	return fastest
}

// begins is for a new process.
func (s *stop) begins() {
	s.run.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.visits = nil
}
