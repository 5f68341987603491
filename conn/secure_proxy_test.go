package conn

import (
	"bufio"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"testing"
	"time"
)

// pieces is a socket whose first write, behind a prefix, arrives in pieces.
type pieces struct {
	*client
	sh     *shard
	prefix string
	size   func(rest int) int // of the next piece
	shaken bool
}

func (p *pieces) Read(b []byte) (int, error) { return p.TCPConn.Read(b) }

func (p *pieces) Write(b []byte) (int, error) {
	if p.shaken {
		return p.TCPConn.Write(b)
	}
	p.shaken = true
	all := append([]byte(p.prefix), b...)
	for len(all) > 0 {
		n := min(p.size(len(all)), len(all))
		before := p.sh.Counts().BytesIn
		if _, err := p.TCPConn.Write(all[:n]); err != nil {
			return 0, err
		}
		all = all[n:]
		for end := time.Now().Add(patience); p.sh.Counts().BytesIn < before+uint64(n); time.Sleep(50 * time.Microsecond) {
			if time.Now().After(end) {
				return 0, errors.New("what was sent is not read")
			}
		}
	}
	return len(b), nil
}

var _ net.Conn = (*pieces)(nil)

// A PROXY header and TLS on one connection, cut at any byte: the header is
// plain and comes first, the address is the one that it names, and what follows
// is as secure as ever.
func TestSecureBehindProxy(t *testing.T) {
	a := newAuthority(t)
	sh := startShard(t, tellingWho(), a.withTLS, quickly, func(s *settings) { s.ProxyProtocol = networksOf("127.0.0.2/32") })
	trust := a.trust(func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{tls.X25519} }) // a short ClientHello
	open := func(header string, size func(int) int) {
		t.Helper()
		p := &pieces{client: sh.connectFrom("127.0.0.2"), sh: sh, prefix: header, size: size}
		over := tls.Client(p, trust)
		if err := over.Handshake(); err != nil {
			t.Fatal(err)
		}
		c := &secureClient{&client{TCPConn: p.TCPConn, over: over, t: t, r: bufio.NewReader(over)}, over}
		c.send(plainRequest, maskedText("behind"), maskedClose(1000, ""))
		c.wantSwitch()
		c.wantText("203.0.113.7 false", "behind")
		c.wantClose(1000)
		c.Close()
	}
	for name, header := range map[string]string{"version 1": proxyV1Header, "version 2": proxyV2Header} {
		t.Run(name, func(t *testing.T) {
			open(header, func(rest int) int { return rest })
			open(header, func(int) int { return 1 })
			for cut := 1; cut < len(header)+12; cut++ {
				first := true
				open(header, func(rest int) int {
					if first {
						first = false
						return cut
					}
					return rest
				})
			}
		})
	}
	if c := sh.Counts(); c.Refused[ReasonProxyHeader]+c.Refused[ReasonTLSFailed]+c.Refused[ReasonNotTLS] != 0 {
		t.Errorf("refused %v", c.Refused)
	}
	sh.wantEmpty()
}

// What is no TLS behind a PROXY header, and what is no header before TLS.
func TestPlainBehindProxy(t *testing.T) {
	a := newAuthority(t)
	sh := startShard(t, tellingWho(), a.withTLS, quickly, func(s *settings) { s.ProxyProtocol = networksOf("127.0.0.2/32") })
	served := sh.openTLS(a.trust(nil))
	served.wantText("127.0.0.1 false")
	hello := string(helloOf(t, a.trust(nil)))
	for _, tc := range []struct {
		name, text string
		status     int // 0: none, it is cut off
		why        Reason
	}{
		{"a request", proxyV1Header + plainRequest, 400, ReasonNotTLS},
		{"a request behind version 2", proxyV2Header + plainRequest, 400, ReasonNotTLS},
		{"a request behind a health check", proxyV2Local + "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n", 400, ReasonNotTLS},
		{"a second header", proxyV1Header + proxyV1Header + hello, 400, ReasonNotTLS},
		{"a second header of version 2", proxyV2Header + proxyV2Header + hello, 0, ReasonNotTLS},
		{"a request without a header", plainRequest, 0, ReasonProxyHeader},
		{"TLS without a header", hello, 0, ReasonProxyHeader},
		{"TLS before the header", hello + proxyV1Header, 0, ReasonProxyHeader},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := sh.Counts().Refused[tc.why]
			c := sh.connectFrom("127.0.0.2")
			c.send(tc.text)
			if tc.status != 0 {
				if body := c.wantStatus(tc.status); strings.Contains(body, "203.0.113.7") {
					t.Errorf("told %s", body)
				}
			}
			sh.wantRefused(tc.why, before+1)
			served.wantNothing()
		})
	}
	if n := sh.Counts().Upgraded; n != 1 {
		t.Errorf("%d were upgraded, want 1", n)
	}
}
