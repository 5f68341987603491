package server

import (
	"errors"
	"net/url"
	"strings"
	"time"

	"github.com/pushd/pushd/conn"
	"github.com/pushd/pushd/internal/auth"
	"github.com/pushd/pushd/internal/wire"
	"github.com/pushd/pushd/poller"
	"github.com/pushd/pushd/topics"
)

// path of WebSockets on the public listener.
const socketPath = "/ws"

// opening is what an upgrade request asks for.
type opening struct {
	format    wire.Format
	shape     shape
	tokens    []string
	topics    []string
	cursors   []string     // of topics, by index; empty: none has one
	lastEvent string       // Last-Event-ID, for who cannot set a header
	ask       wire.Command // mode and rate, which are for all topics alike
}

// Upgrade implements conn.Handler: welcome, and the subscriptions of the query string.
func (sh *shard) Upgrade(id poller.Token, r *conn.Request) *conn.Refusal {
	sh.knowDebtor(id, r)
	refused := sh.openSocket(id, r)
	if refused == nil && !r.Operator {
		sh.counted[overSocket].opened.Add(1)
	}
	return refused
}

func (sh *shard) openSocket(id poller.Token, r *conn.Request) *conn.Refusal {
	if sh.server.stopping.Load() {
		return refusal(0, errStopping)
	}
	if sh.leaving.begun(time.Now()) && !r.Operator {
		return refusal(503, errDraining)
	}
	if r.Path != socketPath {
		return refusal(404, &wire.Error{Code: wire.BadRequest, Message: "there is no WebSocket at this path; it is at " + socketPath})
	}
	if r.Operator {
		return sh.admitOperator(id, r)
	}
	if refused := sh.server.checkOrigin(r.Origin, r.Host); refused != nil {
		return refusal(0, refused)
	}
	if sh.server.access != nil {
		r.Query = strings.Clone(r.Query) // it may have to wait for a check
	}
	open, err := readOpening(r)
	if err != nil {
		return refusal(0, err)
	}
	open.shape = shapeOfSocket(open.format, r.Deflate)
	if sh.server.access != nil {
		return sh.admit(id, r, &open)
	}
	*sh.client(id.Slot()) = client{shape: open.shape, unlimited: r.Unlimited}
	return sh.beginNow(id, &open)
}

var (
	errStopping = &wire.Error{Code: wire.Unavailable, Message: "this node is shutting down"}
	errDraining = &wire.Error{Code: wire.Unavailable, Message: "this node is being drained"}
)

// beginNow is begin within Upgrade.
func (sh *shard) beginNow(id poller.Token, open *opening) *conn.Refusal {
	if err := sh.begin(id, open); err != nil {
		sh.members.Leave(id.Slot())
		*sh.client(id.Slot()) = client{}
		return refusal(0, err)
	}
	if sh.client(id.Slot()).awaited > 0 {
		sh.table.Hold(id)
	}
	return nil
}

// begin replies what belongs into the write with the head of the response. The error
// is for a client that could not be told later.
func (sh *shard) begin(id poller.Token, open *opening) *wire.Error {
	c := sh.client(id.Slot())
	c.awaited++ // this itself: what is answered at once must not let the 101 go before the rest
	defer func() { c.awaited-- }()
	if c.shape.transport() == overEvents {
		sh.framed = sh.headOfEvents(id)
		sh.table.Reply(id, sh.framed)
	}
	if c.shape.tells() {
		sh.reply(id, wire.AppendWelcome(sh.json[:0], sh.server.clientName(sh, id), sh.server.cfg.Heartbeat, int(sh.server.cfg.MaxMessage)))
	}
	for i, topic := range open.topics {
		if len(open.cursors) > 0 {
			open.ask.Cursor = open.cursors[i]
		}
		err := sh.subscribe(id, wire.ID{}, topic, &open.ask)
		if err == nil {
			continue
		}
		if !c.shape.talks() {
			return err
		}
		sh.replyError(id, wire.ID{}, err.Code, err.Message)
	}
	return nil
}

// readOpening reads the query string and the subprotocol of a request.
func readOpening(r *conn.Request) (o opening, refused *wire.Error) {
	if r.Protocol == wire.SubprotocolRaw {
		o.format = wire.Raw
	}
	if r.Query == "" {
		return o, nil
	}
	q, err := url.ParseQuery(r.Query)
	if err != nil {
		return o, &wire.Error{Code: wire.BadRequest, Message: "query string: " + err.Error()}
	}
	if f := q.Get("format"); f != "" && r.Protocol == "" {
		var ok bool
		if o.format, ok = wire.ParseFormat(f); !ok {
			return o, &wire.Error{Code: wire.BadRequest, Message: "format must be json or raw"}
		}
	}
	o.tokens, o.topics, o.lastEvent = tokensOf(q), q["topic"], q.Get("last_event_id")
	if o.cursors = q["cursor"]; len(o.cursors) > 0 && len(o.cursors) != len(o.topics) {
		return o, &wire.Error{Code: wire.BadRequest, Message: "there must be one cursor for each topic, in the same order; it may be empty"}
	}
	if m := q.Get("mode"); m != "" {
		if o.ask.Mode, refused = wire.ParseMode(m); refused != nil {
			return o, refused
		}
	}
	if rate := q.Get("max_rate"); rate != "" {
		if o.ask.MaxRate, refused = wire.ParseMaxRate(rate); refused != nil {
			return o, refused
		}
	}
	return o, nil
}

