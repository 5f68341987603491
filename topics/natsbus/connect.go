package natsbus

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// A connection that is half open, its peer gone without a word, is found after
// pingInterval * (maxPingsOut + 1).
const (
	pingInterval = 5 * time.Second
	maxPingsOut  = 2
	writeTimeout = 10 * time.Second // for a write to a server that does not read
	flushTimeout = 5 * time.Second  // for a round trip
	denialWait   = time.Second      // for nats.go to call back with what it knows already
)

// link is one connection to NATS, which reconnects for ever.
//
// nats.go holds the lock of its connection while it dials, so most of its
// methods block for seconds while NATS is away. A link therefore keeps what it
// must know about the connection itself, told by callbacks.
type link struct {
	// Static after connect.
	name     string
	log      *slog.Logger
	nc       *nats.Conn
	restored func()                    // the connection is back, its subscriptions are sent; optional
	dropped  func(*nats.Subscription)  // a full channel cost a message; optional
	lost     func()                    // the connection is gone, or abandoned; optional
	refusal  func(subject string) bool // permissions denied a subject; true: refused need not tell of it; optional
	opened   chan struct{}             // closed once up is set for the first time

	// Guarded by mu.
	mu          sync.Mutex
	ctx         context.Context // ends when the connection is lost; nil while away
	lose        context.CancelFunc
	seen        linkState
	denials     []string // subjects, since the last call of refused
	lastDenial  error    // the newest denial that was called back
	denialNoted chan struct{}
	abandoned   bool // it never comes up again
}

// linkState is what is known of a link without asking nats.go.
type linkState struct {
	up         bool
	url        string // without credentials
	jetStream  bool
	maxPayload int64
	reconnects uint64
	denied     uint64
}

func newLink(name string, log *slog.Logger) *link {
	return &link{
		name:        name,
		log:         log.With("nats", name),
		opened:      make(chan struct{}),
		denialNoted: make(chan struct{}, 1),
	}
}

// connect makes the first connection, or says in one line why there is none.
// It dials, or goes in-process where there is an embedded server.
func (l *link) connect(ctx context.Context, d *dialer, e *embedded) error {
	opts := []nats.Option{
		nats.Name("pushd " + l.name),
		nats.MaxReconnects(-1),
		nats.IgnoreAuthErrorAbort(), // credentials may be mended over there
		nats.ReconnectBufSize(-1),   // while away a publication fails at once, rather than leave late
		nats.CustomReconnectDelay(reconnectDelay),
		nats.PingInterval(pingInterval),
		nats.MaxPingsOutstanding(maxPingsOut),
		nats.FlusherTimeout(writeTimeout),
		nats.NoCallbacksAfterClientClose(),
		nats.ConnectHandler(l.onConnect),
		nats.ReconnectHandler(l.onReconnect),
		nats.DisconnectErrHandler(l.onDisconnect),
		nats.ClosedHandler(l.onClosed),
		nats.ErrorHandler(l.onError),
	}
	var urls string
	if e != nil {
		opts = append(opts, nats.InProcessServer(e))
	} else {
		opts = append(opts, d.options...)
		urls = strings.Join(d.urls, ",")
	}
	nc, err := nats.Connect(urls, opts...)
	if err != nil && e != nil {
		return fmt.Errorf("cannot connect to the embedded NATS server: %w", err)
	}
	if err != nil {
		return d.explain(ctx, err)
	}
	l.nc = nc
	<-l.opened
	return nil
}

// close ends the connection for good. Callbacks that were queued may still run.
func (l *link) close() { l.nc.Close() }

// reconnectDelay spreads the tries of many nodes: n counts rounds over all servers.
func reconnectDelay(n int) time.Duration {
	most := 50 * time.Millisecond << min(n, 6)
	return most/2 + rand.N(most)
}

func (l *link) state() linkState {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.seen
}

func (l *link) up() bool { return l.state().up }

// flush returns when the server has taken all that was sent before, or with an
// error that is ErrAway.
func (l *link) flush() error {
	l.mu.Lock()
	up := l.ctx
	l.mu.Unlock()
	if up == nil {
		return ErrAway
	}
	ctx, cancel := context.WithTimeout(up, flushTimeout)
	defer cancel()
	err := l.nc.FlushWithContext(ctx)
	switch {
	case err == nil:
		return nil
	case up.Err() == nil && errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%w: no answer in %v", ErrAway, flushTimeout)
	default:
		return fmt.Errorf("%w: connection lost before it confirmed", ErrAway)
	}
}

