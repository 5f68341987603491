package server

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/pushd/pushd/internal/natstest"
)

// cable is a way to a NATS server that can be cut as a network is: nothing comes through
// any more in either direction, nothing is closed, and nobody is told.
type cable struct {
	listener net.Listener
	to       string
	carrying sync.WaitGroup

	// Guarded by mu.
	mu    sync.Mutex
	whole chan struct{} // closed unless the cable is cut
	ends  []net.Conn
}

// layCable listens at an address of this machine, until the test ends.
func layCable(t testing.TB, at, to string) *cable {
	t.Helper()
	listener, err := net.Listen("tcp", net.JoinHostPort(at, "0"))
	if err != nil {
		t.Fatal(err)
	}
	c := &cable{listener: listener, to: to, whole: make(chan struct{})}
	close(c.whole)
	c.carrying.Go(c.accept)
	t.Cleanup(func() {
		listener.Close()
		c.mu.Lock()
		for _, end := range c.ends {
			end.Close()
		}
		c.mu.Unlock()
		c.heal()
		c.carrying.Wait()
	})
	return c
}

func (c *cable) accept() {
	for {
		near, err := c.listener.Accept()
		if err != nil {
			return
		}
		c.keep(near)
		c.carrying.Go(func() {
			c.pass()
			far, err := net.Dial("tcp", c.to)
			if err != nil {
				near.Close()
				return
			}
			c.keep(far)
			c.carrying.Go(func() { c.carry(far, near) })
			c.carry(near, far)
		})
	}
}

func (c *cable) keep(end net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ends = append(c.ends, end)
}

// carry takes what comes at one end to the other.
func (c *cable) carry(from, to net.Conn) {
	defer from.Close()
	defer to.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		c.pass() // also with the news that an end was closed
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// pass waits while the cable is cut.
func (c *cable) pass() {
	c.mu.Lock()
	whole := c.whole
	c.mu.Unlock()
	<-whole
}

func (c *cable) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.whole = make(chan struct{})
}

func (c *cable) heal() {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.whole:
	default:
		close(c.whole)
	}
}

// partition is two nodes on one NATS server, from which the near one can be cut off.
type partition struct {
	t         testing.TB
	nats      *natstest.Process
	near, far *runningNode
	cut, heal func()
}

// buildKeeping builds pushd, and returns where it is, and settings with which the
// namespaces of nodeSpec keep history.
func buildKeeping(t testing.TB, history string) (path, config string) {
	t.Helper()
	dir := t.TempDir()
	path, config = filepath.Join(dir, "pushd"), filepath.Join(dir, "pushd.yaml")
	build(t, path)
	text := fmt.Sprintf("namespaces: {whole: {delivery: all, interest: namespace, history: %[1]s}, apart: {delivery: all, interest: topic, history: %[1]s}}\n", history)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path, config
}

// TestPartition cuts a node off from NATS: it is not ready and alive, its clients stay, are
// told what they ask for, and miss nothing when it is over; the other node does without it.
func TestPartition(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t, natstest.Store(t.TempDir()))
	c := layCable(t, "127.0.0.1", server.Addr())
	path, config := buildKeeping(t, "{age: 1h}")
	p := &partition{t: t, nats: server, cut: c.cut, heal: c.heal}
	p.near = newRunningNode(t, path, "near", "--config="+config, "--nats=nats://"+c.listener.Addr().String())
	p.far = newRunningNode(t, path, "far", "--config="+config, "--nats="+server.URL())
	p.run()
}

// public speaks to a node as clients do.
func (m *runningNode) public() *running { return &running{Server: &Server{addr: m.host}, t: m.t} }

