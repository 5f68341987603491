package natsbus

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"github.com/pushd/pushd/internal/natstest"
)

// works publishes over a Bus, and hears it.
func works(t *testing.T, cfg Config) {
	t.Helper()
	b, r := open(t, cfg)
	mustSubscribe(t, b, topic("a"))
	mustPublish(t, b, "a", "hello")
	r.awaitMessage(t, "hello")
}

// TestCredentials has a server that knows accounts by their operator's
// signature, and users by a credentials file.
func TestCredentials(t *testing.T) {
	operator, account, user := key(t, nkeys.CreateOperator), key(t, nkeys.CreateAccount), key(t, nkeys.CreateUser)
	signed := func(c jwt.Claims, by nkeys.KeyPair) string {
		t.Helper()
		token, err := c.Encode(by)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	operatorToken := signed(jwt.NewOperatorClaims(public(t, operator)), operator)
	accountToken := signed(jwt.NewAccountClaims(public(t, account)), operator)
	creds := func(user nkeys.KeyPair, by nkeys.KeyPair) string {
		t.Helper()
		claims := jwt.NewUserClaims(public(t, user))
		claims.Permissions.Pub.Allow.Add("push.>")
		claims.Permissions.Sub.Allow.Add("push.>")
		seed, err := user.Seed()
		if err != nil {
			t.Fatal(err)
		}
		text, err := jwt.FormatUserConfig(signed(claims, by), seed)
		if err != nil {
			t.Fatal(err)
		}
		return write(t, text)
	}
	s := natstest.Start(t, natstest.Config(fmt.Sprintf(
		"operator: %s\nresolver: MEMORY\nresolver_preload: { %s: %s }", operatorToken, public(t, account), accountToken)))
	works(t, Config{URLs: []string{s.URL()}, Credentials: creds(user, account)})

	const cure = "nats: Authorization Violation: correct the credentials in --nats, --nats-creds or --nats-nkey"
	if got := openFails(t, context.Background(), Config{URLs: []string{s.URL()}, Credentials: creds(user, key(t, nkeys.CreateAccount))}); !strings.HasSuffix(got, cure) {
		t.Errorf("of an account that nobody knows: %s", got)
	}
	if got := openFails(t, context.Background(), Config{URLs: []string{s.URL()}}); !strings.HasSuffix(got, cure) {
		t.Errorf("without credentials: %s", got)
	}
}

func key(t *testing.T, create func() (nkeys.KeyPair, error)) nkeys.KeyPair {
	t.Helper()
	k, err := create()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func public(t *testing.T, k nkeys.KeyPair) string {
	t.Helper()
	p, err := k.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func write(t *testing.T, text []byte) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestTLS has a server that shows a certificate and wants one: the name in it
// is the NATS user.
func TestTLS(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	serverCert, serverKey := ours.issue(t, "nats")
	cert, key := ours.issue(t, "pushd")
	s := natstest.Start(t, natstest.Config(fmt.Sprintf(`
		tls { cert_file: %q, key_file: %q, ca_file: %q, verify_and_map: true }
		authorization { users: [ { user: "CN=pushd", permissions: { publish: ["push.>"], subscribe: ["push.>"] } } ] }`,
		serverCert, serverKey, ours.file)))
	good := Config{URLs: []string{"tls://" + s.Addr()}, CA: ours.file, Cert: cert, Key: key}
	works(t, good)
	good.URLs = []string{s.URL()} // the server says that it wants TLS
	works(t, good)

	fails := func(name string, change func(*Config), want string) {
		t.Helper()
		cfg := good
		change(&cfg)
		if got := openFails(t, context.Background(), cfg); !strings.Contains(got, want) {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
	fails("another CA", func(c *Config) { c.CA = theirs.file }, "certificate signed by unknown authority")
	fails("no CA", func(c *Config) { c.CA = "" }, "certificate signed by unknown authority")
	fails("no certificate", func(c *Config) { c.Cert, c.Key = "", "" }, "cannot connect to NATS at ")
	fails("a certificate of another CA", func(c *Config) { c.Cert, c.Key = theirs.issue(t, "pushd") }, "cannot connect to NATS at ")
	fails("another user's certificate", func(c *Config) { c.Cert, c.Key = ours.issue(t, "somebody") }, "Authorization Violation")
}

// authority issues certificates for 127.0.0.1.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{cert: &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}}
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	a.file = write(t, a.sign(t, a.cert, &a.key.PublicKey))
	return a
}

func (a *authority) issue(t *testing.T, name string) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := a.sign(t, &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, &key.PublicKey)
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return write(t, cert), write(t, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}))
}

func (a *authority) sign(t *testing.T, template *x509.Certificate, of *ecdsa.PublicKey) []byte {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, of, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
