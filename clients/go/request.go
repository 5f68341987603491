package pushd

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"
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
// The command as a whole may have max_message bytes on a WebSocket, and the data
// alone may over other transports.
func (c *Client) Publish(ctx context.Context, topic string, data []byte, o PublishOptions) (Receipt, error) {
	if o.Key == "" {
		o.Key = rand.Text()
	}
	cmd := newPublication(topic, o.Key, data)
	select {
	case c.publishing <- struct{}{}:
		defer func() { <-c.publishing }()
	case <-ctx.Done():
		return Receipt{}, ctx.Err()
	}
	m, err := c.ask(ctx, cmd)
	if err != nil {
		return Receipt{}, err
	}
	return Receipt{topic, m.Cursor}, nil
}

// Presence returns how many connections are subscribed to a topic. It needs a
// WebSocket: over another transport the error is an *[Error] with [Unsupported].
func (c *Client) Presence(ctx context.Context, topic string) (int, error) {
	m, err := c.ask(ctx, &command{Type: "presence", Topic: topic})
	if err != nil {
		return 0, err
	}
	return m.Connections, nil
}

// ask sends a command until it is answered, and not only for now.
func (c *Client) ask(ctx context.Context, cmd *command) (*envelope, error) {
	retry := c.options.Backoff
	for started := time.Now(); ; {
		l, err := c.openLink(ctx)
		if err != nil {
			return nil, err
		}
		m, err := l.ask(ctx, cmd)
		if err == nil {
			return m, nil
		}
		var wait time.Duration // none where a WebSocket broke: there must be another before
		var no *Error
		switch {
		case errors.As(err, &no) && no.hasTurn():
			wait = atTurn(no.RetryAfter)
		case errors.As(err, &no) && no.Temporary():
			wait = max(no.RetryAfter, retry.Next())
		case !errors.Is(err, errLost):
			return nil, err
		case l.transport() != WebSocket:
			wait = retry.Next()
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

// openLink waits until the client is open.
func (c *Client) openLink(ctx context.Context) (link, error) {
	for {
		c.mu.Lock()
		state, l, changed, err := c.state, c.link, c.changed, c.err
		c.mu.Unlock()
		switch {
		case state == Closed:
			return nil, err
		case state == Open && l != nil:
			return l, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
