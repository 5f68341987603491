package pushd

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/gobwas/ws"
)

// session is one connection that is open.
type session struct {
	// Static.
	client *Client
	ctx    context.Context // ends with the session
	out    *outbox

	// The reading goroutine's.
	live    liveReader
	in      frameReader
	advice  time.Time // from a reconnect message
	skipped Skipped   // for the next message of its topic
	hits    []*interest
	renewal context.CancelFunc // ends the goroutine that asks for a token

	renewing sync.WaitGroup

	// Guarded by client.mu.
	over       bool
	welcomed   bool
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

// begin makes the session the client's, and asks for its subscriptions.
func (s *session) begin() {
	c := s.client
	c.mu.Lock()
	defer c.mu.Unlock()
	c.session = s
	for _, i := range c.order {
		s.wantLocked(i)
	}
	s.advanceLocked()
}

// detach ends what waits for the session.
func (s *session) detach() {
	c := s.client
	c.mu.Lock()
	defer c.mu.Unlock()
	s.over, c.session = true, nil
	for _, call := range s.calls {
		if call.reply != nil {
			close(call.reply)
		}
	}
	if s.timer != nil {
		s.timer.Stop()
	}
	for _, i := range c.order {
		i.stand = absent
		for _, p := range i.passed {
			p.with.aheadLocked(i, p.until) // as leftLocked does, for all at once
		}
		i.passed = nil
	}
	c.changedLocked()
}

// run reads until the connection ends.
func (s *session) run() error {
	for {
		text, err := s.in.next()
		if err != nil {
			return err
		}
		if m, ok := decodeMessage(text); ok {
			s.message(&m)
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
		c.backoff.Reset()
	}
	switch m.Type {
	case "message":
		message := m.message(text)
		s.message(&message)
	case "welcome":
		s.welcome(m)
	case "subscribed":
		s.subscribed(m)
	case "published", "presence":
		c.mu.Lock()
		if call := s.takeLocked(m.ID); call != nil && call.reply != nil {
			call.reply <- m
		}
		c.mu.Unlock()
	case "gap":
		s.gap(m)
	case "skipped":
		s.skipped = Skipped{m.Topic, m.Count}
		c.tell(&Skipped{m.Topic, m.Count})
	case "unsubscribed":
		s.unsubscribed(m)
	case "reconnect":
		after := milliseconds(m.After)
		s.advice = time.Now().Add(after)
		s.live.leaveAt = s.advice
		c.tell(&Advice{after, m.Reason})
	case "token_expires":
		s.renew(milliseconds(m.After))
	case "error":
		s.handleError(m)
	}
}

func (s *session) message(m *Message) {
	s.client.backoff.Reset()
	if s.skipped.Count > 0 && s.skipped.Topic == m.Topic {
		m.Skipped, s.skipped = s.skipped.Count, Skipped{}
	}
	s.route(m)
}

func (s *session) welcome(m *envelope) {
	c := s.client
	if m.Heartbeat > 0 {
		s.live.quiet = 2 * milliseconds(m.Heartbeat)
	}
	c.mu.Lock()
	s.welcomed, s.maxMessage = true, int(m.MaxMessage)
	c.mu.Unlock()
	c.become(&StateChange{State: Open, Client: m.Client})
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

// renew shows the token that has taken the place of one that is about to end.
// Until there is one it asks again, each time when half of what is left has passed.
func (s *session) renew(left time.Duration) {
	if s.renewal != nil {
		s.renewal()
	}
	ctx, cancel := context.WithCancel(s.ctx)
	s.renewal = cancel
	end := time.Now().Add(left)
	s.renewing.Go(func() {
		defer cancel()
		for {
			left := time.Until(end)
			token, err := s.client.freshToken(ctx)
			if ctx.Err() != nil {
				return
			}
			if err == nil && s.show(token) {
				return
			}
			s.client.tell(&TokenExpires{left, err})
			if left < 2*time.Second || sleep(ctx, left/2) != nil {
				return
			}
		}
	})
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
