package conn

import (
	"bytes"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"
)

// hostile clients, each of which costs the server something and then leaves it
// to find out. None waits for an answer that need not come.
var hostile = []struct {
	name string
	act  func(c *client)
}{
	{"half open", func(c *client) {}},
	{"half a request", func(c *client) { c.Write([]byte(plainRequest[:40])) }},
	{"half a request, then a reset", func(c *client) { c.Write([]byte(plainRequest[:40])); c.reset() }},
	{"byte at a time, then gone", func(c *client) {
		for _, b := range []byte(plainRequest[:20]) {
			c.Write([]byte{b})
		}
		c.Close()
	}},
	{"oversized head", func(c *client) { c.Write([]byte("GET /" + strings.Repeat("x", 9000))) }},
	{"garbage", func(c *client) { c.Write([]byte("\x00\x01\x02\x03")) }},
	{"plain HTTP", func(c *client) { c.Write([]byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n")) }},
	{"never upgraded by a bad request", func(c *client) { c.Write([]byte("GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n")) }},
	{"silent", func(c *client) { c.Write([]byte(plainRequest)) }},
	{"gone before the answer", func(c *client) { c.Write([]byte(plainRequest)); c.Close() }},
	{"reset before the answer", func(c *client) { c.Write([]byte(plainRequest)); c.reset() }},
	{"half a frame", func(c *client) { c.Write(join(plainRequest, maskedText(pattern(5000))[:3000])) }},
	{"half a message", func(c *client) { c.Write(join(plainRequest, fragment(ws.OpText, false, pattern(5000)))) }},
	{"half a ping", func(c *client) { c.Write(join(plainRequest, masked(ws.OpPing, "hello")[:8])) }},
	{"malformed frame", func(c *client) { c.Write(join(plainRequest, "\xff\xff\xff\xff")) }},
	{"bad UTF-8", func(c *client) {
		c.Write(join(plainRequest, fragment(ws.OpText, false, "\xe2\x82"), masked(ws.OpContinuation, "x")))
	}},
	{"oversized message", func(c *client) { c.Write(join(plainRequest, maskedText(pattern(70_000))[:20])) }},
	{"close, and stays", func(c *client) { c.Write(join(plainRequest, maskedClose(1000, ""))) }},
	{"never reads", func(c *client) {
		c.SetReadBuffer(4096)
		c.Write(join(plainRequest, flood))
	}},
}

// flood is more than the sockets between a test's client and its server take.
var flood = bytes.Repeat(maskedText(pattern(60_000)), 6)

// What hostile clients leave behind is nothing.
func TestHostileClients(t *testing.T) {
	total, round := 5000, 500 // each round waits for who does nothing
	if os.Getenv("PUSHD_SOAK") != "" {
		total = 100_000
	}
	onBothBackends(t, func(t *testing.T, backend string) {
		sh := startShard(t, &script{}, withBackend(backend), smallBuffers, func(s *settings) {
			s.HandshakeTimeout, s.Heartbeat, s.PongTimeout = 50*time.Millisecond, 50*time.Millisecond, 50*time.Millisecond
			s.WriteTimeout, s.Linger, s.CloseTimeout = 100*time.Millisecond, 50*time.Millisecond, 50*time.Millisecond
		})
		sh.attack(round) // what is made once is made now
		files, goroutines, heap := openFiles(t), runtime.NumGoroutine(), heapInUse()
		for done := 0; done < total; done += round {
			sh.attack(round)
		}
		sh.do(sh.checkEmpty)
		if n := openFiles(t); n > files {
			t.Errorf("%d descriptors are open, %d before", n, files)
		}
		if n := runtime.NumGoroutine(); n > goroutines {
			t.Errorf("%d goroutines, %d before", n, goroutines)
		}
		grown := heapInUse() - heap
		t.Logf("%d clients; heap %+d bytes; counts %+v", total, grown, sh.Counts())
		if grown > 1<<20 {
			t.Errorf("the heap has grown by %d bytes", grown)
		}
		c := sh.Counts()
		var ended uint64
		for why := range c.Closed {
			ended += c.Closed[why] + c.Refused[why]
		}
		if ended != c.Accepted || ended != uint64(total+round) {
			t.Errorf("%d accepted and %d ended of %d: %+v", c.Accepted, ended, total+round, c)
		}
		sh.open().wantNothing()
	})
}

// attack is n clients, a few at a time, who leave their sockets open until the
// server has taken and ended every one of them by itself.
func (sh *shard) attack(n int) {
	sh.t.Helper()
	taken := sh.Counts().Accepted + uint64(n)
	conns := make([]*net.TCPConn, n)
	defer func() {
		for _, c := range conns {
			if c != nil {
				c.Close()
			}
		}
	}()
	const workers = 10
	var all sync.WaitGroup
	for w := range workers {
		all.Go(func() {
			for i := w; i < n; i += workers {
				var err error
				if conns[i], err = connectTo(sh.addr); err != nil {
					sh.t.Error(err)
					return
				}
				hostile[i%len(hostile)].act(&client{TCPConn: conns[i], t: sh.t})
			}
		})
	}
	all.Wait()
	until(sh.t, "all clients are taken and gone", func() bool {
		return look(sh, func() bool { return sh.Counts().Accepted == taken && sh.slab.used == 0 })
	})
}
