package server

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/pushd/pushd/conn"
	"github.com/pushd/pushd/internal/page"
	"github.com/pushd/pushd/internal/wire"
)

// publicHandler serves the public listener, WebSockets excepted.
func (s *Server) publicHandler() http.Handler {
	mux := http.NewServeMux()
	pages := page.Handler()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		refuse(w, http.StatusNotFound, &wire.Error{Code: wire.BadRequest, Message: "there is nothing at " + r.URL.Path})
	})
	mux.Handle("/{$}", only(pages, http.MethodGet, http.MethodHead))
	mux.Handle("/assets/", only(pages, http.MethodGet, http.MethodHead))
	if s.cfg.Demo {
		mux.Handle("/demo/", only(page.DemoHandler(), http.MethodGet, http.MethodHead))
	}
	mux.Handle(socketPath, only(http.HandlerFunc(s.serveSocketPath), http.MethodGet))
	mux.Handle(eventsPath, only(http.HandlerFunc(s.serveBack), http.MethodGet))
	mux.Handle(pollPath, only(http.HandlerFunc(s.serveBack), http.MethodGet))
	mux.Handle("/publish", only(http.HandlerFunc(s.servePublishLines), http.MethodPost))
	mux.Handle("/publish/{topic}", only(http.HandlerFunc(s.servePublish), http.MethodPost))
	mux.Handle("/history/{topic}", only(http.HandlerFunc(s.serveHistory), http.MethodGet))
	mux.Handle("/healthz", only(http.HandlerFunc(s.serveHealth), http.MethodGet, http.MethodHead))
	mux.Handle("/readyz", only(http.HandlerFunc(s.serveReady), http.MethodGet, http.MethodHead))
	return s.admitted(mux)
}

// only refuses methods other than those given (RFC 9110, 15.5.6).
func only(h http.Handler, methods ...string) http.Handler {
	allow := strings.Join(methods, ", ")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, m := range methods {
			if r.Method == m {
				h.ServeHTTP(w, r)
				return
			}
		}
		w.Header().Set("Allow", allow)
		refuse(w, http.StatusMethodNotAllowed, &wire.Error{Code: wire.BadRequest, Message: "the method here is " + allow})
	})
}

// refuse answers with an error; status 0: the one that its code has.
func refuse(w http.ResponseWriter, status int, err *wire.Error) {
	if status == 0 {
		status = err.Code.HTTPStatus()
	}
	if status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", strconv.Itoa(int(retryAfter/time.Second)))
	}
	if err == errUpgraded {
		w.Header().Set("Connection", "close") // it leads to this process
	}
	writeJSON(w, status, wire.AppendRefusal(nil, err.Code, err.Message))
}

func writeJSON(w http.ResponseWriter, status int, body []byte) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // the client has gone if it fails
}

// serveSocketPath sees a request for a WebSocket that came behind others on
// its connection, or none at all.
func (s *Server) serveSocketPath(w http.ResponseWriter, r *http.Request) {
	if head := headOf(r); conn.WantsUpgrade(head) {
		if err := s.plain.giveBack(w, head); err != nil {
			s.log.Warn("an upgrade on a kept connection failed", "err", err)
		}
		return
	}
	refuseNoUpgrade(w)
}

// refuseNoUpgrade answers a request for a WebSocket that asks for none.
func refuseNoUpgrade(w http.ResponseWriter) {
	w.Header().Set("Sec-WebSocket-Version", "13") // RFC 6455, 4.4
	w.Header().Set("Upgrade", "websocket")
	w.Header().Set("Connection", "Upgrade")
	refuse(w, http.StatusUpgradeRequired, &wire.Error{Code: wire.BadRequest, Message: "this is a WebSocket: ask for an upgrade (RFC 6455)"})
}

// serveBack has a shard serve a request of the kind that shards serve, and that came
// behind others on its connection.
func (s *Server) serveBack(w http.ResponseWriter, r *http.Request) {
	if err := s.plain.giveBack(w, headOf(r)); err != nil {
		s.log.Warn("a request on a kept connection could not be given to a shard", "err", err)
	}
}

// headOf is a request as a shard would have read it.
func headOf(r *http.Request) []byte {
	head := fmt.Appendf(nil, "%s %s %s\r\nHost: %s\r\n", r.Method, r.RequestURI, r.Proto, r.Host)
	for name, values := range r.Header {
		for _, v := range values {
			head = fmt.Appendf(head, "%s: %s\r\n", name, v)
		}
	}
	for _, coding := range r.TransferEncoding { // net/http takes these out of the header
		head = fmt.Appendf(head, "Transfer-Encoding: %s\r\n", coding)
	}
	return append(head, "\r\n"...)
}

func (s *Server) serveHealth(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, []byte(`{"status":"alive"}`))
}

// serveReady is about this node alone: that NATS is away makes it unready, and
// not unhealthy, since a restart would not cure it and would cost every client
// its connection.
func (s *Server) serveReady(w http.ResponseWriter, _ *http.Request) {
	switch {
	case s.stopping.Load():
		refuse(w, 0, &wire.Error{Code: wire.Unavailable, Message: "shutting down"})
	case s.draining.ordered():
		refuse(w, 0, &wire.Error{Code: wire.Unavailable, Message: "draining"})
	case !s.bus.State().Connected:
		refuse(w, 0, &wire.Error{Code: wire.Unavailable, Message: "NATS is away"})
	default:
		writeJSON(w, http.StatusOK, []byte(`{"status":"ready"}`))
	}
}
