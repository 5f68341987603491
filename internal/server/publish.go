package server

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/pushd/pushd/internal/auth"
	"github.com/pushd/pushd/internal/tracing"
	"github.com/pushd/pushd/internal/wire"
	"github.com/pushd/pushd/topics"
	"github.com/pushd/pushd/topics/natsbus"
)

// keyHeader makes the repetition of a request harmless.
const keyHeader = "Idempotency-Key"

// servePublish publishes one body as it is.
func (s *Server) servePublish(w http.ResponseWriter, r *http.Request) {
	if s.requestedTooFast(w, r) { // before credentials, which cost more
		return
	}
	v, ok := s.visitor(w, r)
	if !ok {
		return
	}
	topic := r.PathValue("topic")
	if err := topics.CheckTopic(topic); err != nil {
		refuse(w, 0, &wire.Error{Code: wire.InvalidTopic, Message: err.Error()})
		return
	}
	if err := s.permit(r.Context(), v, auth.Publish, topic); err != nil {
		s.refuseVisitor(w, v, false, err)
		return
	}
	key, refused := readKey(r)
	if refused != nil {
		refuse(w, 0, refused)
		return
	}
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, int64(s.maxMessage(topic))))
	if err != nil {
		refuse(w, 0, s.bodyError(topic, err))
		return
	}
	result := <-s.publish(r.Context(), topic, data, key, s.traceparentOf(r, v))
	switch {
	case result.refused != nil:
		refuse(w, 0, result.refused)
	case result.at.IsZero(): // on its way, and nobody keeps it
		writeJSON(w, http.StatusAccepted, wire.AppendResult(nil, topic, ""))
	default:
		writeJSON(w, http.StatusOK, wire.AppendResult(nil, topic, result.at.String()))
	}
}

// readKey returns what the header says, "" where it is absent.
func readKey(r *http.Request) (string, *wire.Error) {
	switch keys := r.Header.Values(keyHeader); len(keys) {
	case 0:
		return "", nil
	case 1:
		return keys[0], wire.CheckKey(keys[0])
	}
	return "", &wire.Error{Code: wire.BadRequest, Message: "more than one " + keyHeader}
}

func (s *Server) bodyError(topic string, err error) *wire.Error {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return s.tooLarge(topic)
	}
	return &wire.Error{Code: wire.BadRequest, Message: "reading the body: " + err.Error()}
}

// maxMessage is how much data a message to a topic may have, in bytes.
func (s *Server) maxMessage(topic string) int {
	if most := s.cfg.Namespace(topics.Namespace(topic)).MaxMessage; most > 0 {
		return int(most)
	}
	return int(s.cfg.MaxMessage)
}

func (s *Server) tooLarge(topic string) *wire.Error {
	most, setting := s.maxMessage(topic), "--max-message"
	if most < int(s.cfg.MaxMessage) {
		setting = "max_message of namespace " + topics.Namespace(topic)
	}
	return &wire.Error{Code: wire.MessageTooLarge, Message: fmt.Sprintf("a message may have %d bytes (%s)", most, setting)}
}

// published is what became of a message.
type published struct {
	at      topics.Cursor // where it is stored; zero: its namespace keeps no history
	refused *wire.Error
}

// publish hands a message to NATS. The channel tells when it is there, or why not.
// traceparent is what the publisher said, "" for nothing.
func (s *Server) publish(ctx context.Context, topic string, data []byte, key, traceparent string) <-chan published {
	result := make(chan published, 1)
	if refused := s.errands.begin(ctx); refused != nil {
		result <- published{refused: refused}
		return result
	}
	if !s.handToNATS(natsbus.Publication{Topic: topic, Data: data, ID: publicationID(topic, key), Traceparent: traceparent, Done: func(at topics.Cursor, err error) {
		s.errands.end()
		if err != nil {
			result <- published{refused: publishError(err)}
			return
		}
		result <- published{at: at}
	}}, tracing.OverHTTP) {
		s.errands.end()
		result <- published{refused: &wire.Error{Code: wire.Unavailable, Message: queueFull}}
	}
	return result
}

// publicationID makes a key one of its topic alone, since NATS compares the IDs
// of a whole namespace. No topic has a slash.
func publicationID(topic, key string) string {
	if key == "" {
		return ""
	}
	return topic + "/" + key
}

// linesAtATime bounds the lines of one request that are on their way to NATS.
const linesAtATime = 512

// A line of NDJSON may be this much longer than its payload: each byte of a
// string may be an escape, and there is the topic.
const (
	lineFactor   = 6
	lineOverhead = 1 << 10
)

