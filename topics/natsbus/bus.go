// Package natsbus is the topics.Bus that speaks NATS: interest becomes NATS
// subscriptions, and NATS messages come back as topics.Message. The server is
// an external NATS, or one that runs embedded in this process.
//
// A topic is the NATS subject below a prefix: topic "stocks.AAPL" is subject
// "push.stocks.AAPL". Three connections are kept, so that nothing waits behind
// what is not its kind: a live one, which only reads, one which only publishes,
// and, where a namespace keeps history, one which asks for it.
//
// Three goroutines do the work: one subscribes (interest.go), one hands what
// arrives to the sink (read.go), one publishes (publish.go). A fourth asks for
// history (ask.go). What callers give to them is queued, so nothing here blocks
// a caller but Open and Close.
//
// # History
//
// A namespace with history has a JetStream stream (streams.go), which stores
// what is published to the namespace's subjects and republishes it, with its
// number and time, to others: push.scores.a to push-live.scores.a. The live
// connection listens there. A message that arrives without a number did not
// come from the stream, and is dropped. Republishing is at most once, in the
// order of the numbers; whoever needs what is missing reads it (kept.go).
//
// # Rights
//
// An account of an external NATS that has permissions needs these, with the
// configured prefix, and for each namespace NS with history the name of its
// stream, push_NS by default:
//
//	publish    push.>
//	subscribe  push.>
//
// and where a namespace keeps history also
//
//	publish    $JS.API.STREAM.INFO.push_NS
//	publish    $JS.API.STREAM.MSG.GET.push_NS
//	publish    $JS.API.DIRECT.GET.push_NS
//	publish    the stream's subject, and that with .>, where it is not below push
//	subscribe  push-live.>, or where the stream republishes to
//	subscribe  _INBOX_push.>
//
// and where Config.Requests names a subject also
//
//	publish    that subject
//	subscribe  _INBOX_push.>
//
// and for streams that Open is to make, and to change when their configuration does
//
//	publish    $JS.API.STREAM.CREATE.push_NS
//	publish    $JS.API.STREAM.UPDATE.push_NS
//
// Dots of the prefix are underscores in the names of streams and inboxes. Nobody
// else should be allowed to publish to push-live.>.
package natsbus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pushd/pushd/topics"
)

// What the callbacks of Subscribe and Publish may say; test with errors.Is.
var (
	// ErrAway means that NATS does not answer now, or that the connection was
	// lost before it confirmed: a publication may have arrived all the same.
	ErrAway = errors.New("NATS is away")

	// ErrBusy means that a stream takes no more at the moment: it is not stored.
	ErrBusy = errors.New("NATS stream is busy")

	// ErrTooLarge means that a payload is larger than the server takes.
	ErrTooLarge = errors.New("payload too large for the NATS server")

	// ErrDenied means that the NATS server's permissions forbid the subject.
	ErrDenied = errors.New("denied by the NATS server's permissions")

	// ErrClosed means that the Bus was closed first.
	ErrClosed = errors.New("bus is closed")
)

// Config says which NATS to use. The zero value is an embedded server that
// keeps nothing on disk and listens nowhere.
type Config struct {
	// URLs of an external NATS: nats://, tls://, ws:// or wss://. Several are
	// servers of one cluster. Empty: an embedded server.
	URLs []string

	// Listen is the TCP address on which the embedded server takes publishers
	// and other NATS clients, without authentication. Port 0 picks a free one.
	// Empty: it does not listen.
	Listen string

	// Store is the folder of the embedded server's JetStream; it is made where
	// it is missing. "memory", or empty, keeps streams in memory alone.
	Store string

	// Prefix of all subjects, one or more tokens. Default "push".
	Prefix string

	// MaxPayload is the embedded server's limit of a message in bytes. Default 1 MiB.
	MaxPayload int

	// MaxMessage is how much data a message from NATS may hold, in bytes. A
	// larger one is dropped and told as lost. 0: no limit.
	MaxMessage int

	// Files that identify this node to an external NATS, all optional:
	// a .creds file, or an NKey seed; the CA that signed the server's
	// certificate; this node's certificate and key.
	Credentials, NKey, CA, Cert, Key string

	// ConnectTimeout is how long Open waits for an external NATS, shared
	// between its URLs, and a try to reconnect for a server. Default 5 s.
	ConnectTimeout time.Duration

	// Pending is how many messages may wait between NATS and the sink. What
	// arrives beyond is dropped and told as lost. Default 65536.
	Pending int

	// Streams of the namespaces that keep history, by namespace. Open creates
	// and updates them, or says which it needs and may not make.
	Streams map[string]StreamConfig

	// Requests is the subject that Request asks. Empty: it asks nobody.
	Requests string

	// Follow says who follows a message from NATS that has so many bytes of data,
	// and this traceparent; "": it has none. nil: nobody does. It is called by
	// one goroutine and must not block. Optional.
	Follow func(topic string, size int, traceparent string) *topics.Trail

	Log *slog.Logger // default: slog.Default()
}

