package server

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pushd/pushd/internal/config"
	"github.com/pushd/pushd/internal/gate"
	"github.com/pushd/pushd/internal/via"
)

// admission is who may come in by address, and from which web pages. It is
// static after New.
type admission struct {
	gate       *gate.Gate
	proxies    via.Networks // who begins with a PROXY header
	forwarders via.Networks // whose X-Forwarded-For and Forwarded are believed
	origins    via.Origins
	paces      paces
}

// newAdmission reads the settings, where there may be most connections in all.
func newAdmission(cfg *config.Config, most int) (a admission, err error) {
	unlimited, err := config.Networks(cfg.Unlimited)
	if err != nil {
		return a, err
	}
	if a.proxies, err = config.Networks(cfg.ProxyProtocol); err != nil {
		return a, err
	}
	if a.forwarders, err = config.Networks(cfg.TrustForwarded); err != nil {
		return a, err
	}
	if a.origins, err = via.ParseOrigins(cfg.AllowOrigin); err != nil {
		return a, err
	}
	a.gate = gate.New(gate.Limits{
		Connections:    cfg.ConnectionsPerAddress(most),
		ConnectionRate: cfg.ConnectionRatePerAddress,
		HandshakeRate:  cfg.HandshakeRate,
		PublishRate:    cfg.MaxPublishRate,
		Unlimited:      unlimited,
	})
	a.paces = newPaces(cfg)
	return a, nil
}

// admitted learns whose each HTTP request is, refuses those of web pages that
// may not make it, and counts what is refused.
func (s *Server) admitted(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		counted := &countedResponse{ResponseWriter: w, refusals: s.metrics.responses}
		if s.crossOrigin(counted, r) {
			return
		}
		if c, ok := r.Context().Value(connKey{}).(*plainConn); ok && c.over != nil { // which net/http knows of its own alone
			state := c.over.ConnectionState()
			r.TLS = &state
		}
		next.ServeHTTP(counted, r.WithContext(context.WithValue(r.Context(), clientKey{}, s.callerOf(r))))
	})
}

// What a request's context has.
type (
	connKey   struct{} // the *plainConn that it came by
	clientKey struct{} // the caller who made it
)

func withConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

// caller is where a request comes from.
type caller struct {
	address   netip.Addr
	unlimited bool
}

// callerOf finds who makes a request: whose the connection is, or if that is a
// trusted proxy, whom it names.
func (s *Server) callerOf(r *http.Request) caller {
	c, ok := r.Context().Value(connKey{}).(*plainConn)
	if !ok {
		return caller{}
	}
	named := via.Headers{ForwardedFor: r.Header.Values("X-Forwarded-For"), Forwarded: r.Header.Values("Forwarded")}
	client, claim := named.Client(c.from.Client, s.forwarders)
	told := claim == via.Named || c.proxied().IsValid()
	return caller{client, claim != via.Unbelieved && s.gate.Unlimited(client, told)}
}

// callerFrom is who makes a request that the public listener serves.
func callerFrom(r *http.Request) caller {
	v, _ := r.Context().Value(clientKey{}).(caller)
	return v
}

// proxied is whose the connection is where its socket does not say it.
func (c *plainConn) proxied() netip.Addr {
	if own, ok := c.RemoteAddr().(*net.TCPAddr); ok && own.AddrPort().Addr().Unmap().WithZone("") == c.from.Client {
		return netip.Addr{}
	}
	return c.from.Client
}

// countedResponse counts a response that is an error.
type countedResponse struct {
	http.ResponseWriter
	refusals *prometheus.CounterVec
}

func (w *countedResponse) WriteHeader(status int) {
	if status >= 400 {
		w.refusals.WithLabelValues(strconv.Itoa(status)).Inc()
	}
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (w *countedResponse) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// newRefusalsCounter has those from the start that limits cause: a series that
// appears with its first event hides it from rate().
func newRefusalsCounter() *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "pushd_http_refusals_total",
		Help: "HTTP requests answered with an error, by status. Those answered before net/http had them are in pushd_handshakes_total."}, []string{"status"})
	for _, status := range []int{http.StatusForbidden, http.StatusRequestEntityTooLarge, http.StatusTooManyRequests} {
		c.WithLabelValues(strconv.Itoa(status))
	}
	return c
}
