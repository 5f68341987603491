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
	// Static.
	cfg    Config
	listen string // Config.Listen with its real port; "": it does not listen

	mu sync.Mutex

	// Guarded by mu.
	server *server.Server // nil: suspended, or closed
	store  *store
}

// startEmbedded returns when the server takes connections.
func startEmbedded(cfg Config) (*embedded, error) {
	e := &embedded{cfg: cfg, listen: cfg.Listen}
	if err := e.start(); err != nil {
		return nil, err
	}
	if addr, _ := e.server.Addr().(*net.TCPAddr); addr != nil {
		host, _, _ := net.SplitHostPort(cfg.Listen) // start has done so
		e.listen = net.JoinHostPort(host, strconv.Itoa(addr.Port))
	}
	return e, nil
}

func (e *embedded) start() error {
	opts := &server.Options{
		ServerName:             "pushd",
		NoSigs:                 true, // signals are the program's, not the server's
		MaxPayload:             int32(min(e.cfg.MaxPayload, math.MaxInt32)),
		JetStream:              true,
		DisableJetStreamBanner: true,
		JetStreamMaxMemory:     maxStreamMemory,
		DontListen:             e.listen == "",
	}
	if e.listen != "" {
		var err error
		if opts.Host, opts.Port, err = checkListen(e.listen); err != nil {
			return err
		}
	}
	st, err := openStore(e.cfg.Store)
	if err != nil {
		return err
	}
	opts.StoreDir = st.dir
	if st.temporary {
		opts.JetStreamMaxStore = 1 // bytes: a stream on disk is refused once it holds anything
	}

	log := &serverLog{log: e.cfg.Log.With("nats", "server")}
	s, err := server.NewServer(opts)
	if err != nil {
		return errors.Join(fmt.Errorf("cannot set up the embedded NATS server: %w", err), st.close())
	}
	s.SetLoggerV2(log, false, false, false)

	// Start returns when all is up. What goes wrong it only logs as fatal, and
	// then returns just so; it is the logger that makes a program exit, and
	// ours does not.
	s.Start()
	if err := log.firstFatal(); err != nil {
		s.Shutdown()
		s.WaitForShutdown()
		return errors.Join(fmt.Errorf("cannot start the embedded NATS server: %w: check --nats-listen and --store", err), st.close())
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.server, e.store = s, st
	return nil
}

// InProcessConn is for nats.go, which asks again for each connection: after a
// pause it is one to another server.
func (e *embedded) InProcessConn() (net.Conn, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.server == nil {
		return nil, ErrAway
	}
	return e.server.InProcessConn()
}

// close stops the server, and waits for it. It may be called on nil, and again.
func (e *embedded) close() error {
	if e == nil {
		return nil
	}
	e.mu.Lock()
	s, st := e.server, e.store
	e.server, e.store = nil, nil
	e.mu.Unlock()
	if s == nil {
		return nil
	}
	s.Shutdown()
	s.WaitForShutdown()
	return st.close()
}

func (e *embedded) clientURL() string {
	host, port, err := net.SplitHostPort(e.listen)
	if err != nil {
		return ""
	}
	if ip := net.ParseIP(host); host == "" || ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "nats://" + net.JoinHostPort(host, port)
}

// Suspend stops the embedded server, so that another process can open its store
// and listen on its address; Resume takes that back. Meanwhile the Bus is one
// whose NATS is away. It is an error where there is none, or where its store ends with it.
func (b *Bus) Suspend() error {
	switch {
	case b.embedded == nil:
		return errors.New("NATS is external: there is none to suspend")
	case b.embedded.cfg.Store == storeMemory:
		return errors.New("the embedded NATS keeps everything in this process (--store memory)")
	}
	return b.embedded.close()
}

// Serves reports whether there is no embedded server that is suspended.
func (b *Bus) Serves() bool {
	if b.embedded == nil {
		return true
	}
	b.embedded.mu.Lock()
	defer b.embedded.mu.Unlock()
	return b.embedded.server != nil
}

// Resume starts what Suspend has stopped. Connections come back by themselves.
func (b *Bus) Resume() error { return b.embedded.start() }

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
