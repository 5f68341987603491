package server

import (
	"fmt"
	"testing"
	"time"

	"github.com/pushd/pushd/internal/config"
)

// waiting has a poll wait, and says what it got.
func (p *pollClient) waiting(more string) <-chan polledAnswer {
	got := make(chan polledAnswer, 1)
	go func() {
		defer close(got)
		a, err := p.try(more)
		if err != nil {
			p.t.Errorf("poll: %v", err)
			return
		}
		got <- a
	}()
	return got
}

// Credentials and permissions are those of a WebSocket, told over HTTP.
func TestPollAccess(t *testing.T) {
	r := secure(t, func(c *config.Config) {
		c.Namespaces = map[string]config.Namespace{"news": {Public: config.PublicSubscribe, Delivery: config.DeliveryLive, Interest: config.InterestNamespace}}
		c.MaxConnectionsPerIdentity = 1
	})
	token := tokenFor(t, "alice", may{subscribe: "chat.*"}, time.Hour)
	with := func(token, topic string) *pollClient {
		p := r.poller(topic)
		p.lines = "Authorization: Bearer " + token + "\r\n"
		return p
	}
	r.poller("news.a").wants("wait=0")
	if a := r.poller("chat.a").refused("wait=0", 401, "unauthorized"); a.header.Get("WWW-Authenticate") == "" {
		t.Errorf("a 401 without a challenge: %v", a.header)
	}
	with("nonsense", "chat.a").refused("wait=0", 401, "unauthorized")
	with(token, "other.a").refused("wait=0", 403, "forbidden")
	with(token, "chat.>").refused("wait=0", 403, "forbidden")
	p := with(token, "chat.a")
	p.refused("wait=0&token=another", 400, "bad_request")
	q := r.poller("chat.b")
	for range 50 { // one after the other, of any shard: none that is answered counts any more
		p.wants("wait=0")
		q.wants("wait=0&token=" + token)
	}

	got := p.waiting("wait=60")
	r.waitPolls(1)
	with(token, "chat.a").refused("wait=0", 429, "rate_limited") // it has as many as it may
	var answer disconnected
	r.do(200, "POST", "/identities/alice/disconnect", &answer)
	if a := <-got; fmt.Sprint(a.words()) != "[close  kicked]" || a.Messages[0].CloseCode != 4003 || answer.Disconnected != 1 || p.conn != nil {
		t.Errorf("disconnected: %+v, %+v", a, answer)
	}
	p.wants("wait=0")

	short := with(tokenFor(t, "bob", may{subscribe: "chat.*"}, 2*time.Second), "chat.a")
	if a := <-short.waiting("wait=60"); fmt.Sprint(a.words()) != "[close  token_expired]" || a.Messages[0].CloseCode != 4002 || a.Cursor == "" {
		t.Errorf("its token has expired: %+v", a)
	}
	short.refused("wait=0", 401, "unauthorized")
}

// A node that stops answers what waits, with what has come.
func TestPollShutdown(t *testing.T) {
	r := start(t)
	waits, idle := r.poller("chat.a"), r.poller("chat.a")
	idle.wants("wait=0")
	got := waits.waiting("wait=60")
	r.waitPolls(1)
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	if a := <-got; fmt.Sprint(a.words()) != "[close  shutdown]" || a.Messages[0].CloseCode != 1001 || a.Cursor == "" {
		t.Errorf("stopped: %+v", a)
	}
	if _, err := idle.try("wait=0"); err == nil {
		t.Error("a kept connection is served after the end")
	}
}

// Clients that ask again at once are slowed down, and none of them is refused.
func TestPollTooFast(t *testing.T) {
	r := start(t, func(c *config.Config) { c.MaxCommandRate, c.Unlimited = 1, nil })
	p := r.poller("chat.a")
	begun := time.Now()
	for range 12 { // ten at once, and then one a second
		p.wants("wait=0")
	}
	if took := time.Since(begun); took < time.Second {
		t.Errorf("12 polls took %v", took)
	}
}

// max_rate holds from one answer to the next.
func TestPollMaxRate(t *testing.T) {
	r := start(t, keeping())
	p := r.poller("latest.x")
	p.query += "&max_rate=4"
	p.wants("wait=0")
	stop := make(chan struct{})
	published := make(chan int)
	go func() {
		n := 0
		for ; ; n++ {
			select {
			case <-stop:
				published <- n
				return
			case <-time.After(5 * time.Millisecond):
				r.post("/publish/latest.x", "", fmt.Sprint(n), "")
			}
		}
	}()
	polls, last := 0, ""
	poll := func() {
		if w := p.poll("wait=1").words(); len(w) > 0 {
			last = w[len(w)-1]
		}
	}
	for begun := time.Now(); time.Since(begun) < time.Second; polls++ {
		poll()
	}
	close(stop)
	want := fmt.Sprint("latest.x ", <-published-1)
	eventually(t, "the last value has come", func() bool {
		if last != want {
			poll()
		}
		return last == want
	})
	if polls > 6 {
		t.Errorf("%d answers in a second, of at most 4 and a few", polls)
	}
}
