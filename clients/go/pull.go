package pushd

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"
)

// pull is one request after another that bring messages for some interests.
type pull struct {
	flow

	// Static.
	link   *overHTTP
	ctx    context.Context
	cancel context.CancelCauseFunc

	// run's.
	watch *time.Timer // ends it where nothing comes

	// Guarded by client.mu.
	interests []*interest // that it was made for; some may have left since
	begun     bool        // it runs
	cut       bool        // nobody is interested in how it ends
}

// run asks, and carries what comes to the interests, until the end.
func (p *pull) run() {
	l, c, ctx := p.link, p.client, p.ctx
	defer p.cancel(nil)
	p.watch = time.AfterFunc(c.options.Timeout, p.silent)
	defer p.watch.Stop()
	var err error
	if l.kind == SSE {
		err = p.stream(ctx)
	} else {
		err = p.poll(ctx)
	}
	err = because(ctx, err)
	c.mu.Lock()
	cut, proven, token := p.cut, l.proven, c.shown
	c.mu.Unlock()
	var no *Error
	switch {
	case cut || l.ctx.Err() != nil:
	case errors.As(err, &no) && concernsTopics(no, token != ""):
		p.refused(no)
	default:
		l.end(l.endOf(l.ctx, err, proven))
	}
}

// concernsTopics reports whether a refusal of pushd is about what was asked for.
// Without a token a client may still have what is public.
func concernsTopics(no *Error, hasToken bool) bool {
	switch no.Status {
	case http.StatusBadRequest, http.StatusForbidden:
		return no.Code != statusCode(no.Status)
	case http.StatusUnauthorized:
		return !hasToken
	}
	return false
}

// expect is for something that has come: the next is to come within a while.
func (p *pull) expect(within time.Duration) { p.watch.Reset(within) }

// silent ends the pull, on which nothing has come for too long.
func (p *pull) silent() {
	p.client.mu.Lock()
	why := errSilent
	if p.link.proven {
		why = ErrDead
	}
	p.client.mu.Unlock()
	p.cancel(why)
}

// wantedLocked returns the interests that the pull has still to serve.
func (p *pull) wantedLocked() []*interest {
	return slices.DeleteFunc(slices.Clone(p.interests), func(i *interest) bool {
		return i.gone || i.on != &p.flow || i.stand != asked && i.stand != stands
	})
}

// get asks for messages of all that the pull has to serve, which it returns.
func (p *pull) get(ctx context.Context, path, more string) (*http.Response, []*interest, error) {
	c := p.client
	c.mu.Lock()
	all, token := p.wantedLocked(), c.shown
	query := ""
	if len(all) > 0 {
		query = queryOf(all).Encode() + more
	}
	c.mu.Unlock()
	if len(all) == 0 {
		<-ctx.Done() // it is about to be cut
		return nil, nil, ctx.Err()
	}
	response, err := c.http.get(ctx, path, query, token)
	return response, all, err
}

// refused finds out which of several topics it was that the server does not
// want to serve, and ends that one: each half is asked for by itself, one after
// the other.
func (p *pull) refused(no *Error) {
	l, c := p.link, p.client
	l.answering.Lock()
	defer l.answering.Unlock()
	c.mu.Lock()
	var events []Event
	if all := p.wantedLocked(); !p.cut {
		switch half := len(all) / 2; len(all) {
		case 0:
		case 1:
			no.Topic = all[0].topic
			events = c.endLocked(all[0], no)
		default:
			l.suspectLocked(l.newPullLocked(all[:half:half]), l.newPullLocked(all[half:]))
		}
		l.cutLocked(p)
		l.wakeUp()
	}
	c.mu.Unlock()
	c.tell(events...)
}

// handle takes what the server tells. The error is the end of the link.
func (p *pull) handle(text []byte) error {
	if m, ok := decodeMessage(text); ok {
		p.route(&m)
		return nil
	}
	m := &envelope{}
	if err := decode(text, m); err != nil {
		return err
	}
	l, c := p.link, p.client
	switch m.Type {
	case "welcome", "reconnect":
	default:
		c.wentWell()
	}
	switch {
	case m.Type == "subscribed":
		p.subscribed(m)
	case m.Type == "unsubscribed" && m.Reason == "token_expired":
		c.tell(&Unsubscribed{m.Topic, m.Reason}) // the close that follows ends them all
	case m.Type == "reconnect":
		l.advise(m)
	case m.Type == "token_expires":
		l.renewal.begin(l.ctx, c, milliseconds(m.After), l.show)
	case m.Type == "close":
		return m.closing()
	default:
		p.flow.handle(m, text)
		l.wakeUp() // it may have lost an interest
	}
	return nil
}

// subscribed notes that an interest stands.
func (p *pull) subscribed(m *envelope) {
	c := p.client
	c.mu.Lock()
	i := c.interest[m.Topic]
	var gap *Gap
	if i != nil && i.on == &p.flow && (i.stand == asked || i.stand == stands) {
		gap = p.stoodLocked(i, m)
	}
	c.mu.Unlock()
	if gap != nil {
		c.tell(gap)
	}
}

// stoodLocked notes that an interest stands, and lets go of one whose consumer
// has fallen behind since it was asked for.
func (p *pull) stoodLocked(i *interest, m *envelope) *Gap {
	gap := p.client.stoodLocked(i, m)
	if i.sub.isPaused() {
		p.link.dropLocked(i)
	}
	return gap
}
