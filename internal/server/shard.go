package server

import (
	"context"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/pushd/pushd/conn"
	"github.com/pushd/pushd/internal/config"
	"github.com/pushd/pushd/internal/wire"
	"github.com/pushd/pushd/poller"
	"github.com/pushd/pushd/topics"
	"github.com/pushd/pushd/topics/natsbus"
)

// shard joins the connections of one loop with their subscriptions. All of it
// happens on the loop's goroutine.
type shard struct {
	// Static.
	server   *Server
	index    int
	listener *poller.Listener // the table's, which closes it at the end of an upgrade or after any: so an upgrade may ask for its number
	loop     *poller.Loop
	table    *conn.Table
	members  *topics.Members

	// Loop-only.
	parser  wire.Parser
	command wire.Command
	json    []byte // the reply that is being made
	framed  []byte // the same in its frame
	clients []*[clientsPerPage]client
	sending bool // the last turn has left something to send
	leaving leaving
	debts   debts // of those who sent commands of late
	polls   polls
	stays   stays

	openings map[poller.Token]*eventsOpening // streams whose 200 has not left

	// Loop-only, and empty without authentication.
	sessions sessions
	sweptAt  uint32     // tick of the last sweep of sessions
	sweepAt  uint32     // slot at which the next goes on
	tokenDue []deadline // of those who have shown no token yet
	turns    map[poller.Token]*turns
	patience unhurried
	checks   map[poller.Token]context.CancelFunc // of credentials, that are under way

	// Atomic.
	counted [numTransports]struct{ opened, closed atomic.Uint64 }
}

// client is what a shard knows of a connection beside its socket and its
// subscriptions. It lies beside its slot, without a pointer.
type client struct {
	shape     shape
	strikes   uint8 // bad commands since the last good one
	unlimited bool
	standing  standing
	awaited   uint16 // replies that belong into the write with the 101, or the 200
	publish   uint16 // publications on their way to NATS
	denials   uint8  // tokens refused since the last good one
	lead      uint8  // seconds before its end at which to warn of it; 0: done, or nothing to warn of
	session   uint32 // in sessions; 0: nobody has been authenticated
}

const clientsPerPage = 1 << 10

func (s *Server) newShard(index, of int, l *poller.Listener) (*shard, error) {
	sh := &shard{server: s, index: index, listener: l, debts: make(debts), stays: stays{from: float64(index) / float64(of)}}
	var err error
	if sh.loop, err = poller.New(poller.Config{Backend: s.cfg.Poller}); err != nil {
		return nil, err
	}
	sh.table, err = conn.NewTable(conn.Config{
		MaxMessage:       int(s.cfg.MaxMessage),
		HandshakeTimeout: s.cfg.HandshakeTimeout,
		Heartbeat:        s.cfg.Heartbeat,
		PongTimeout:      pongTimeout,
		WriteTimeout:     s.cfg.WriteTimeout,
		Claims:           claimsPath,
		RefusalHeader:    s.refusalHeader,
		Beat:             []byte(wire.EventHeartbeat),
		LastWords:        lastWords,
		Subprotocols:     []string{wire.SubprotocolJSON, wire.SubprotocolRaw},
		Deflate:          s.cfg.Compression == config.On,
		Lane:             s.cfg.Send,
		Quota:            s.quota,
		Receiving:        s.receiving,
		Answering:        s.answering,
		Gate:             s.gate,
		ByteRate:         int(s.cfg.MaxByteRate),
		ProxyProtocol:    s.proxies,
		TrustForwarded:   s.forwarders,
		TLS:              s.tlsConfig(),
		Handshakes:       s.handshakes,
		Log:              s.log.With("shard", index),
	}, sh.loop, l, sh)
	if err != nil {
		sh.loop.Close()
		return nil, err
	}
	post := func(t topics.Task) bool { return sh.loop.Post(t) }
	sh.members = topics.NewMembers(s.hub, sender{sh}, post, s.cfg.MaxSubscriptions)
	return sh, nil
}

// Ready, Tick and Turn are the loop's poller.Handler.
func (sh *shard) Ready(id poller.Token, e poller.Events) { sh.table.Ready(id, e) }

func (sh *shard) Tick(now uint32) {
	sh.table.Tick(now)
	sh.members.Tick()
	sh.tickPolls(now)
	sh.drain(time.Now())
	sh.debts.forgive(&sh.server.paces)
	if _, frozen := sh.table.Frozen(); !frozen { // else a new token may wait to be read
		sh.sweepSessions(now)
		sh.missTokens(now)
	}
	lag := sh.loop.Lag()
	sh.server.metrics.loopLag.Observe(lag.Seconds())
	sh.server.self().reporter.lagged(lag)
}

func (sh *shard) Turn() (more bool) {
	sh.sending = sh.members.Turn()
	sh.answerPolls()
	sh.table.Turn()
	return sh.sending
}

// shutdown takes no more clients, and closes those there are when they have
// been sent what is due to them now, which a turn does a part of; but at that time
// at the latest, for more may come all the time.
func (sh *shard) shutdown(latest time.Time) {
	sh.table.StopAccepting()
	sh.loop.Post(poller.Func(func() { sh.closeAll(latest) }))
}

