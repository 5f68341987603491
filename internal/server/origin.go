package server

import (
	"fmt"
	"net/http"

	"github.com/pushd/pushd/internal/wire"
)

// preflightAge is for how many seconds a browser need not ask again.
const preflightAge = "600"

// checkOrigin refuses what the page of a foreign origin asks for. Browsers say
// whose page it is, also for a WebSocket, which has no other protection from
// pages that use somebody's network position (RFC 6455, 10.2).
func (s *Server) checkOrigin(origin, host string) *wire.Error {
	if s.origins.Allow(origin, host) {
		return nil
	}
	return &wire.Error{Code: wire.Forbidden, Message: fmt.Sprintf("pages of origin %q may not use this server: --allow-origin lists those that may", origin)}
}

// refusalHeader is conn.Config.RefusalHeader.
func (s *Server) refusalHeader(origin, host string) string {
	if !s.origins.Allow(origin, host) {
		origin = ""
	}
	return corsHeader(origin)
}

// crossOrigin refuses a request of a page that may not make it, before anything
// is done for it: a simple POST comes without asking first. It answers those
// that ask (preflights), and has the browser show the page what comes of the
// others. done: the request has been answered.
func (s *Server) crossOrigin(w http.ResponseWriter, r *http.Request) (done bool) {
	h := w.Header()
	h.Add("Vary", "Origin") // for who keeps responses
	origins := r.Header.Values("Origin")
	if len(origins) == 0 {
		return false
	}
	origin := origins[0]
	if len(origins) > 1 {
		origin = fmt.Sprint(origins) // RFC 6454, 7.3: there is one; which of these is meant nobody can say
	}
	if refused := s.checkOrigin(origin, r.Host); refused != nil {
		refuse(w, 0, refused)
		return true
	}
	h.Set("Access-Control-Allow-Origin", origin)
	h.Set("Access-Control-Expose-Headers", "Retry-After")
	if r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") == "" {
		return false
	}
	h.Add("Vary", "Access-Control-Request-Method")
	h.Set("Access-Control-Allow-Methods", "GET, HEAD, POST")
	h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, Last-Event-ID, Traceparent, "+keyHeader)
	h.Set("Access-Control-Max-Age", preflightAge)
	w.WriteHeader(http.StatusNoContent)
	return true
}
