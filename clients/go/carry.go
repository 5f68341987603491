package pushd

import (
	"context"
	"math/rand/v2"
	"time"
)

// How a client goes from one transport to another: it begins with the best, and
// takes the next one where that cannot be had here. While it is on a lesser one
// it tries the best now and then, which takes the other's place once it is open.

// attempt is a link with the goroutine that runs it.
type attempt struct {
	link   link
	cancel context.CancelFunc
	opened <-chan struct{} // closed once it is open
	ended  <-chan ending   // gets one
}

// start makes a link and runs it. better says that there is one which goes on meanwhile.
func (c *Client) start(ctx context.Context, t Transport, better bool) *attempt {
	ctx, cancel := context.WithCancel(ctx)
	opened, ended := make(chan struct{}), make(chan ending, 1)
	var l link
	if t == WebSocket {
		l = newSession(c, opened)
	} else {
		l = newOverHTTP(c, t, better, opened)
	}
	go func() { ended <- l.run(ctx) }()
	return &attempt{link: l, cancel: cancel, opened: opened, ended: ended}
}

// stop ends an attempt.
func (a *attempt) stop() {
	a.cancel()
	<-a.ended
}

func (a *attempt) isOpen() bool {
	select {
	case <-a.opened:
		return true
	default:
		return false
	}
}

// carry connects by one transport, and goes on by the best where that can be had
// later. It returns the end, and by which transport that was.
func (c *Client) carry(ctx context.Context, index int) (end ending, last int) {
	current := c.start(ctx, c.transports[index], false)
	opened := current.opened
	var better *attempt
	var took <-chan struct{}
	var failed <-chan ending
	look := time.NewTimer(time.Hour)
	look.Stop()
	defer look.Stop()
	for {
		select {
		case <-opened:
			opened = nil
			if index == 0 {
				c.worked = true
			} else {
				look.Reset(c.untilBetter())
			}
		case <-look.C:
			better = c.start(ctx, c.transports[0], true)
			took, failed = better.opened, better.ended
		case <-took:
			current.stop()
			current, better, index = better, nil, 0
			took, failed, c.worked = nil, nil, true
		case end := <-failed:
			better.cancel()
			if better.isOpen() { // it took the other's place, and is over already
				current.stop()
				return end, 0
			}
			better, took, failed = nil, nil, nil
			if end.turn {
				look.Reset(atTurn(end.least))
			} else {
				look.Reset(c.untilBetter())
			}
		case end := <-current.ended:
			if better != nil && better.isOpen() {
				current.cancel()
				current, better, index = better, nil, 0
				took, failed, c.worked = nil, nil, true
				continue
			}
			if better != nil {
				better.stop()
			}
			current.cancel()
			return end, index
		}
	}
}

// untilBetter is how long to stay with a lesser transport before the best is tried.
func (c *Client) untilBetter() time.Duration {
	return time.Duration((0.5 + rand.Float64()) * float64(c.options.RetryBetter))
}

// run connects, again and again, until ctx is done or there is no use in it.
func (c *Client) run(ctx context.Context) {
	defer close(c.ended)
	defer c.http.close()
	defer c.cancel()
	index := 0
	begin := true   // of a round over the transports
	var first error // why the first of the round could not be had
	var why error   // the last one could not
	hope := false   // one of them may be had later
	for {
		c.become(&StateChange{State: Connecting, Transport: c.transports[index], Err: why})
		end := ending{again: true}
		if begin {
			end.err = c.authorize(ctx)
		}
		if end.err == nil {
			end, index = c.carry(ctx, index)
		}
		if end.stale && ctx.Err() == nil {
			end = c.another(ctx, end)
		}
		if ctx.Err() != nil {
			c.finish(ErrClosed)
			return
		}
		if end.unfit {
			hope = hope || end.again
			if first == nil {
				first = end.err
			}
			if c.mayStepDown(index) {
				index, begin, why = index+1, false, end.err
				continue
			}
			if end.again = hope; !hope {
				end.err = first
			}
		}
		if !end.again {
			c.finish(end.err)
			return
		}
		wait := c.untilAgain(end)
		c.become(&StateChange{State: Waiting, Err: end.err, Wait: wait})
		if sleep(ctx, wait) != nil {
			c.finish(ErrClosed)
			return
		}
		if begin, first, why, hope = true, nil, nil, false; !end.stale && !end.turn {
			index = 0
		}
	}
}

// untilAgain is how long to wait after the end of a round.
func (c *Client) untilAgain(end ending) time.Duration {
	switch {
	case !end.advice.IsZero():
		return max(0, time.Until(end.advice))
	case end.turn:
		return atTurn(end.least)
	}
	return end.least + c.nextBackoff()
}

// mayStepDown reports whether the next transport is to be tried. The best that
// worked before gets a second chance: it may be the server that is away.
func (c *Client) mayStepDown(index int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return index+1 < len(c.transports) && (index > 0 || c.backoff.failures > 0 || !c.worked)
}

func (c *Client) nextBackoff() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.backoff.Next()
}

// wentWell is for a sign that the connection works.
func (c *Client) wentWell() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.backoff.Reset()
}
