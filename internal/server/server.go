// Package server puts pushd together: it is the only place where a socket, a
// topic and NATS stand in one file.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/pushd/pushd/conn"
	"github.com/pushd/pushd/internal/certs"
	"github.com/pushd/pushd/internal/config"
	"github.com/pushd/pushd/internal/tracing"
	"github.com/pushd/pushd/poller"
	"github.com/pushd/pushd/topics"
	"github.com/pushd/pushd/topics/natsbus"
)

// Server is a running pushd.
type Server struct {
	// Static after New.
	cfg        config.Config
	log        *slog.Logger
	node       uint32 // random: part of each client's name
	name       string // of the node, to people and to other nodes, for as long as it serves: see member
	addr       string
	bus        *natsbus.Bus
	hub        *topics.Hub
	encoder    *encoder
	shards     []*shard
	pool       *poller.Pool
	quota      *conn.Quota
	receiving  *conn.Receiving
	answering  *conn.Answering
	certs      *certs.Store     // nil: no TLS
	handshakes *conn.Handshakes // of TLS; nil: none
	admission
	metrics *metrics
	tracer  *tracing.Tracer // nil: nothing is traced
	access  *access         // nil: everybody may do everything
	plain   *plainHTTP      // requests that are no upgrade
	admin   *http.Server
	adminLn *adminListener
	history chan struct{}                 // holds one for each request for history under way
	sink    func(topics.Sink) topics.Sink // what NATS brings passes through it; nil: straight to the hub

	next     succession // has its own mu
	draining drainOrder // the same
	errands  errands    // the same
	lasting  lasting    // the same

	// Atomic.
	member    atomic.Pointer[member]
	stopping  atomic.Bool
	adminOpen atomic.Int64  // of the admin listener, while net/http has them
	nextHome  atomic.Uint32 // shard of the next socket that net/http gives back
}

// pongTimeout is part of the protocol: heartbeat + 10 s of silence end a connection.
const pongTimeout = 10 * time.Second

// userTimeout is when TCP gives up a client that acknowledges nothing: its host
// is gone. TCP counts a client that does not read among these too, so it must not
// come before write-timeout has had its turn.
func userTimeout(cfg config.Config) time.Duration {
	return max(cfg.Heartbeat+pongTimeout, cfg.WriteTimeout) + pongTimeout
}

// notSentLowat bounds what the kernel queues for one client beyond what is on
// its way: a client that does not read costs this, and not the megabytes to
// which its send buffer would grow, and what it gets later is not older than need be.
const notSentLowat = 64 << 10

// New opens everything: NATS, listeners, shards. Nothing is served before Run.
// An error is one line that says what to do.
func New(cfg config.Config, log *slog.Logger) (s *Server, err error) { return open(cfg, log, nil) }

// open is New, with what another process has handed over; nil: nothing.
func open(cfg config.Config, log *slog.Logger, h *heir) (s *Server, err error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Demo {
		cfg = withDemo(cfg)
	}
	s = &Server{cfg: cfg, log: log, node: rand.Uint32(), history: make(chan struct{}, maxHistoryRequests), next: newSuccession()}
	if h != nil {
		s.node = h.offer.NodeID
	}
	if s.name = cfg.NodeName; s.name == "" {
		host, _ := os.Hostname() // without one it is called node
		s.name = nodeName(host, s.node)
		if h != nil {
			s.name = h.offer.NodeName
		}
	}
	defer func() {
		if err != nil {
			s.release()
			s = nil
		}
	}()
	most, err := maxConnections(cfg.MaxConnections)
	if err != nil {
		return s, err
	}
	s.quota = conn.NewQuota(most)
	s.receiving = conn.NewReceiving(int64(cfg.ReceiveMemory))
	s.answering = conn.NewAnswering(int64(cfg.PollMemory))
	if s.admission, err = newAdmission(&cfg, most); err != nil {
		return s, err
	}
	if err := s.openCerts(); err != nil {
		return s, err
	}
	if err := s.openTracer(); err != nil {
		return s, err
	}
	bus := NATSConfig(&cfg, log)
	if s.tracer != nil {
		bus.Follow = s.followed
	}
	if err := h.awaitStore(); err != nil {
		return s, err
	}
	if s.bus, err = natsbus.Open(context.Background(), bus); err != nil {
		return s, err
	}
	s.metrics = newMetrics(s)
	if s.encoder, err = newEncoder(&s.cfg); err != nil {
		return s, err
	}
	s.hub = topics.NewHub(topics.HubConfig{
		RingMessages: cfg.RingMessages,
		RingMemory:   int64(cfg.RingMemory),
		Final: func(err error) bool { // what NATS will not have one day either
			return errors.Is(err, natsbus.ErrDenied)
		},
		Settings: func(namespace string) topics.Settings {
			if namespace == config.ReservedNamespace {
				return servedReserved
			}
			return served(cfg.Namespace(namespace))
		},
		Occupancy: cfg.PresenceTopics > 0,
		History:   s.bus,
		Log:       s.log,
	}, s.bus, s.encoder)
	s.pool = poller.NewPool(cfg.Workers, handoverQueue)
	if err := s.openAccess(); err != nil {
		return s, err
	}
	if err := s.openAdmin(h); err != nil {
		return s, err
	}
	return s, s.openShards(h)
}

