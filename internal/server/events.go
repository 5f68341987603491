package server

import (
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/pushd/pushd/conn"
	"github.com/pushd/pushd/internal/wire"
	"github.com/pushd/pushd/poller"
	"github.com/pushd/pushd/topics"
)

// path of Server-Sent Events on the public listener.
const eventsPath = "/sse"

// A stream of events is what a WebSocket is whose client sends no commands: all it
// wants stands in its request, and what cannot be had is refused before the 200.

// retryBase, and up to as much again, is after which time an EventSource is to come
// back: those who lost their server do not all come at once.
const retryBase = 2 * time.Second

// eventsOpening is what is known of a stream until its 200 has left.
type eventsOpening struct {
	origin string   // of the page; "": it is no browser's
	others []string // topics that do not go on from Last-Event-ID: it is of another feed
	feeds  []string // of which an event has said already where they begin
}

// claimsPath is conn.Config.Claims.
func claimsPath(path string) bool { return path == eventsPath || path == pollPath }

// lastWords is conn.Config.LastWords.
func lastWords(dst []byte, why conn.Reason) []byte {
	return wire.AppendCloseEvent(dst, wire.CloseCode(why.Code()), why.String())
}

// Get implements conn.Handler: a poll, or a stream of events with the subscriptions
// of its query string.
func (sh *shard) Get(id poller.Token, r *conn.Request) *conn.Refusal {
	sh.knowDebtor(id, r)
	if err := sh.server.checkOrigin(r.Origin, r.Host); err != nil {
		refused := refusal(0, err)
		refused.Header = corsHeader("")
		return refused
	}
	if r.Path == pollPath {
		return sh.getPoll(id, r)
	}
	if sh.openings == nil {
		sh.openings = make(map[poller.Token]*eventsOpening)
	}
	sh.openings[id] = &eventsOpening{origin: strings.Clone(r.Origin)}
	refused := sh.openEvents(id, r)
	switch {
	case refused != nil:
		refused.Header = sh.crossOrigin(id)
		delete(sh.openings, id)
	case !sh.table.IsHeld(id):
		delete(sh.openings, id)
	}
	if refused == nil {
		sh.counted[overEvents].opened.Add(1)
	}
	return refused
}

func (sh *shard) openEvents(id poller.Token, r *conn.Request) *conn.Refusal {
	if sh.server.stopping.Load() {
		return refusal(0, errStopping)
	}
	if sh.leaving.begun(time.Now()) {
		return refusal(503, errDraining)
	}
	r.Query = strings.Clone(r.Query) // it may have to wait for a check
	open, err := readOpening(r)
	if err == nil && len(open.topics) == 0 {
		err = &wire.Error{Code: wire.BadRequest, Message: "topic= is missing: a stream of events has the topics of its query string alone"}
	}
	if err != nil {
		return refusal(0, err)
	}
	open.shape = shapeOfEvents(open.format)
	if r.LastEventID != "" {
		open.lastEvent = strings.Clone(r.LastEventID) // it is newer than what an URL says
	}
	if err := sh.resumeEvents(sh.openings[id], &open); err != nil {
		return refusal(0, err)
	}
	if sh.server.access != nil {
		return sh.admit(id, r, &open)
	}
	*sh.client(id.Slot()) = client{shape: open.shape, unlimited: r.Unlimited}
	return sh.beginNow(id, &open)
}

// resumeEvents has those topics of a request go on from its Last-Event-ID that are
// of the same feed.
func (sh *shard) resumeEvents(o *eventsOpening, open *opening) *wire.Error {
	if open.lastEvent == "" {
		return nil
	}
	cursor, topic := wire.CutEventID(open.lastEvent)
	_, err := wanted(&wire.Command{Cursor: cursor})
	if err != nil || cursor == "" || topic != "" && topics.CheckPattern(topic) != nil {
		return &wire.Error{Code: wire.BadRequest, Message: "Last-Event-ID is none of this server: send back what an event had, as it was"}
	}
	feed := ""
	if topic != "" {
		feed = sh.server.feedOf(topic)
	}
	given := open.cursors
	open.cursors = make([]string, len(open.topics))
	copy(open.cursors, given)
	for i, t := range open.topics {
		switch of := sh.server.feedOf(t); {
		case feed != "" && of != feed:
			if open.cursors[i] == "" {
				o.others = append(o.others, t)
			}
		case sh.beginsAnew(open, of):
			open.cursors[i] = ""
		default:
			open.cursors[i] = cursor
		}
	}
	return nil
}

