package conn

import (
	"crypto/tls"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/gobwas/ws"
)

// Idle TLS connections cost neither a goroutine nor a buffer, whatever they
// have said before.
func TestSecureIdle(t *testing.T) {
	a := newAuthority(t)
	bothVersions(t, func(t *testing.T, version func(*tls.Config)) {
		const size = 60
		s := &script{}
		sh := startShard(t, s, a.withTLS, func(s *settings) { s.HandshakeTimeout = patience })
		talk := func(c *secureClient) {
			c.send(plainRequest, maskedText(pattern(40_000)), maskedText("x"))
			c.wantSwitch()
			c.wantText(pattern(40_000), "x")
		}
		config := a.trust(version)
		talk(sh.connectTLS(config)) // what is made once is made now
		clients := make([]*secureClient, size)
		for i := range clients {
			clients[i] = sh.connectTLS(config)
		}
		until(t, "no handshake is under way", func() bool { active, _ := sh.cfg.Handshakes.Counts(); return active == 0 })
		goroutines := runtime.NumGoroutine()
		var secured []*secure
		for _, c := range clients {
			talk(c)
		}
		sh.do(func() {
			for slot := range sh.slab.next {
				secured = append(secured, sh.secures.at(slot))
			}
		})
		if n := runtime.NumGoroutine(); n > goroutines {
			t.Errorf("%d goroutines with %d connections, %d before their handshakes", n, size, goroutines)
		}
		sh.do(func() {
			for _, s := range secured {
				raw, hand := bufferAt(s.tls, buffersOfTLS.rawInput), bufferAt(s.tls, buffersOfTLS.hand)
				if raw.Cap() != 0 || hand.Cap() != 0 || s.pipe.shaking != nil {
					t.Fatalf("an idle connection keeps %d and %d bytes of buffers", raw.Cap(), hand.Cap())
				}
			}
		})
	})
}

// The buffers of a tls.Conn are found where this release of Go has them. If
// they are not, idle connections cost twice as much: see tlsBuffers.
func TestBuffersOfTLS(t *testing.T) {
	if !buffersOfTLS.known {
		t.Fatal("crypto/tls keeps its buffers elsewhere: idle TLS connections are not given them back")
	}
}

// BenchmarkSecureSend sends one frame of 140 bytes to one client after
// another, with TLS and without.
func BenchmarkSecureSend(b *testing.B) {
	a := newAuthority(b)
	for _, lane := range []string{LaneWrite, LaneAuto} {
		for _, secured := range []bool{false, true} {
			name := lane + "/plain"
			change := func(*settings) {}
			if secured {
				name, change = lane+"/tls", a.withTLS
			}
			b.Run(name, func(b *testing.B) { benchmarkSend(b, a, secured, change, lane) })
		}
	}
}

func benchmarkSend(b *testing.B, a authority, secured bool, change func(*settings), lane string) {
	const clients = 200
	sh := startShard(b, &script{}, change, func(s *settings) { s.Lane = lane })
	var slots []uint32
	for range clients {
		var c *client
		if secured {
			c = sh.openTLS(a.trust(nil)).client
		} else {
			c = sh.open()
		}
		c.SetDeadline(time.Time{})
		slots = append(slots, look(sh, func() uint32 { return sh.script.newID.Slot() }))
		go func() {
			buf := make([]byte, 32<<10)
			for {
				if _, err := c.TCPConn.Read(buf); err != nil {
					return
				}
			}
		}()
	}
	frame := AppendFrame(nil, ws.OpText, []byte(pattern(136)))
	b.ReportAllocs()
	b.ResetTimer()
	before := cpuTime(b)
	for n := 0; n < b.N; {
		sh.do(func() {
			for range 16 {
				for _, slot := range slots {
					if sh.Send(slot, frame) == Sent {
						n++
					}
				}
				sh.Turn()
			}
		})
	}
	b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N), "cpu-ns/op") // its readers' included
}

// cpuTime is what the process has used.
func cpuTime(b *testing.B) time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
