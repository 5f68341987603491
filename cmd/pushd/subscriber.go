package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"github.com/pushd/pushd/internal/wire"
)

// subscriber keeps subscriptions on a server across connections.
type subscriber struct {
	// Static.
	url      string
	trust    *tls.Config // nil: the usual authorities
	wants    wants
	token    tokenFlags
	out      *messagePrinter
	limit    int                              // messages to print; 0: no limit
	notef    func(format string, args ...any) // tells a person what is no message
	patience time.Duration                    // to connect, and for a sign of life that was asked for

	subs    []subscription
	shown   string // Authorization of the connection
	printed int
	backoff backoff
}

// ending is why a connection ended, and what a client does then.
type ending struct {
	err    error         // what to tell; nil where nothing is wrong
	again  bool          // connect again
	least  time.Duration // wait at least so long before
	advice time.Time     // connect at this time, whatever the backoff; zero: no advice
}

// run returns nil where the messages wanted have come, ctx is done or the
// server ended the connection normally.
func (s *subscriber) run(ctx context.Context) error {
	for {
		end := s.connection(ctx)
		if err := s.out.flush(); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return nil
		}
		if !end.again {
			return end.err
		}
		wait := max(0, time.Until(end.advice))
		if end.advice.IsZero() {
			wait = end.least + s.backoff.next()
		}
		s.notef("%v; connecting again in %v", end.err, wait.Round(time.Millisecond))
		if sleep(ctx, wait) != nil {
			return nil
		}
	}
}

// connection is one connection, from dialling to its end.
func (s *subscriber) connection(ctx context.Context) ending {
	conn, early, end := s.dial(ctx)
	if conn == nil {
		return end
	}
	defer conn.Close()
	session := session{
		subscriber: s,
		conn:       conn,
		live:       liveReader{ctx: ctx, conn: conn, quiet: 2 * defaultHeartbeat, patience: s.patience},
	}
	session.live.ping = func() error { return session.send(`{"type":"ping"}`) }
	session.in = bufio.NewReaderSize(io.MultiReader(bytes.NewReader(early), &session.live), 64<<10)
	defer context.AfterFunc(ctx, session.live.interrupt)()
	return session.run()
}

// defaultHeartbeat is what to expect of a server that has not said welcome yet.
const defaultHeartbeat = 25 * time.Second

// dial opens a WebSocket. early is what the server sent along with its answer;
// without a conn the ending says why.
func (s *subscriber) dial(ctx context.Context) (conn net.Conn, early []byte, end ending) {
	var no *refusal
	header := http.Header{}
	if err := s.token.authorize(header); err != nil {
		return nil, nil, ending{err: err}
	}
	s.shown = header.Get("Authorization")
	dialer := ws.Dialer{
		Header:    ws.HandshakeHeaderHTTP(header),
		Timeout:   s.patience,
		TLSConfig: s.trust,
		Protocols: []string{wire.JSON.Subprotocol()},
		OnStatusError: func(_ int, _ []byte, answer io.Reader) {
			response, err := http.ReadResponse(bufio.NewReader(answer), nil)
			if err != nil {
				return
			}
			defer response.Body.Close()
			no = refused(response)
		},
	}
	conn, buffered, handshake, err := dialer.Dial(ctx, s.url)
	switch {
	case no != nil:
		return nil, nil, ending{err: s.token.explain(no), again: no.temporary(), least: no.retryAfter}
	case err != nil:
		return nil, nil, ending{err: fmt.Errorf("cannot connect to %s: %w", s.url, err), again: true}
	case handshake.Protocol == "":
		conn.Close()
		return nil, nil, ending{err: fmt.Errorf("%s does not speak %s: is it a pushd?", s.url, dialer.Protocols[0])}
	}
	if buffered != nil {
		waiting, _ := buffered.Peek(buffered.Buffered()) // what is buffered can be peeked at
		early = bytes.Clone(waiting)
		ws.PutReader(buffered)
	}
	return conn, early, ending{}
}

// session is one connection that is open.
type session struct {
	*subscriber
	conn    net.Conn
	live    liveReader
	in      *bufio.Reader
	refused int       // topics that the server will not have
	advice  time.Time // from a reconnect message
}

// errEnough ends a session that has printed what was wanted.
var errEnough = errors.New("enough messages")

// run subscribes, and reads until the connection ends.
func (s *session) run() ending {
	if err := s.subscribe(); err != nil {
		return s.ended(err)
	}
	for {
		if err := s.read(); err != nil {
			return s.ended(err)
		}
		if s.in.Buffered() > 0 {
			continue // one write for what came together
		}
		if err := s.out.flush(); err != nil {
			return ending{err: err}
		}
	}
}

// subscribe asks for every topic at once; each gets a reply.
func (s *session) subscribe() error {
	for _, request := range requests(s.subs, s.wants) {
		command, err := json.Marshal(request)
		if err != nil {
			return err
		}
		if err := s.send(string(command)); err != nil {
			return err
		}
	}
	return nil
}

// read takes one message, and answers the control frames before and within it.
func (s *session) read() error {
	frames := wsutil.Reader{Source: s.in, State: ws.StateClientSide, CheckUTF8: true, OnIntermediate: s.control}
	header, err := frames.NextFrame()
	if err != nil {
		return err
	}
	if header.OpCode.IsControl() {
		return s.control(header, &frames)
	}
	text, err := io.ReadAll(&frames)
	if err != nil {
		return err
	}
	var m message
	if err := json.Unmarshal(text, &m); err != nil {
		return fmt.Errorf("the server sent what is no message of this protocol: %w", err)
	}
	return s.handle(&m, text)
}

