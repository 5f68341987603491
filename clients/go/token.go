package pushd

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// authorize has a token in use for the attempts of a round.
func (c *Client) authorize(ctx context.Context) error {
	token := c.spare
	if !c.hasSpare {
		var err error
		if token, err = c.freshToken(ctx); err != nil {
			return fmt.Errorf("no token: %w", err)
		}
	}
	c.spare, c.hasSpare = "", false
	c.mu.Lock()
	defer c.mu.Unlock()
	c.shown = token
	return nil
}

// freshToken asks for a token. An error never holds it.
func (c *Client) freshToken(ctx context.Context) (string, error) {
	if c.options.Token == nil {
		return "", nil
	}
	ctx, cancel := context.WithTimeout(ctx, c.options.Timeout)
	defer cancel()
	token, err := c.options.Token(ctx)
	if err != nil {
		return "", err
	}
	for i := range len(token) {
		if b := token[i]; b <= ' ' || b > '~' { // it becomes a header
			return "", fmt.Errorf("what Options.Token returned is none: its byte %d is no visible ASCII character", i)
		}
	}
	return token, nil
}

// another is the ending of a connection whose token the server did not take:
// final, unless there is another.
func (c *Client) another(ctx context.Context, end ending) ending {
	refused := end.err
	token, err := c.freshToken(ctx)
	if err != nil {
		return ending{err: fmt.Errorf("%w; no other token: %w", refused, err), again: true, stale: true}
	}
	if token == c.token() {
		return ending{err: refused}
	}
	c.spare, c.hasSpare = token, true
	return ending{err: refused, again: true, stale: true}
}

// token returns the one in use.
func (c *Client) token() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.shown
}

// renewal gets a token in the place of one that is about to end.
type renewal struct {
	running sync.WaitGroup

	// Guarded by mu.
	mu   sync.Mutex
	stop context.CancelFunc
}

// begin asks for a token until there is one that show takes, each time when
// half of what is left has passed. An earlier one that still asks gives way.
func (r *renewal) begin(ctx context.Context, c *Client, left time.Duration, show func(token string) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stop != nil {
		r.stop()
	}
	ctx, cancel := context.WithCancel(ctx)
	r.stop = cancel
	end := time.Now().Add(left)
	r.running.Go(func() {
		defer cancel()
		for {
			left := time.Until(end)
			token, err := c.freshToken(ctx)
			if ctx.Err() != nil {
				return
			}
			if err == nil && show(token) {
				return
			}
			c.tell(&TokenExpires{left, err})
			if left < 2*time.Second || sleep(ctx, left/2) != nil {
				return
			}
		}
	})
}
