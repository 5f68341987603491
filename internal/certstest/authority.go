// Package certstest makes certificates, for tests of any package.
package certstest

import (
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

// Authority signs certificates.
type Authority struct {
	Cert tls.Certificate
	Pool *x509.CertPool // has it alone

	t testing.TB
}

// New makes an authority.
func New(t testing.TB) *Authority {
	t.Helper()
	a := &Authority{t: t, Pool: x509.NewCertPool()}
	a.Cert = a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: "pushd test authority"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign,
	})
	a.Pool.AddCert(a.Cert.Leaf)
	return a
}

// Server is the certificate of a server at 127.0.0.1 and at names; none: localhost.
func (a *Authority) Server(names ...string) tls.Certificate {
	a.t.Helper()
	if len(names) == 0 {
		names = []string{"localhost"}
	}
	return a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: names[0]}, DNSNames: names, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
}

// Client is the certificate of a client.
func (a *Authority) Client(name string) tls.Certificate {
	a.t.Helper()
	return a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: name}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
}

// sign makes a key and a certificate for it, which holds for an hour. The first
// is the authority's own.
func (a *Authority) sign(template *x509.Certificate) tls.Certificate {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := a.Cert.Leaf, a.Cert.PrivateKey
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

// Files writes a certificate and its key to a directory of their own.
func (a *Authority) Files(cert tls.Certificate) (certFile, keyFile string) {
	a.t.Helper()
	dir := a.t.TempDir()
	a.Write(dir, cert)
	return filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
}

// Write writes a certificate and its key to tls.crt and tls.key of a directory.
func (a *Authority) Write(dir string, cert tls.Certificate) {
	a.t.Helper()
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		a.t.Fatal(err)
	}
	for _, f := range []struct {
		name, kind string
		der        []byte
	}{{"tls.crt", "CERTIFICATE", cert.Certificate[0]}, {"tls.key", "PRIVATE KEY", key}} {
		if err := os.WriteFile(filepath.Join(dir, f.name), pem.EncodeToMemory(&pem.Block{Type: f.kind, Bytes: f.der}), 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
}

// File writes the authority's certificate, for programs that are to trust it.
func (a *Authority) File() string {
	a.t.Helper()
	path, _ := a.Files(a.Cert)
	return path
}
