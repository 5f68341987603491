package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pushd/pushd/conn"
	"github.com/pushd/pushd/internal/gate"
	"github.com/pushd/pushd/internal/wire"
	"github.com/pushd/pushd/poller"
)

const (
	// maxPlainConns bounds the connections that net/http has at a time: unlike
	// WebSockets they cost a goroutine and buffers each.
	maxPlainConns = 512

	// maxPlainConnsOfAddress is how many of those one address may have, and no more
	// than are left for all: so a few addresses that hold what they may, with
	// bodies that do not come, leave some for others. It does not concern those
	// who are unlimited, nor proxies whose requests say whose they are.
	maxPlainConnsOfAddress = 64

	// handoverQueue bounds the sockets on their way to net/http.
	handoverQueue = 1024

	plainIdleTimeout = 30 * time.Second // of a kept-alive connection between two requests
	plainReadTimeout = 30 * time.Second // from one request's first byte to its body's last, pushed on by each line of NDJSON
)

// plainHTTP serves the requests on the public port that are no upgrade. Their
// sockets come from the shards with the bytes that were read, and go back to a
// shard if a later request on the same connection is an upgrade after all, as
// happens behind proxies that keep connections.
type plainHTTP struct {
	// Static.
	server *Server
	http   *http.Server
	conns  chan net.Conn // accepted, for http.Server
	closed chan struct{}

	// Atomic.
	open atomic.Int64
	shut atomic.Bool

	// Guarded by mu.
	mu        sync.Mutex
	ofAddress map[gate.Visit]int // connections of those who are limited
}

func newPlainHTTP(s *Server) *plainHTTP {
	p := &plainHTTP{server: s, conns: make(chan net.Conn), closed: make(chan struct{}), ofAddress: make(map[gate.Visit]int)}
	p.http = &http.Server{
		Handler:           s.publicHandler(),
		ReadHeaderTimeout: s.cfg.HandshakeTimeout,
		ReadTimeout:       plainReadTimeout,
		IdleTimeout:       plainIdleTimeout,
		MaxHeaderBytes:    8 << 10,
		ConnContext:       withConn,
		ErrorLog:          log.New(slogWriter{s.log}, "", 0),
	}
	return p
}

func (p *plainHTTP) run() error { return p.http.Serve(p) }

// shutdown lets the requests under way finish, until ctx is done.
func (p *plainHTTP) shutdown(ctx context.Context) error {
	err := p.http.Shutdown(ctx)
	if err != nil {
		p.http.Close()
	}
	return err
}

// NotUpgrade implements conn.Handler. It must not block: duplicating the
// descriptor and waiting for net/http is the pool's work.
func (sh *shard) NotUpgrade(fd int, read []byte, h conn.Handed) {
	p := sh.server.plain
	read = slices.Clone(read)
	full := p.enter(h)
	if full == nil && !sh.server.pool.Submit(func() { p.adopt(fd, read, h) }) {
		full = errPlainFull
	}
	if full != nil {
		p.leave(h)
		sh.server.metrics.plainShed.Inc()
		sh.server.answerBusy(fd, read, h.TLS, full)
	}
}

var (
	errPlainFull = &wire.Error{Code: wire.Unavailable, Message: "too many HTTP requests at a time"}

	errPlainOfAddress = &wire.Error{Code: wire.RateLimited, Message: fmt.Sprintf(
		"too many HTTP connections of this address: at most %d, and no more than are left of %d", maxPlainConnsOfAddress, maxPlainConns)}
)

