package server

import (
	"encoding/json"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/pprof"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/pushd/pushd/conn"
	"github.com/pushd/pushd/internal/wire"
	"github.com/pushd/pushd/poller"
)

// openAdmin makes the listener for those who run pushd: metrics, profiles, and
// a look inside.
func (s *Server) openAdmin() error {
	var err error
	if s.adminLn, err = net.Listen("tcp", s.cfg.Admin); err != nil {
		return fmt.Errorf("%w: choose another address with --admin", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.metrics.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", s.serveHealth)
	mux.HandleFunc("GET /readyz", s.serveReady)
	mux.HandleFunc("GET /debug/connections", s.serveConnections)
	mux.HandleFunc("GET /debug/topics", s.serveTopics)
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	s.admin = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, ErrorLog: log.New(slogWriter{s.log}, "", 0)}
	return nil
}

// debugConnection is one connection on /debug/connections.
type debugConnection struct {
	Client        string   `json:"client"`
	Shard         int      `json:"shard"`
	Peer          string   `json:"peer"`
	Address       string   `json:"address,omitempty"` // the client's, where the peer is a proxy
	State         string   `json:"state"`
	Format        string   `json:"format"`
	Subscriptions []string `json:"subscriptions"`
	ReceivedMS    int64    `json:"received_ms_ago"`
	SentMS        int64    `json:"sent_ms_ago"`
	UnsentBytes   int      `json:"unsent_bytes"`
	BehindFeeds   int      `json:"behind_feeds"`
	Reading       bool     `json:"reading"`
}

// A look at connections is taken on their own loop, so it is bounded in each shard.
const (
	defaultDebugLimit = 100
	maxDebugLimit     = 10_000
	maxDebugPatterns  = 20 // of one connection
)

// serveConnections shows up to limit connections: ?limit=100&shard=0&from=0
// goes on at a slot of one shard.
func (s *Server) serveConnections(w http.ResponseWriter, r *http.Request) {
	limit, err1 := queryInt(r, "limit", defaultDebugLimit, 1, maxDebugLimit)
	only, err2 := queryInt(r, "shard", -1, -1, len(s.shards)-1)
	from, err3 := queryInt(r, "from", 0, 0, 1<<31-1)
	for _, err := range []error{err1, err2, err3} {
		if err != nil {
			refuse(w, 0, &wire.Error{Code: wire.BadRequest, Message: err.Error()})
			return
		}
	}
	list := []debugConnection{}
	for i, sh := range s.shards {
		if only >= 0 && i != only || len(list) >= limit {
			continue
		}
		seen := make(chan []debugConnection, 1)
		if !sh.loop.Post(poller.Func(func() { seen <- sh.look(uint32(from), limit-len(list)) })) {
			continue
		}
		select {
		case part := <-seen:
			list = append(list, part...)
		case <-r.Context().Done():
			return
		}
	}
	writeIndented(w, struct {
		Open        int               `json:"open"`
		Connections []debugConnection `json:"connections"`
	}{s.quota.Open(), list})
}

func (sh *shard) look(from uint32, limit int) (list []debugConnection) {
	sh.table.Each(from, func(c conn.Info) bool {
		patterns := sh.members.Patterns(c.ID.Slot(), []string{})
		if len(patterns) > maxDebugPatterns {
			patterns = append(patterns[:maxDebugPatterns], fmt.Sprintf("and %d more", len(patterns)-maxDebugPatterns))
		}
		address := ""
		switch {
		case c.Client.IsSingleIP():
			address = c.Client.Addr().String()
		case c.Client.IsValid():
			address = c.Client.String()
		}
		list = append(list, debugConnection{
			Client: sh.server.clientName(sh, c.ID), Shard: sh.index, Peer: c.Peer.String(), Address: address, State: c.State,
			Format: sh.client(c.ID.Slot()).format.String(), Subscriptions: patterns,
			ReceivedMS: c.Received.Milliseconds(), SentMS: c.Sent.Milliseconds(),
			UnsentBytes: c.Unsent, BehindFeeds: sh.members.Behind(c.ID.Slot()), Reading: c.Reading,
		})
		return len(list) < limit
	})
	return list
}

// serveTopics shows feeds with their rings and the patterns subscribed to.
func (s *Server) serveTopics(w http.ResponseWriter, r *http.Request) {
	limit, err := queryInt(r, "limit", defaultDebugLimit, 1, maxDebugLimit)
	if err != nil {
		refuse(w, 0, &wire.Error{Code: wire.BadRequest, Message: err.Error()})
		return
	}
	writeIndented(w, s.hub.Describe(limit))
}

func queryInt(r *http.Request, name string, byDefault, least, most int) (int, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return byDefault, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < least || n > most {
		return 0, fmt.Errorf("%s=%s: it is a number from %d to %d", name, text, least, most)
	}
	return n, nil
}

func writeIndented(w http.ResponseWriter, v any) {
	body, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		refuse(w, 0, &wire.Error{Code: wire.Internal, Message: err.Error()})
		return
	}
	writeJSON(w, http.StatusOK, body)
}
