package server

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/pprof"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/pushd/pushd/internal/wire"
)

// adminReadTimeout bounds a request to the admin listener, head and body;
// adminWriteTimeout its answer, and so the longest profile.
const (
	adminReadTimeout  = 10 * time.Second
	adminWriteTimeout = 5 * time.Minute
)

// openAdmin makes the listener for those who run pushd: metrics, profiles, a
// look inside, and what disconnects clients.
func (s *Server) openAdmin(h *heir) error {
	guard, err := newAdminGuard(&s.cfg, s.log, s.metrics.adminRefused)
	if err != nil {
		return err
	}
	if s.adminLn, err = s.listenAdmin(h); err != nil {
		return err
	}
	inner := http.NewServeMux()
	inner.Handle("GET /metrics", promhttp.HandlerFor(s.metrics.registry, promhttp.HandlerOpts{}))
	inner.HandleFunc("GET /statistics", s.serveStatistics)
	inner.HandleFunc("GET "+socketPath, s.serveOperatorSocket)
	inner.HandleFunc("GET /nodes", s.serveNodes)
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodDelete} {
		inner.HandleFunc(method+" /nodes/{node}/drain", s.serveNodeDrain)
	}
	inner.HandleFunc("GET /presence/{topic}", s.servePresence)
	inner.HandleFunc("GET /connections", s.serveConnections)
	inner.HandleFunc("GET /connections/{client}", s.serveConnection)
	inner.HandleFunc("POST /connections/{client}/disconnect", s.serveDisconnectClient)
	inner.HandleFunc("POST /identities/{identity}/disconnect", s.serveDisconnectIdentity)
	inner.HandleFunc("GET /drain", s.serveDrainStatus)
	inner.HandleFunc("POST /drain", s.serveDrain)
	inner.HandleFunc("DELETE /drain", s.serveUndrain)
	inner.HandleFunc("POST /upgrade", s.serveUpgrade)
	inner.HandleFunc("GET /debug/topics", s.serveTopics)
	inner.HandleFunc("GET /debug/pprof/", pprof.Index)
	inner.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	inner.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	inner.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	inner.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	outer := http.NewServeMux()
	outer.HandleFunc("GET /healthz", s.serveHealth) // probes have no token
	outer.HandleFunc("GET /readyz", s.serveReady)
	addConsole(outer)
	outer.Handle("/", guard.protect(inner))
	s.admin = &http.Server{
		Handler:           outer,
		ReadHeaderTimeout: adminReadTimeout / 2,
		ReadTimeout:       adminReadTimeout,
		WriteTimeout:      adminWriteTimeout,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    8 << 10,
		ErrorLog:          log.New(slogWriter{s.log}, "", 0),
		ConnState: func(_ net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				s.adminOpen.Add(1)
			case http.StateClosed, http.StateHijacked:
				s.adminOpen.Add(-1)
			}
		},
	}
	return nil
}

// closeAdmin ends the admin listener when who has come is answered, or ctx is done.
// http.Server.Shutdown would close, unanswered, a connection whose request has not
// been read when it is called.
func (s *Server) closeAdmin(ctx context.Context) {
	s.admin.SetKeepAlivesEnabled(false)
	s.adminLn.Close()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for s.adminOpen.Load() > 0 && ctx.Err() == nil {
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	s.admin.Close()
}

// listenAdmin opens the admin listener, or goes on with that of the process before this one.
func (s *Server) listenAdmin(h *heir) (*adminListener, error) {
	if h != nil {
		l := h.admin
		h.admin = nil
		return newAdminListener(l)
	}
	l, err := net.Listen("tcp", s.cfg.Admin)
	if err != nil {
		return nil, fmt.Errorf("%w: choose another address with --admin", err)
	}
	return newAdminListener(l)
}

// acted logs and counts what somebody had done here.
func (s *Server) acted(r *http.Request, action string, args ...any) {
	s.metrics.adminActions.WithLabelValues(action).Inc()
	s.log.Info("admin", append([]any{"action", action, "from", r.RemoteAddr}, args...)...)
}

// serveTopics shows feeds with their rings and the patterns subscribed to.
func (s *Server) serveTopics(w http.ResponseWriter, r *http.Request) {
	limit, err := queryInt(r, "limit", defaultListLimit, 1, maxListLimit)
	if err != nil {
		refuse(w, 0, &wire.Error{Code: wire.BadRequest, Message: err.Error()})
		return
	}
	writeIndented(w, http.StatusOK, s.hub.Describe(limit))
}

func queryInt(r *http.Request, name string, byDefault, least, most int) (int, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return byDefault, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < least || n > most {
		return 0, fmt.Errorf("%s=%.64q: it is a number from %d to %d", name, text, least, most)
	}
	return n, nil
}

func writeIndented(w http.ResponseWriter, status int, v any) {
	body, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		refuse(w, 0, &wire.Error{Code: wire.Internal, Message: err.Error()})
		return
	}
	writeJSON(w, status, body)
}
