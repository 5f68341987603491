package pushd

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"
)

// overHTTP is a link that has requests for all it does: some bring messages, each
// for some interests, and publications have their own.
type overHTTP struct {
	// Static.
	client *Client
	kind   Transport
	better bool            // there is a link that goes on until this one is open
	told   chan<- struct{} // closed when it is

	wake    chan struct{}  // holds one: there is something to place
	ends    chan ending    // takes one: the first counts
	advised chan time.Time // takes one

	running sync.WaitGroup // of pulls
	renewal renewal

	answering sync.Mutex // held while an answer is taken, and while interests move between pulls

	// Guarded by client.mu.
	ctx     context.Context // of pulls; nil: none may begin
	over    bool
	open    bool
	greeted bool // it is, or will be, open without a pull
	proven  bool // the server has answered a pull
	leaving bool // the server has said when it wants the client elsewhere
	anew    bool // all pulls are to be made anew
	pulls   []*pull
	suspect []*pull // those of pulls that are halves of a refused one, and not answered yet: the first is asked, the others wait
}

func newOverHTTP(c *Client, kind Transport, better bool, told chan<- struct{}) *overHTTP {
	return &overHTTP{
		client: c, kind: kind, better: better, told: told,
		wake: make(chan struct{}, 1), ends: make(chan ending, 1), advised: make(chan time.Time, 1),
	}
}

func (l *overHTTP) transport() Transport { return l.kind }

// run has pulls for all interests until one of them ends for another reason than
// that it is not needed.
func (l *overHTTP) run(ctx context.Context) ending {
	c := l.client
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		c.mu.Lock()
		l.detachLocked()
		c.mu.Unlock()
		cancel()
		l.running.Wait()
		l.renewal.running.Wait()
	}()
	if l.better {
		if err := l.try(ctx); err != nil {
			return l.endOf(ctx, err, false)
		}
	}
	c.mu.Lock()
	l.ctx = ctx
	if ctx.Err() == nil {
		c.attachLocked(l)
	}
	c.mu.Unlock()
	l.place()
	var leave <-chan time.Time
	var leaveAt time.Time
	for {
		select {
		case <-l.wake:
			l.place()
		case leaveAt = <-l.advised:
			leave = time.After(time.Until(leaveAt))
		case <-leave:
			return ending{err: errAdvised, again: true, advice: leaveAt}
		case end := <-l.ends:
			end.advice = leaveAt
			return end
		case <-ctx.Done():
			return ending{err: ErrClosed}
		}
	}
}

// try finds out whether a stream can be had here, and takes nothing from it: as
// long as another link has the interests, this one must not.
func (l *overHTTP) try(ctx context.Context) error {
	c := l.client
	c.mu.Lock()
	first := slices.Clone(c.order[:min(1, len(c.order))])
	token := c.shown
	query := ""
	if len(first) > 0 {
		query = queryOf(first).Encode()
	}
	c.mu.Unlock()
	if query == "" || l.kind != SSE {
		return l.greet(ctx)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, c.options.Timeout, errSilent)
	defer cancel()
	response, err := c.http.get(ctx, "/sse", query, token)
	if err != nil {
		return because(ctx, err)
	}
	defer response.Body.Close()
	events := newEventReader(response.Body)
	for {
		text, err := events.next()
		if err != nil {
			return because(ctx, err)
		}
		m := &envelope{}
		if decode(text, m) == nil && m.Type == "welcome" {
			return nil
		}
	}
}

// greet finds out whether the server answers: where nothing is subscribed to,
// that is all there is to know. Many proxies pass on no more than a client needs,
// so any answer is one, but for those that say to come later.
func (l *overHTTP) greet(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, l.client.options.Timeout, errSilent)
	defer cancel()
	response, err := l.client.http.get(ctx, "/healthz", "", l.client.token())
	var no *Error
	switch {
	case errors.As(err, &no) && no.Status < http.StatusInternalServerError && !no.Temporary():
		return nil
	case err != nil:
		return because(ctx, err)
	}
	return response.Body.Close()
}

// because returns why a context ended, where it was that which broke a request off.
func because(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// welcomed is for an answer of the server, to a pull or, where by is nil, to greet.
func (l *overHTTP) welcomed(name string, by *pull) {
	l.client.mu.Lock()
	was := l.open
	l.open = true
	if by != nil {
		l.proven = true
		l.clearedLocked(by)
	}
	l.client.mu.Unlock()
	if !was {
		l.client.opened(l, name, l.told)
	}
}

// end ends the link. Only the first counts.
func (l *overHTTP) end(end ending) {
	select {
	case l.ends <- end:
	default:
	}
}

// endOf is the ending of the link by the end of one of its requests. proven says
// that others of the kind were answered.
func (l *overHTTP) endOf(ctx context.Context, err error, proven bool) ending {
	var no *Error
	if errors.As(err, &no) && ctx.Err() == nil {
		return refusedEnd(no)
	}
	end := endOf(ctx, err)
	var closed *CloseError
	end.unfit = !proven && !isAway(err) && !errors.As(err, &closed)
	return end
}

// advise is for a server that wants the client to connect again. It says so to each
// pull, and with each answer to a poll; the first counts.
func (l *overHTTP) advise(m *envelope) {
	l.client.mu.Lock()
	was := l.leaving
	l.leaving = true
	l.client.mu.Unlock()
	if was {
		return
	}
	after := milliseconds(m.After)
	l.advised <- time.Now().Add(after) // takes one
	l.client.tell(&Advice{after, m.Reason})
}

// show has another token in use, for pulls that are made anew with it.
func (l *overHTTP) show(token string) bool {
	c := l.client
	c.mu.Lock()
	defer c.mu.Unlock()
	if token == c.shown {
		return false
	}
	c.shown, l.anew = token, true
	l.wakeUp()
	return true
}

func (l *overHTTP) wakeUp() {
	select {
	case l.wake <- struct{}{}:
	default: // it has not looked yet
	}
}

// ask publishes. There is no request for anything else.
func (l *overHTTP) ask(ctx context.Context, cmd *command) (*envelope, error) {
	if cmd.Type != "publish" {
		return nil, &Error{Code: Unsupported, Message: fmt.Sprintf("%s needs a WebSocket, and the client is connected by %s", cmd.Type, l.kind), Topic: cmd.Topic}
	}
	token := l.client.token()
	m, err := l.client.http.post(ctx, cmd, token)
	var no *Error
	switch {
	case err == nil:
		return m, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case !errors.As(err, &no):
		return nil, fmt.Errorf("%w: %w", errLost, err)
	case no.Status == http.StatusUnauthorized && token != "":
		if token == l.client.token() {
			l.end(ending{err: no, again: true, stale: true})
		}
		return nil, errLost // it was not taken, and may be with another token
	}
	return nil, no
}