// refused returns the subjects that the server's permissions denied since the
// last call. Right after a flush that is complete: the server sends denials
// before the flush's answer, so nats.go knows the last of them, and calls back
// in their order. Only the owner of the link's sends may call it.
func (l *link) refused() []string {
	if last := l.nc.LastError(); errors.Is(last, nats.ErrPermissionViolation) {
		l.awaitDenial(last)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	refused := l.denials
	l.denials = nil
	return refused
}

func (l *link) awaitDenial(last error) {
	deadline := time.NewTimer(denialWait)
	defer deadline.Stop()
	for {
		l.mu.Lock()
		noted := l.lastDenial == last
		l.mu.Unlock()
		if noted {
			return
		}
		select {
		case <-l.denialNoted:
		case <-deadline.C:
			return
		}
	}
}

func (l *link) onConnect(nc *nats.Conn) {
	l.setUp(nc, 0)
	close(l.opened)
}

func (l *link) onReconnect(nc *nats.Conn) {
	l.setUp(nc, 1)
	l.log.Info("NATS is back", "url", l.state().url)
	if l.restored != nil {
		l.restored()
	}
}

func (l *link) setUp(nc *nats.Conn, reconnects uint64) {
	// Asked before taking mu: they may block while nats.go dials yet again.
	url, maxPayload := nc.ConnectedUrlRedacted(), nc.MaxPayload()
	jetStream, _ := nc.ConnectedServerJetStream()

	l.mu.Lock()
	defer l.mu.Unlock()
	if l.abandoned {
		return
	}
	l.ctx, l.lose = context.WithCancel(context.Background())
	l.seen.up = true
	l.seen.url, l.seen.maxPayload, l.seen.jetStream = url, maxPayload, jetStream
	l.seen.reconnects += reconnects
}

func (l *link) onDisconnect(_ *nats.Conn, err error) {
	l.setDown()
	l.tellLost()
	l.log.Warn("NATS is away, reconnecting", "err", err)
}

// onClosed is called where nats.go gives up although told never to, which it
// does after a few errors that no server should send to us.
func (l *link) onClosed(nc *nats.Conn) {
	l.setDown()
	l.tellLost()
	l.log.Error("NATS connection closed for good: restart pushd", "err", nc.LastError())
}

func (l *link) tellLost() {
	if l.lost != nil {
		l.lost()
	}
}

func (l *link) setDown() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.loseLocked()
}

// abandon ends a flush under way and takes the link for lost, for good.
func (l *link) abandon() {
	l.mu.Lock()
	l.abandoned = true
	l.loseLocked()
	l.mu.Unlock()
	l.tellLost()
}

func (l *link) loseLocked() {
	if l.seen.up {
		l.lose()
	}
	l.ctx, l.seen.up = nil, false
}

func (l *link) onError(_ *nats.Conn, sub *nats.Subscription, err error) {
	switch {
	case errors.Is(err, nats.ErrSlowConsumer) && sub != nil && l.dropped != nil:
		l.dropped(sub)
	case errors.Is(err, nats.ErrPermissionViolation):
		l.log.Warn("NATS permissions deny a subject", "subject", deniedSubject(err), "err", err)
		l.noteDenial(err)
	default:
		l.log.Warn("NATS error", "err", err)
	}
}

func (l *link) noteDenial(err error) {
	subject := deniedSubject(err)
	known := l.refusal != nil && l.refusal(subject)
	l.mu.Lock()
	l.lastDenial = err
	if !known {
		l.denials = append(l.denials, subject)
	}
	l.seen.denied++
	l.mu.Unlock()
	select {
	case l.denialNoted <- struct{}{}:
	default:
	}
}

// deniedSubject takes the subject out of the server's words:
// Permissions Violation for Publish to "push.a".
func deniedSubject(err error) string {
	_, rest, _ := strings.Cut(err.Error(), `"`)
	subject, _, _ := strings.Cut(rest, `"`)
	return subject
}

// dialer reaches an external NATS. It is nats.go's CustomDialer, so that a
// dial ends when Open is given up or the Bus closed, and its error is known.
type dialer struct {
	// Static.
	life    context.Context // of dials
	kept    context.Context // of the connections that came of them
	urls    []string
	options []nats.Option
	timeout time.Duration

	mu      sync.Mutex
	lastErr error // of the last Dial
}

// newDialer checks what can be checked of the settings without dialling.
func newDialer(life, kept context.Context, cfg Config) (*dialer, error) {
	d := &dialer{
		life:    life,
		kept:    kept,
		urls:    slices.Clone(cfg.URLs),
		timeout: cfg.ConnectTimeout / time.Duration(len(cfg.URLs)),
	}
	for i, raw := range d.urls {
		if !strings.Contains(raw, "://") {
			d.urls[i] = "nats://" + raw
		}
		u, err := url.Parse(d.urls[i])
		if err != nil {
			// Not err itself: it would repeat a password that the URL may hold.
			return nil, errors.New("an URL of --nats cannot be read: write it as nats://host:4222")
		}
		if !slices.Contains([]string{"nats", "tls", "ws", "wss"}, u.Scheme) || u.Hostname() == "" {
			return nil, fmt.Errorf("NATS URL %s: write it as nats://host:4222 in --nats", u.Redacted())
		}
	}
	d.options = []nats.Option{
		nats.Timeout(d.timeout),
		nats.SetCustomDialer(d),
		nats.SkipHostLookup(), // Dial does it, within its context
		nats.CustomInboxPrefix(inboxPrefix(cfg.Prefix)),
	}
	return d, d.addFiles(cfg)
}

