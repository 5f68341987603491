package server

import (
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/pushd/pushd/internal/config"
	"github.com/pushd/pushd/poller"
)

// What one client owes for its polls is not the next one's, who gets its slot.
func TestPollDebtIsNotInherited(t *testing.T) {
	const burst = 40 // ten seconds' worth
	r := start(t, func(c *config.Config) { c.Shards, c.MaxCommandRate, c.Unlimited = 1, burst/10, nil })
	for _, other := range []struct{ name, request string }{
		{"an idle connection", ""},
		{"one that net/http has", "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"},
	} {
		p := r.poller("chat.a")
		for range burst {
			p.wants("wait=0")
		}
		io.WriteString(p.conn, other.request)
		p.conn.(*net.TCPConn).CloseWrite()
		io.Copy(io.Discard, p.read)
		eventually(t, other.name+" has gone", func() bool { return r.metric("pushd_sockets") == "0" && r.plain.open.Load() == 0 })
		s := r.subscribed()
		for i := range burst - 2 {
			s.send(fmt.Sprintf(`{"type":"ping","id":%d}`, i))
			if m := s.receive(); m.Type != "pong" {
				t.Fatalf("after %s, ping %d of the next client: %+v", other.name, i, m)
			}
		}
		s.conn.Close()
		eventually(t, "it has gone", func() bool { return r.metric("pushd_sockets") == "0" })
	}
}

// Behind a proxy the polls of one client on one connection are no new connections
// of it, but those of another client are.
func TestPollBehindProxy(t *testing.T) {
	r := start(t, func(c *config.Config) {
		c.TrustForwarded, c.Unlimited, c.MaxCommandRate = []string{"127.0.0.1"}, nil, 200
		c.ConnectionRatePerAddress = 1 // ten at once
	})
	p := r.poller("chat.a")
	of := func(client string) { p.lines = "X-Forwarded-For: " + client + "\r\n" }
	of("203.0.113.9")
	for range 600 {
		p.wants("wait=0")
	}
	anew := 0
	for i := range 40 { // two that take turns come anew each time
		of(fmt.Sprint("203.0.113.", 20+i%2))
		a, err := p.try("wait=0")
		if err != nil {
			t.Fatal(err)
		}
		if a.status == 429 {
			break
		}
		anew++
	}
	if anew < 20 || anew == 40 {
		t.Errorf("of two that take turns %d polls were answered, want twice ten", anew)
	}
}

// They are slowed down as commands are.
func TestPollTooFastBehindProxy(t *testing.T) {
	r := start(t, func(c *config.Config) {
		c.TrustForwarded, c.MaxCommandRate, c.Unlimited = []string{"127.0.0.1"}, 1, nil
	})
	p := r.poller("chat.a")
	p.lines = "X-Forwarded-For: 203.0.113.9\r\n"
	for range 10 { // at once
		p.wants("wait=0")
	}
	begun := time.Now()
	p.wants("wait=0")
	p.wants("wait=0")
	if took := time.Since(begun); took < time.Second { // one each second
		t.Errorf("two polls beyond the rate took %v", took)
	}
	p.lines = "X-Forwarded-For: 203.0.113.10\r\n" // who owes nothing
	before := r.owed()
	p.wants("wait=0")
	if owed := r.owed(); owed >= before {
		t.Errorf("another client owes what the last one did: %d, which was %d", owed, before)
	}
}

// owed is what the connections of all shards owe for commands.
func (r *running) owed() (all int64) {
	for _, sh := range r.shards {
		sum := make(chan int64)
		sh.loop.Post(poller.Func(func() {
			var of int64
			for _, d := range sh.debts {
				of += d.commands
			}
			sum <- of
		}))
		all += <-sum
	}
	return all
}
