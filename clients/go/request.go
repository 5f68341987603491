package pushd

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/gobwas/ws"
)

// PublishOptions say how a message is published.
type PublishOptions struct {
	// Key makes repetition harmless in a namespace with history: of the
	// publications to one topic with the same key within two minutes, one is stored.
	// 1 to 128 visible ASCII characters; "": one that nobody else has.
	Key string
}

// Receipt is the server's answer to a publication.
type Receipt struct {
	Topic  string
	Cursor string // where it is stored; "" where the namespace keeps no history
}

// keyMemory is how long a publication is tried again: a server knows keys for
// two minutes.
const keyMemory = 100 * time.Second

// Publish publishes a message, and returns when the server has answered: in a
// namespace with history, when the message is stored. Data that is JSON reaches
// subscribers as it is; any other bytes do too, as text or base64.
//
// It waits for a connection where there is none. Where the answer was lost, or the
// server cannot take it for now, it tries again with the same key until ctx is
// done, and for 100 s at most: in a namespace with history the message is stored
// once; in one without, a message whose answer was lost may be published twice.
//
// The command as a whole may have max_message bytes: where the data nearly
// does, POST /publish takes it.
func (c *Client) Publish(ctx context.Context, topic string, data []byte, o PublishOptions) (Receipt, error) {
	if o.Key == "" {
		o.Key = rand.Text()
	}
	command := struct {
		Type     string          `json:"type"`
		ID       int             `json:"id"`
		Topic    string          `json:"topic"`
		Key      string          `json:"idempotency_key"`
		Encoding string          `json:"encoding,omitempty"`
		Data     json.RawMessage `json:"-"` // is put behind the others: it goes as it is, byte for byte
	}{Type: "publish", Topic: topic, Key: o.Key}
	if !goesAsItIs(data) {
		command.Encoding = "base64"
		data = fmt.Appendf(nil, `"%s"`, base64.StdEncoding.EncodeToString(data))
	}
	select {
	case c.publishing <- struct{}{}:
		defer func() { <-c.publishing }()
	case <-ctx.Done():
		return Receipt{}, ctx.Err()
	}
	m, err := c.ask(ctx, func(id int) []byte {
		command.ID = id
		head, err := json.Marshal(command)
		if err != nil {
			panic(err) // it is a struct of strings
		}
		text := append(head[:len(head)-1], `,"data":`...)
		return append(append(text, data...), '}')
	})
	if err != nil {
		return Receipt{}, err
	}
	return Receipt{topic, m.Cursor}, nil
}

// goesAsItIs reports whether data can stand in a command as JSON, and reach
// subscribers as the same bytes.
func goesAsItIs(data []byte) bool {
	const deepest = 512 // by the protocol; no data with fewer brackets is deeper
	return json.Valid(data) && utf8.Valid(data) && len(bytes.TrimSpace(data)) == len(data) &&
		bytes.Count(data, []byte("["))+bytes.Count(data, []byte("{")) <= deepest
}

// Presence returns how many connections are subscribed to a topic.
func (c *Client) Presence(ctx context.Context, topic string) (int, error) {
	m, err := c.ask(ctx, func(id int) []byte {
		text, err := json.Marshal(struct {
			Type  string `json:"type"`
			ID    int    `json:"id"`
			Topic string `json:"topic"`
		}{"presence", id, topic})
		if err != nil {
			panic(err)
		}
		return text
	})
	if err != nil {
		return 0, err
	}
	return m.Connections, nil
}

// ask sends a command until it is answered, and not only for now.
func (c *Client) ask(ctx context.Context, command func(id int) []byte) (*envelope, error) {
	retry := c.options.Backoff
	for started := time.Now(); ; {
		m, err := c.try(ctx, command)
		if err == nil && m.Type != "error" {
			return m, nil
		}
		var wait time.Duration // none where the connection broke: there must be another before
		if err == nil {
			no := m.refusal()
			err, wait = no, max(no.RetryAfter, retry.Next())
			if !no.Temporary() {
				return nil, err
			}
		} else if !errors.Is(err, errLost) {
			return nil, err
		}
		if time.Since(started)+wait > keyMemory {
			return nil, err
		}
		if stopped := sleep(ctx, wait); stopped != nil {
			return nil, fmt.Errorf("%w: %w", stopped, err)
		}
	}
}

// errLost is the answer that went down with its connection.
var errLost = errors.New("the connection ended before the server answered")

// try sends a command on the connection that there is, once there is one.
func (c *Client) try(ctx context.Context, command func(id int) []byte) (*envelope, error) {
	s, id, reply, err := c.open(ctx)
	if err != nil {
		return nil, err
	}
	text := command(id)
	for s.maxMessage == 0 || len(text) <= s.maxMessage {
		full := s.out.trySend(ws.OpText, text)
		if full == nil {
			return s.await(ctx, id, reply)
		}
		select {
		case <-full:
		case <-s.ctx.Done():
			return nil, errLost
		case <-ctx.Done():
			s.forget(id)
			return nil, ctx.Err()
		}
	}
	s.forget(id)
	return nil, &Error{Code: MessageTooLarge, Message: fmt.Sprintf("the command has %d bytes, and the server takes %d", len(text), s.maxMessage)}
}

// open waits for a session that has begun, and gives a command its number there.
func (c *Client) open(ctx context.Context) (s *session, id int, reply chan *envelope, err error) {
	for {
		c.mu.Lock()
		if c.state == Closed {
			defer c.mu.Unlock()
			return nil, 0, nil, c.err
		}
		if s := c.session; s != nil && s.welcomed {
			defer c.mu.Unlock()
			reply := make(chan *envelope, 1)
			return s, s.callLocked(&call{reply: reply}), reply, nil
		}
		changed := c.changed
		c.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, 0, nil, ctx.Err()
		}
	}
}

// await waits for a reply.
func (s *session) await(ctx context.Context, id int, reply chan *envelope) (*envelope, error) {
	select {
	case m, ok := <-reply:
		if !ok {
			return nil, errLost
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
