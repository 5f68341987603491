package server

import (
	"context"
	"crypto/x509"
	"net/http"
	"strings"
	"time"

	"github.com/pushd/pushd/internal/auth"
	"github.com/pushd/pushd/internal/wire"
)

// certificateOverHTTP is what TLS has verified of a client, nil without one.
func certificateOverHTTP(r *http.Request) *x509.Certificate {
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 {
		return nil
	}
	return r.TLS.PeerCertificates[0]
}

// bearer is the token of an Authorization header, "" where that is of another
// scheme: then it is for somebody else, a proxy in front say. Schemes are of any
// case (RFC 9110, 11.1).
func bearer(header string) string {
	scheme, token, _ := strings.Cut(header, " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

// visitor is who makes a request over HTTP. The zero visitor has shown nothing.
type visitor struct {
	identity string
	rights   *auth.Rights
	ends     time.Time // by the monotonic clock; zero: never
	address  string
}

// visitor checks what a request shows. Where that is refused it has answered.
func (s *Server) visitor(w http.ResponseWriter, r *http.Request) (v visitor, ok bool) {
	if s.access == nil {
		return v, true
	}
	var shown shown
	for _, header := range r.Header.Values("Authorization") {
		shown.token(bearer(header))
	}
	for _, t := range tokensOf(r.URL.Query()) {
		shown.token(t)
	}
	shown.Certificate = certificateOverHTTP(r)
	if shown.conflict {
		s.metrics.auth.WithLabelValues(authConflict).Inc()
		refuse(w, 0, errConflict)
		return v, false
	}
	v.address = askedAddress(callerFrom(r).address)
	if shown.Credentials == (auth.Credentials{}) {
		return v, true
	}
	grant, err := s.authenticateVisitor(r.Context(), shown.Credentials)
	if err != nil {
		s.refuseVisitor(w, visitor{}, true, err)
		return v, false
	}
	v.identity, v.rights, v.ends = grant.Identity, grant.Rights, monotonic(grant.Expires)
	return v, true
}

// authenticateVisitor is authenticate for one of few at a time: net/http has a
// goroutine for each request, and the loops need the CPU too.
func (s *Server) authenticateVisitor(ctx context.Context, shown auth.Credentials) (auth.Grant, *wire.Error) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	select {
	case s.access.visitors <- struct{}{}:
		defer func() { <-s.access.visitors }()
		return s.authenticate(ctx, shown)
	case <-ctx.Done():
		s.metrics.auth.WithLabelValues(authBusy).Inc()
		return auth.Grant{}, errBusy
	}
}

// permit says why a visitor may not do something, nil where he may. It waits
// where that has to be asked.
func (s *Server) permit(ctx context.Context, v visitor, action auth.Action, topic string) *wire.Error {
	if !v.ends.IsZero() && !time.Now().Before(v.ends) {
		return &wire.Error{Code: wire.Unauthorized, Message: "the token has expired"}
	}
	switch s.access.decide(v.rights, action, topic) {
	case yes:
		return nil
	case no:
		err := s.forbidden(action, topic, v.rights != nil)
		if v.rights == nil && s.access != nil {
			err.Code = wire.Unauthorized // over HTTP it means: with credentials you might (RFC 9110, 15.5.2)
		}
		return err
	}
	return s.ask(ctx, auth.Question{Identity: v.identity, Action: action, Topic: topic, Address: v.address})
}

// refuseVisitor answers with what permit said, or why a token is none.
func (s *Server) refuseVisitor(w http.ResponseWriter, v visitor, token bool, err *wire.Error) {
	switch err.Code {
	case wire.Unauthorized:
		w.Header().Set("WWW-Authenticate", challenge(token || v.rights != nil))
	case wire.Forbidden: // RFC 6750, 3.1
		w.Header().Set("WWW-Authenticate", `Bearer realm="pushd", error="insufficient_scope"`)
	}
	refuse(w, 0, err)
}
