package certs

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// pair is a certificate for a name that signs itself, as PEM.
type pair struct{ cert, key []byte }

func newPair(t *testing.T, name string, holds time.Duration) pair {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(holds), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pair{
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}),
	}
}

func write(t *testing.T, dir string, p pair) (cert, key string) {
	t.Helper()
	cert, key = filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	for path, content := range map[string][]byte{cert: p.cert, key: p.key} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// logged is a log that can be read.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), text)
}

// sockets are the two ends of a connection.
func sockets(t *testing.T) (near, far net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if near, err = net.Dial("tcp", l.Addr().String()); err == nil {
		far, err = l.Accept()
	}
	if err != nil {
		t.Fatal(err)
	}
	return near, far
}

// shown is the certificate that a client gets who asks for a name.
func shown(t *testing.T, s *Store, name string, change ...func(*tls.Config)) tls.ConnectionState {
	t.Helper()
	near, far := sockets(t)
	defer near.Close()
	defer far.Close()
	go func() {
		c := tls.Server(far, s.TLS())
		if c.Handshake() == nil {
			io.WriteString(c, "x") // behind the session ticket
		}
	}()
	config := &tls.Config{ServerName: name, InsecureSkipVerify: true}
	for _, f := range change {
		f(config)
	}
	c := tls.Client(near, config)
	if _, err := c.Read(make([]byte, 1)); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return c.ConnectionState()
}

func nameShown(t *testing.T, s *Store, name string) string {
	t.Helper()
	return shown(t, s, name).PeerCertificates[0].Subject.CommonName
}

func TestChoosesByName(t *testing.T) {
	cfg := Config{}
	for _, name := range []string{"first.example.com", "second.example.com", "*.example.org"} {
		cert, key := write(t, t.TempDir(), newPair(t, name, time.Hour))
		cfg.Certs, cfg.Keys = append(cfg.Certs, cert), append(cfg.Keys, key)
	}
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for asked, want := range map[string]string{
		"first.example.com": "first.example.com", "second.example.com": "second.example.com", "SECOND.example.com": "second.example.com",
		"a.example.org": "*.example.org", "a.b.example.org": "first.example.com", "": "first.example.com", "unknown": "first.example.com",
	} {
		if got := nameShown(t, s, asked); got != want {
			t.Errorf("who asks for %q gets %s, want %s", asked, got, want)
		}
	}
	if got := s.Expiries(); len(got) != 3 || got[1].Name != "second.example.com" || time.Until(got[1].NotAfter) > time.Hour {
		t.Errorf("expiries: %+v", got)
	}
	state := shown(t, s, "", func(c *tls.Config) { c.NextProtos = []string{"h2", "http/1.1"} })
	if state.NegotiatedProtocol != "http/1.1" || state.Version != tls.VersionTLS13 {
		t.Errorf("agreed on %q and %s", state.NegotiatedProtocol, tls.VersionName(state.Version))
	}
}

// What is older than TLS 1.2, or speaks HTTP/2 alone, is refused.
func TestRefuses(t *testing.T) {
	cert, key := write(t, t.TempDir(), newPair(t, "a", time.Hour))
	s, err := Open(Config{Certs: []string{cert}, Keys: []string{key}})
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*tls.Config){
		"TLS 1.1": func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 },
		"h2":      func(c *tls.Config) { c.NextProtos = []string{"h2"} },
	} {
		near, far := sockets(t)
		go tls.Server(far, s.TLS()).Handshake()
		config := &tls.Config{InsecureSkipVerify: true}
		change(config)
		if err := tls.Client(near, config).Handshake(); err == nil {
			t.Errorf("%s was taken", name)
		}
		near.Close()
		far.Close()
	}
}

