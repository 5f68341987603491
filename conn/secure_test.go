package conn

import (
	"crypto/tls"
	"strings"
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
	type seen struct {
		secure bool
		name   string
	}
	got := make(chan seen, 1)
	sh := startShard(t, &script{upgrade: func(_ poller.Token, r *Request) *Refusal {
		s := seen{secure: r.Secure}
		if r.Certificate != nil {
			s.name = strings.Clone(r.Certificate.Subject.CommonName)
		}
		got <- s
		return nil
	}}, a.withTLS)
	sh.openTLS(a.trust(nil))
	if s := <-got; s != (seen{secure: true}) {
		t.Errorf("without a certificate: %+v", s)
	}
	bothVersions(t, func(t *testing.T, version func(*tls.Config)) {
		config := a.trust(func(c *tls.Config) {
			version(c)
			c.Certificates = []tls.Certificate{a.Client("sensor-7")}
			c.ClientSessionCache = tls.NewLRUClientSessionCache(1)
		})
		for _, resumed := range []bool{false, true} {
			c := sh.openTLS(config)
			if s := <-got; s != (seen{true, "sensor-7"}) {
				t.Errorf("with a certificate, resumed %v: %+v", resumed, s)
			}
			if c.tls.ConnectionState().DidResume != resumed {
				t.Errorf("resumed: %v, want %v", !resumed, resumed)
			}
			c.wantNothing() // reads the ticket
		}
	})
}
