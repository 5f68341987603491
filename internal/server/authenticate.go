package server

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"time"

	"github.com/pushd/pushd/conn"
	"github.com/pushd/pushd/internal/auth"
	"github.com/pushd/pushd/internal/wire"
	"github.com/pushd/pushd/poller"
)

// standing is how far a connection has come with its credentials.
type standing uint8

const (
	mustAuthenticate standing = 1 << iota // nothing but `auth` and `ping` is obeyed
	checking                              // a token of it is being checked
	overdue                               // … and its time to show one has passed
	operator                              // it came by the admin listener, and may do everything
)

// maxDenials is how many tokens in a row may be refused on one connection
// before it ends (1008): each costs the check of a signature.
const maxDenials = 8

// What becomes of credentials, as metric labels, beside the reasons of package auth.
const (
	authOK           = "ok"
	authBusy         = "busy"          // too many wait for their check
	authIdentityFull = "identity_full" // --max-connections-per-identity
	authOther        = "other_identity"
	authConflict     = "conflict" // several tokens in one request
)

var (
	errConflict = &wire.Error{Code: wire.BadRequest, Message: "more than one token: send it in Authorization, in token= or in Sec-WebSocket-Protocol"}
	errBusy     = &wire.Error{Code: wire.Unavailable, Message: "too many tokens wait to be checked: try again"}
	errNoToken  = &wire.Error{Code: wire.Unauthorized, Message: "a token is needed: send it as Authorization: Bearer, as token= in the query, or over the WebSocket in a command: {\"type\":\"auth\",\"token\":…}"}
	errNoRoom   = &wire.Error{Code: wire.Unavailable, Message: "there is no room for an answer (--poll-memory): poll again with the same cursor"}
	errFull     = &wire.Error{Code: wire.RateLimited, Message: "too many connections of this identity (--max-connections-per-identity)"}
)

// tokenEntry starts an entry of Sec-WebSocket-Protocol that is a token: the one
// header that a browser can set.
const tokenEntry = "pushd.token."

// shown gathers what credentials a request has. Strings may be views.
type shown struct {
	auth.Credentials
	conflict bool
}

func (s *shown) token(t string) {
	switch {
	case t == "" || t == s.Bearer:
	case s.Bearer == "":
		s.Bearer = t
	default:
		s.conflict = true
	}
}

// credentials finds what an upgrade request shows.
func credentials(r *conn.Request, query []string) (s shown) {
	s.token(bearer(r.Authorization))
	for _, t := range query {
		s.token(t)
	}
	for entry := range strings.SplitSeq(r.Offered, ",") {
		if t, ok := strings.CutPrefix(strings.Trim(entry, " \t"), tokenEntry); ok {
			s.token(t)
		}
	}
	s.Certificate = r.Certificate
	return s
}

// admit checks what a request shows, if anything, and begins.
func (sh *shard) admit(id poller.Token, r *conn.Request, open *opening) *conn.Refusal {
	a := sh.server.access
	s := credentials(r, open.tokens)
	c := sh.client(id.Slot())
	switch {
	case s.conflict:
		sh.server.metrics.auth.WithLabelValues(authConflict).Inc()
		return refusal(0, errConflict)
	case s.Credentials != (auth.Credentials{}):
		return sh.checkOpening(id, r, s.Credentials, open)
	case !a.public.any && !open.shape.talks(): // it could not send one later
		sh.server.metrics.auth.WithLabelValues(string(auth.Missing)).Inc()
		return unauthorized(errNoToken, false)
	case !a.public.any:
		*c = client{shape: open.shape, unlimited: r.Unlimited, standing: mustAuthenticate}
		sh.expectToken(id)
	default:
		*c = client{shape: open.shape, unlimited: r.Unlimited}
	}
	return sh.beginNow(id, open)
}

// checkOpening holds a request back while its credentials are checked.
func (sh *shard) checkOpening(id poller.Token, r *conn.Request, shown auth.Credentials, open *opening) *conn.Refusal {
	shown.Bearer = strings.Clone(shown.Bearer)
	if !sh.check(id, shown, func(grant auth.Grant, err *wire.Error) { sh.checkedOpening(id, open, grant, err) }) {
		return refusal(0, errBusy)
	}
	*sh.client(id.Slot()) = client{shape: open.shape, unlimited: r.Unlimited}
	sh.table.Hold(id)
	return nil
}

