package pushd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"
)

// Transport is how messages come.
type Transport string

// The transports, in the order in which a client prefers them.
const (
	WebSocket Transport = "websocket"
	SSE       Transport = "sse"  // a stream of Server-Sent Events; what the client has to say goes by requests of its own
	Poll      Transport = "poll" // one request after another, for networks that let nothing else through
)

// link is one connection by one of the transports, from its beginning to its end.
type link interface {
	transport() Transport

	// run connects, and carries messages until the end, which it says. It makes
	// itself the client's link, and at the server's welcome it calls Client.opened.
	run(ctx context.Context) ending

	// ask sends a command once, and waits for its answer. The error is an *Error
	// where the server says no, or errLost where it is not known what became of it.
	ask(ctx context.Context, c *command) (*envelope, error)

	// The client's mu is held for all of these.

	attachLocked()                    // it is the client's link from now on: it asks for all subscriptions
	detachLocked()                    // nor is it any more
	wantLocked(all ...*interest)      // they are to be asked for
	dropLocked(unwanted ...*interest) // nothing of them is to come for now: they are absent
}

// ending is why a link ended, and what a client does then.
type ending struct {
	err    error         // never nil
	again  bool          // connect again
	unfit  bool          // this transport cannot be had here: try the next one
	stale  bool          // the token was not taken: connect again with another, or not at all
	least  time.Duration // wait at least so long before
	turn   bool          // and hardly longer, whatever the backoff: the server expects the client by this transport then
	advice time.Time     // connect at this time, whatever the backoff; zero: no advice
	code   int           // of the close frame that the client sends; 0: normal
}

// endOf is the ending of a connection that had begun.
func endOf(ctx context.Context, err error) ending {
	if ctx.Err() != nil {
		return ending{err: ErrClosed}
	}
	end := ending{err: err, again: true}
	var closed *CloseError
	var mistake *protocolError
	switch {
	case errors.As(err, &closed):
		what := closeCodeOf(closed.Code)
		end.again, end.least = what.again, what.least
		end.stale = closed.Code == closeNoToken
		end.code = closed.Code
	case errors.As(err, &mistake):
		end.code = mistake.code
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		end.err = errBroken
	}
	return end
}

// refusedEnd is the ending of a connection that was refused by a status of HTTP.
// What is busy will be there later; another no may be that of something in
// between, which knows other transports better.
func refusedEnd(no *Error) ending {
	end := ending{err: no, again: no.Temporary(), least: no.RetryAfter, turn: no.hasTurn()}
	switch {
	case no.Status == http.StatusUnauthorized:
		end.stale = true
	case no.Status == http.StatusTooManyRequests, no.Status == http.StatusServiceUnavailable:
	case no.Status == http.StatusForbidden && no.Code == Forbidden: // pushd itself does not want this client
	default:
		end.unfit = true
	}
	return end
}

// attachLocked makes a link the client's, in the place of the one that there is.
func (c *Client) attachLocked(l link) {
	if c.link == l {
		return
	}
	if c.link != nil {
		c.link.detachLocked()
	}
	c.link = l
	l.attachLocked()
	c.changedLocked()
}

// leftAllLocked is for a link that is the client's no more: nobody stands any longer.
func (c *Client) leftAllLocked() {
	c.link = nil
	for _, i := range c.order {
		i.stand = absent
		for _, p := range i.passed {
			p.with.aheadLocked(i, p.until) // as leftLocked does, for all at once
		}
		i.passed = nil
	}
	c.changedLocked()
}

// opened is called once by a link that the server has welcomed. name is what the
// server calls it, and told is closed. One that is not the client's (any more)
// stays outside.
func (c *Client) opened(l link, name string, told chan<- struct{}) {
	c.mu.Lock()
	mine := c.link == l
	c.mu.Unlock()
	if mine {
		c.become(&StateChange{State: Open, Transport: l.transport(), Client: name})
		close(told)
	}
}

// transportsOf checks a list of transports.
func transportsOf(wanted []Transport) ([]Transport, error) {
	if len(wanted) == 0 {
		return []Transport{WebSocket, SSE, Poll}, nil
	}
	known := map[Transport]bool{WebSocket: true, SSE: true, Poll: true}
	for _, t := range wanted {
		if !known[t] {
			return nil, fmt.Errorf("Options.Transports has %q, and each must be one of %s, %s and %s, and there once", t, WebSocket, SSE, Poll)
		}
		known[t] = false
	}
	return slices.Clone(wanted), nil
}
