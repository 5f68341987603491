package conn

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/gobwas/ws"

	"github.com/pushd/pushd/internal/gate"
	"github.com/pushd/pushd/poller"
)

// A connection that was kept between two requests is still known as one of which
// requests were answered: its client is no new one, and pays for what it owes.
func TestHandoverKept(t *testing.T) {
	answering := func() *script {
		s := &script{}
		s.get = func(id poller.Token, r *Request) *Refusal {
			s.table.Answer(id, response(fmt.Sprint(r.Again)), r.KeepAlive)
			return nil
		}
		return s
	}
	forProxy := func(s *settings) {
		s.TrustForwarded = networksOf("127.0.0.2/32")
		s.Gate = gate.New(gate.Limits{Connections: 1})
	}
	from, to := startShard(t, answering(), claiming, forProxy), startShard(t, answering(), claiming, forProxy)
	own, proxy, pipelining, begun := from.connect(), from.connectFrom("127.0.0.2"), from.connectFrom("127.0.0.4"), from.connectFrom("127.0.0.5")
	get := func(client string) string { return ask("/get", "X-Forwarded-For: "+client) }
	wants := func(c *client, want string) {
		t.Helper()
		if got := c.wantStatus(http.StatusOK); got != want {
			t.Errorf("it is another request: %s, want %s", got, want)
		}
	}
	for _, c := range []*client{own, proxy, pipelining, begun} {
		c.send(get("203.0.113.1"))
		wants(c, "false")
	}
	head := get("203.0.113.1")
	begun.send(head[:20])
	until(t, "half a request is read", func() bool {
		return look(from, func() bool {
			for slot := range from.Slots() {
				if c, _, ok := from.Export(from.ID(slot)); ok && c.Stage == StageRequest && len(c.Head) == 20 {
					return true
				}
			}
			return false
		})
	})
	if n := moveAll(from, to); n != 4 {
		t.Fatalf("%d connections moved, want 4", n)
	}
	if n := len(from.served); n != 0 {
		t.Errorf("%d proxies' connections are still known where they were", n)
	}
	begun.send(head[20:])
	wants(begun, "true")
	own.send(get("203.0.113.1"))
	wants(own, "true")
	proxy.send(get("203.0.113.1"))
	wants(proxy, "true") // the same client
	proxy.send(get("203.0.113.2"))
	wants(proxy, "false")
	pipelining.send(get("") + get(""))
	wants(pipelining, "true")
	wants(pipelining, "true")
}

// A request right behind another may be handed over before it was looked at.
func TestHandoverPipelined(t *testing.T) {
	from, to := startShard(t, &script{}, claiming), startShard(t, &script{}, claiming)
	c := from.connect()
	c.send(ask("/get/1"))
	c.wantStatus(http.StatusOK)
	until(t, "the answered request has ended", func() bool { return look(from, func() int { return len(from.script.alive) }) == 0 })
	from.do(func() { // as renew leaves it until the loop's next turn
		r := from.live(from.ID(0))
		s := from.sideOf(r)
		s.head = getBuffer(100)
		s.head.Write([]byte(ask("/get/2")))
		from.watch(from.ID(0), r, false, false)
	})
	moveAll(from, to)
	if body := c.wantStatus(http.StatusOK); body != "/get/2" {
		t.Errorf("answered with %q", body)
	}
}

// What has come in part is counted where it is kept, and whoever has nothing to be
// kept any more is not counted. It is never refused: it has been let in before.
func TestHandoverReceiving(t *testing.T) {
	const most = 128 << 10
	budget := func(s *settings) { s.MaxMessage, s.Receiving = most, NewReceiving(most) }
	from, to := startShard(t, &script{}, budget), startShard(t, &script{}, func(s *settings) { s.MaxMessage, s.Receiving = most, NewReceiving(most/4) })
	message := maskedText(strings.Repeat("x", most/2))
	c := from.open()
	c.send(message[:most/2])
	from.wantRead(len(plainRequest) + most/2)
	kept := from.cfg.Receiving.Kept()
	if kept < most/2 {
		t.Fatalf("%d bytes are kept", kept)
	}
	moveAll(from, to)
	if was, is := from.cfg.Receiving.Kept(), to.cfg.Receiving.Kept(); was != 0 || is < most/2 {
		t.Errorf("%d bytes are counted there and %d here, of %d", was, is, kept)
	}
	c.send(message[most/2:])
	if h, p := c.frame(); h.OpCode != ws.OpText || len(p) != most/2 {
		t.Fatalf("received %v", h)
	}
	until(t, "nothing is kept", func() bool { return to.cfg.Receiving.Kept() == 0 })
}