// control answers a control frame. A close frame is the error that ends the
// session; wsutil's handler is not used because it takes 1012 and 1013, which
// were registered after RFC 6455, for a mistake of the server.
func (s *session) control(header ws.Header, r io.Reader) error {
	payload := make([]byte, header.Length) // at most 125 bytes (RFC 6455 section 5.5), which the reader has checked
	if _, err := io.ReadFull(r, payload); err != nil {
		return err
	}
	switch header.OpCode {
	case ws.OpPing:
		return wsutil.WriteClientMessage(s.writer(), ws.OpPong, payload)
	case ws.OpClose:
		code, reason := ws.ParseCloseFrameData(payload)
		if len(payload) < 2 {
			code = ws.StatusNoStatusRcvd // (section 7.1.5)
		}
		s.bye(code)
		return wsutil.ClosedError{Code: code, Reason: reason}
	}
	return nil
}

func (s *session) handle(m *message, text []byte) error {
	switch m.Type {
	case "message":
		if err := s.out.print(m, text); err != nil {
			return &fatalError{err}
		}
		s.passed(m)
		if s.printed++; s.printed == s.limit {
			return errEnough
		}
	case "welcome":
		if m.Heartbeat > 0 {
			s.live.quiet = 2 * time.Duration(m.Heartbeat) * time.Millisecond
		}
	case "subscribed":
		s.backoff.failures = 0
		s.stands(m)
	case "gap":
		s.notef("gap in %s: messages were lost (%s)", m.Topic, m.Reason)
	case "skipped":
		s.notef("%d older values of %s skipped", m.Count, m.Topic)
	case "unsubscribed":
		s.notef("unsubscribed from %s (%s)", m.Topic, m.Reason)
	case "reconnect":
		s.advice = time.Now().Add(time.Duration(m.After) * time.Millisecond)
		s.live.leaveAt = s.advice
		s.notef("the server asks to connect again in %v (%s)", time.Until(s.advice).Round(time.Millisecond), m.Reason)
	case "token_expires":
		return s.renew(time.Duration(m.After) * time.Millisecond)
	case "error":
		return s.handleError(m)
	}
	return nil
}

// renew shows the token that has taken the place of one that is about to end.
func (s *session) renew(left time.Duration) error {
	token, err := s.token.read()
	switch {
	case err != nil:
		s.notef("the token ends in %v: %v", left.Round(time.Second), err)
		return nil
	case "Bearer "+token == s.shown:
		s.notef("the token ends in %v: %s", left.Round(time.Second), s.token.hint())
		return nil
	}
	s.shown = "Bearer " + token
	command, err := json.Marshal(struct {
		Type  string `json:"type"`
		ID    string `json:"id"`
		Token string `json:"token"`
	}{"auth", "renew", token})
	if err != nil {
		return err
	}
	return s.send(string(command))
}

// handleError goes on while one subscription is left: another connection would
// get the same refusals.
func (s *session) handleError(m *message) error {
	no := &refusal{Code: m.Code, Message: m.Message}
	switch {
	case !answersRequest(m.ID, s.subs):
		s.notef("the server says %v", no)
		return nil
	case no.temporary():
		return no
	case no.Code == string(wire.BadRequest): // is about the command, not about one of its topics
		return &fatalError{no}
	}
	if s.refused++; s.refused == len(s.subs) {
		return &fatalError{no}
	}
	s.notef("%v", no)
	return nil
}

// fatalError is one that another connection would meet again.
type fatalError struct{ error }

func (e *fatalError) Unwrap() error { return e.error }

// ended says what the end of the connection means.
func (s *session) ended(err error) ending {
	var closed wsutil.ClosedError
	var fatal *fatalError
	switch {
	case errors.Is(err, errEnough), errors.Is(err, context.Canceled):
		s.bye(ws.StatusNormalClosure)
		return ending{}
	case errors.As(err, &fatal):
		s.bye(ws.StatusNormalClosure)
		return ending{err: fatal.error}
	case errors.As(err, &closed):
		return s.closed(closed)
	case errors.Is(err, errAdvised):
		s.bye(ws.StatusNormalClosure)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		err = errors.New("the connection broke off")
	}
	return ending{err: err, again: true, advice: s.advice}
}

// closed obeys the table of close codes.
func (s *session) closed(frame wsutil.ClosedError) ending {
	info := wire.CloseCode(frame.Code).Info()
	if frame.Code == ws.StatusNormalClosure {
		return ending{}
	}
	reason := frame.Reason
	switch {
	case frame.Code == ws.StatusNoStatusRcvd:
		reason = "(no code given)"
	case reason == "":
		reason = info.Meaning
	}
	err := fmt.Errorf("the server closed the connection: %d %s", frame.Code, reason)
	if wire.CloseCode(frame.Code) == wire.CloseNoToken {
		err = fmt.Errorf("%w: %s", err, s.token.hint())
	}
	return ending{
		err:    err,
		again:  info.Reconnect,
		least:  info.Wait,
		advice: s.advice,
	}
}

// bye starts or ends the closing handshake and waits for nothing more: there
// is nothing that the server could still say.
func (s *session) bye(code ws.StatusCode) {
	var body []byte
	if code != ws.StatusNoStatusRcvd { // which stands for none, and is never sent (section 7.4.1)
		body = ws.NewCloseFrameBody(code, "")
	}
	_ = wsutil.WriteClientMessage(s.writer(), ws.OpClose, body) // the connection ends either way
}

func (s *session) send(text string) error {
	return wsutil.WriteClientText(s.writer(), []byte(text))
}

// writer bounds each write of the connection.
func (s *session) writer() io.ReadWriter {
	_ = s.conn.SetWriteDeadline(time.Now().Add(s.patience)) // fails where the write will
	return s.conn
}
