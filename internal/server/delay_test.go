package server

import (
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"github.com/pushd/pushd/internal/config"
)

// delayed is a configuration whose namespace "ticks" gathers for a second:
// longer than publishing takes.
func delayed(c *config.Config) {
	c.Shards = 1
	c.Namespaces = map[string]config.Namespace{
		"ticks": {Delivery: config.DeliveryLive, Interest: config.InterestNamespace, BatchDelay: time.Second},
	}
}

var fanOutCount = regexp.MustCompile(`(?m)^pushd_fanout_seconds_count (\d+)$`)

// fanOuts says how many fan-outs there were: each is one write to each of its members.
func (r *running) fanOuts() int {
	r.t.Helper()
	_, _, text := r.request(http.MethodGet, "http://"+r.AdminAddr()+"/metrics", "", "")
	found := fanOutCount.FindStringSubmatch(text)
	if found == nil {
		r.t.Fatal("no pushd_fanout_seconds_count")
	}
	n, err := strconv.Atoi(found[1])
	if err != nil {
		r.t.Fatal(err)
	}
	return n
}

// What comes within a delay leaves in one write for each client; without one, a
// message leaves when it comes.
func TestBatchDelay(t *testing.T) {
	const messages = 16
	r := start(t, delayed)
	nc := r.backend()
	for _, test := range []struct {
		topic       string
		least, most int // fan-outs
	}{
		{"ticks.x", 1, 3}, // one, unless the machine stalls for a second
		{"now.x", messages, messages},
	} {
		one, other := r.subscribed(test.topic), r.subscribed(test.topic)
		before := r.fanOuts()
		for n := range messages {
			if err := nc.Publish("push."+test.topic, strconv.AppendInt(nil, int64(n), 10)); err != nil {
				t.Fatal(err)
			}
			if err := nc.Flush(); err != nil {
				t.Fatal(err)
			}
			if test.least == messages { // it leaves alone
				one.wantData(test.topic, fmt.Sprint(n))
			}
		}
		for n := range messages {
			if test.least < messages {
				one.wantData(test.topic, fmt.Sprint(n))
			}
			other.wantData(test.topic, fmt.Sprint(n))
		}
		var fanOuts int
		eventually(t, "the count of what has been sent", func() bool {
			fanOuts = r.fanOuts() - before
			return fanOuts >= test.least
		})
		if fanOuts > test.most {
			t.Errorf("%d messages to %s left in %d fan-outs, want at most %d", messages, test.topic, fanOuts, test.most)
		}
	}
}

// Who is connected when the server shuts down gets what was gathered, and then
// the close.
func TestBatchDelayAndShutdown(t *testing.T) {
	r := start(t, delayed)
	s := r.subscribed("ticks.x")
	if err := r.backend().Publish("push.ticks.x", []byte("1")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the message", func() bool { return r.hub.Counts().Messages == 1 })
	stopped := make(chan error, 1)
	go func() { stopped <- r.stop() }()
	s.wantData("ticks.x", "1")
	if code := s.wantClose(); code != ws.StatusGoingAway {
		t.Errorf("closed with %d, want %d", code, ws.StatusGoingAway)
	}
	s.conn.Close()
	if err := <-stopped; err != nil {
		t.Errorf("Run: %v", err)
	}
}

// So do very many, whom a shard serves in several turns.
func TestBatchDelayAndShutdownOfMany(t *testing.T) {
	const clients = 2500
	r := start(t, delayed)
	crowd(t, r.Addr(), "/ws?topic=ticks.x", clients)
	if err := r.backend().Publish("push.ticks.x", []byte("1")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the message", func() bool { return r.hub.Counts().Messages == 1 })
	if err := r.stop(); err != nil {
		t.Errorf("Run: %v", err)
	}
	if n := r.shards[0].members.Counts().Deliveries; n != clients {
		t.Errorf("%d of %d clients were sent what was gathered", n, clients)
	}
}
