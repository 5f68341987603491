package conn

import (
	"crypto/tls"
	"strings"
	"sync"
	"testing"

	"github.com/gobwas/ws"

	"github.com/pushd/pushd/poller"
)

// What a client behind TLS gets is what one without would: messages of every
// size both ways, replies, data on both lanes, and the close.
func TestSecureMessages(t *testing.T) {
	a := newAuthority(t)
	bothVersions(t, func(t *testing.T, version func(*tls.Config)) {
		onBothLanes(t, func(t *testing.T, lane func(*Config)) {
			sh := startShard(t, &script{}, a.withTLS, func(s *settings) { lane(&s.Config) }, quickly)
			c := sh.openTLS(a.trust(version))
			for _, size := range []int{0, 1, 125, 126, 16 << 10, 60_000, 64 << 10} {
				text := pattern(size)
				go c.send(maskedText(text))
				c.wantText(text)
			}
			slot := look(sh, func() uint32 { return sh.script.newID.Slot() })
			shared := AppendFrame(nil, ws.OpText, []byte("shared"))
			sh.do(func() {
				for range 3 {
					if res := sh.Send(slot, shared); res != Sent {
						t.Errorf("Send: %v", res)
					}
					if res := sh.SendCopy(slot, AppendFrame(nil, ws.OpText, []byte("copied"))); res != Sent {
						t.Errorf("SendCopy: %v", res)
					}
				}
			})
			c.wantText("shared", "copied", "shared", "copied", "shared", "copied")
			c.wantNothing()
			c.send(maskedClose(1000, ""))
			c.wantClose(1000) // an end without close_notify would be io.ErrUnexpectedEOF
			sh.wantClosed(ReasonClientClosed, 1)
			sh.wantEmpty()
		})
	})
}

// A request and frames may come with the last of the handshake, and in one read.
func TestSecureAllAtOnce(t *testing.T) {
	a := newAuthority(t)
	sh := startShard(t, &script{}, a.withTLS)
	c := sh.connectTLS(a.trust(nil))
	c.send(plainRequest, maskedText("one"), maskedText("two"), maskedClose(1000, ""))
	c.wantSwitch()
	c.wantText("one", "two")
	c.wantClose(1000)
}

func TestSecureRequest(t *testing.T) {
	a := newAuthority(t)
	got := make(chan string, 1)
	sh := startShard(t, &script{upgrade: func(_ poller.Token, r *Request) *Refusal {
		name := ""
		if r.Certificate != nil {
			name = strings.Clone(r.Certificate.Subject.CommonName)
		}
		got <- name
		return nil
	}}, a.withTLS)
	sh.openTLS(a.trust(nil))
	if name := <-got; name != "" {
		t.Errorf("without a certificate it is that of %q", name)
	}
	bothVersions(t, func(t *testing.T, version func(*tls.Config)) {
		config := a.trust(func(c *tls.Config) {
			version(c)
			c.Certificates = []tls.Certificate{a.Client("sensor-7")}
			c.ClientSessionCache = tls.NewLRUClientSessionCache(1)
		})
		for _, resumed := range []bool{false, true} {
			c := sh.openTLS(config)
			if name := <-got; name != "sensor-7" {
				t.Errorf("with a certificate, resumed %v: %q", resumed, name)
			}
			if c.tls.ConnectionState().DidResume != resumed {
				t.Errorf("resumed: %v, want %v", !resumed, resumed)
			}
			c.wantNothing() // reads the ticket
		}
	})
}

// A certificate of another authority ends the handshake, and is counted.
func TestSecureStranger(t *testing.T) {
	a, other := newAuthority(t), newAuthority(t)
	bothVersions(t, func(t *testing.T, version func(*tls.Config)) {
		sh := startShard(t, &script{}, a.withTLS, quickly)
		c := tls.Client(sh.connect().TCPConn, a.trust(func(c *tls.Config) {
			version(c)
			stranger := other.Client("stranger")
			c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &stranger, nil }
		}))
		_, err := c.Read(make([]byte, 1)) // in TLS 1.3 the client is done before it is judged
		if err == nil || !strings.Contains(err.Error(), "unknown certificate authority") {
			t.Errorf("%v, want an alert", err)
		}
		sh.wantRefused(ReasonBadCertificate, 1)
		if n := sh.Counts().Unsecured[ReasonBadCertificate]; n != 1 {
			t.Errorf("counted %d times", n)
		}
	})
}

// A storm of clients that come and go at any time leaves nothing behind, and
// one that ends with the shard neither.
func TestSecureStorm(t *testing.T) {
	a := newAuthority(t)
	sh := startShard(t, &script{}, a.withTLS, quickly, func(s *settings) { s.Handshakes = NewHandshakes(3) })
	config := a.trust(nil)
	hello := helloOf(t, config)
	var clients sync.WaitGroup
	for i := range 40 {
		clients.Go(func() {
			raw, err := connectTo(sh.addr)
			if err != nil {
				t.Error(err)
				return
			}
			defer raw.Close()
			switch i % 4 {
			case 0:
				raw.Write(hello[:1+i*10])
			case 1:
				raw.Write(hello)
			default:
				c := tls.Client(raw, config)
				if err := c.Handshake(); err != nil {
					t.Error(err)
				}
				c.Write([]byte(plainRequest))
				c.Read(make([]byte, 1))
			}
		})
	}
	clients.Wait()
	sh.wantEmpty()
	if c := sh.Counts(); c.Secured[1][0] != 20 || c.Unsecured[ReasonClientGone] != 20 {
		t.Errorf("%v done and %v not, want 20 each", c.Secured, c.Unsecured)
	}
	for range 8 { // for the end of the shard
		sh.connect().send(hello)
	}
	until(t, "some wait", func() bool { _, waiting := sh.cfg.Handshakes.Counts(); return waiting > 0 })
}
