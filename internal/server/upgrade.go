package server

import (
	"errors"
	"net/url"
	"strings"

	"github.com/pushd/pushd/conn"
	"github.com/pushd/pushd/internal/wire"
	"github.com/pushd/pushd/poller"
	"github.com/pushd/pushd/topics"
)

// path of WebSockets on the public listener.
const socketPath = "/ws"

// opening is what an upgrade request asks for.
type opening struct {
	format wire.Format
	topics []string
	ask    wire.Command // cursor, mode and rate, which are for all topics alike
}

// Upgrade implements conn.Handler: welcome, and the subscriptions of the query string.
func (sh *shard) Upgrade(id poller.Token, r *conn.Request) *conn.Refusal {
	if sh.server.stopping.Load() {
		return refusal(503, &wire.Error{Code: wire.Unavailable, Message: "this node is shutting down"})
	}
	if r.Path != socketPath {
		return refusal(404, &wire.Error{Code: wire.BadRequest, Message: "there is no WebSocket at this path; it is at " + socketPath})
	}
	open, err := readOpening(r)
	if err != nil {
		return refusal(0, err)
	}
	c := sh.client(id.Slot())
	*c = client{format: open.format}
	if c.format == wire.JSON {
		sh.reply(id, wire.AppendWelcome(sh.json[:0], sh.server.clientName(sh, id), sh.server.cfg.Heartbeat, int(sh.server.cfg.MaxMessage)))
	}
	for _, topic := range open.topics {
		err := sh.subscribe(id, wire.ID{}, topic, &open.ask)
		if err == nil {
			continue
		}
		if c.format == wire.Raw { // it could not be told later
			sh.members.Leave(id.Slot())
			*c = client{}
			return refusal(0, err)
		}
		sh.replyError(id, wire.ID{}, err.Code, err.Message)
	}
	if c.awaited > 0 {
		sh.table.Hold(id)
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
	o.topics = q["topic"]
	if cursors := q["cursor"]; len(cursors) > 0 {
		if len(cursors) != len(o.topics) {
			return o, &wire.Error{Code: wire.BadRequest, Message: "there must be one cursor for each topic, in the same order"}
		}
		o.ask.Cursor = strings.Join(cursors, "") // only whether there is one matters
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

// subscribe adds one subscription, and replies, at once or when it stands.
func (sh *shard) subscribe(id poller.Token, cmd wire.ID, topic string, ask *wire.Command) *wire.Error {
	if ask.Cursor != "" || ask.MaxRate != 0 || (ask.Mode != "" && ask.Mode != wire.ModeLive) {
		if err := topics.CheckPattern(topic); err != nil {
			return &wire.Error{Code: wire.InvalidTopic, Message: err.Error()}
		}
		return &wire.Error{Code: wire.NoHistory, Message: "namespace " + topics.Namespace(topic) +
			" keeps no history: cursor, max_rate and the modes all and latest need it"}
	}
	c := sh.client(id.Slot())
	st, stands, err := sh.members.Subscribe(id.Slot(), topics.Format(c.format), topic, cmd.String(), topics.Want{})
	switch {
	case errors.Is(err, topics.ErrTooMany):
		return &wire.Error{Code: wire.TooManyTopics, Message: err.Error()}
	case errors.Is(err, topics.ErrTooManyWaiting):
		return &wire.Error{Code: wire.RateLimited, Message: err.Error()}
	case err != nil:
		return &wire.Error{Code: wire.InvalidTopic, Message: err.Error()}
	case !stands:
		if !sh.table.IsOpen(id) {
			c.awaited++
		}
	case c.format == wire.JSON:
		sh.reply(id, appendSubscribed(sh.json[:0], cmd, topic, st))
	}
	return nil
}

func appendSubscribed(dst []byte, cmd wire.ID, pattern string, st topics.Standing) []byte {
	return wire.AppendSubscribed(dst, cmd, pattern, st.Cursor.String(), wire.Recovery(st.Resumed))
}

// refusal is err as HTTP; status 0: the one that its code has.
func refusal(status int, err *wire.Error) *conn.Refusal {
	if status == 0 {
		status = err.Code.HTTPStatus()
	}
	r := &conn.Refusal{Status: status, Code: string(err.Code), Message: err.Message}
	if status == 503 || status == 429 {
		r.RetryAfter = retryAfter
	}
	return r
}
