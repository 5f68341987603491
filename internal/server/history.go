package server

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/pushd/pushd/internal/auth"
	"github.com/pushd/pushd/internal/wire"
	"github.com/pushd/pushd/topics"
	"github.com/pushd/pushd/topics/natsbus"
)

const (
	defaultHistoryLimit = 100
	maxHistoryLimit     = 1000    // messages of one answer
	maxHistoryBytes     = 4 << 20 // of their data; one message may be more

	// maxHistoryRequests bounds those that are read and written at a time, and
	// with the two above their memory.
	maxHistoryRequests = 16

	historyTimeout      = 10 * time.Second // for its turn, and to read
	historyWriteTimeout = 10 * time.Second // for the client to take it, which others wait for
)

// What became of history requests, as metric labels.
const (
	historyServed  = "served"
	historyRefused = "refused" // the request was wrong
	historyFailed  = "failed"  // NATS did not answer, or too many came at a time
)

// serveHistory answers with the newest messages of a topic, or with those
// behind a cursor.
func (s *Server) serveHistory(w http.ResponseWriter, r *http.Request) {
	if s.requestedTooFast(w, r) { // before credentials, which cost more
		s.metrics.history.WithLabelValues(historyRefused).Inc()
		return
	}
	v, ok := s.visitor(w, r)
	if !ok {
		s.metrics.history.WithLabelValues(historyRefused).Inc()
		return
	}
	p, after, refused := s.readHistoryRequest(r, v)
	if refused != nil {
		s.metrics.history.WithLabelValues(historyRefused).Inc()
		s.refuseVisitor(w, v, false, refused)
		return
	}
	if refused := s.errands.begin(r.Context()); refused != nil {
		s.metrics.history.WithLabelValues(historyFailed).Inc()
		refuse(w, 0, refused)
		return
	}
	defer s.errands.end()
	ctx, cancel := context.WithTimeout(r.Context(), historyTimeout)
	defer cancel()
	select {
	case s.history <- struct{}{}:
		defer func() { <-s.history }()
	case <-ctx.Done():
		s.metrics.history.WithLabelValues(historyFailed).Inc()
		refuse(w, 0, &wire.Error{Code: wire.Unavailable, Message: "too many requests for history at a time"})
		return
	}
	var e excerpt
	var err error
	if after == nil {
		e, err = p.newest(ctx)
	} else {
		e, err = p.after(ctx, *after)
	}
	if err != nil {
		s.metrics.history.WithLabelValues(historyFailed).Inc()
		refuse(w, 0, historyError(err))
		return
	}
	s.metrics.history.WithLabelValues(historyServed).Inc()
	writeExcerpt(w, p.topic, e)
}

// readHistoryRequest reads the path and the query; after is nil where there is no cursor.
func (s *Server) readHistoryRequest(r *http.Request, v visitor) (p *past, after *topics.Cursor, refused *wire.Error) {
	topic := r.PathValue("topic")
	if err := topics.CheckTopic(topic); err != nil {
		return nil, nil, &wire.Error{Code: wire.InvalidTopic, Message: err.Error()}
	}
	if err := s.permit(r.Context(), v, auth.Subscribe, topic); err != nil {
		return nil, nil, err
	}
	if !s.cfg.Namespace(topics.Namespace(topic)).KeepsHistory() {
		return nil, nil, noHistory(topic)
	}
	limit, err := queryInt(r, "limit", defaultHistoryLimit, 1, maxHistoryLimit)
	if err != nil {
		return nil, nil, &wire.Error{Code: wire.BadRequest, Message: err.Error()}
	}
	if text := r.URL.Query().Get("after"); text != "" {
		c, err := topics.ParseCursor(text)
		if err != nil {
			return nil, nil, &wire.Error{Code: wire.BadRequest, Message: "after= is " + err.Error()}
		}
		after = &c
	}
	return &past{history: s.bus, topic: topic, limit: limit, bytes: maxHistoryBytes}, after, nil
}

func noHistory(topic string) *wire.Error {
	return &wire.Error{Code: wire.NoHistory, Message: "namespace " + topics.Namespace(topic) + " keeps no history"}
}

// historyError says in the protocol's words why history was not read.
func historyError(err error) *wire.Error {
	switch {
	case errors.Is(err, natsbus.ErrNoHistory):
		return &wire.Error{Code: wire.NoHistory, Message: err.Error()}
	case errors.Is(err, natsbus.ErrDenied):
		return &wire.Error{Code: wire.Forbidden, Message: "this server may not read the history of that topic"}
	case errors.Is(err, natsbus.ErrAway), errors.Is(err, natsbus.ErrClosed):
		return &wire.Error{Code: wire.Unavailable, Message: err.Error()}
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return &wire.Error{Code: wire.Unavailable, Message: "the history was not read in time"}
	}
	return &wire.Error{Code: wire.Internal, Message: err.Error()}
}

// writeExcerpt writes an answer message by message: encoded as a whole it could
// be several times as large.
func writeExcerpt(w http.ResponseWriter, topic string, e excerpt) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(historyWriteTimeout)) // net/http has it
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(http.StatusOK)
	out := wire.AppendHistoryStart(nil, topic)
	for i := range e.messages {
		m := &e.messages[i]
		if i > 0 {
			out = append(out, ',')
		}
		out = wire.AppendMessage(out, m.Topic, m.Cursor.String(), m.Time, m.Data)
		if len(out) >= historyWrite {
			if _, err := w.Write(out); err != nil {
				return // the client has gone
			}
			out = out[:0]
		}
	}
	out = wire.AppendHistoryEnd(out, wire.HistoryEnd{
		Cursor: e.end.String(), Resumed: wire.Recovery(e.resumed), Why: gapReasons[e.why], More: e.more,
	})
	_, _ = w.Write(append(out, '\n')) // as above
}

// historyWrite is how many bytes are gathered for one write.
const historyWrite = 32 << 10