func (sh *shard) closeAll(latest time.Time) {
	if sh.sending && time.Now().Before(latest) {
		sh.loop.Post(poller.Func(func() { sh.closeAll(latest) }))
		return
	}
	sh.pollsEnd(conn.ReasonShutdown)
	sh.table.CloseAll(conn.ReasonShutdown)
}

// client returns what is known of the connection in a slot.
func (sh *shard) client(slot uint32) *client {
	page := slot / clientsPerPage
	for page >= uint32(len(sh.clients)) {
		sh.clients = append(sh.clients, new([clientsPerPage]client))
	}
	return &sh.clients[page][slot%clientsPerPage]
}

// Drained implements conn.Handler.
func (sh *shard) Drained(id poller.Token) { sh.members.Drained(id.Slot()) }

// Closed implements conn.Handler.
func (sh *shard) Closed(id poller.Token, why conn.Reason) {
	sh.members.Leave(id.Slot())
	sh.forgetPoll(id)
	delete(sh.turns, id)
	sh.endCheck(id)
	sh.signOut(id.Slot())
	delete(sh.openings, id)
	if !sh.isOperator(id.Slot()) {
		sh.counted[sh.client(id.Slot()).shape.transport()].closed.Add(1)
	}
	*sh.client(id.Slot()) = client{}
	if why != conn.ReasonAnswered { // else it may go on with requests of the same client
		delete(sh.debts, id.Slot())
	}
	if sh.server.debugs() {
		sh.server.log.Debug("connection ended", "client", sh.server.clientName(sh, id), "reason", why.String())
	}
}

// reply sends what was put into json.
func (sh *shard) reply(id poller.Token, json []byte) {
	sh.json = json
	sh.framed = appendTold(sh.framed[:0], sh.client(id.Slot()).shape, json)
	sh.table.Reply(id, sh.framed)
}

func (sh *shard) replyError(id poller.Token, cmd wire.ID, code wire.ErrorCode, message string) {
	sh.server.metrics.refusals.WithLabelValues(string(code)).Inc()
	sh.reply(id, wire.AppendError(sh.json[:0], cmd, code, message))
}

// sender is the topics.Sender of a shard.
type sender struct{ *shard }

func (s sender) Send(slot uint32, frames []byte) topics.Outcome {
	if len(s.polls.of) > 0 && s.client(slot).shape == polled {
		return s.take(s.polls.of[slot], frames, true)
	}
	return outcome(s.table.Send(slot, frames))
}

func (s sender) SendCopy(slot uint32, frames []byte) topics.Outcome {
	if len(s.polls.of) > 0 && s.client(slot).shape == polled {
		return s.take(s.polls.of[slot], frames, false)
	}
	return outcome(s.table.SendCopy(slot, frames))
}

func outcome(r conn.Result) topics.Outcome {
	switch r {
	case conn.Sent:
		return topics.Sent
	case conn.Blocked:
		return topics.Blocked
	}
	return topics.Gone
}

func (s sender) Subscribed(slot uint32, pattern, tag string, st topics.Standing, err error) {
	id := s.table.ID(slot)
	c := s.client(slot)
	if tag == topics.TagCarried {
		s.tellCarried(slot, pattern, st, err)
		return
	}
	if c.shape == polled {
		s.subscribedPoll(s.polls.of[slot], pattern, st, err)
		return
	}
	switch {
	case err != nil && !c.shape.talks(): // it could not be told later
		s.refuse(id, refusal(0, notBrought(pattern, err)))
		return
	case err != nil:
		denied := notBrought(pattern, err)
		s.replyError(id, wire.RestoreID(tag), denied.Code, denied.Message)
	case c.shape.tells():
		s.replySubscribed(id, wire.RestoreID(tag), pattern, st)
	}
	if c.awaited > 0 {
		s.arrived(id)
	}
}

// arrived counts one reply that the head of a response waits for.
func (sh *shard) arrived(id poller.Token) {
	c := sh.client(id.Slot())
	if c.awaited--; c.awaited == 0 {
		sh.release(id)
	}
}

// notBrought is for a feed that NATS will not bring, or whose history cannot be
// read now. What NATS says of it is for the log, not for clients.
func notBrought(pattern string, err error) *wire.Error {
	if errors.Is(err, natsbus.ErrDenied) {
		return &wire.Error{Code: wire.Forbidden, Message: fmt.Sprintf("this server may not subscribe to %q", pattern)}
	}
	return &wire.Error{Code: wire.Unavailable, Message: fmt.Sprintf("the history of %q cannot be read now: try again", pattern)}
}

func (s sender) FannedOut(sent int, took time.Duration) {
	s.server.metrics.fanOut.Observe(took.Seconds())
}

var clientNames = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

const (
	clientPrefix    = "c_"
	clientNameBytes = 13
)

// clientName is the name by which a client knows itself, and logs know it. It
// says which node, shard and slot have it, so that nothing need be kept for it.
func (s *Server) clientName(sh *shard, id poller.Token) string {
	var b [clientNameBytes]byte
	binary.BigEndian.PutUint32(b[0:], id.Generation())
	binary.BigEndian.PutUint32(b[4:], id.Slot())
	b[8] = byte(sh.index)
	binary.BigEndian.PutUint32(b[9:], s.node)
	return clientPrefix + clientNames.EncodeToString(b[:])
}

func (s *Server) debugs() bool { return s.log.Enabled(context.Background(), slog.LevelDebug) }
