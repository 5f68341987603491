package pushd

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/gobwas/ws"
)

// session is a WebSocket, and what is said on it.
type session struct {
	flow // of all interests

	// Static.
	ctx    context.Context // ends with the session
	out    *outbox
	opened chan<- struct{} // closed at the welcome

	// The reading goroutine's.
	live   liveReader
	in     frameReader
	advice time.Time // from a reconnect message

	renewal renewal

	// Guarded by client.mu.
	over       bool
	maxMessage int // of a command, in bytes
	lastID     int
	calls      map[int]*call // that wait for their replies
	asking                   // for subscriptions
}

// call waits for the replies to a command: of one of the three.
type call struct {
	interest *interest      // to subscribe
	left     []*interest    // to unsubscribe, which gets a reply for each
	reply    chan *envelope // to what somebody waits for: takes one; closed where none will come
}

func newSession(c *Client, opened chan<- struct{}) *session {
	return &session{
		flow: flow{client: c}, opened: opened,
		calls: make(map[int]*call), asking: asking{window: maxAsked},
	}
}

func (s *session) transport() Transport { return WebSocket }

// attachLocked asks for the client's subscriptions.
func (s *session) attachLocked() { s.wantLocked(s.client.order...) }

// detachLocked ends what waits for the session.
func (s *session) detachLocked() {
	if s.over {
		return
	}
	s.over = true
	for _, call := range s.calls {
		if call.reply != nil {
			close(call.reply)
		}
	}
	if s.timer != nil {
		s.timer.Stop()
	}
	if s.client.link == s {
		s.client.leftAllLocked()
	}
}

// read reads until the connection ends.
func (s *session) read() error {
	for {
		text, err := s.in.next()
		if err != nil {
			return err
		}
		if m, ok := decodeMessage(text); ok {
			s.route(&m)
			continue
		}
		m := &envelope{}
		if err := decode(text, m); err != nil {
			return fmt.Errorf("the server sent what is no message of this protocol: %w", err)
		}
		s.handle(m, text)
	}
}

// control answers a control frame. A close frame is the error that ends the session.
func (s *session) control(op ws.OpCode, payload []byte) error {
	switch op {
	case ws.OpPing:
		s.out.send(ws.OpPong, payload)
	case ws.OpClose:
		if len(payload) < 2 {
			return &CloseError{Code: closeNoStatus} // (RFC 6455 section 7.1.5)
		}
		code, reason := ws.ParseCloseFrameData(payload)
		return &CloseError{Code: int(code), Reason: reason}
	}
	return nil
}

func (s *session) handle(m *envelope, text []byte) {
	c := s.client
	switch m.Type {
	case "error", "reconnect", "welcome": // are no sign that things go well
	default:
		c.wentWell()
	}
	switch {
	case m.Type == "welcome":
		s.welcome(m)
	case m.Type == "subscribed":
		s.subscribed(m)
	case m.Type == "published", m.Type == "presence":
		c.mu.Lock()
		if call := s.takeLocked(m.ID); call != nil && call.reply != nil {
			call.reply <- m
		}
		c.mu.Unlock()
	case m.Type == "unsubscribed" && m.Reason == "requested":
		s.left(m)
	case m.Type == "reconnect":
		after := milliseconds(m.After)
		s.advice = time.Now().Add(after)
		s.live.leaveAt = s.advice
		c.tell(&Advice{after, m.Reason})
	case m.Type == "token_expires":
		s.renewal.begin(s.ctx, c, milliseconds(m.After), s.show)
	case m.Type == "error":
		s.handleError(m)
	default:
		s.flow.handle(m, text)
	}
}

func (s *session) welcome(m *envelope) {
	if s.live.welcomeBy.IsZero() {
		return // it has come
	}
	s.live.welcomeBy = time.Time{}
	if m.Heartbeat > 0 {
		s.live.quiet = 2 * milliseconds(m.Heartbeat)
	}
	c := s.client
	c.mu.Lock()
	s.maxMessage = int(m.MaxMessage)
	if s.ctx.Err() == nil {
		c.attachLocked(s)
	}
	c.mu.Unlock()
	c.opened(s, m.Client, s.opened)
}

// callLocked gives a command its number.
func (s *session) callLocked(call *call) (id int) {
	s.lastID++
	s.calls[s.lastID] = call
	return s.lastID
}

// takeLocked returns the call that a reply is to, nil where there is none.
func (s *session) takeLocked(id json.RawMessage) *call {
	n, err := strconv.Atoi(string(id))
	if err != nil {
		return nil
	}
	call := s.calls[n]
	delete(s.calls, n)
	return call
}

func (s *session) handleError(m *envelope) {
	c, no := s.client, m.refusal()
	c.mu.Lock()
	call := s.takeLocked(m.ID)
	var events []Event
	switch {
	case call == nil:
		events = append(events, &Notice{no})
	case call.reply != nil:
		call.reply <- m
	case call.left != nil:
		s.notLeftLocked(call.left, no)
	default:
		events = s.refusedLocked(call.interest, no)
	}
	c.mu.Unlock()
	c.tell(events...)
}

// show sends a token, if it is another than the connection has.
func (s *session) show(token string) bool {
	c := s.client
	c.mu.Lock()
	defer c.mu.Unlock()
	if token == c.shown {
		return false
	}
	c.shown = token
	s.commandLocked(struct {
		Type  string `json:"type"`
		ID    string `json:"id"`
		Token string `json:"token"`
	}{"auth", "renew", token})
	return true
}

// commandLocked sends a command that is no publication.
func (s *session) commandLocked(command any) {
	text, err := json.Marshal(command)
	if err != nil {
		panic(err) // commands are structs of strings and numbers
	}
	s.out.send(ws.OpText, text)
}

// ask sends a command, and waits for its reply.
func (s *session) ask(ctx context.Context, cmd *command) (*envelope, error) {
	c := s.client
	c.mu.Lock()
	if s.over {
		c.mu.Unlock()
		return nil, errLost
	}
	reply, most := make(chan *envelope, 1), s.maxMessage
	id := s.callLocked(&call{reply: reply})
	c.mu.Unlock()
	text := cmd.text(id)
	if most > 0 && len(text) > most {
		s.forget(id)
		return nil, &Error{Code: MessageTooLarge, Message: fmt.Sprintf("the command has %d bytes, and the server takes %d", len(text), most)}
	}
	for full := s.out.trySend(ws.OpText, text); full != nil; full = s.out.trySend(ws.OpText, text) {
		select {
		case <-full:
		case <-s.ctx.Done():
			return nil, errLost
		case <-ctx.Done():
			s.forget(id)
			return nil, ctx.Err()
		}
	}
	select {
	case m, ok := <-reply:
		switch {
		case !ok:
			return nil, errLost
		case m.Type == "error":
			return nil, m.refusal()
		}
		return m, nil
	case <-ctx.Done():
		s.forget(id)
		return nil, ctx.Err()
	}
}

// forget is for a command whose reply nobody waits for any more.
func (s *session) forget(id int) {
	s.client.mu.Lock()
	defer s.client.mu.Unlock()
	delete(s.calls, id)
}
