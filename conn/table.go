// Package conn holds clients from accept to close: handshake, frames,
// heartbeat, unsent bytes, and one stated reason at the end. It knows no topic.
//
// A Table has the connections of one shard and belongs to that shard's loop:
// every method is to be called on the loop's goroutine, except where it says
// otherwise. A connection is a file descriptor and a pointer-free record of 40
// bytes in a slab; whatever only few connections need at a time (a cut frame,
// unsent bytes) lies in a side record that is given back as soon as it is empty.
package conn

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/gobwas/ws"
	"github.com/valyala/bytebufferpool"

	"github.com/pushd/pushd/internal/gate"
	"github.com/pushd/pushd/internal/via"
	"github.com/pushd/pushd/poller"
)

// Handler is told what happens to the connections of one Table, on the loop's
// goroutine. Its methods may call those of the Table that name a connection,
// and for any connection, but not Adopt, Shutdown or what the loop calls.
type Handler interface {
	// Upgrade is asked about each valid upgrade request; r and what it refers
	// to are valid during the call only. A Refusal is answered as HTTP and the
	// connection ends. Otherwise the replies to id during the call leave in
	// one write with the 101. Data cannot be sent yet, unless Hold was called:
	// then it is Blocked.
	Upgrade(id poller.Token, r *Request) *Refusal

	// Get is asked about each valid GET of a path that Config.Claims; r is as in
	// Upgrade, and so is a Refusal. Otherwise the response is the handler's: what
	// it replies with during the call begins with the head of one that ends with
	// the connection, and id is a stream from then on. Or it has one complete
	// response leave by Answer, now or, after Hold or Await, later.
	Get(id poller.Token, r *Request) *Refusal

	// Message hands over one complete data message. The payload is valid
	// during the call only.
	Message(id poller.Token, op ws.OpCode, payload []byte)

	// Drained says that a connection whose socket took no more (Blocked) has
	// sent everything that was kept for it.
	Drained(id poller.Token)

	// Closed ends what Upgrade or Get began: it is called once for each connection
	// that they did not refuse, and never from within another method of the
	// Table. The slot may be given to another connection afterwards.
	Closed(id poller.Token, why Reason)

	// NotUpgrade hands over the socket of a request that is neither a WebSocket
	// upgrade nor for Get, with everything that was read of it so far. The file descriptor
	// is the handler's from here on, and so is what h has; read is valid during
	// the call only.
	NotUpgrade(fd int, read []byte, h Handed)
}

// Config is what the tables of all shards have in common. A zero field has
// the default given.
type Config struct {
	MaxMessage       int                                 // bytes of one message, all fragments together; 64 KiB
	HandshakeTimeout time.Duration                       // from accept to the end of the request's head, TLS included; 5 s
	Heartbeat        time.Duration                       // silence after which a client is pinged; 25 s
	PongTimeout      time.Duration                       // further silence after which it is closed; 10 s
	IdleTimeout      time.Duration                       // from an answer to the next request on its connection; 75 s
	WriteTimeout     time.Duration                       // how long a socket may take nothing while bytes wait for it; 60 s
	Linger           time.Duration                       // how long the other side's end is awaited after ours; 0.5 s
	CloseTimeout     time.Duration                       // how long unsent bytes may take to leave before a close; 5 s
	MaxUnsent        int                                 // bytes kept for one connection that does not read, the rest of a data frame included; 1 MiB + MaxMessage
	Subprotocols     []string                            // known values of Sec-WebSocket-Protocol
	Deflate          bool                                // permessage-deflate (RFC 7692) is accepted where a client offers it
	Lane             string                              // how data is sent: LaneAuto, LaneWrite or LaneURing; LaneWrite
	Quota            *Quota                              // connections over all tables; nil: no limit
	Receiving        *Receiving                          // what has come of messages in part, over all tables; nil: no limit
	Answering        *Answering                          // answers that clients do not take, over all tables; nil: no limit
	Gate             *gate.Gate                          // connections of each address, and how fast they come; nil: no limit
	ByteRate         int                                 // what a client may send, in bytes a second, where each frame counts 256 bytes besides; 0: any number
	ProxyProtocol    via.Networks                        // who begins with a PROXY header
	TrustForwarded   via.Networks                        // whose X-Forwarded-For and Forwarded are believed
	Claims           func(path string) bool              // GET requests of which paths are for Handler.Get; nil: none
	RefusalHeader    func(origin, host string) string    // header lines, each with its CRLF, of a GET's refusal by the table itself: which pages may see it; nil: none
	Beat             []byte                              // what a stream is sent that was silent for a heartbeat; empty: nothing
	LastWords        func(dst []byte, why Reason) []byte // appends what a stream is sent before it is closed for a reason that has a code; nil: nothing
	TLS              *tls.Config                         // of all connections; nil: none has TLS
	Handshakes       *Handshakes                         // of TLS, over all tables; nil: NewHandshakes(0) for this one
	Log              *slog.Logger                        // nil: slog.Default
}