// check has a worker check credentials, and calls done with what came of it,
// unless the connection ends before: then nobody's time is spent on them. It
// reports false where too many wait.
func (sh *shard) check(id poller.Token, shown auth.Credentials, done func(auth.Grant, *wire.Error)) bool {
	server := sh.server
	ctx, cancel := context.WithCancel(server.access.ctx)
	if !server.access.checks.Submit(func() {
		if ctx.Err() != nil {
			return
		}
		grant, err := server.authenticate(ctx, shown)
		sh.loop.Post(poller.Func(func() {
			sh.endCheck(id)
			done(grant, err)
		}))
	}) {
		cancel()
		server.metrics.auth.WithLabelValues(authBusy).Inc()
		return false
	}
	if sh.checks == nil {
		sh.checks = make(map[poller.Token]context.CancelFunc)
	}
	sh.checks[id] = cancel
	return true
}

// endCheck is of a check that is over, or of a connection that is.
func (sh *shard) endCheck(id poller.Token) {
	if cancel := sh.checks[id]; cancel != nil {
		cancel()
		delete(sh.checks, id)
	}
}

func (sh *shard) checkedOpening(id poller.Token, open *opening, grant auth.Grant, err *wire.Error) {
	if !sh.table.IsHeld(id) {
		return // it took too long, or has gone
	}
	switch {
	case sh.server.stopping.Load():
		sh.refuse(id, refusal(0, errStopping))
		return
	case err != nil && err.Code == wire.Unauthorized:
		sh.refuse(id, unauthorized(err, true))
		return
	case err != nil:
		sh.refuse(id, refusal(0, err))
		return
	case !sh.signIn(id, grant):
		sh.server.metrics.auth.WithLabelValues(authIdentityFull).Inc()
		sh.refuse(id, refusal(0, errFull))
		return
	}
	if err := sh.begin(id, open); err != nil {
		sh.refuse(id, refusal(0, err))
		return
	}
	if sh.client(id.Slot()).awaited == 0 {
		sh.release(id)
	}
}

// authenticate checks credentials, and counts what comes of it. It may wait.
func (s *Server) authenticate(ctx context.Context, shown auth.Credentials) (auth.Grant, *wire.Error) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	grant, err := s.access.check.Authenticate(ctx, shown)
	if err == nil {
		s.metrics.auth.WithLabelValues(authOK).Inc()
		return grant, nil
	}
	reason, detail := auth.KeysAway, "the token cannot be checked now"
	var refused *auth.Error
	if errors.As(err, &refused) {
		reason, detail = refused.Reason, refused.Detail
	}
	s.metrics.auth.WithLabelValues(string(reason)).Inc()
	if s.debugs() {
		s.log.Debug("credentials refused", "reason", string(reason), "detail", detail)
	}
	if reason == auth.KeysAway {
		return grant, &wire.Error{Code: wire.Unavailable, Message: detail + ": try again"}
	}
	return grant, &wire.Error{Code: wire.Unauthorized, Message: detail}
}

// authCommand checks the token of a command: a first one, or one that takes
// the place of another.
func (sh *shard) authCommand(id poller.Token, cmd *wire.Command) {
	cmdID, c := cmd.ID, sh.client(id.Slot())
	if sh.server.access == nil {
		sh.replyError(id, cmdID, wire.BadRequest, "this server has no authentication configured: no token is needed")
		return
	}
	if c.standing&checking != 0 {
		sh.replyError(id, cmdID, wire.RateLimited, "a token of this connection is being checked: wait for the reply")
		return
	}
	shown := auth.Credentials{Bearer: strings.Clone(cmd.Token)}
	if !sh.check(id, shown, func(grant auth.Grant, err *wire.Error) { sh.checkedCommand(id, cmdID, grant, err) }) {
		sh.replyError(id, cmdID, errBusy.Code, errBusy.Message)
		return
	}
	c.standing |= checking
}

