// Package certs has the certificates of a TLS listener, and reads them again
// when their files change. It knows no connection.
package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// Config names the files.
type Config struct {
	Certs    []string      // PEM, leaf first, with the certificates between it and the authority
	Keys     []string      // PEM, one for each of Certs in the same order
	ClientCA string        // PEM; clients may show a certificate of these authorities. "": none is asked for
	Every    time.Duration // how often the files are read; 5 s
	Log      *slog.Logger  // nil: slog.Default
}

// Store has what the files said when they were last in order. Safe for use by
// several goroutines.
type Store struct {
	// Static.
	cfg Config
	tls *tls.Config

	// Atomic.
	current atomic.Pointer[generation]

	// Guarded by mu.
	mu    sync.Mutex
	tried contents // what was last read, whether it was in order or not
	fault error    // what was wrong with it
}

// generation is what one content of the files came to. It is immutable.
type generation struct {
	tls    *tls.Config
	expiry []Expiry
}

// Expiry says until when a certificate holds.
type Expiry struct {
	Name     string // the first it is for
	File     string
	NotAfter time.Time
}

// Open reads the files. An error names the file, and the flag that has it.
func Open(cfg Config) (*Store, error) {
	if cfg.Every == 0 {
		cfg.Every = 5 * time.Second
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	s := &Store{cfg: cfg}
	if _, err := s.load(); err != nil {
		return nil, err
	}
	// The session ticket keys are those of this configuration, whatever
	// GetConfigForClient returns: so sessions outlive a reload, and crypto/tls
	// changes the keys daily.
	s.tls = s.current.Load().tls.Clone()
	s.tls.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return s.current.Load().tls, nil }
	return s, nil
}

// TLS is the configuration of a listener. It always shows the newest certificates.
func (s *Store) TLS() *tls.Config { return s.tls }

// Expiries are those of the certificates in force, in the order of Config.Certs.
func (s *Store) Expiries() []Expiry { return s.current.Load().expiry }

// Run reads the files again and again, until ctx is done.
func (s *Store) Run(ctx context.Context) {
	tick := time.NewTicker(s.cfg.Every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			s.check(false)
		}
	}
}

// Reload reads the files now. Where they are not in order the certificates in
// force stay, and a line of the log says why. Run tells that once for each content.
func (s *Store) Reload() { s.check(true) }

func (s *Store) check(tell bool) {
	changed, err := s.load()
	switch {
	case !changed && !tell:
	case err != nil:
		s.cfg.Log.Error("the new certificates cannot be used; the old ones stay", "err", err)
	default:
		for _, e := range s.Expiries() {
			s.cfg.Log.Info("certificate in force", "name", e.Name, "file", e.File, "expires", e.NotAfter)
		}
	}
}

// load puts in force what the files say. changed: it is not what was read last.
func (s *Store) load() (changed bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	read, err := readAll(&s.cfg)
	if s.tried != nil && read.equal(s.tried) {
		return false, s.fault
	}
	var g *generation
	if err == nil {
		g, err = read.parse(&s.cfg)
	}
	s.tried, s.fault = read, err
	if err == nil {
		s.current.Store(g)
	}
	return true, err
}

// parse checks what the files say.
func (c contents) parse(cfg *Config) (*generation, error) {
	g := &generation{tls: &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"http/1.1"}, // RFC 7301: a WebSocket begins as HTTP/1.1

		// A frame is no use in part, so it is not spread over records that grow.
		DynamicRecordSizingDisabled: true,
	}}
	for i, file := range cfg.Certs {
		cert, err := tls.X509KeyPair(c[file], c[cfg.Keys[i]])
		if err != nil {
			return nil, fmt.Errorf("--tls-cert %s with --tls-key %s: %w", file, cfg.Keys[i], err)
		}
		g.tls.Certificates = append(g.tls.Certificates, cert)
		g.expiry = append(g.expiry, Expiry{Name: nameOf(cert.Leaf), File: file, NotAfter: firstToExpire(cert)})
	}
	if cfg.ClientCA == "" {
		return g, nil
	}
	g.tls.ClientCAs = x509.NewCertPool()
	if !g.tls.ClientCAs.AppendCertsFromPEM(c[cfg.ClientCA]) {
		return nil, fmt.Errorf("--tls-client-ca %s: %w", cfg.ClientCA, errors.New("there is no certificate in PEM in it"))
	}
	g.tls.ClientAuth = tls.VerifyClientCertIfGiven
	return g, nil
}

// nameOf is what people call a certificate.
func nameOf(leaf *x509.Certificate) string {
	switch {
	case len(leaf.DNSNames) > 0:
		return leaf.DNSNames[0]
	case len(leaf.IPAddresses) > 0:
		return leaf.IPAddresses[0].String()
	}
	return leaf.Subject.CommonName
}

// firstToExpire is when a chain ceases to hold: one in the middle may end
// before the leaf.
func firstToExpire(cert tls.Certificate) time.Time {
	first := cert.Leaf.NotAfter
	for _, der := range cert.Certificate[1:] {
		if c, err := x509.ParseCertificate(der); err == nil && c.NotAfter.Before(first) {
			first = c.NotAfter
		}
	}
	return first
}