// New files are found however they come: written in place, or by the swap of
// a link far above them, as Kubernetes does. What is broken changes nothing and is told
// once, and sessions go on over the change.
func TestReload(t *testing.T) {
	root := t.TempDir()
	publish := func(generation string, p pair) {
		dir := filepath.Join(root, generation)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, dir, p)
		next := filepath.Join(root, "next")
		if err := os.Symlink(generation, next); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next, filepath.Join(root, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	publish("one", newPair(t, "one", time.Hour))
	for _, name := range []string{"tls.crt", "tls.key"} {
		if err := os.Symlink(filepath.Join("..data", name), filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	var log logged
	s, err := Open(Config{
		Certs: []string{filepath.Join(root, "tls.crt")}, Keys: []string{filepath.Join(root, "tls.key")},
		Every: time.Millisecond, Log: slog.New(slog.NewTextHandler(&log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { s.Run(ctx) })
	defer running.Wait()
	defer cancel()
	until := func(what string, ok func() bool) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("gave up waiting: %s", what)
			}
		}
	}
	sessions := tls.NewLRUClientSessionCache(4)
	cache := func(c *tls.Config) { c.ClientSessionCache, c.ServerName = sessions, "one" }
	if shown(t, s, "one", cache).DidResume || nameShown(t, s, "") != "one" {
		t.Fatal("a session before there was one, or another certificate")
	}
	publish("two", newPair(t, "two", time.Hour))
	until("the swapped link", func() bool { return nameShown(t, s, "") == "two" })
	if !shown(t, s, "one", cache).DidResume {
		t.Error("a session did not outlive the reload")
	}
	broken := newPair(t, "broken", time.Hour)
	broken.key = newPair(t, "other", time.Hour).key
	publish("three", broken)
	until("the log", func() bool { return log.count("the old ones stay") > 0 })
	write(t, root, newPair(t, "four", time.Hour)) // through the links, in place
	until("the written files", func() bool { return nameShown(t, s, "") == "four" })
	if err := os.Remove(filepath.Join(root, "..data")); err != nil {
		t.Fatal(err)
	}
	told := log.count("the old ones stay")
	until("the log", func() bool { return log.count("the old ones stay") > told })
	told = log.count("the old ones stay")
	for range 20 {
		s.check(false)
	}
	if n := log.count("the old ones stay"); n != told {
		t.Errorf("the same fault was told %d times", n-told+1)
	}
	s.Reload()
	if n := log.count("the old ones stay"); n != told+1 {
		t.Errorf("who asks is told %d times, want once", n-told)
	}
	if got := nameShown(t, s, ""); got != "four" {
		t.Errorf("without files %s is shown, want the last that was good", got)
	}
}

func TestMistakes(t *testing.T) {
	dir := t.TempDir()
	cert, key := write(t, dir, newPair(t, "a", time.Hour))
	other, _ := write(t, t.TempDir(), newPair(t, "b", time.Hour))
	large := filepath.Join(dir, "large")
	if err := os.WriteFile(large, bytes.Repeat([]byte{'x'}, maxFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	f := func(c Config, want ...string) {
		t.Helper()
		_, err := Open(c)
		for _, w := range want {
			if err == nil || !strings.Contains(err.Error(), w) {
				t.Errorf("got %v, want %q in it", err, w)
			}
		}
	}
	f(Config{Certs: []string{"/nowhere"}, Keys: []string{key}}, "--tls-cert", "/nowhere", "no such file")
	f(Config{Certs: []string{cert}, Keys: []string{"/nowhere"}}, "--tls-key", "/nowhere")
	f(Config{Certs: []string{other}, Keys: []string{key}}, "--tls-cert", "--tls-key", "does not match")
	f(Config{Certs: []string{key}, Keys: []string{cert}}, "--tls-cert", key)
	f(Config{Certs: []string{large}, Keys: []string{key}}, "more than 1048576 bytes")
	f(Config{Certs: []string{cert}, Keys: []string{key}, ClientCA: key}, "--tls-client-ca", "no certificate in PEM")
}

func TestClientCA(t *testing.T) {
	mine := newPair(t, "client", time.Hour)
	cert, key := write(t, t.TempDir(), newPair(t, "a", time.Hour))
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, mine.cert, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Open(Config{Certs: []string{cert}, Keys: []string{key}, ClientCA: ca})
	if err != nil {
		t.Fatal(err)
	}
	try := func(p *pair) error {
		near, far := sockets(t)
		defer near.Close()
		defer far.Close()
		config := &tls.Config{InsecureSkipVerify: true}
		if p != nil {
			c, err := tls.X509KeyPair(p.cert, p.key)
			if err != nil {
				t.Fatal(err)
			}
			config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &c, nil }
		}
		go func() { _ = tls.Client(near, config).Handshake(); io.Copy(io.Discard, near) }()
		return tls.Server(far, s.TLS()).Handshake()
	}
	if err := try(nil); err != nil {
		t.Errorf("without a certificate: %v", err)
	}
	if err := try(&mine); err != nil {
		t.Errorf("with one: %v", err)
	}
	strange := newPair(t, "stranger", time.Hour)
	if err := try(&strange); err == nil {
		t.Error("a stranger's certificate was taken")
	}
}