func (sh *shard) checkedCommand(id poller.Token, cmd wire.ID, grant auth.Grant, err *wire.Error) {
	if !sh.table.IsOpen(id) {
		return
	}
	c := sh.client(id.Slot())
	late := c.standing&overdue != 0
	c.standing &^= checking | overdue
	if err == nil && c.session != 0 && grant.Identity != sh.identityOf(id.Slot()) {
		sh.server.metrics.auth.WithLabelValues(authOther).Inc()
		err = &wire.Error{Code: wire.Unauthorized, Message: "the token is of another identity than this connection: open another with it"}
	}
	if err != nil {
		sh.replyError(id, cmd, err.Code, err.Message)
		if err.Code == wire.Unauthorized {
			c.denials++
		}
		switch {
		case c.denials >= maxDenials:
			sh.table.Close(id, conn.ReasonPolicy)
		case late:
			sh.missToken(id)
		}
		return
	}
	if !sh.signIn(id, grant) {
		sh.server.metrics.auth.WithLabelValues(authIdentityFull).Inc()
		sh.replyError(id, cmd, errFull.Code, errFull.Message)
		sh.table.Close(id, conn.ReasonIdentityFull)
		return
	}
	expires := int64(0)
	if !grant.Expires.IsZero() {
		expires = grant.Expires.UnixMilli()
	}
	sh.reply(id, wire.AppendAuthenticated(sh.json[:0], cmd, expires))
	sh.followRights(id)
}

// followRights ends the subscriptions that a new token does not allow any more.
func (sh *shard) followRights(id poller.Token) {
	for _, pattern := range sh.members.Patterns(id.Slot(), nil) {
		switch d := sh.decide(id, auth.Subscribe, pattern); d {
		case yes:
		case no:
			sh.endForbidden(id, pattern)
		case perhaps:
			if sh.wait(id, &step{action: auth.Subscribe, topic: pattern, do: func(refused *wire.Error) {
				if refused != nil {
					sh.endForbidden(id, pattern)
				}
			}}) != nil {
				sh.endForbidden(id, pattern)
			}
		}
	}
	if t := sh.turns[id]; t != nil {
		sh.advance(id, t) // what waits may be allowed by itself now, or not at all
	}
}

func (sh *shard) endForbidden(id poller.Token, pattern string) {
	if sh.members.Unsubscribe(id.Slot(), pattern) {
		sh.tellForbidden(id, pattern)
	}
}

// tellForbidden says that subscriptions have ended, and ends the connection where
// there are no words for that, or where it can ask for no other and has none left.
func (sh *shard) tellForbidden(id poller.Token, patterns ...string) {
	sh.server.metrics.forbidden.WithLabelValues(string(auth.Subscribe)).Add(float64(len(patterns)))
	c := sh.client(id.Slot())
	if c.shape.tells() {
		for _, pattern := range patterns {
			sh.reply(id, wire.AppendUnsubscribed(sh.json[:0], wire.ID{}, pattern, wire.UnsubscribedForbidden))
		}
	}
	switch {
	case !sh.table.IsOpen(id), c.shape.talks(), c.shape.tells() && sh.hopes(id):
	case c.session == 0 && sh.server.access != nil:
		sh.missToken(id)
	default:
		sh.table.Close(id, conn.ReasonPolicy)
	}
}

// hopes reports whether a connection is subscribed to anything, or may be by an
// answer that is awaited.
func (sh *shard) hopes(id poller.Token) bool {
	t := sh.turns[id]
	return t != nil && len(t.steps) > 0 || len(sh.members.Patterns(id.Slot(), nil)) > 0
}

// unauthorized is a refusal by HTTP. token: one was shown.
func unauthorized(err *wire.Error, token bool) *conn.Refusal {
	r := refusal(0, err)
	r.Challenge = challenge(token)
	return r
}

// challenge is the WWW-Authenticate of a 401 (RFC 6750, 3): without a token it
// names no error.
func challenge(token bool) string {
	if token {
		return `Bearer realm="pushd", error="invalid_token"`
	}
	return `Bearer realm="pushd"`
}

// tokensOf are the tokens of a query string.
func tokensOf(q url.Values) []string { return q["token"] }

// monotonic is the time at which a grant ends, by a clock that nobody sets.
func monotonic(expires time.Time) time.Time {
	if expires.IsZero() {
		return expires
	}
	now := time.Now()
	return now.Add(expires.Sub(now))
}
