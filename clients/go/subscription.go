package pushd

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
)

// Mode is how messages are delivered: see docs/PROTOCOL.md.
type Mode string

// The modes. A namespace says which of them it has.
const (
	Default Mode = ""       // the namespace's own
	All     Mode = "all"    // every message, in order; needs history
	Latest  Mode = "latest" // the newest value of each topic
	Live    Mode = "live"   // every message, while the client keeps up
)

// SubscribeOptions say how messages are asked for. The zero value is good.
type SubscribeOptions struct {
	Mode    Mode
	MaxRate float64 // with mode latest: at most so many values a second of each topic; 0: no limit
	Cursor  string  // begin after this one, which a message or Subscription.Cursor told; "": from now on

	// Buffer is how many messages may wait for the consumer, beside 8 MiB of
	// them. 0: 4096. The package documentation says what happens beyond.
	Buffer int
}

// Position is a topic or pattern, and the cursor behind which it goes on: "" is
// from now on.
type Position struct {
	Topic, Cursor string
}

// bufferBytes bounds what waits for a consumer, but for one message.
const bufferBytes = 8 << 20

// Subscription is what a client gets of one or more topics, over all its connections.
type Subscription struct {
	// Static.
	client    *Client
	options   SubscribeOptions
	interests []*interest
	first     chan struct{} // closed when one of them stands, or it has ended
	ended     chan struct{} // closed when it has ended

	ready chan struct{} // holds one: something waits

	// Guarded by mu, which is taken after client.mu.
	mu      sync.Mutex
	headGap *Gap // before the queue: messages that made room; nil: none
	queue   queue
	paused  bool // until the queue is nearly empty
	began   bool // first is closed: by the server's yes, or by the end
	taken   bool // by the server
	over    bool // ended is closed
	err     error
}

// Subscribe subscribes to a topic or pattern, and returns when the server has
// taken the subscription: from then on nothing is missed. It waits for a
// connection where there is none, until ctx is done.
//
// The error is an *[Error] where the server refuses it, with its code; that of
// the client where it has ended; ErrSubscribed where the client has that name
// already; else that of ctx.
func (c *Client) Subscribe(ctx context.Context, topic string, o SubscribeOptions) (*Subscription, error) {
	cursor := o.Cursor
	o.Cursor = ""
	return c.SubscribeAll(ctx, []Position{{topic, cursor}}, o)
}

// SubscribeAll is Subscribe for several topics, whose messages come by one
// iterator: in the order in which the server sent them, which within a feed
// is that of NATS, and each once where topics overlap. Each has a cursor of its
// own. It returns when the server has taken one of them, or none; what it refuses
// beside others is told to Options.Events.
func (c *Client) SubscribeAll(ctx context.Context, from []Position, o SubscribeOptions) (*Subscription, error) {
	switch {
	case len(from) == 0:
		return nil, errors.New("there is no topic to subscribe to")
	case o.Cursor != "":
		return nil, errors.New("SubscribeOptions.Cursor is for one topic: each Position has its own")
	}
	if o.Buffer <= 0 {
		o.Buffer = 4096
	}
	s := &Subscription{
		client: c, options: o,
		first: make(chan struct{}), ended: make(chan struct{}), ready: make(chan struct{}, 1),
	}
	for _, p := range from {
		s.interests = append(s.interests, &interest{topic: p.Topic, sub: s, cursor: p.Cursor, taken: p.Cursor, retry: c.options.Backoff})
	}
	if err := c.add(s); err != nil {
		return nil, err
	}
	select {
	case <-s.first:
	case <-ctx.Done():
		s.Close()
		return nil, ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.taken {
		return nil, s.err
	}
	return s, nil // which may have ended since, behind what came
}

// add makes a subscription one of the client's.
func (c *Client) add(s *Subscription) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state == Closed {
		return c.err
	}
	for n, i := range s.interests {
		if c.interest[i.topic] != nil {
			for _, added := range s.interests[:n] {
				delete(c.interest, added.topic)
			}
			return fmt.Errorf("%s: %w", i.topic, ErrSubscribed)
		}
		c.interest[i.topic] = i
	}
	for _, i := range s.interests {
		c.order = append(c.order, i)
		if isPattern(i.topic) {
			c.patterns = append(c.patterns, i)
		}
	}
	if c.link != nil {
		c.link.wantLocked(s.interests...)
	}
	return nil
}