// beginsAnew reports whether the topics of a feed get their current values, and not
// those that changed since an event: the one id that a client keeps says of several
// subscriptions that each bring the newest value in their own time only where one
// of them stands.
func (sh *shard) beginsAnew(open *opening, feed string) bool {
	n := 0
	for _, t := range open.topics {
		if sh.server.feedOf(t) == feed {
			n++
		}
	}
	mode := modes[open.ask.Mode]
	if open.ask.Mode == "" {
		mode = served(sh.server.cfg.Namespace(topics.Namespace(feed))).Mode
	}
	return n > 1 && mode == modes[wire.ModeLatest]
}

// headOfEvents is what a stream begins with.
func (sh *shard) headOfEvents(id poller.Token) []byte {
	b := append(sh.framed[:0], "HTTP/1.1 200 OK\r\nDate: "...)
	b = time.Now().UTC().AppendFormat(b, http.TimeFormat)
	b = append(b, "\r\nContent-Type: "+wire.EventStreamType+"\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"+
		"X-Accel-Buffering: no\r\nConnection: close\r\n"...) // the one before the last is for nginx, which would keep events back
	b = append(append(b, sh.crossOrigin(id)...), "\r\n"...)
	return wire.AppendRetry(b, retryBase+rand.N(retryBase))
}

// crossOrigin is what has a browser show a page the response to a request that is
// being opened; see Server.crossOrigin.
func (sh *shard) crossOrigin(id poller.Token) string {
	if o := sh.openings[id]; o != nil {
		return corsHeader(o.origin)
	}
	return ""
}

// corsHeader is what has a browser show the response to a page of an origin.
func corsHeader(origin string) string {
	if origin == "" {
		return "Vary: Origin\r\n"
	}
	return "Vary: Origin\r\nAccess-Control-Allow-Origin: " + origin + "\r\nAccess-Control-Expose-Headers: Retry-After\r\n"
}

// refuse answers a request that is held back with a refusal.
func (sh *shard) refuse(id poller.Token, refused *conn.Refusal) {
	refused.Header = sh.crossOrigin(id)
	delete(sh.openings, id)
	sh.table.Refuse(id, refused)
}

// release lets go a request that was held back.
func (sh *shard) release(id poller.Token) {
	delete(sh.openings, id)
	sh.table.Release(id)
}

// replySubscribed tells how a subscription stands. The id of that event is where a
// stream goes on that had no message of its feed: the first of a feed says so, since no
// other begins before it.
func (sh *shard) replySubscribed(id poller.Token, cmd wire.ID, pattern string, st topics.Standing) {
	resumed, why := wire.Recovery(st.Resumed), gapReasons[st.Why]
	o := sh.openings[id]
	if o == nil {
		sh.reply(id, wire.AppendSubscribed(sh.json[:0], cmd, pattern, st.Cursor.String(), resumed, why))
		return
	}
	if slices.Contains(o.others, pattern) {
		resumed, why = wire.Truncated, wire.OtherFeed
	}
	event := ""
	if feed := sh.server.feedOf(pattern); !slices.Contains(o.feeds, feed) {
		o.feeds = append(o.feeds, feed)
		event = wire.EventID(st.Cursor.String(), pattern)
	}
	sh.json = wire.AppendSubscribed(sh.json[:0], cmd, pattern, st.Cursor.String(), resumed, why)
	sh.framed = wire.AppendEvent(sh.framed[:0], event, sh.json)
	sh.table.Reply(id, sh.framed)
}
