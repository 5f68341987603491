package doctor

import (
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pushd/pushd/internal/auth"
	"github.com/pushd/pushd/internal/certs"
	"github.com/pushd/pushd/internal/config"
)

const (
	// soon is when a certificate ought to have been renewed.
	soon = 14 * 24 * time.Hour

	// leastSpace is free on any disk that is not full tomorrow.
	leastSpace = 1 << 30
)

// store: the embedded NATS can write, and what histories may come to has room.
func (e *examination) store() {
	const subject = "--store"
	if len(e.cfg.NATS) > 0 {
		return
	}
	if e.cfg.Store == "memory" {
		e.okf(subject, "memory: history ends with the process")
		return
	}
	dir := existing(e.cfg.Store)
	if err := unix.Access(dir, unix.W_OK|unix.X_OK); err != nil {
		e.badf(Failure, subject, "chown or chmod it, or another --store", "%s cannot be written to: %v", dir, err)
		return
	}
	free, err := e.Space(dir)
	if err != nil {
		e.badf(Failure, subject, "another --store", "%s: %v", dir, err)
		return
	}
	need, bounded := uint64(leastSpace), true
	for _, namespace := range e.cfg.Namespaces {
		if namespace.History != (config.History{}) {
			need += uint64(namespace.History.Bytes)
			bounded = bounded && namespace.History.Bytes > 0
		}
	}
	switch {
	case free < need:
		e.badf(Warning, subject, "a larger disk, or less history", "%v are free in %s, and histories may take %v", size(free), dir, size(need-leastSpace))
	case !bounded:
		e.okf(subject, "%v are free in %s; a history without bytes has no bound of its own there", size(free), dir)
	default:
		e.okf(subject, "%v are free in %s", size(free), dir)
	}
}

// existing is the nearest directory above a path, or the path, that is there.
func existing(path string) string {
	path, err := filepath.Abs(path)
	if err != nil {
		return "."
	}
	for {
		if _, err := os.Stat(path); err == nil || path == "/" {
			return path
		}
		path = filepath.Dir(path)
	}
}

// certificates: of TLS to clients and to NATS.
func (e *examination) certificates() {
	if len(e.cfg.TLSCert) > 0 {
		const subject = "--tls-cert"
		store, err := certs.Open(certs.Config{Certs: e.cfg.TLSCert, Keys: e.cfg.TLSKey, ClientCA: e.cfg.TLSClientCA, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			e.badf(Failure, subject, "", "%v", err)
		} else {
			for _, c := range store.Expiries() {
				e.expiry(subject+" "+c.File, c.NotAfter)
			}
		}
	}
	if e.cfg.NATSCert != "" {
		e.natsCertificate()
	}
}

func (e *examination) natsCertificate() {
	const subject = "--nats-cert"
	text, err := os.ReadFile(e.cfg.NATSCert)
	if err != nil {
		e.badf(Failure, subject, "correct --nats-cert", "%s: %v", e.cfg.NATSCert, cause(err))
		return
	}
	block, _ := pem.Decode(text)
	if block == nil {
		e.badf(Failure, subject, "a file that has it", "%s holds no certificate in PEM form", e.cfg.NATSCert)
		return
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		e.badf(Failure, subject, "a file that has it", "%s: %v", e.cfg.NATSCert, err)
		return
	}
	e.expiry(subject+" "+e.cfg.NATSCert, certificate.NotAfter)
}

func (e *examination) expiry(subject string, end time.Time) {
	e.ends(subject, end, "replace the files, which are read again by themselves")
}

// expiryOfOthers is of a certificate that is not pushd's own.
func (e *examination) expiryOfOthers(subject string, end time.Time) {
	e.ends(subject, end, "whoever runs that server has to renew it")
}

func (e *examination) ends(subject string, end time.Time, cure string) {
	left := end.Sub(e.Now())
	switch {
	case left <= 0:
		e.badf(Failure, subject, cure, "expired on %s", end.Format(time.DateOnly))
	case left < soon:
		e.badf(Warning, subject, cure, "expires on %s, in %d days", end.Format(time.DateOnly), int(left.Hours()/24))
	default:
		e.okf(subject, "valid until %s", end.Format(time.DateOnly))
	}
}

// keys: those of tokens can be read.
func (e *examination) keys() {
	const subject = "token keys"
	if e.cfg.TokenSecret == "" && e.cfg.TokenSecretFile == "" && len(e.cfg.TokenKeys) == 0 {
		return
	}
	service, err := auth.Open(auth.Config{Secret: string(e.cfg.TokenSecret), SecretFile: e.cfg.TokenSecretFile, KeyFiles: e.cfg.TokenKeys})
	if err != nil {
		e.badf(Failure, subject, "", "%v", err)
		return
	}
	defer service.Close()
	e.okf(subject, "%d", service.Stats().Keys)
}

// adminToken: it is there, long enough, and nobody else's to read.
func (e *examination) adminToken() {
	const subject, file = "admin token", "--admin-token-file"
	path := e.cfg.AdminTokenFile
	if path == "" {
		if e.cfg.AdminToken != "" {
			e.okf(subject, "from the environment")
		} else {
			e.okf(subject, "none: every program of this machine may use %s", e.cfg.Admin)
		}
		return
	}
	text, err := os.ReadFile(path)
	if err != nil {
		e.badf(Failure, subject, "correct "+file, "%s: %v", path, cause(err))
		return
	}
	if n := len(strings.TrimSpace(string(text))); n < config.MinAdminToken {
		e.badf(Failure, subject, "openssl rand -hex 32 > "+path, "%s has %d characters, and must have at least %d", path, n, config.MinAdminToken)
		return
	}
	if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o004 != 0 {
		e.badf(Warning, subject, "chmod o-r "+path, "%s can be read by every user of this machine", path)
		return
	}
	e.okf(subject, "%s", path)
}