// inboxPrefix is where replies come: not below _INBOX, so that the right to hear
// them is no right to hear those of everybody else in the account.
func inboxPrefix(prefix string) string { return "_INBOX_" + strings.ReplaceAll(prefix, ".", "_") }

// addFiles adds what identifies this node and its server. nats.go reads the
// files again at each reconnect, so they may be renewed; here they are read to
// name the flag of one that is no use.
func (d *dialer) addFiles(cfg Config) error {
	for _, f := range []struct{ flag, path string }{
		{"--nats-creds", cfg.Credentials}, {"--nats-nkey", cfg.NKey},
		{"--nats-ca", cfg.CA}, {"--nats-cert", cfg.Cert}, {"--nats-key", cfg.Key},
	} {
		if f.path == "" {
			continue
		}
		text, err := os.ReadFile(f.path)
		if err != nil {
			return fmt.Errorf("cannot read NATS file %s: %w: correct %s", f.path, cause(err), f.flag)
		}
		if f.path == cfg.CA && !x509.NewCertPool().AppendCertsFromPEM(text) {
			return fmt.Errorf("NATS CA %s holds no certificate in PEM form: correct --nats-ca", cfg.CA)
		}
	}
	if (cfg.Cert == "") != (cfg.Key == "") {
		return errors.New("a NATS client certificate needs its key: give both --nats-cert and --nats-key")
	}
	if cfg.Credentials != "" {
		d.options = append(d.options, nats.UserCredentials(cfg.Credentials))
	}
	if cfg.NKey != "" {
		nkey, err := nats.NkeyOptionFromSeed(cfg.NKey)
		if err != nil {
			return fmt.Errorf("NATS key %s: %w: correct --nats-nkey", cfg.NKey, err)
		}
		d.options = append(d.options, nkey)
	}
	if cfg.CA != "" {
		d.options = append(d.options, nats.RootCAs(cfg.CA))
	}
	if cfg.Cert != "" {
		if _, err := tls.LoadX509KeyPair(cfg.Cert, cfg.Key); err != nil {
			return fmt.Errorf("NATS client certificate %s with key %s: %w: correct --nats-cert and --nats-key", cfg.Cert, cfg.Key, err)
		}
		d.options = append(d.options, nats.ClientCert(cfg.Cert, cfg.Key))
	}
	return nil
}

// Dial is called by nats.go.
func (d *dialer) Dial(network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(d.life, d.timeout)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	d.mu.Lock()
	d.lastErr = err
	d.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return &dialled{conn, newRawReader(conn), context.AfterFunc(d.kept, func() { conn.Close() })}, nil
}

// dialled is a connection that is closed when the Bus cuts it off: nats.go
// would wait for a write that is under way. It compares connections, hence a pointer.
type dialled struct {
	net.Conn
	raw  *rawReader  // nil: it can only be read as any other
	stop func() bool // forgets it
}

func (c *dialled) Read(p []byte) (int, error) {
	if c.raw == nil {
		return c.Conn.Read(p)
	}
	return c.raw.Read(p)
}

func (c *dialled) Close() error {
	c.stop()
	return c.Conn.Close()
}

// explain makes one line of why the first connection failed.
func (d *dialer) explain(ctx context.Context, err error) error {
	d.mu.Lock()
	if d.lastErr != nil {
		err = d.lastErr // nats.go does not always pass it on
	}
	d.mu.Unlock()

	cure := "start it there, or correct --nats"
	var timeout net.Error
	switch {
	case ctx.Err() != nil:
		err, cure = ctx.Err(), "given up"
	case errors.As(err, &timeout) && timeout.Timeout():
		err = fmt.Errorf("no answer in %v", d.timeout)
	case strings.Contains(strings.ToLower(err.Error()), "authorization"):
		// By its text: what the server says while connecting has no type.
		cure = "correct the credentials in --nats, --nats-creds or --nats-nkey"
	default:
		err = cause(err)
	}
	return fmt.Errorf("cannot connect to NATS at %s: %w: %s", redacted(d.urls), err, cure)
}

// cause strips what the system's errors say of calls and addresses, which the
// line around them names already.
func cause(err error) error {
	var op *net.OpError
	var dns *net.DNSError
	var sys *os.SyscallError
	var path *os.PathError
	switch {
	case errors.As(err, &dns):
		return errors.New(dns.Err)
	case errors.As(err, &sys):
		return sys.Err
	case errors.As(err, &path):
		return path.Err
	case errors.As(err, &op):
		return op.Err
	}
	return err
}

// redacted lists URLs without their passwords.
func redacted(urls []string) string {
	shown := make([]string, len(urls))
	for i, raw := range urls {
		if u, err := url.Parse(raw); err == nil {
			shown[i] = u.Redacted()
		}
	}
	return strings.Join(shown, ", ")
}
