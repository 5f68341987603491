package pushd_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	pushd "github.com/pushd/pushd/clients/go"
)

// Topics come and go while messages do, by requests that are made anew for them:
// nothing is lost of any, and nothing comes twice.
func TestSubscribeAtRunTime(t *testing.T) {
	byEach(t, func(t *testing.T, alone func(*pushd.Options)) {
		n := start(t)
		c, told := connect(t, n.url(), alone)
		direct, _ := connect(t, n.url())
		const topics, last = 24, 40
		first := subscribe(t, c, "kept.>", pushd.SubscribeOptions{})
		var running sync.WaitGroup
		for k := range topics {
			topic := fmt.Sprintf("kept.t%d", k)
			running.Go(func() {
				passing := subscribe(t, c, topic+".*", pushd.SubscribeOptions{})
				s := subscribe(t, c, topic, pushd.SubscribeOptions{})
				for n := range last + 1 {
					if publish(t, direct, topic, n); n == last/2 {
						passing.Close()
					}
				}
				wantNumbers(t, s, 0, last)
				if k := s.Buffered(); k > 0 {
					t.Errorf("%d more came", k)
				}
			})
		}
		seen := map[string]int{}
		for range topics * (last + 1) {
			m, err := first.Next(testContext(t))
			if err != nil || string(m.Data) != strconv.Itoa(seen[m.Topic]) {
				t.Fatalf("%s = %s, %v; want %d", m.Topic, m.Data, err, seen[m.Topic])
			}
			seen[m.Topic]++
		}
		running.Wait()
		if n := count[*pushd.Gap](told, nil); n != 0 || first.Buffered() != 0 {
			t.Errorf("%d gaps, and %d more messages", n, first.Buffered())
		}
		if n := count(told, func(e *pushd.StateChange) bool { return e.State == pushd.Waiting }); n != 0 {
			t.Errorf("%d connections were lost", n)
		}
	})
}

// More topics than one request has room for, of several modes, and one beside
// them that the server does not want to serve.
func TestManyTopics(t *testing.T) {
	byEach(t, func(t *testing.T, alone func(*pushd.Options)) {
		n := start(t)
		c, told := connect(t, n.url(), alone)
		const topics = 150
		var all []pushd.Position
		for k := range topics {
			all = append(all, pushd.Position{Topic: fmt.Sprintf("kept.a_rather_long_name_of_a_topic.t%d", k)})
		}
		bad := len(all) / 3
		all[bad].Topic = "kept.no such"
		s, err := c.SubscribeAll(testContext(t), all, pushd.SubscribeOptions{})
		if err != nil {
			t.Fatal(err)
		}
		values := subscribe(t, c, "kept.value", pushd.SubscribeOptions{Mode: pushd.Latest, MaxRate: 50})
		await(t, "all to stand", func() bool {
			standing := 0
			for _, p := range s.Positions() {
				if p.Cursor != "" {
					standing++
				}
			}
			return standing == topics-1
		})
		for k, p := range all {
			if k != bad {
				publish(t, c, p.Topic, k)
			}
		}
		got := map[string]bool{}
		for range topics - 1 {
			m, err := s.Next(testContext(t))
			if err != nil || got[m.Topic] {
				t.Fatalf("%s, %v: again %v", m.Topic, err, got[m.Topic])
			}
			got[m.Topic] = true
		}
		publish(t, c, "kept.value", 7)
		wantNumbers(t, values, 7, 7)
		if n := count(told, func(e *pushd.Refused) bool { return e.Err.Code == pushd.InvalidTopic && e.Err.Topic == "kept.no such" }); n != 1 {
			t.Errorf("refused %d times, want once", n)
		}
	})
}

// What cannot be subscribed to is refused as over a WebSocket, and the rest goes on.
func TestRefusedTopics(t *testing.T) {
	byEach(t, func(t *testing.T, alone func(*pushd.Options)) {
		n := guarded(t)
		c, _ := connect(t, n.url(), alone, func(o *pushd.Options) {
			o.Token = func(context.Context) (string, error) { return tokenFor(t, time.Hour), nil }
		})
		for topic, want := range map[string]string{"secret.a": "forbidden", "a b": "invalid_topic"} {
			if _, err := c.Subscribe(testContext(t), topic, pushd.SubscribeOptions{}); codeOf(err) != want {
				t.Errorf("%s: %v", topic, err)
			}
		}
		if _, err := c.Subscribe(testContext(t), "kept.a", pushd.SubscribeOptions{Cursor: "nonsense"}); codeOf(err) != "bad_request" {
			t.Errorf("a bad cursor: %v", err)
		}
		if _, err := c.Publish(testContext(t), "secret.a", nil, pushd.PublishOptions{}); codeOf(err) != "forbidden" {
			t.Errorf("publish: %v", err)
		}
		s := subscribe(t, c, "kept.a", pushd.SubscribeOptions{})
		publish(t, c, "kept.a", 1)
		wantNumbers(t, s, 1, 1)
	})
}