func (c Config) withDefaults() Config {
	if c.Store == "" {
		c.Store = storeMemory
	}
	if c.Prefix == "" {
		c.Prefix = "push"
	}
	if c.MaxPayload <= 0 {
		c.MaxPayload = 1 << 20
	}
	if c.ConnectTimeout <= 0 {
		c.ConnectTimeout = 5 * time.Second
	}
	if c.Pending <= 0 {
		c.Pending = 65536
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	return c
}

// Bus is a topics.Bus over NATS. Its methods may be called from any goroutine.
type Bus struct {
	// Static after Open.
	embedded  *embedded // nil: NATS is external
	live, pub *link
	kept      *link               // to JetStream; nil: no namespace keeps history
	histories map[string]*history // by namespace
	asker     *asker              // nil as kept is
	arrived   chan *nats.Msg
	interests *interests
	reader    *reader
	publisher *publisher
	requester *requester         // nil: Config.Requests is empty
	hangUp    context.CancelFunc // ends dials under way
	cutOff    context.CancelFunc // ends the network connections too

	working  sync.WaitGroup // interests, publisher and requester
	asking   sync.WaitGroup // asker
	reading  sync.WaitGroup
	starting sync.Once
	closing  sync.Once
	closeErr error // written by closing
}

var _ topics.Bus = (*Bus)(nil)

// Open starts the embedded server, or connects to an external one. Nothing is
// delivered before Start. An error is one line that names the setting which
// cures it; ctx ends the dialling of an external NATS early.
func Open(ctx context.Context, cfg Config) (*Bus, error) {
	cfg = cfg.withDefaults()
	if err := topics.CheckTopic(cfg.Prefix); err != nil {
		return nil, fmt.Errorf("prefix: %w: correct --prefix", err)
	}

	histories, err := newHistories(cfg)
	if err != nil {
		return nil, err
	}

	connected, cutOff := context.WithCancel(context.Background())
	life, hangUp := context.WithCancel(connected)
	stop := context.AfterFunc(ctx, hangUp)
	defer stop()

	b := &Bus{hangUp: hangUp, cutOff: cutOff, histories: histories, arrived: make(chan *nats.Msg, cfg.Pending)}
	var dial *dialer
	if len(cfg.URLs) > 0 {
		dial, err = newDialer(life, connected, cfg)
	} else {
		b.embedded, err = startEmbedded(cfg)
	}
	if err != nil {
		cutOff()
		return nil, err
	}
	if err := b.connect(ctx, cfg, dial); err != nil {
		b.closeLinks()
		cutOff()
		return nil, errors.Join(err, b.embedded.close())
	}
	b.working.Go(b.interests.run)
	b.working.Go(b.publisher.run)
	if b.requester != nil {
		b.working.Go(b.requester.run)
	}
	return b, nil
}

// connect makes the connections, and whoever works with them.
func (b *Bus) connect(ctx context.Context, cfg Config, dial *dialer) error {
	if len(b.histories) > 0 {
		if err := b.openHistories(ctx, cfg, dial); err != nil {
			return err
		}
	}

	b.reader = newReader(b.arrived, cfg.Prefix, b.histories, cfg.MaxMessage)
	b.reader.wentBack = b.renew
	b.reader.follow = cfg.Follow
	b.reader.unread = newDropLog(cfg.Log).add
	live := newLink("live", cfg.Log)
	b.interests = newInterests(cfg.Prefix, b.histories, live, b.arrived, b.reader, cfg.Log)
	b.reader.tooLarge = b.interests.messagesTooLarge
	live.restored = b.interests.linkRestored
	live.dropped = b.interests.messageDropped
	if err := live.connect(ctx, dial, b.embedded); err != nil {
		return err
	}
	b.live = live

	pub := newLink("publish", cfg.Log)
	b.publisher = newPublisher(cfg.Prefix, pub, b.histories, b.renew)
	if cfg.Requests != "" {
		b.requester = newRequester(cfg.Requests, pub)
		publisherRefused := pub.refusal
		pub.refusal = func(subject string) bool {
			return b.requester.refused(subject) || publisherRefused != nil && publisherRefused(subject)
		}
	}
	if err := pub.connect(ctx, dial, b.embedded); err != nil {
		return err
	}
	b.pub = pub
	if b.requester != nil {
		if err := b.requester.listen(); err != nil {
			return err
		}
	}
	if len(b.histories) > 0 {
		return b.publisher.listen()
	}
	return nil
}

// openHistories makes the connection to JetStream, and sure of the streams.
func (b *Bus) openHistories(ctx context.Context, cfg Config, dial *dialer) error {
	kept := newLink("history", cfg.Log)
	asker := newAsker(kept, b.histories, cfg.Log)
	if err := kept.connect(ctx, dial, b.embedded); err != nil {
		return err
	}
	b.kept = kept
	if err := asker.listen(); err != nil {
		return err
	}
	b.asker = asker
	b.asking.Go(asker.run)
	stop := context.AfterFunc(ctx, func() { asker.failAll(ErrAway) })
	defer stop()
	k := &keeper{asker: asker, link: kept, prefix: cfg.Prefix, histories: b.histories, patience: cfg.ConnectTimeout, log: cfg.Log}
	return k.openAll(ctx)
}

// closeLinks ends the connections, and what asks on them.
func (b *Bus) closeLinks() {
	if b.asker != nil {
		b.asker.close()
		b.asking.Wait()
	}
	for _, l := range []*link{b.kept, b.pub, b.live} {
		if l != nil {
			l.close()
		}
	}
}

// Start begins to hand to sink what arrives. All calls of sink come from one
// goroutine. Only the first Start counts. What arrived since Open waits in the
// meantime, as far as Config.Pending goes.
func (b *Bus) Start(sink topics.Sink) {
	b.starting.Do(func() {
		b.reader.sink = sink
		b.reading.Go(b.reader.run)
	})
}

// Subscribe adds an interest, see topics.Bus. The error of ready is ErrAway,
// ErrDenied, ErrClosed, or tells of an invalid name. Interests must not
// overlap: a message that two of them match is delivered twice.
func (b *Bus) Subscribe(in topics.Interest, ready func(error)) { b.interests.subscribe(in, ready) }

// Unsubscribe ends an interest, see topics.Bus.
func (b *Bus) Unsubscribe(in topics.Interest) { b.interests.unsubscribe(in) }

// Publish queues a publication and never blocks. It reports false, and calls
// no Done, where the queue is full or the Bus closed.
func (b *Bus) Publish(p Publication) bool { return b.publisher.publish(p) }

// Request asks whoever listens at Config.Requests, and never blocks. done is
// called once, from a goroutine of the Bus, so it must not block: with the
// first answer, or with ErrNoAnswer, ErrAway, ErrDenied or ErrClosed. Request
// reports false, and calls no done, where 4,096 requests are under way, the
// Bus is closed or Config.Requests is empty.
func (b *Bus) Request(data []byte, within time.Duration, done func(answer []byte, err error)) bool {
	return b.requester != nil && b.requester.request(data, within, done)
}

// ClientURL is where NATS clients may connect: the embedded server's listener
// with its real port, or the external server. Empty: it does not listen.
func (b *Bus) ClientURL() string {
	if b.embedded != nil {
		return b.embedded.clientURL()
	}
	return b.live.state().url
}

// Drop is why messages that arrived were not delivered: log word and metric label.
type Drop string

const (
	DropPendingFull   Drop = "pending_full"    // Config.Pending messages were waiting for the sink
	DropInvalidTopic  Drop = "invalid_topic"   // the subject below the prefix is no valid topic
	DropTooLarge      Drop = "too_large"       // more data than Config.MaxMessage
	DropNotFromStream Drop = "not_from_stream" // it came beside the stream of its namespace
)

// State is what probes, metrics and debug pages show of a Bus.
type State struct {
	Connected  bool   // all connections are up
	Embedded   bool   // the server runs in this process
	URL        string // the server last connected to, without credentials; "" where embedded
	JetStream  bool   // the server has JetStream enabled
	MaxPayload int64  // the server's limit of a message, in bytes

	Interests int // that stand now
	Pending   int // messages waiting for the sink

	// Totals since Open.
	Received   uint64 // messages taken from NATS, invalid and too large ones included
	Dropped    map[Drop]uint64
	Published  uint64 // publications that the server confirmed
	Denied     uint64 // refusals by the server's permissions
	Reconnects uint64 // of all connections

	// Of namespaces with history.
	Streams map[string]StreamState      // by namespace
	Unacked int                         // publications that their stream has not answered yet
	Acked   uint64                      // publications that their stream has stored; they are in Published too
	Gets    [topics.NumUrgencies]uint64 // direct gets, by urgency
	Infos   uint64                      // questions to a stream's leader how it stands
	Calls   uint64                      // other requests to JetStream
}

// StreamState is a namespace's stream, as last heard of.
type StreamState struct {
	Name  string
	Last  uint64 // newest number
	Epoch uint32
}

// State never waits for NATS.
func (b *Bus) State() State {
	live, pub := b.live.state(), b.pub.state()
	acked := b.publisher.acks.confirmed.Load()
	s := State{
		Connected:  live.up && pub.up,
		Embedded:   b.embedded != nil,
		URL:        live.url,
		JetStream:  live.jetStream,
		MaxPayload: pub.maxPayload,
		Interests:  int(b.interests.standing.Load()),
		Pending:    len(b.arrived),
		Received:   b.reader.taken.Load(),
		Dropped: map[Drop]uint64{
			DropPendingFull:   b.interests.lost.Load(),
			DropInvalidTopic:  b.reader.invalid.Load(),
			DropTooLarge:      b.reader.large.Load(),
			DropNotFromStream: b.reader.strange.Load(),
		},
		Published:  b.publisher.confirmed.Load() + acked,
		Denied:     live.denied + pub.denied,
		Reconnects: live.reconnects + pub.reconnects,
		Unacked:    int(b.publisher.acks.left.Load()),
		Acked:      acked,
	}
	if b.kept != nil {
		b.addHistories(&s)
	}
	return s
}

func (b *Bus) addHistories(s *State) {
	kept := b.kept.state()
	s.Connected = s.Connected && kept.up
	s.Denied += kept.denied
	s.Reconnects += kept.reconnects
	s.Infos, s.Calls = b.asker.infos.Load(), b.asker.calls.Load()
	for urgency := range s.Gets {
		s.Gets[urgency] = b.asker.gets[urgency].Load()
	}
	s.Streams = make(map[string]StreamState, len(b.histories))
	for namespace, h := range b.histories {
		s.Streams[namespace] = StreamState{Name: h.config.Name, Last: h.last.Load(), Epoch: h.epoch.Load()}
	}
}

// closeTimeout is what Close gives to CloseWithin.
const closeTimeout = 5 * time.Second

// Close is CloseWithin 5 s.
func (b *Bus) Close() error { return b.CloseWithin(closeTimeout) }

// CloseWithin publishes what is queued (nothing while NATS is away), ends both
// connections, delivers what has arrived, and stops the embedded server. It
// waits for all of that, but for NATS no longer than d: then the connections
// are cut, and what NATS has not confirmed ends with ErrAway. Only the first
// call of Close or CloseWithin counts; the others wait for it.
func (b *Bus) CloseWithin(d time.Duration) error {
	b.closing.Do(func() {
		cut := make(chan struct{})
		deadline := time.AfterFunc(d, func() {
			defer close(cut)
			b.abandon()
		})

		b.publisher.close()
		b.interests.close()
		if b.requester != nil {
			b.requester.close()
		}
		b.working.Wait()
		b.hangUp()     // connections that are being dialled hold locks that close needs
		b.closeLinks() // from here on nothing more arrives
		if !deadline.Stop() {
			<-cut
		}
		b.cutOff()
		b.starting.Do(func() {})
		close(b.reader.stop)
		b.reading.Wait()
		b.closeErr = b.embedded.close()
	})
	return b.closeErr
}

// abandon ends whatever waits for NATS. A link never comes up again after it.
func (b *Bus) abandon() {
	for _, l := range []*link{b.kept, b.pub, b.live} {
		if l != nil {
			l.abandon()
		}
	}
	b.cutOff() // for writes to a server that does not read
}
