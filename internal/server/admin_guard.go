package server

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pushd/pushd/internal/config"
	"github.com/pushd/pushd/internal/via"
	"github.com/pushd/pushd/internal/wire"
)

// Why the admin listener refuses a request: log word and metric label.
const (
	adminUnauthorized = "unauthorized" // no token, or another one
	adminNoToken      = "no_token"     // the token's file cannot be read, or is too short
	adminBadHost      = "bad_host"     // it came for a name that somebody else's DNS may have brought here
	adminCrossSite    = "cross_site"   // a browser sent it on behalf of another site
)

// adminGuard lets operators through to the admin listener, and nobody else.
// With a token it asks for that. Without one the listener is on loopback, where
// any program of the machine may be an operator's, but not the pages that a
// browser there shows: these are told by what browsers add to requests, and by
// the name under which they came.
type adminGuard struct {
	// Static.
	file    string // of the token, read for each request so that a new one needs no restart
	token   string // what the environment said instead
	host    string // of --admin
	log     *slog.Logger
	refused *prometheus.CounterVec
}

func newAdminGuard(cfg *config.Config, log *slog.Logger, refused *prometheus.CounterVec) (*adminGuard, error) {
	g := &adminGuard{file: cfg.AdminTokenFile, token: string(cfg.AdminToken), host: hostOf(cfg.Admin), log: log, refused: refused}
	for _, reason := range []string{adminUnauthorized, adminNoToken, adminBadHost, adminCrossSite} {
		refused.WithLabelValues(reason) // from the start, so that rate() sees the first
	}
	_, err := g.wanted()
	return g, err
}

// wanted returns the token to be shown, "" where there is none.
func (g *adminGuard) wanted() (string, error) {
	if g.file == "" {
		return g.token, nil
	}
	text, err := os.ReadFile(g.file)
	if err != nil {
		var path *os.PathError
		if errors.As(err, &path) {
			err = path.Err
		}
		return "", fmt.Errorf("cannot read the admin token in %s: %w: correct --admin-token-file", g.file, err)
	}
	token := strings.TrimSpace(string(text))
	if len(token) < config.MinAdminToken {
		return "", fmt.Errorf("the admin token in %s has %d characters, but must have at least %d: openssl rand -hex 32 makes a good one", g.file, len(token), config.MinAdminToken)
	}
	return token, nil
}

// protect puts the guard before h, and before its 404.
func (g *adminGuard) protect(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := w.Header()
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("Referrer-Policy", "no-referrer")
		header.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'") // the index of pprof has its style inside
		header.Set("Cache-Control", "no-store")
		reason, refused := g.check(r)
		if refused == nil {
			h.ServeHTTP(w, r)
			return
		}
		g.refused.WithLabelValues(reason).Inc()
		g.log.Debug("admin request refused", "reason", reason, "from", r.RemoteAddr, "path", r.URL.Path)
		if refused.Code == wire.Unauthorized {
			header.Set("WWW-Authenticate", `Bearer realm="pushd admin"`) // RFC 6750, 3
		}
		refuse(w, 0, refused)
	})
}

func (g *adminGuard) check(r *http.Request) (reason string, refused *wire.Error) {
	token, err := g.wanted()
	switch {
	case err != nil:
		g.log.Error("nobody is let into the admin listener", "err", err)
		return adminNoToken, &wire.Error{Code: wire.Internal, Message: "the server cannot read its admin token: see its log"}
	case token == "":
		return g.checkBrowser(r)
	case !sameToken(adminToken(r), token):
		return adminUnauthorized, &wire.Error{Code: wire.Unauthorized, Message: "send the token of --admin-token-file: Authorization: Bearer TOKEN"}
	}
	return "", nil
}

// checkBrowser refuses what a page of another site may have had a browser send.
// A page that rebinds its DNS name to loopback is of the same origin for the
// browser, but its requests still carry that name as Host.
func (g *adminGuard) checkBrowser(r *http.Request) (reason string, refused *wire.Error) {
	forbidden := func(message string) *wire.Error { return &wire.Error{Code: wire.Forbidden, Message: message} }
	host := hostOf(r.Host)
	_, err := netip.ParseAddr(host)
	if err != nil && !strings.EqualFold(host, "localhost") && (g.host == "" || !strings.EqualFold(host, g.host)) {
		return adminBadHost, forbidden("Host must be an IP address or localhost, where no admin token is configured (--admin-token-file)")
	}
	site := r.Header.Get("Sec-Fetch-Site")
	if site != "" && site != "same-origin" && site != "none" || !sameOrigin(r) {
		return adminCrossSite, forbidden("no page of another site may ask for this, where no admin token is configured (--admin-token-file)")
	}
	return "", nil
}

// sameOrigin reports whether a request is of no page, or of one that this
// listener itself has served by the name in Host.
func sameOrigin(r *http.Request) bool {
	origins := r.Header.Values("Origin")
	return len(origins) == 0 || len(origins) == 1 && origins[0] != "" && via.Origins{}.Allow(origins[0], r.Host)
}

// hostOf is the host of HOST:PORT, or of HOST alone.
func hostOf(address string) string {
	if host, _, err := net.SplitHostPort(address); err == nil {
		return host
	}
	return strings.Trim(address, "[]")
}

// sameToken takes the same time for any guess: sums are of one length.
func sameToken(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}