// dials counts the connections that there are, by NetDial, and the most at a time.
type dials struct {
	mu        sync.Mutex
	now, most int
}

func (d *dials) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	d.count(1)
	return &countedConn{Conn: conn, closed: sync.OnceFunc(func() { d.count(-1) })}, nil
}

func (d *dials) count(change int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.now += change
	d.most = max(d.most, d.now)
}

type countedConn struct {
	net.Conn
	closed func()
}

func (c *countedConn) Close() error {
	c.closed()
	return c.Conn.Close()
}

// Where many topics are refused the search for them takes a few connections, and
// all the others come in the end, by a few too.
func TestManyRefusedTopics(t *testing.T) {
	byEach(t, func(t *testing.T, alone func(*pushd.Options)) {
		n := guarded(t)
		made := &dials{}
		c, told := connect(t, n.url(), alone, func(o *pushd.Options) {
			o.Token = func(context.Context) (string, error) { return tokenFor(t, time.Hour), nil }
			o.NetDial = made.dial
		})
		const topics = 200 // every other one refused
		var all []pushd.Position
		for k := range topics {
			all = append(all, pushd.Position{Topic: fmt.Sprintf("%s.t%d", []string{"secret", "kept"}[k%2], k)})
		}
		s, err := c.SubscribeAll(testContext(t), all, pushd.SubscribeOptions{})
		if err != nil {
			t.Fatal(err)
		}
		late := subscribe(t, c, "kept.late", pushd.SubscribeOptions{}) // which does not begin the search anew
		refused := func() int {
			return count(told, func(e *pushd.Refused) bool { return e.Err.Code == pushd.Forbidden })
		}
		await(t, "all to stand or to be refused", func() bool {
			standing := 0
			for _, p := range s.Positions() {
				if p.Cursor != "" {
					standing++
				}
			}
			return standing == topics/2 && refused() == topics/2
		})
		for k := 1; k < topics; k += 2 {
			publish(t, c, all[k].Topic, k)
		}
		got := map[string]bool{}
		for range topics / 2 {
			m, err := s.Next(testContext(t))
			if err != nil || got[m.Topic] {
				t.Fatalf("%s, %v: again %v", m.Topic, err, got[m.Topic])
			}
			got[m.Topic] = true
		}
		publish(t, c, "kept.late", 7)
		wantNumbers(t, late, 7, 7)
		if n := refused(); n != topics/2 {
			t.Errorf("%d refusals", n)
		}
		made.mu.Lock()
		defer made.mu.Unlock()
		if made.most > 30 { // what goes on, one that searches, one that publishes, and those that end
			t.Errorf("%d connections at a time", made.most)
		}
	})
}

// Tokens that end are replaced by each transport, and nothing is missed.
func TestTokenIsRenewed(t *testing.T) {
	byEach(t, func(t *testing.T, alone func(*pushd.Options)) {
		n := guarded(t)
		var asked atomic.Int32
		c, told := connect(t, n.url(), alone, func(o *pushd.Options) {
			o.Token = func(context.Context) (string, error) {
				if asked.Add(1) <= 2 {
					return tokenFor(t, 2*time.Second), nil
				}
				return tokenFor(t, time.Hour), nil
			}
		})
		s := subscribe(t, c, "kept.a", pushd.SubscribeOptions{})
		at := 0
		for ; asked.Load() < 3 || at < 50; at++ {
			publish(t, c, "kept.a", at)
			wantNumbers(t, s, at, at)
			time.Sleep(5 * time.Millisecond)
		}
		if n := count(told, func(g *pushd.Gap) bool { return true }); n != 0 {
			t.Errorf("%d gaps", n)
		}
		if n := count(told, func(e *pushd.StateChange) bool { return e.State == pushd.Open }); n != 1 && !strings.HasSuffix(t.Name(), "poll") { // which may be between two links now
			t.Errorf("%d connections, want the first alone", n)
		}
	})
}