// NATSConfig is how the settings want NATS.
func NATSConfig(cfg *config.Config, log *slog.Logger) natsbus.Config {
	return natsbus.Config{
		URLs: cfg.NATS, Listen: cfg.NATSListen, Store: cfg.Store, Prefix: cfg.Prefix,
		MaxPayload: int(max(cfg.MaxMessage, 1<<20)), MaxMessage: int(cfg.MaxMessage),
		Credentials: cfg.NATSCreds, NKey: cfg.NATSNKey, CA: cfg.NATSCA, Cert: cfg.NATSCert, Key: cfg.NATSKey,
		Streams:  streams(cfg),
		Requests: cfg.Authorize,
		Log:      log,
	}
}

// openShards makes the shards with their loops, tables and listeners.
func (s *Server) openShards(h *heir) error {
	n := s.cfg.Shards
	if n == 0 {
		n = min(runtime.GOMAXPROCS(0), topics.MaxShards)
	}
	if h != nil {
		n = len(h.listeners)
	}
	listeners, err := s.listen(n, h)
	if err != nil {
		return err
	}
	s.addr = listeners[0].Addr().String()
	for i, l := range listeners {
		sh, err := s.newShard(i, n, l)
		if err != nil {
			for _, l := range listeners[i:] {
				l.Close()
			}
			return fmt.Errorf("shard %d of %d: %w", i, n, err)
		}
		s.shards = append(s.shards, sh)
	}
	s.plain = newPlainHTTP(s)
	began := time.Now()
	if h != nil && !h.offer.Started.Before(began) {
		began = h.offer.Started.Add(time.Millisecond) // others take what is said of an earlier run for old
	}
	s.member.Store(s.newMember(s.name, began))
	return nil
}

// listen opens the listeners of n shards, or goes on with those of the process before this one.
func (s *Server) listen(n int, h *heir) ([]*poller.Listener, error) {
	if h != nil {
		listeners := h.listeners
		h.listeners = nil
		return listeners, nil
	}
	listeners, err := poller.ListenGroup(s.cfg.Listen, n, poller.ListenOptions{
		NoDelay:      true,
		UserTimeout:  userTimeout(s.cfg),
		NotSentLowat: notSentLowat,
	})
	if err != nil {
		return nil, fmt.Errorf("%w: choose another address with --listen", err)
	}
	return listeners, nil
}

// release closes what New has opened, of a server that never ran.
func (s *Server) release() {
	for _, sh := range s.shards {
		sh.table.Shutdown()
		sh.loop.Close()
	}
	if s.adminLn != nil {
		s.adminLn.Close()
	}
	if m := s.self(); m != nil {
		m.end()
	}
	s.access.close()
	if s.pool != nil {
		s.pool.Close()
	}
	if s.bus != nil {
		s.bus.Close()
	}
	s.closeTracer(time.Now())
}

// Addr is the real address of the public listener.
func (s *Server) Addr() string { return s.addr }

// AdminAddr is the real address of the admin listener.
func (s *Server) AdminAddr() string { return s.adminLn.Addr().String() }

// NATSURL is where publishers may connect; "" if the embedded NATS does not listen.
func (s *Server) NATSURL() string { return s.bus.ClientURL() }