// servePublishLines publishes newline-delimited JSON, and answers each line in
// order, while more come: the request may go on for ever.
func (s *Server) servePublishLines(w http.ResponseWriter, r *http.Request) {
	if s.requestedTooFast(w, r) { // as above
		return
	}
	v, ok := s.visitor(w, r)
	if !ok {
		return
	}
	if s.access != nil && v.rights == nil && !s.access.public.any {
		s.metrics.auth.WithLabelValues(string(auth.Missing)).Inc()
		s.refuseVisitor(w, v, false, errNoToken)
		return
	}
	if t := r.Header.Get("Content-Type"); !strings.HasPrefix(t, "application/x-ndjson") {
		refuse(w, http.StatusUnsupportedMediaType, &wire.Error{Code: wire.BadRequest,
			Message: "Content-Type must be application/x-ndjson; one message alone goes to /publish/{topic}"})
		return
	}
	key, refused := readKey(r)
	if refused != nil {
		refuse(w, 0, refused)
		return
	}
	ctl := http.NewResponseController(w)
	if err := ctl.EnableFullDuplex(); err != nil { // else HTTP/1 would read the whole body first
		refuse(w, 0, &wire.Error{Code: wire.Internal, Message: err.Error()})
		return
	}
	from, ok := s.beginLasting(w, r, v)
	if !ok {
		return
	}
	defer s.endLasting(from)
	w.Header().Set("Content-Type", "application/x-ndjson")
	in := bufio.NewReaderSize(r.Body, 16<<10)
	lines := lineBatch{server: s, ctx: r.Context(), visitor: v, key: key, traceparent: s.traceparentOf(r, v)}
	for !s.stopping.Load() && !from.ended.Load() {
		_ = ctl.SetReadDeadline(time.Now().Add(plainReadTimeout))
		end := lines.read(in)
		for _, l := range lines.batch {
			if result := <-l.result; result.refused != nil {
				lines.out = wire.AppendFailure(lines.out, l.topic, result.refused.Code, result.refused.Message)
			} else {
				lines.out = wire.AppendResult(lines.out, l.topic, result.at.String())
			}
			lines.out = append(lines.out, '\n')
		}
		_, err := w.Write(lines.out)
		if err == nil {
			err = ctl.Flush()
		}
		if end || err != nil || !s.paceLines(r, len(lines.batch)) {
			return
		}
	}
}

// lineBatch is the lines that were found waiting at one time.
type lineBatch struct {
	server      *Server
	ctx         context.Context // of the request
	visitor     visitor
	key         string // of the request; "": none
	traceparent string // the same
	parser      wire.Parser
	number      int // of the line that was read last, from 1
	batch       []publishedLine
	line        []byte // one that did not fit into the reader's buffer
	out         []byte
}

type publishedLine struct {
	topic  string
	result <-chan published
}

// read publishes what has come of the body, and waits only for the first line.
// It reports whether that was the end.
func (b *lineBatch) read(in *bufio.Reader) (end bool) {
	b.batch, b.out = b.batch[:0], b.out[:0]
	for len(b.batch) < linesAtATime {
		line, err := b.readLine(in)
		b.number++
		if errors.Is(err, bufio.ErrBufferFull) {
			b.refused("", b.server.tooLarge(""))
			return true // where the next line begins is not known
		}
		if line = bytes.TrimSpace(line); len(line) > 0 {
			b.publish(line)
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				b.refused("", &wire.Error{Code: wire.BadRequest, Message: "reading the body: " + err.Error()})
			}
			return true
		}
		if waiting, _ := in.Peek(in.Buffered()); len(b.batch) > 0 && bytes.IndexByte(waiting, '\n') < 0 {
			return false // results do not wait for a line that has come in part
		}
	}
	return false
}

// readLine reads one line, which is valid until the next. One that is longer
// than a message can make it is bufio.ErrBufferFull.
func (b *lineBatch) readLine(in *bufio.Reader) ([]byte, error) {
	line, err := in.ReadSlice('\n')
	if !errors.Is(err, bufio.ErrBufferFull) {
		return line, err
	}
	b.line = b.line[:0]
	for most := lineFactor*int(b.server.cfg.MaxMessage) + lineOverhead; errors.Is(err, bufio.ErrBufferFull) && len(b.line) <= most; {
		b.line = append(b.line, line...)
		line, err = in.ReadSlice('\n')
	}
	return append(b.line, line...), err
}

func (b *lineBatch) publish(line []byte) {
	var pub wire.Publication
	if err := b.parser.ParsePublication(line, &pub); err != nil {
		b.refused(strings.Clone(pub.Topic), err)
		return
	}
	topic := strings.Clone(pub.Topic)
	if err := topics.CheckTopic(topic); err != nil {
		b.refused(topic, &wire.Error{Code: wire.InvalidTopic, Message: err.Error()})
		return
	}
	if err := b.server.permit(b.ctx, b.visitor, auth.Publish, topic); err != nil {
		b.refused(topic, err)
		return
	}
	if len(pub.Data) > b.server.maxMessage(topic) {
		b.refused(topic, b.server.tooLarge(topic))
		return
	}
	b.batch = append(b.batch, publishedLine{topic, b.server.publish(b.ctx, topic, bytes.Clone(pub.Data), b.keyOf(&pub), b.traceparent)})
}

// keyOf returns the key of a line: its own, else one made of the request's.
func (b *lineBatch) keyOf(pub *wire.Publication) string {
	switch {
	case pub.Key != "":
		return strings.Clone(pub.Key)
	case b.key != "":
		return b.key + "." + strconv.Itoa(b.number)
	}
	return ""
}

func (b *lineBatch) refused(topic string, err *wire.Error) {
	result := make(chan published, 1)
	result <- published{refused: err}
	b.batch = append(b.batch, publishedLine{topic, result})
}