// enter counts a connection until leave, and says why there is no room for it.
func (p *plainHTTP) enter(h conn.Handed) (full *wire.Error) {
	left := maxPlainConns - int(p.open.Add(1))
	if left < 0 {
		full = errPlainFull
	}
	if h.Visit == 0 || h.Unlimited {
		return full
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ofAddress[h.Visit]++; p.ofAddress[h.Visit] > max(1, min(maxPlainConnsOfAddress, left)) {
		full = errPlainOfAddress
	}
	return full
}

// leave ends also the visit, whose number another address may have then.
func (p *plainHTTP) leave(h conn.Handed) {
	p.open.Add(-1)
	if h.Visit != 0 && !h.Unlimited {
		p.mu.Lock()
		if p.ofAddress[h.Visit]--; p.ofAddress[h.Visit] == 0 {
			delete(p.ofAddress, h.Visit)
		}
		p.mu.Unlock()
	}
	p.server.gate.Leave(h.Visit)
}

// answerBusy refuses a request for which there is no room, probes excepted:
// clients that hold all the room must not make a healthy node look ill. The
// request has been read, so the answer survives the close.
func (s *Server) answerBusy(fd int, read []byte, over *conn.Secured, full *wire.Error) {
	w := &bareResponse{header: make(http.Header)}
	switch line, _, _ := bytes.Cut(read, []byte(" HTTP/")); string(line) {
	case "GET /healthz":
		s.serveHealth(w, nil)
	case "GET /readyz":
		s.serveReady(w, nil)
	default:
		refuse(w, 0, full)
	}
	writeLast(fd, over, w.bytes())
	unix.Close(fd)
}

// bareResponse is an http.ResponseWriter without net/http's server.
type bareResponse struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (w *bareResponse) Header() http.Header         { return w.header }
func (w *bareResponse) WriteHeader(status int)      { w.status = status }
func (w *bareResponse) Write(p []byte) (int, error) { return w.body.Write(p) }

func (w *bareResponse) bytes() []byte {
	w.header.Set("Connection", "close")
	w.header.Set("Content-Length", strconv.Itoa(w.body.Len()))
	var b bytes.Buffer
	fmt.Fprintf(&b, "HTTP/1.1 %d %s\r\n", w.status, http.StatusText(w.status))
	_ = w.header.Write(&b) // to memory
	b.WriteString("\r\n")
	b.Write(w.body.Bytes())
	return b.Bytes()
}

// adopt makes a net.Conn of a shard's socket.
func (p *plainHTTP) adopt(fd int, read []byte, h conn.Handed) {
	f := os.NewFile(uintptr(fd), "client")
	c, err := net.FileConn(f)
	f.Close() // FileConn has its own
	if err != nil {
		p.leave(h)
		p.server.log.Warn("no HTTP for a socket", "err", err)
		return
	}
	client := &plainConn{Conn: c, socket: c.(*net.TCPConn), read: read, owner: p, from: h}
	if h.TLS != nil {
		client.over = h.TLS.Over(c)
		client.Conn = client.over
	}
	select {
	case p.conns <- client:
	case <-p.closed:
		c.Close()
		p.leave(h)
	}
}

// Accept, Close and Addr are the net.Listener of http.Server.
func (p *plainHTTP) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *plainHTTP) Close() error {
	if !p.shut.Swap(true) {
		close(p.closed)
	}
	return nil
}

func (p *plainHTTP) Addr() net.Addr { return plainAddr(p.server.addr) }

type plainAddr string

func (plainAddr) Network() string  { return "tcp" }
func (a plainAddr) String() string { return string(a) }

// plainConn is a connection of which some has been read already.
type plainConn struct {
	net.Conn // of the socket, or of the TLS over it
	socket   *net.TCPConn
	over     *tls.Conn // nil: no TLS
	owner    *plainHTTP
	from     conn.Handed
	read     []byte
	gone     atomic.Bool
}

func (c *plainConn) Read(p []byte) (int, error) {
	if len(c.read) > 0 {
		n := copy(p, c.read)
		c.read = c.read[n:]
		return n, nil
	}
	return c.Conn.Read(p)
}

// CloseWrite lets net/http end its side first.
func (c *plainConn) CloseWrite() error {
	if c.over != nil {
		if err := c.over.CloseWrite(); err != nil {
			return err
		}
	}
	return c.socket.CloseWrite()
}

func (c *plainConn) Close() error {
	if c.gone.Swap(true) {
		return nil // the socket may go on elsewhere, and what ends its TLS must not be written any more
	}
	c.owner.leave(c.from)
	return c.Conn.Close()
}

// leave is Close of this end alone, of a socket that goes on elsewhere.
func (c *plainConn) leave() {
	if !c.gone.Swap(true) {
		c.owner.leave(c.from)
		c.socket.Close()
	}
}

// giveBack takes a connection whose request asks for an upgrade from net/http
// and hands it to a shard, with the request as it would have been read there.
func (p *plainHTTP) giveBack(w http.ResponseWriter, head []byte) error {
	hijacked, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return err
	}
	defer hijacked.Close() // where it has not come to that
	c := hijacked.(*plainConn)
	behind := make([]byte, buffered.Reader.Buffered())
	if _, err := io.ReadFull(buffered, behind); err != nil {
		return err
	}
	handed := conn.Handed{Client: c.proxied(), TLS: c.from.TLS}
	return p.server.toShard(c.socket, append(head, behind...), handed, c.leave)
}

// toShard hands a socket to a shard, with what was read of it. leave closes the
// end that net/http has of it, and nothing else.
func (s *Server) toShard(socket *net.TCPConn, read []byte, h conn.Handed, leave func()) error {
	fd := -1
	raw, err := socket.SyscallConn()
	if err != nil {
		return err
	}
	var dupErr error
	if err := raw.Control(func(old uintptr) {
		fd, dupErr = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0)
	}); err != nil {
		return err
	}
	if dupErr != nil {
		return os.NewSyscallError("fcntl", dupErr)
	}
	leave() // before the shard may close its own, which has to be the last then (poller.Loop.CloseFD)
	sh := s.shards[int(s.nextHome.Add(1))%len(s.shards)]
	if !sh.loop.Post(poller.Func(func() { sh.table.Adopt(fd, read, h) })) {
		return errors.Join(syscall.ESHUTDOWN, unix.Close(fd))
	}
	return nil
}

// slogWriter passes net/http's own log lines on, at debug level: they are about
// clients' mistakes.
type slogWriter struct{ log *slog.Logger }

func (w slogWriter) Write(p []byte) (int, error) {
	w.log.Debug("HTTP", "message", string(p))
	return len(p), nil
}