func (c Config) withDefaults() Config {
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	set(&c.HandshakeTimeout, 5*time.Second)
	set(&c.Heartbeat, 25*time.Second)
	set(&c.PongTimeout, 10*time.Second)
	set(&c.IdleTimeout, 75*time.Second)
	set(&c.WriteTimeout, 60*time.Second)
	set(&c.Linger, 500*time.Millisecond)
	set(&c.CloseTimeout, 5*time.Second)
	if c.MaxMessage == 0 {
		c.MaxMessage = 64 << 10
	}
	if c.MaxUnsent == 0 {
		c.MaxUnsent = 1<<20 + c.MaxMessage
	}
	if c.Quota == nil {
		c.Quota = NewQuota(0)
	}
	if c.Receiving == nil {
		c.Receiving = NewReceiving(0)
	}
	if c.Answering == nil {
		c.Answering = NewAnswering(0)
	}
	if c.Handshakes == nil && c.TLS != nil {
		c.Handshakes = NewHandshakes(0)
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	return c
}

// readSize bounds what one readiness event reads of one socket, so that a
// busy client does not hold up the others. One such buffer serves a whole shard.
const readSize = 64 << 10

// Table has the connections of one shard.
type Table struct {
	// Static after construction.
	cfg      Config
	loop     *poller.Loop
	handler  Handler
	listener *poller.Listener // nil: sockets come by Adopt alone
	reserve  *poller.Reserve
	lane     lane
	ticks    struct{ handshake, idle, heartbeat, pong, write, linger, closing, answer uint32 }
	inRate   inRate

	// Loop-only.
	slab      slab
	sides     sides
	shaker    *handshaker
	buf       []byte                     // what the current read brought
	out       *bytebufferpool.ByteBuffer // replies of the connection that is being read, see cork
	corked    uint32                     // its slot; noSlot: none
	fresh     decoder                    // serves every connection that keeps nothing between reads
	in        inboundTo                  // where decoders deliver
	inflater  inflater                   // serves every connection that sends compressed messages
	dying     []dying                    // connections that end with this turn
	deadlines deadlines                  // handshakes, closings, unsent bytes that do not move
	backlog   backlog                    // reads of which a part is still to be looked at
	sweepAt   uint32                     // next slot of the heartbeat sweep
	sweptAt   uint32                     // tick of the last slice
	sweepDebt uint64                     // fraction of a slot that the last slices left over
	sends     uint                       // since the last yield
	served    map[uint32]netip.Prefix    // by slot: whom the last request was made for, of proxies' connections that wait for another
	pages     map[uint32]string          // by slot: the header lines of a refusal by the table, of GETs that are held
	unread    map[uint32]unread          // by slot: answers that have not left
	secures   *secures                   // nil: no TLS
	arrived   []byte                     // ciphertext that is being decrypted
	plain     []byte                     // what it comes to
	clear     []byte                     // a reply that is being encrypted
	sealed    []byte                     // what TLS has written: valid until the next
	lent      []byte                     // the record buffer of whoever decrypts
	accepts   acceptPace
	full      canned                             // for ReasonAddressFull
	tooFast   [gate.Queue/time.Second + 1]canned // for ReasonAddressRate, by the seconds to wait
	paused    bool                               // the listener is off until the next tick: no file descriptors
	stopped   bool                               // no more accepts
	frozen    bool                               // nothing is read or accepted for now, see Freeze
	frozenAt  uint32                             // tick of Freeze
	ignored   bool                               // something is to be read in this turn, and is not
	parked    []func()                           // what waits for its end: sockets for Adopt, and requests behind others
	lending   bool                               // sockets may have duplicates elsewhere, see Lend
	borrowed  map[poller.Token]int               // sockets that Import may come for, see Borrow
	tally     tally                              // published to stats once a turn

	// Atomic.
	stats Stats

	shakers sync.WaitGroup // goroutines of TLS handshakes; started by the loop, ended by Shutdown
}

// dying is a connection that ends when the turn does.
type dying struct {
	id  poller.Token
	why Reason
}

const noSlot = ^uint32(0)

// listenerToken is no connection's: slots are given from 0 upwards.
var listenerToken = poller.NewToken(1<<31, 0)

// NewTable makes the table of one shard, before its loop runs. The listener, if
// there is one, is the table's from here on: StopAccepting closes it.
func NewTable(cfg Config, loop *poller.Loop, listener *poller.Listener, h Handler) (*Table, error) {
	cfg = cfg.withDefaults()
	t := &Table{
		cfg:      cfg,
		loop:     loop,
		handler:  h,
		listener: listener,
		shaker:   newHandshaker(cfg.Subprotocols, cfg.Deflate),
		buf:      make([]byte, readSize),
		corked:   noSlot,
		accepts:  acceptPace{next: 1},
	}
	t.in.t = t
	t.inRate = newInRate(cfg.ByteRate, cfg.MaxMessage, loop.TickLength())
	if cfg.TLS != nil {
		t.secures = &secures{}
		t.plain = make([]byte, 2*readSize) // more than one read and what was left before it come to
		if !buffersOfTLS.known {
			cfg.Log.Warn("this crypto/tls is not known: idle TLS connections take 4 KiB more than they need")
		}
	}
	t.sweptAt = loop.Now()
	for _, d := range []struct {
		ticks *uint32
		span  time.Duration
	}{
		{&t.ticks.handshake, cfg.HandshakeTimeout}, {&t.ticks.idle, cfg.IdleTimeout}, {&t.ticks.heartbeat, cfg.Heartbeat}, {&t.ticks.pong, cfg.PongTimeout},
		{&t.ticks.write, cfg.WriteTimeout}, {&t.ticks.linger, cfg.Linger}, {&t.ticks.closing, cfg.CloseTimeout}, {&t.ticks.answer, answerTime},
	} {
		*d.ticks = ticksOf(d.span, loop.TickLength())
	}
	var err error
	if t.lane, err = t.newLane(cfg.Lane); err != nil || listener == nil {
		return t, err
	}
	if t.reserve, err = poller.NewReserve(); err != nil {
		t.lane.close()
		return nil, fmt.Errorf("reserving a file descriptor: %w", err)
	}
	if err := loop.Add(listener.FD(), listenerToken, poller.Readable); err != nil {
		t.reserve.Close()
		t.lane.close()
		return nil, fmt.Errorf("watching the listener on %v: %w", listener.Addr(), err)
	}
	return t, nil
}

// ticksOf rounds up, and by one tick more since the current one has partly passed.
func ticksOf(d, tick time.Duration) uint32 {
	return uint32((d+tick-1)/tick) + 1
}

// Ready is the loop's Handler.Ready.
func (t *Table) Ready(id poller.Token, e poller.Events) {
	if t.frozen && e&^poller.Writable != 0 {
		t.ignored = true
		e &= poller.Writable
	}
	if id == listenerToken {
		if !t.frozen {
			t.accept()
		}
		return
	}
	r := t.live(id)
	if r == nil {
		return // an event of a connection that ended in this turn
	}
	if e&poller.Writable != 0 {
		t.writable(id, r)
	}
	if e&(poller.Readable|poller.HangUp) != 0 && r.state != stateDead {
		t.readable(id, r, e)
	}
}

// Turn is to be called at the end of each of the loop's turns. Connections
// end here and nowhere else, so that none vanishes under a caller's hands.
func (t *Table) Turn() {
	t.lane.flush()
	for i := 0; i < len(t.dying); i++ { // Closed may add to it
		t.bury(t.dying[i])
	}
	if t.dying = t.dying[:0]; cap(t.dying) > keepQueue {
		t.dying = nil
	}
	t.publishStats()
	if t.ignored { // and the poller tells of it again at once
		t.ignored = false
		time.Sleep(frozenPause)
	}
}

// frozenPause is what a frozen table waits in a turn in which there was something
// to read.
const frozenPause = time.Millisecond

// Tick is to be called once each tick of the loop.
func (t *Table) Tick(now uint32) {
	if t.paused {
		t.resumeListener()
	}
	t.expire(now)
	t.resumeThrottled(now)
	t.sweep(now)
	t.cfg.Gate.Sweep()
}

// Lane is the name of the lane in use.
func (t *Table) Lane() string { return t.lane.name() }

// Len says how many connections the table has, those in handshake and those
// that are closing included.
func (t *Table) Len() int { return t.slab.used }

// Slots says how many slots have ever been used: every connection's is below it.
func (t *Table) Slots() uint32 { return t.slab.next }

// ID names the connection that has a slot now.
func (t *Table) ID(slot uint32) poller.Token {
	if r := t.slab.at(slot); r != nil {
		return poller.NewToken(slot, r.generation)
	}
	return 0
}

// IsOpen reports whether a connection's 101, or the head of a stream, has left.
func (t *Table) IsOpen(id poller.Token) bool {
	r := t.live(id)
	return r != nil && r.state == stateOpen
}

// IsHeld reports whether a connection's response is held back.
func (t *Table) IsHeld(id poller.Token) bool {
	r := t.live(id)
	return r != nil && r.state.held()
}

// live returns the record of a connection, nil if it has ended.
func (t *Table) live(id poller.Token) *record {
	r := t.slab.at(id.Slot())
	if r == nil || r.generation != id.Generation() || r.state == stateFree || r.state == stateDead {
		return nil
	}
	return r
}

// doom ends a connection without a further word, when the turn ends.
func (t *Table) doom(id poller.Token, r *record, why Reason) {
	if r.state == stateDead || r.state == stateFree {
		return
	}
	if r.state < stateClosing {
		r.why = why
	}
	r.state = stateDead
	t.dying = append(t.dying, dying{id, r.why})
}

// bury tells the handler that a connection has ended and, unless its closing
// handshake is still under way, gives back all it had.
func (t *Table) bury(d dying) {
	r := t.slab.at(d.id.Slot())
	if r.generation != d.id.Generation() {
		return
	}
	if r.flags&flagToldClosed == 0 {
		r.flags |= flagToldClosed
		if r.flags&flagUpgraded != 0 {
			if r.flags&flagOperator == 0 {
				t.tally.open--
				t.cfg.Quota.closed()
			}
			t.stats.closed[d.why].Add(1)
			t.handler.Closed(d.id, d.why)
		} else {
			t.stats.refused[d.why].Add(1)
			if !t.isSecured(d.id.Slot()) {
				t.stats.unsecured[d.why].Add(1)
			}
		}
	}
	if r.state == stateAnswered {
		t.renew(d.id, r)
		return
	}
	if r.state != stateDead {
		return
	}
	t.dropSide(r)
	t.cfg.Gate.Leave(r.visit)
	delete(t.served, d.id.Slot())
	delete(t.pages, d.id.Slot())
	t.answerLeft(d.id.Slot())
	t.dropSecure(d.id.Slot())
	t.closeSocket(r)
	t.slab.free(d.id.Slot())
	t.releaseQuota(r)
}
