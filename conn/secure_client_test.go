package conn

import (
	"bufio"
	"crypto/tls"
	"testing"

	"github.com/pushd/pushd/internal/certstest"
)

// authority is one whose certificates a shard and its clients have.
type authority struct{ *certstest.Authority }

func newAuthority(t testing.TB) authority { return authority{certstest.New(t)} }

// withTLS is a change for startShard.
func (a authority) withTLS(s *settings) {
	s.TLS = &tls.Config{
		Certificates: []tls.Certificate{a.Server()}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
		ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: a.Pool,
	}
}

// trust is the configuration of a client; change may be nil.
func (a authority) trust(change func(*tls.Config)) *tls.Config {
	c := &tls.Config{RootCAs: a.Pool, ServerName: "localhost", NextProtos: []string{"http/1.1"}}
	if change != nil {
		change(c)
	}
	return c
}

// secureClient is a client behind TLS.
type secureClient struct {
	*client
	tls *tls.Conn
}

// connectTLS connects and shakes hands.
func (sh *shard) connectTLS(c *tls.Config) *secureClient {
	sh.t.Helper()
	return sh.secureOver(sh.connect(), c)
}

func (sh *shard) secureOver(raw *client, c *tls.Config) *secureClient {
	sh.t.Helper()
	conn := tls.Client(raw.TCPConn, c)
	if err := conn.Handshake(); err != nil {
		sh.t.Fatalf("TLS handshake: %v", err)
	}
	return &secureClient{&client{TCPConn: raw.TCPConn, over: conn, t: sh.t, r: bufio.NewReader(conn)}, conn}
}

// openTLS is connectTLS with the upgrade.
func (sh *shard) openTLS(c *tls.Config) *secureClient {
	sh.t.Helper()
	client := sh.connectTLS(c)
	client.send(plainRequest)
	client.wantSwitch()
	return client
}

// bothVersions runs f with TLS 1.2 and with TLS 1.3.
func bothVersions(t *testing.T, f func(t *testing.T, version func(*tls.Config))) {
	for name, version := range map[string]uint16{"TLS 1.2": tls.VersionTLS12, "TLS 1.3": tls.VersionTLS13} {
		t.Run(name, func(t *testing.T) {
			f(t, func(c *tls.Config) { c.MinVersion, c.MaxVersion = version, version })
		})
	}
}
