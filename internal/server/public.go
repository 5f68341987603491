package server

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/pushd/pushd/conn"
	"github.com/pushd/pushd/internal/page"
	"github.com/pushd/pushd/internal/wire"
	"github.com/pushd/pushd/topics"
	"github.com/pushd/pushd/topics/natsbus"
)

// publicHandler serves the public listener, WebSockets excepted.
func (s *Server) publicHandler() http.Handler {
	mux := http.NewServeMux()
	pages := page.Handler()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		refuse(w, http.StatusNotFound, &wire.Error{Code: wire.BadRequest, Message: "there is nothing at " + r.URL.Path})
	})
	mux.Handle("/{$}", only(pages, http.MethodGet, http.MethodHead))
	mux.Handle("/assets/", only(pages, http.MethodGet, http.MethodHead))
	mux.Handle(socketPath, only(http.HandlerFunc(s.serveSocketPath), http.MethodGet))
	mux.Handle("/publish", only(http.HandlerFunc(s.servePublishLines), http.MethodPost))
	mux.Handle("/publish/{topic}", only(http.HandlerFunc(s.servePublish), http.MethodPost))
	mux.Handle("/healthz", only(http.HandlerFunc(s.serveHealth), http.MethodGet, http.MethodHead))
	mux.Handle("/readyz", only(http.HandlerFunc(s.serveReady), http.MethodGet, http.MethodHead))
	return mux
}

// only refuses methods other than those given (RFC 9110, 15.5.6).
func only(h http.Handler, methods ...string) http.Handler {
	allow := strings.Join(methods, ", ")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, m := range methods {
			if r.Method == m {
				h.ServeHTTP(w, r)
				return
			}
		}
		w.Header().Set("Allow", allow)
		refuse(w, http.StatusMethodNotAllowed, &wire.Error{Code: wire.BadRequest, Message: "the method here is " + allow})
	})
}

// refuse answers with an error; status 0: the one that its code has.
func refuse(w http.ResponseWriter, status int, err *wire.Error) {
	if status == 0 {
		status = err.Code.HTTPStatus()
	}
	if status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", strconv.Itoa(int(retryAfter/time.Second)))
	}
	writeJSON(w, status, wire.AppendRefusal(nil, err.Code, err.Message))
}

func writeJSON(w http.ResponseWriter, status int, body []byte) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // the client has gone if it fails
}

// serveSocketPath sees a request for a WebSocket that came behind others on
// its connection, or none at all.
func (s *Server) serveSocketPath(w http.ResponseWriter, r *http.Request) {
	if head := headOf(r); conn.WantsUpgrade(head) {
		if err := s.plain.giveBack(w, head); err != nil {
			s.log.Warn("an upgrade on a kept connection failed", "err", err)
		}
		return
	}
	w.Header().Set("Sec-WebSocket-Version", "13") // RFC 6455, 4.4
	w.Header().Set("Upgrade", "websocket")
	w.Header().Set("Connection", "Upgrade")
	refuse(w, http.StatusUpgradeRequired, &wire.Error{Code: wire.BadRequest, Message: "this is a WebSocket: ask for an upgrade (RFC 6455)"})
}

// headOf is a request as a shard would have read it.
func headOf(r *http.Request) []byte {
	head := fmt.Appendf(nil, "%s %s %s\r\nHost: %s\r\n", r.Method, r.RequestURI, r.Proto, r.Host)
	for name, values := range r.Header {
		for _, v := range values {
			head = fmt.Appendf(head, "%s: %s\r\n", name, v)
		}
	}
	for _, coding := range r.TransferEncoding { // net/http takes these out of the header
		head = fmt.Appendf(head, "Transfer-Encoding: %s\r\n", coding)
	}
	return append(head, "\r\n"...)
}

func (s *Server) serveHealth(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, []byte(`{"status":"alive"}`))
}

// serveReady is about this node alone: that NATS is away makes it unready, and
// not unhealthy, since a restart would not cure it and would cost every client
// its connection.
func (s *Server) serveReady(w http.ResponseWriter, _ *http.Request) {
	switch {
	case s.stopping.Load():
		refuse(w, 0, &wire.Error{Code: wire.Unavailable, Message: "shutting down"})
	case !s.bus.State().Connected:
		refuse(w, 0, &wire.Error{Code: wire.Unavailable, Message: "NATS is away"})
	default:
		writeJSON(w, http.StatusOK, []byte(`{"status":"ready"}`))
	}
}