// subscribe adds one subscription where that is permitted, and replies, at once
// or when it stands.
func (sh *shard) subscribe(id poller.Token, cmd wire.ID, topic string, ask *wire.Command) *wire.Error {
	want, refused := wanted(ask)
	if refused != nil {
		return refused
	}
	if err := topics.CheckPattern(topic); err != nil {
		return &wire.Error{Code: wire.InvalidTopic, Message: err.Error()}
	}
	d := sh.decide(id, auth.Subscribe, topic)
	switch {
	case sh.mustWait(id, d):
		return sh.subscribeLater(id, cmd, strings.Clone(topic), want)
	case d == no:
		return sh.forbidden(id, auth.Subscribe, topic)
	}
	return sh.join(id, cmd, topic, want)
}

// subscribeLater subscribes when it is known that this is permitted.
func (sh *shard) subscribeLater(id poller.Token, cmd wire.ID, topic string, want topics.Want) *wire.Error {
	opening := !sh.table.IsOpen(id)
	if opening {
		sh.client(id.Slot()).awaited++
	}
	refused := sh.wait(id, &step{action: auth.Subscribe, topic: topic, do: func(refused *wire.Error) {
		if refused == nil {
			refused = sh.join(id, cmd, topic, want)
		}
		switch {
		case refused != nil && !sh.client(id.Slot()).shape.talks(): // it could not be told later
			sh.refuse(id, refusal(0, refused))
			return
		case refused != nil:
			sh.replyError(id, cmd, refused.Code, refused.Message)
		}
		if opening {
			sh.arrived(id)
		}
	}})
	if refused != nil && opening {
		sh.client(id.Slot()).awaited--
	}
	return refused
}

// join adds a subscription that is permitted.
func (sh *shard) join(id poller.Token, cmd wire.ID, topic string, want topics.Want) *wire.Error {
	c := sh.client(id.Slot())
	st, stands, err := sh.members.Subscribe(id.Slot(), topics.Format(c.shape), topic, cmd.String(), want)
	switch {
	case err != nil:
		return sh.server.subscribeError(topic, err)
	case !stands:
		if !sh.table.IsOpen(id) {
			c.awaited++
		}
	case c.shape.tells():
		sh.replySubscribed(id, cmd, topic, st)
	}
	return nil
}

// modes has what the protocol's modes are to the hub.
var modes = map[wire.Mode]topics.Mode{
	"":              topics.ModeDefault,
	wire.ModeAll:    topics.ModeAll,
	wire.ModeLive:   topics.ModeLive,
	wire.ModeLatest: topics.ModeLatest,
}

// wanted reads what a subscriber asks for beside the topic.
func wanted(ask *wire.Command) (topics.Want, *wire.Error) {
	want := topics.Want{Mode: modes[ask.Mode], MaxRate: ask.MaxRate}
	if ask.Cursor != "" {
		var err error
		if want.Cursor, err = topics.ParseCursor(ask.Cursor); err != nil {
			return want, &wire.Error{Code: wire.BadRequest, Message: `"cursor" is ` + err.Error()}
		}
		want.Resume = true
	}
	return want, nil
}

// subscribeError says in the protocol's words why a subscription was not added.
func (s *Server) subscribeError(topic string, err error) *wire.Error {
	code := wire.InvalidTopic
	switch {
	case errors.Is(err, topics.ErrTooMany):
		code = wire.TooManyTopics
	case errors.Is(err, topics.ErrTooManyWaiting):
		code = wire.RateLimited
	case errors.Is(err, topics.ErrMode) && !s.cfg.Namespace(topics.Namespace(topic)).KeepsHistory():
		code = wire.NoHistory // which is what the mode would need
	case errors.Is(err, topics.ErrMode), errors.Is(err, topics.ErrRate):
		code = wire.BadRequest
	}
	return &wire.Error{Code: code, Message: err.Error()}
}

// refusal is err as HTTP; status 0: the one that its code has.
func refusal(status int, err *wire.Error) *conn.Refusal {
	if status == 0 {
		status = err.Code.HTTPStatus()
	}
	r := &conn.Refusal{Status: status, Code: string(err.Code), Message: err.Message}
	if status == 401 {
		r.Challenge = challenge(false)
	}
	if status == 503 || status == 429 {
		r.RetryAfter = retryAfter
	}
	return r
}
