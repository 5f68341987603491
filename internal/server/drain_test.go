package server

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"github.com/pushd/pushd/internal/config"
	"github.com/pushd/pushd/internal/natstest"
	"github.com/pushd/pushd/poller"
)

// drain begins a drain, and returns a channel that is closed when it is over.
func (r *running) drain(ctx context.Context) <-chan struct{} {
	over := make(chan struct{})
	var draining sync.WaitGroup
	draining.Go(func() {
		r.Drain(ctx)
		close(over)
	})
	r.t.Cleanup(draining.Wait)
	return over
}

// TestDrainPace counts the closes of real sockets: at no time have more of them
// been closed than the part of the window that has passed has for them.
func TestDrainPace(t *testing.T) {
	const crowd, window = 300, 1500 * time.Millisecond
	r := start(t, func(c *config.Config) { c.DrainWindow = window })
	var gone [crowd]time.Duration // since the drain began
	var clients []*socket
	for range crowd {
		clients = append(clients, r.subscribed())
	}
	for _, early := range clients[:crowd/2] { // their slots stay empty, and hurry nobody
		early.conn.Close()
	}
	clients = clients[crowd/2:]
	eventually(t, "they have gone", func() bool { return r.quota.Open() == len(clients) })

	began := time.Now()
	over := r.drain(t.Context())
	var reading sync.WaitGroup
	for i, s := range clients {
		reading.Go(func() {
			if code := s.wantClose(); code != ws.StatusCode(1012) {
				t.Errorf("closed with %d", code)
			}
			gone[i] = time.Since(began)
		})
	}
	reading.Wait()
	<-over
	times := gone[:len(clients)]
	slices.Sort(times)
	for n, at := range times {
		// Two shards round up, each once.
		if most := float64(len(clients))*float64(at)/float64(window) + 2; float64(n+1) > most {
			t.Fatalf("%d clients of %d were closed within %v of a window of %v", n+1, len(clients), at, window)
		}
	}
	if st := r.drainStatus(); st.State != drained {
		t.Errorf("it ended as %+v", st)
	}
}

// TestDrainLate stalls a shard during a drain: what is late is not made up for at once.
func TestDrainLate(t *testing.T) {
	const crowd = 100
	r := start(t, func(c *config.Config) { c.DrainWindow, c.Shards = time.Second, 1 })
	for range crowd {
		r.subscribed()
	}
	sh := r.shards[0]
	over := r.drain(t.Context())
	eventually(t, "the first are closed", func() bool { return sh.table.Counts().Open < crowd })
	sh.loop.Post(poller.Func(func() { time.Sleep(600 * time.Millisecond) }))
	closed := make(map[uint32]uint32) // how many have been closed, by the tick
	most := uint32(0)
	for ended := false; !ended; {
		select {
		case <-over:
			ended = true
		default:
		}
		looked := make(chan struct{})
		sh.loop.Post(poller.Func(func() {
			closed[sh.loop.Now()] = sh.leaving.closed.rank
			most = sh.leaving.atOnce
			close(looked)
		}))
		<-looked
		time.Sleep(time.Millisecond)
	}
	if most != crowd/10 {
		t.Errorf("%d may leave in one tick", most)
	}
	for tick, n := range closed {
		before, known := closed[tick-1]
		if known && n-before > most {
			t.Errorf("%d were closed in one tick", n-before)
		}
	}
	if closed[slices.Max(keys(closed))] != crowd {
		t.Errorf("the last tick has %d closed", closed[slices.Max(keys(closed))])
	}
}

func keys[V any](m map[uint32]V) (all []uint32) {
	for k := range m {
		all = append(all, k)
	}
	return all
}