func (p *partition) run() {
	const crowd = 20
	t, topic, both := p.t, "whole.x", []*runningNode{p.near, p.far}
	l := newLine(0, p.near.host, p.far.host)
	ctx, cancel := context.WithCancel(t.Context())
	var publishing, commuting sync.WaitGroup
	defer commuting.Wait()
	defer publishing.Wait()
	defer cancel()
	var all []*commuter
	for i := range crowd {
		c := l.commuter(i, topic)
		all = append(all, c)
		commuting.Go(func() {
			if err := c.run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	inTime(t, stall, "everybody is subscribed", func() bool { return sitting(all) == crowd })
	right := func(m *runningNode) bool {
		return maps.Equal(m.presence(topic).Nodes, map[string]int{"near": crowd / 2, "far": crowd / 2})
	}
	inTicks(t, both, rightAfter, "presence is right", right)
	without, client := p.near.public().subscribed("live.x"), p.near.public().subscribed()

	press := newPress(t, nil, []string{p.nats.URL()}, 0)
	printing, stop := context.WithCancel(ctx)
	defer stop()
	last := map[string]int{}
	publishing.Go(func() {
		for n := 1; printing.Err() == nil; n++ {
			for stored := uint64(0); stored == 0; {
				var err error
				if stored, err = press.publish(ctx, topic, fmt.Sprint(n), fmt.Appendf(nil, `{"n":%d}`, n)); err != nil {
					t.Errorf("publishing number %d: %v", n, err)
				}
				if err != nil || ctx.Err() != nil {
					return
				}
			}
			last[topic] = n
			time.Sleep(5 * time.Millisecond)
		}
	})

	// A cut that nobody notices is a delay.
	p.cut()
	shortly()
	p.heal()
	at := p.near.received(all)
	inTime(t, stall, "messages come again", func() bool { return p.near.received(all) > at+crowd })

	p.cut()
	client.send(`{"type":"publish","id":1,"topic":"whole.y","data":1}`)
	gone := inTicks(t, []*runningNode{p.far}, forgottenAfter, "who was cut off is not counted", func(m *runningNode) bool {
		return maps.Equal(m.presence(topic).Nodes, map[string]int{"far": crowd / 2})
	})
	inTime(t, stall, "readiness fails", func() bool { return p.near.ask("GET", "/readyz", nil) == http.StatusServiceUnavailable })
	inTicks(t, []*runningNode{p.near}, forgottenAfter, "it counts its own", func(m *runningNode) bool {
		return maps.Equal(m.presence(topic).Nodes, map[string]int{"near": crowd / 2})
	})
	public := p.near.public()
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 503} {
		if status, _, _ := public.http("GET", path, "", ""); status != want || p.near.ask("GET", path, nil) != want {
			t.Errorf("%s: %d, want %d here and on the admin listener", path, status, want)
		}
	}
	if status, header, body := public.http("POST", "/publish/whole.y", "", "1"); status != 503 || header.Get("Retry-After") == "" {
		t.Errorf("publishing over HTTP: %d %s", status, body)
	}
	if m := client.want("error"); m.Code != "unavailable" || string(m.ID) != "1" {
		t.Errorf("what was published as it was cut is answered by %+v", m)
	}
	client.send(`{"type":"publish","id":2,"topic":"live.x","data":2}`)
	if m := client.want("error"); m.Code != "unavailable" || string(m.ID) != "2" {
		t.Errorf("publishing is answered by %+v", m)
	}
	client.subscribe("live.y")
	if f, err := without.tryNext(10 * time.Millisecond); err == nil {
		t.Errorf("got %s while nothing can come", f.Payload)
	}
	if n := sitting(all); n != crowd {
		t.Errorf("%d clients of %d are still there", n, crowd)
	}

	p.heal()
	inTime(t, stall, "it is ready again", p.near.ready)
	again := inTicks(t, both, rightAfter, "presence is right again", right)
	for s, topic := range map[*socket]string{without: "live.x", client: "live.y"} {
		if m := s.want("gap"); m.Topic != topic || m.Reason != "upstream" {
			t.Errorf("without history it is told %+v", m)
		}
	}
	client.send(`{"type":"publish","id":3,"topic":"live.x","data":3}`)
	without.wantData("live.x", "3")
	stop()
	publishing.Wait()
	inTime(t, stall, "everybody has everything", func() bool {
		for _, c := range all {
			if !c.has(last) {
				return false
			}
		}
		return true
	})
	for _, c := range all {
		if n := c.connections.Load(); n != 1 {
			t.Errorf("%s made %d connections", c.name, n)
		}
	}
	t.Logf("%d messages, forgotten within %d ticks, right again within %d", last[topic], gone, again)
}

// received is how many messages clients of this node have seen.
func (m *runningNode) received(all []*commuter) (n int) {
	for _, c := range all {
		if at := c.seat.Load(); at != nil && at.stop.host == m.host {
			n += c.count()
		}
	}
	return n
}