// Close unsubscribes. Iterators end; what waited for them is gone. It may be
// called from the body of a loop over Messages. The error is always nil.
func (s *Subscription) Close() error {
	s.client.mu.Lock()
	s.removeLocked()
	s.client.mu.Unlock()
	s.mu.Lock()
	s.queue, s.headGap = queue{}, nil
	s.mu.Unlock()
	s.end(ErrClosed)
	return nil
}

// removeLocked takes a subscription from its client.
func (s *Subscription) removeLocked() {
	c := s.client
	if s.interests[0].gone || c.interest == nil {
		return
	}
	var drop []*interest
	for _, i := range s.interests {
		if i.stand == stands || i.stand == asked {
			drop = append(drop, i)
		}
	}
	if c.link != nil && len(drop) > 0 {
		c.link.dropLocked(drop...)
	}
	for _, i := range s.interests {
		i.gone = true
		delete(c.interest, i.topic)
	}
	mine := func(i *interest) bool { return i.sub == s }
	c.order = slices.DeleteFunc(c.order, mine)
	c.patterns = slices.DeleteFunc(c.patterns, mine)
	for _, i := range c.order {
		for mine := range i.ahead {
			if mine.gone {
				delete(i.ahead, mine)
			}
		}
	}
}

// end ends the subscription behind what waits. Only the first call counts.
func (s *Subscription) end(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return
	}
	s.over, s.err = true, err
	close(s.ended)
	if !s.began {
		s.began = true
		close(s.first)
	}
}

// Messages iterates over the messages. A *[Gap] says that messages are missing at
// this place, and others follow. Any other error is the last thing that comes: that
// of ctx, or why the subscription ended, such as an *[Error] or a *[CloseError].
// After Close, of the subscription or its client, the iteration ends without one.
//
// To break off is allowed: another iteration goes on behind the last message.
func (s *Subscription) Messages(ctx context.Context) iter.Seq2[Message, error] {
	return func(yield func(Message, error) bool) {
		for {
			m, err := s.Next(ctx)
			var gap *Gap
			switch {
			case errors.Is(err, ErrClosed):
				return
			case !yield(m, err):
				return
			case err != nil && !errors.As(err, &gap):
				return
			}
		}
	}
}

// Next waits for one message: it is what Messages is made of. The errors are the
// same, and ErrClosed after Close.
func (s *Subscription) Next(ctx context.Context) (Message, error) {
	if err := ctx.Err(); err != nil {
		return Message{}, err
	}
	for {
		m, gap, ok, over := s.take()
		switch {
		case ok && gap != nil:
			return Message{}, gap
		case ok:
			return m, nil
		case over:
			return Message{}, s.err
		}
		select {
		case <-s.ready:
		case <-s.ended:
		case <-ctx.Done():
			return Message{}, ctx.Err()
		}
	}
}

// Buffered returns how many messages wait for Next.
func (s *Subscription) Buffered() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.queue.messages
}

// Cursor returns the place behind the last message that the consumer took, from
// which a later subscription, perhaps of another program, goes on. It is "" where
// nobody keeps history. Of several topics it is the first one's.
func (s *Subscription) Cursor() string { return s.Positions()[0].Cursor }

// Positions returns the topics with their cursors, as SubscribeAll takes them.
func (s *Subscription) Positions() []Position {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := make([]Position, len(s.interests))
	for n, i := range s.interests {
		at[n] = Position{i.topic, i.taken}
	}
	return at
}
