package natsbus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"strconv"
	"sync"
	"syscall"

	"github.com/nats-io/nats-server/v2/server"
)

// maxStreamMemory bounds the embedded server's memory streams together, in
// bytes. nats-server's own default would be three quarters of the machine. The
// limit on disk is left to it: three quarters of what is free.
const maxStreamMemory = 1 << 30

// embedded is a nats-server in this process.
type embedded struct {
	server *server.Server
	store  *store
}

// startEmbedded returns when the server takes connections.
func startEmbedded(cfg Config) (*embedded, error) {
	opts := &server.Options{
		ServerName:             "pushd",
		NoSigs:                 true, // signals are the program's, not the server's
		MaxPayload:             int32(min(cfg.MaxPayload, math.MaxInt32)),
		JetStream:              true,
		DisableJetStreamBanner: true,
		JetStreamMaxMemory:     maxStreamMemory,
		DontListen:             cfg.Listen == "",
	}
	if cfg.Listen != "" {
		var err error
		if opts.Host, opts.Port, err = checkListen(cfg.Listen); err != nil {
			return nil, err
		}
	}
	st, err := openStore(cfg.Store)
	if err != nil {
		return nil, err
	}
	opts.StoreDir = st.dir
	if st.temporary {
		opts.JetStreamMaxStore = 1 // bytes: a stream on disk is refused once it holds anything
	}

	log := &serverLog{log: cfg.Log.With("nats", "server")}
	s, err := server.NewServer(opts)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot set up the embedded NATS server: %w", err), st.close())
	}
	s.SetLoggerV2(log, false, false, false)

	// Start returns when all is up. What goes wrong it only logs as fatal, and
	// then returns just so; it is the logger that makes a program exit, and
	// ours does not.
	s.Start()
	e := &embedded{server: s, store: st}
	if err := log.firstFatal(); err != nil {
		return nil, errors.Join(
			fmt.Errorf("cannot start the embedded NATS server: %w: check --nats-listen and --store", err), e.close())
	}
	return e, nil
}

// close stops the server, and waits for it. It may be called on nil.
func (e *embedded) close() error {
	if e == nil {
		return nil
	}
	e.server.Shutdown()
	e.server.WaitForShutdown()
	return e.store.close()
}

func (e *embedded) clientURL() string {
	addr, _ := e.server.Addr().(*net.TCPAddr)
	if addr == nil {
		return ""
	}
	host := addr.IP.String()
	if addr.IP.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "nats://" + net.JoinHostPort(host, strconv.Itoa(addr.Port))
}

// checkListen parses an address and tries it out: the server itself would
// report an address in use only after it has recovered all streams.
func checkListen(listen string) (host string, port int, err error) {
	host, service, err := net.SplitHostPort(listen)
	if err == nil {
		port, err = net.LookupPort("tcp", service)
	}
	if err != nil {
		return "", 0, fmt.Errorf("NATS listen address %q is not host:port: correct --nats-listen", listen)
	}
	l, err := net.Listen("tcp", listen)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return "", 0, fmt.Errorf("NATS listen address %s is in use: stop what listens there, or choose another with --nats-listen", listen)
	case err != nil:
		return "", 0, fmt.Errorf("cannot listen for NATS clients on %s: %w: correct --nats-listen", listen, cause(err))
	}
	l.Close()
	if port == 0 {
		port = server.RANDOM_PORT
	}
	return host, port, nil
}

// serverLog is the server's logger. Its notices are a page for each start, and
// so are debug lines here.
type serverLog struct {
	log *slog.Logger

	mu    sync.Mutex
	fatal error
}

var _ server.Logger = (*serverLog)(nil)

func (l *serverLog) write(level slog.Level, format string, v []any) {
	if l.log.Enabled(context.Background(), level) {
		l.log.Log(context.Background(), level, fmt.Sprintf(format, v...))
	}
}

func (l *serverLog) Noticef(format string, v ...any) { l.write(slog.LevelDebug, format, v) }
func (l *serverLog) Warnf(format string, v ...any)   { l.write(slog.LevelWarn, format, v) }
func (l *serverLog) Errorf(format string, v ...any)  { l.write(slog.LevelError, format, v) }
func (l *serverLog) Debugf(format string, v ...any)  { l.write(slog.LevelDebug, format, v) }
func (l *serverLog) Tracef(format string, v ...any)  { l.write(slog.LevelDebug, format, v) }

// Fatalf keeps the first error for startEmbedded, which returns it.
func (l *serverLog) Fatalf(format string, v ...any) {
	l.mu.Lock()
	if l.fatal == nil {
		l.fatal = fmt.Errorf(format, v...)
	}
	l.mu.Unlock()
	l.write(slog.LevelDebug, format, v)
}

func (l *serverLog) firstFatal() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fatal
}