// servePublish publishes one body as it is.
func (s *Server) servePublish(w http.ResponseWriter, r *http.Request) {
	topic := r.PathValue("topic")
	if err := topics.CheckTopic(topic); err != nil {
		refuse(w, 0, &wire.Error{Code: wire.InvalidTopic, Message: err.Error()})
		return
	}
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, int64(s.cfg.MaxMessage)))
	if err != nil {
		refuse(w, 0, s.bodyError(err))
		return
	}
	if refused := <-s.publish(topic, data); refused != nil {
		refuse(w, 0, refused)
		return
	}
	writeJSON(w, http.StatusAccepted, wire.AppendResult(nil, topic, ""))
}

func (s *Server) bodyError(err error) *wire.Error {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return s.tooLarge()
	}
	return &wire.Error{Code: wire.BadRequest, Message: "reading the body: " + err.Error()}
}

func (s *Server) tooLarge() *wire.Error {
	return &wire.Error{Code: wire.MessageTooLarge, Message: fmt.Sprintf("a message may have %d bytes (--max-message)", s.cfg.MaxMessage)}
}

// publish hands a message to NATS. The channel tells when it is there, or why not.
func (s *Server) publish(topic string, data []byte) <-chan *wire.Error {
	result := make(chan *wire.Error, 1)
	if !s.bus.Publish(natsbus.Publication{Topic: topic, Data: data, Done: func(_ topics.Cursor, err error) {
		if err != nil {
			result <- publishError(err)
			return
		}
		result <- nil
	}}) {
		result <- &wire.Error{Code: wire.Unavailable, Message: queueFull}
	}
	return result
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
	if t := r.Header.Get("Content-Type"); !strings.HasPrefix(t, "application/x-ndjson") {
		refuse(w, http.StatusUnsupportedMediaType, &wire.Error{Code: wire.BadRequest,
			Message: "Content-Type must be application/x-ndjson; one message alone goes to /publish/{topic}"})
		return
	}
	ctl := http.NewResponseController(w)
	if err := ctl.EnableFullDuplex(); err != nil { // else HTTP/1 would read the whole body first
		refuse(w, 0, &wire.Error{Code: wire.Internal, Message: err.Error()})
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	in := bufio.NewReaderSize(r.Body, 16<<10)
	lines := lineBatch{server: s}
	for !s.stopping.Load() {
		_ = ctl.SetReadDeadline(time.Now().Add(plainReadTimeout))
		end := lines.read(in)
		for _, l := range lines.batch {
			if refused := <-l.result; refused != nil {
				lines.out = wire.AppendFailure(lines.out, l.topic, refused.Code, refused.Message)
			} else {
				lines.out = wire.AppendResult(lines.out, l.topic, "")
			}
			lines.out = append(lines.out, '\n')
		}
		_, err := w.Write(lines.out)
		if err == nil {
			err = ctl.Flush()
		}
		if end || err != nil {
			return
		}
	}
}

// lineBatch is the lines that were found waiting at one time.
type lineBatch struct {
	server *Server
	parser wire.Parser
	batch  []publishedLine
	line   []byte // one that did not fit into the reader's buffer
	out    []byte
}

type publishedLine struct {
	topic  string
	result <-chan *wire.Error
}

// read publishes what has come of the body, and waits only for the first line.
// It reports whether that was the end.
func (b *lineBatch) read(in *bufio.Reader) (end bool) {
	b.batch, b.out = b.batch[:0], b.out[:0]
	for len(b.batch) < linesAtATime {
		line, err := b.readLine(in)
		if errors.Is(err, bufio.ErrBufferFull) {
			b.refused("", b.server.tooLarge())
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
	if len(pub.Data) > int(b.server.cfg.MaxMessage) {
		b.refused(topic, b.server.tooLarge())
		return
	}
	b.batch = append(b.batch, publishedLine{topic, b.server.publish(topic, bytes.Clone(pub.Data))})
}

func (b *lineBatch) refused(topic string, err *wire.Error) {
	result := make(chan *wire.Error, 1)
	result <- err
	b.batch = append(b.batch, publishedLine{topic, result})
}
