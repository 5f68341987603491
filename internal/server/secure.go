package server

import (
	"context"
	"crypto/tls"
	"fmt"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"github.com/pushd/pushd/conn"
	"github.com/pushd/pushd/internal/certs"
)

// openCerts reads the certificates, if TLS is on.
func (s *Server) openCerts() error {
	if len(s.cfg.TLSCert) == 0 {
		return nil
	}
	var err error
	s.certs, err = certs.Open(certs.Config{
		Certs: s.cfg.TLSCert, Keys: s.cfg.TLSKey, ClientCA: s.cfg.TLSClientCA, Log: s.log,
	})
	if err != nil {
		return err
	}
	s.handshakes = conn.NewHandshakes(s.cfg.MaxHandshakes)
	return nil
}

// tlsConfig is that of the public listener; nil: it is plain.
func (s *Server) tlsConfig() *tls.Config {
	if s.certs == nil {
		return nil
	}
	return s.certs.TLS()
}

// watchFiles reads certificates, and the keys of tokens, again when they change.
func (s *Server) watchFiles(ctx context.Context, running *sync.WaitGroup) {
	if s.certs != nil {
		running.Go(func() { s.certs.Run(ctx) })
	}
	if s.access != nil {
		running.Go(func() { s.access.check.Run(ctx) })
	}
}

// Reload reads anew what may change while the server runs: certificates, and
// the keys of tokens. It may be called from any goroutine.
func (s *Server) Reload() {
	if s.certs != nil {
		s.certs.Reload()
	}
	if s.access != nil {
		if err := s.access.check.Reload(); err != nil {
			s.log.Error("the keys of tokens stay as they were", "err", err)
			return
		}
		s.log.Info("read the keys of tokens again")
	}
}

// writeLast gives a socket the last that it gets.
func writeLast(fd int, over *conn.Secured, p []byte) {
	if over != nil {
		p = over.Last(p)
	}
	_, _ = unix.Write(fd, p) // the client has gone if it fails
}

var (
	descCertExpiry = desc("pushd_tls_certificate_expiry_seconds", "When a certificate, or one of its chain, expires: seconds since 1970.", "name", "file")
	descTLS        = desc("pushd_tls_handshakes_total", "TLS handshakes, by result: full, resumed, or why there was none; version is that of TLS, of those that were done.", "result", "version")
	descTLSActive  = desc("pushd_tls_handshakes_active", "TLS handshakes that are under way; at most --max-handshakes.")
	descTLSWaiting = desc("pushd_tls_handshakes_waiting", "Clients that wait for their TLS handshake to begin.")
)

// collectTLS is a part of metrics.Collect.
func (s *Server) collectTLS(out chan<- prometheus.Metric, c *conn.Counts) {
	if s.certs == nil {
		return
	}
	for _, e := range s.certs.Expiries() {
		out <- prometheus.MustNewConstMetric(descCertExpiry, prometheus.GaugeValue, float64(e.NotAfter.Unix()), e.Name, e.File)
	}
	for version, name := range []string{"1.2", "1.3"} {
		for resumed, result := range []string{"full", "resumed"} {
			out <- prometheus.MustNewConstMetric(descTLS, prometheus.CounterValue, float64(c.Secured[version][resumed]), result, name)
		}
	}
	for why, n := range c.Unsecured {
		if r := conn.Reason(why); r != conn.ReasonNone {
			out <- prometheus.MustNewConstMetric(descTLS, prometheus.CounterValue, float64(n), r.String(), "")
		}
	}
	active, waiting := s.handshakes.Counts()
	out <- prometheus.MustNewConstMetric(descTLSActive, prometheus.GaugeValue, float64(active))
	out <- prometheus.MustNewConstMetric(descTLSWaiting, prometheus.GaugeValue, float64(waiting))
}

// scheme is that of the server's URLs.
func (s *Server) scheme() string {
	if s.certs == nil {
		return "http"
	}
	return "https"
}

// URL is where people and programs find the public listener.
func (s *Server) URL() string { return fmt.Sprintf("%s://%s", s.scheme(), s.addr) }