// TestDrainGrace takes clients during the grace, and is cut short.
func TestDrainGrace(t *testing.T) {
	r := start(t, func(c *config.Config) { c.DrainGrace = config.MaxDrain })
	ctx, cut := context.WithCancel(t.Context())
	over := r.drain(ctx)
	eventually(t, "it waits", func() bool { return r.drainStatus().State == "waiting" })
	if status, _, _ := r.http("GET", "/readyz", "", ""); status != 503 {
		t.Errorf("/readyz: %d", status)
	}
	s := r.subscribed("a.b")
	select {
	case <-over:
		t.Error("it has ended within its grace")
	default:
	}
	var st drainStatus
	r.do(202, "POST", "/drain?grace=0&window=0", &st) // goes on as it was ordered
	if st.State != "waiting" || st.Connections != 1 {
		t.Errorf("ordered again: %+v", st)
	}
	cut()
	<-over
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	if code := s.wantClose(); code != ws.StatusGoingAway {
		t.Errorf("closed with %d", code)
	}
}

// TestDrainDefaults wants POST /drain without parameters to be as the settings say.
func TestDrainDefaults(t *testing.T) {
	r := start(t, func(c *config.Config) { c.DrainGrace, c.DrainWindow = time.Hour, 7*time.Second })
	var st drainStatus
	r.do(202, "POST", "/drain", &st)
	if st.State != "waiting" || st.WindowMS != 7000 || st.GraceLeftMS < 3_000_000 {
		t.Errorf("%+v", st)
	}
}

// TestDrainLosesNothing drains one node of two while messages are published. Its
// clients follow the advice to the other one with their cursors, and miss nothing.
func TestDrainLosesNothing(t *testing.T) {
	const crowd = 20
	server := natstest.Start(t, natstest.Store(t.TempDir()))
	node := func(c *config.Config) {
		keeping("orders")(c)
		c.NATS, c.DrainWindow = []string{server.URL()}, time.Second
	}
	from, to := start(t, node), start(t, node)

	var clients []*socket
	for range crowd {
		s := from.dial("topic=orders.eu&mode=all")
		s.want("welcome")
		s.want("subscribed")
		clients = append(clients, s)
	}
	publish, over := make(chan struct{}), from.drain(t.Context())
	last := 0 // published
	var publishing, reading sync.WaitGroup
	publishing.Go(func() {
		for {
			select {
			case <-publish:
				return
			case <-time.After(2 * time.Millisecond):
			}
			if status, _, body := to.http("POST", "/publish/orders.eu", "application/json", fmt.Sprint(last+1)); status/100 != 2 {
				t.Errorf("publishing: %d %s", status, body)
				return
			}
			last++
		}
	})
	moved := make(chan *socket, crowd)
	next := make([]int, crowd) // what each wants next
	for i, s := range clients {
		reading.Go(func() {
			cursor, advised := "", false
			for {
				f := s.next()
				if f.Header.OpCode == ws.OpClose {
					break
				}
				var m message
				if err := json.Unmarshal(f.Payload, &m); err != nil {
					t.Errorf("%s: %v", f.Payload, err)
					return
				}
				switch m.Type {
				case "reconnect":
					advised = true
				case "message":
					if string(m.Data) != fmt.Sprint(next[i]+1) {
						t.Errorf("received %s after %d", m.Data, next[i])
					}
					next[i]++
					cursor = m.Cursor
				}
			}
			if !advised || cursor == "" {
				t.Errorf("closed with advice %v at %q", advised, cursor)
				return
			}
			again := to.dial("topic=orders.eu&mode=all&cursor=" + cursor)
			again.want("welcome")
			if m := again.want("subscribed"); m.is() != "true" {
				t.Errorf("on the other node: %+v", m)
			}
			clients[i] = again
			moved <- again
		})
	}
	reading.Wait()
	<-over
	close(publish)
	publishing.Wait()
	if len(moved) != crowd || last == 0 {
		t.Fatalf("%d clients have moved, %d messages were published", len(moved), last)
	}
	for i, s := range clients {
		s.wantNumbers("orders.eu", next[i]+1, last)
	}
}
