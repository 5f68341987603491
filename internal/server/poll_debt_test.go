package server

import (
	"fmt"
	"io"
	"net"
	"testing"

	"github.com/pushd/pushd/internal/config"
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