// Run serves until ctx is done, and then shuts down within
// Config.ShutdownTimeout: no new clients, the old ones are told, what is on
// its way to them leaves.
func (s *Server) Run(ctx context.Context) error {
	var loops, others sync.WaitGroup
	failed := make(chan error, len(s.shards)+2)
	for _, sh := range s.shards {
		loops.Go(func() {
			if err := sh.loop.Run(sh); err != nil {
				failed <- fmt.Errorf("shard %d: %w", sh.index, err)
			}
		})
	}
	s.bus.Start(s.incoming())
	serve := func(name string, f func() error) {
		others.Go(func() {
			if err := f(); err != nil && !errors.Is(err, http.ErrServerClosed) {
				failed <- fmt.Errorf("%s: %w", name, err)
			}
		})
	}
	serve("HTTP", s.plain.run)
	serve("admin listener", func() error { return s.admin.Serve(s.adminLn) })
	beside, stopBeside := context.WithCancel(context.Background())
	s.watchFiles(beside, &others)
	tookOver := s.self().silent.Load()
	if m := s.self(); tookOver {
		m.speak(true)
		others.Go(func() {
			if s.catchUp() == nil { // else they end after a while
				s.hub.EndSeams()
			}
		})
	} else {
		m.listen()
		m.speak(false)
	}
	if s.cfg.Demo {
		if err := s.startDemo(beside, &others); err != nil {
			s.log.Warn("no demo feed", "err", err)
		}
	}
	s.log.Info("serving", "listen", s.addr, "admin", s.AdminAddr(), "nats", s.NATSURL(),
		"shards", len(s.shards), "send", s.shards[0].table.Lane(), "max_connections", s.quota.Max(), "tls", s.certs != nil, "node", s.name)
	if !tookOver { // who is the main process by now has been said by the one before
		s.notify("READY=1")
	}

	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	case <-s.next.done:
	}
	stopBeside()
	end := time.Now().Add(s.cfg.ShutdownTimeout) // before an upgrade, or the return of NATS, is waited for
	if s.next.end() {                            // also if it was told to stop meanwhile
		s.retire(ctx)
		end = time.Now().Add(s.cfg.ShutdownTimeout)
	}
	s.shutdown(end)
	loops.Wait()
	others.Wait()
	s.self().end()
	s.access.close()
	s.pool.Close()
	err = errors.Join(err, s.bus.CloseWithin(max(time.Until(end), leastForNATS)))
	s.closeTracer(end)
	return err
}

// incoming is where NATS delivers to.
func (s *Server) incoming() topics.Sink {
	if s.sink == nil {
		return s.hub
	}
	return s.sink(s.hub) // tests lose messages there
}

// leastForNATS is what is left for NATS to confirm publications when clients
// have used up the time to shut down.
const leastForNATS = 100 * time.Millisecond

// leastForAnswers is what whoever is being answered on the admin listener has when
// all else has ended.
const leastForAnswers = 500 * time.Millisecond

// shutdown ends the serving, in the order in which work flows: nothing new
// comes in, what is under way goes out, clients are told, sockets close.
func (s *Server) shutdown(end time.Time) {
	s.log.Info("shutting down", "timeout", s.cfg.ShutdownTimeout)
	s.stopping.Store(true)
	ctx, cancel := context.WithDeadline(context.Background(), end)
	defer cancel()
	s.hub.Close()
	half := end.Add(-s.cfg.ShutdownTimeout / 2)
	for _, sh := range s.shards {
		sh.loop.Post(poller.Func(func() { sh.shutdown(half) }))
	}
	var requests sync.WaitGroup
	requests.Go(func() { // beside the WebSockets: one request that does not end must not cost them their time
		half, cancel := context.WithTimeout(ctx, s.cfg.ShutdownTimeout/2)
		defer cancel()
		if err := s.plain.shutdown(half); err != nil {
			s.log.Warn("HTTP requests were cut off after half of --shutdown-timeout", "err", err)
		}
	})
	defer requests.Wait()
	if left := s.awaitClosed(ctx); left > 0 {
		s.log.Warn("connections were cut off by --shutdown-timeout", "connections", left)
	}
	for _, sh := range s.shards {
		sh.loop.Post(poller.Func(sh.table.Shutdown))
		sh.loop.Stop()
	}
	answered, cancelAnswers := context.WithTimeout(context.Background(), leastForAnswers)
	defer cancelAnswers()
	s.closeAdmin(answered)
}

// awaitClosed waits until all connections have ended, or ctx, and says how many have not.
func (s *Server) awaitClosed(ctx context.Context) int64 {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		left := int64(0)
		for _, sh := range s.shards {
			left += sh.table.Counts().Sockets
		}
		if left == 0 {
			return 0
		}
		select {
		case <-ctx.Done():
			return left
		case <-tick.C:
		}
	}
}

// keptFiles is how many open files are kept for everything but clients:
// listeners, NATS, its store, the admin listener, HTTP.
const keptFiles = 256

// maxConnections derives how many clients are taken from the limit of open
// files, where no number is asked for.
func maxConnections(asked int) (int, error) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, fmt.Errorf("reading the limit of open files: %w", err)
	}
	return MaxConnectionsOf(asked, limit.Cur)
}

// MaxConnectionsOf is how many clients are taken where so many files may be
// open, and so many clients were asked for; 0: as many as there is room for.
func MaxConnectionsOf(asked int, limit uint64) (int, error) {
	files := int(min(limit, 1<<30))
	room := max(files-keptFiles-maxPlainConns, files/2)
	if asked == 0 {
		return room, nil
	}
	if asked > files {
		return 0, fmt.Errorf("--max-connections %d is beyond the limit of open files, %d: raise it (ulimit -n, LimitNOFILE=) or ask for less", asked, files)
	}
	return asked, nil
}
