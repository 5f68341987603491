package conn

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// authority signs certificates for tests.
type authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{t: t}
	made := a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: "pushd test authority"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign,
	})
	a.cert, a.key = made.Leaf, made.PrivateKey.(*ecdsa.PrivateKey)
	a.pool = x509.NewCertPool()
	a.pool.AddCert(a.cert)
	return a
}

// sign makes a key and a certificate for it, the authority's own at first.
func (a *authority) sign(template *x509.Certificate) tls.Certificate {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

func (a *authority) server() tls.Certificate {
	return a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
}

func (a *authority) client(name string) tls.Certificate {
	return a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: name}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
}

// files writes a certificate with its key, for programs that want files.
func (a *authority) files(cert tls.Certificate) (certFile, keyFile string) {
	a.t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		a.t.Fatal(err)
	}
	dir := a.t.TempDir()
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			a.t.Fatal(err)
		}
		return path
	}
	return write("cert.pem", "CERTIFICATE", cert.Certificate[0]), write("key.pem", "PRIVATE KEY", der)
}

// withTLS is a change for startShard.
func (a *authority) withTLS(s *settings) {
	s.TLS = &tls.Config{
		Certificates: []tls.Certificate{a.server()}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
		ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: a.pool,
	}
}

// trust is the configuration of a client; change may be nil.
func (a *authority) trust(change func(*tls.Config)) *tls.Config {
	c := &tls.Config{RootCAs: a.pool, ServerName: "localhost", NextProtos: []string{"http/1.1"}}
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