// A token that ends, and that nobody replaces, is told of, and ends the client.
func TestTokenEnds(t *testing.T) {
	byEach(t, func(t *testing.T, alone func(*pushd.Options)) {
		n := guarded(t)
		token := tokenFor(t, 2*time.Second)
		c, told := connect(t, n.url(), alone, func(o *pushd.Options) {
			o.Token = func(context.Context) (string, error) { return token, nil }
		})
		s := subscribe(t, c, "kept.a", pushd.SubscribeOptions{})
		publish(t, c, "kept.a", 1)
		wantNumbers(t, s, 1, 1)
		_, err := s.Next(testContext(t))
		var no *pushd.Error
		if !errors.As(err, &no) || no.Status != http.StatusUnauthorized {
			t.Errorf("it ended with %v", err)
		}
		if n := count[*pushd.TokenExpires](told, nil); n == 0 && !strings.HasSuffix(t.Name(), "poll") { // which is told by its end
			t.Error("not told")
		}
	})
}

// A token that is refused and the only one ends the client by each transport.
func TestBadTokenByTransport(t *testing.T) {
	n := guarded(t)
	bad := tokenFor(t, -time.Hour)
	byEach(t, func(t *testing.T, alone func(*pushd.Options)) {
		c, _ := connect(t, n.url(), alone, func(o *pushd.Options) {
			o.Token = func(context.Context) (string, error) { return bad, nil }
		})
		_, err := c.Subscribe(testContext(t), "kept.a", pushd.SubscribeOptions{})
		var no *pushd.Error
		if state, _ := c.State(); !errors.As(err, &no) || no.Status != http.StatusUnauthorized || state != pushd.Closed {
			t.Errorf("%v, %v", state, err)
		}
	})
	t.Run("none", func(t *testing.T) {
		c, _ := connect(t, n.url(), func(o *pushd.Options) { o.Transports = []pushd.Transport{pushd.SSE} })
		if _, err := c.Subscribe(testContext(t), "kept.a", pushd.SubscribeOptions{}); codeOf(err) != "unauthorized" {
			t.Errorf("%v", err)
		}
	})
}

// A node that is drained is left when it says so, by each transport.
func TestDrain(t *testing.T) {
	byEach(t, func(t *testing.T, alone func(*pushd.Options)) {
		n := start(t)
		c, told := connect(t, n.url(), alone, func(o *pushd.Options) { o.Backoff = pushd.Backoff{Min: time.Hour, Max: time.Hour} })
		s := subscribe(t, c, "kept.a", pushd.SubscribeOptions{})
		direct, _ := connect(t, n.url())
		await(t, "the server has the subscription, or the poll that waits", func() bool {
			connections, err := direct.Presence(testContext(t), "kept.a")
			return err == nil && connections == 1
		})
		response, err := http.Post("http://"+n.AdminAddr()+"/drain?window=0", "", strings.NewReader(""))
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		http.DefaultClient.CloseIdleConnections()
		await(t, "another attempt, without the backoff", func() bool {
			return count(told, func(e *pushd.StateChange) bool { return e.State == pushd.Connecting }) > 1
		})
		if n := count[*pushd.Advice](told, nil); n != 1 {
			t.Errorf("advised %d times", n)
		}
		s.Close()
	})
}

// A poll goes on where the last one ended also without history.
func TestPollsWithoutHistory(t *testing.T) {
	t.Parallel()
	n := start(t)
	c, told := connect(t, n.url(), func(o *pushd.Options) { o.Transports = []pushd.Transport{pushd.Poll} })
	direct, _ := connect(t, n.url())
	s := subscribe(t, c, "plain.a", pushd.SubscribeOptions{})
	const last = 200
	var running sync.WaitGroup
	running.Go(func() { wantNumbers(t, s, 0, last) })
	for k := range last + 1 {
		publish(t, direct, "plain.a", k)
		if k%30 == 0 { // for some of which all requests are made anew
			subscribe(t, c, "plain.b"+strconv.Itoa(k), pushd.SubscribeOptions{})
		}
	}
	running.Wait()
	if n := count[*pushd.Gap](told, nil); n != 0 {
		t.Errorf("%d gaps", n)
	}
}
