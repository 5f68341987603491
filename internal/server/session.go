package server

import (
	"slices"
	"time"

	"github.com/pushd/pushd/conn"
	"github.com/pushd/pushd/internal/auth"
	"github.com/pushd/pushd/internal/wire"
	"github.com/pushd/pushd/poller"
)

// session is what is known of an authenticated connection: 32 bytes, the name
// and its count. Rights are shared by all that have the same.
type session struct {
	rights   *auth.Rights // nil: the session is free
	identity string
	expires  uint32 // in seconds since the epoch, as clients are told it; 0: never
	ends     uint32 // tick at which the token ends; of no meaning without expires
}

const sessionsPerPage = 1 << 10

// sessions are those of one shard, in pages that never move. Number 0 is nobody's.
type sessions struct {
	pages []*[sessionsPerPage]session
	next  uint32
	spare []uint32
	used  int
}

func (all *sessions) at(n uint32) *session { return &all.pages[n/sessionsPerPage][n%sessionsPerPage] }

func (all *sessions) take() uint32 {
	all.used++
	if n := len(all.spare); n > 0 {
		number := all.spare[n-1]
		all.spare = all.spare[:n-1]
		return number
	}
	all.next++
	if all.next/sessionsPerPage >= uint32(len(all.pages)) {
		all.pages = append(all.pages, new([sessionsPerPage]session))
	}
	return all.next
}

func (all *sessions) free(n uint32) {
	*all.at(n) = session{}
	all.spare = append(all.spare, n)
	all.used--
}

// who says what is known of the client in a slot: no rights, nobody.
func (sh *shard) who(slot uint32) (identity string, rights *auth.Rights) {
	c := sh.client(slot)
	if c.session == 0 {
		return "", nil
	}
	s := sh.sessions.at(c.session)
	return s.identity, s.rights
}

// identityOf is who is known to have a slot's connection, "" for nobody.
func (sh *shard) identityOf(slot uint32) string {
	identity, _ := sh.who(slot)
	return identity
}

// signIn gives a connection the rights of a grant. It reports false where the
// identity has as many connections as it may.
func (sh *shard) signIn(id poller.Token, grant auth.Grant) bool {
	c := sh.client(id.Slot())
	if c.session == 0 {
		if !sh.server.access.identities.enter(grant.Identity) {
			return false
		}
		c.session = sh.sessions.take()
	}
	s := sh.sessions.at(c.session)
	s.rights, s.identity = grant.Rights, grant.Identity
	s.expires, s.ends, c.lead = sh.lifetime(grant.Expires, time.Now())
	c.standing &^= mustAuthenticate
	c.denials = 0
	return true
}

// signOut gives back what a connection had of signIn.
func (sh *shard) signOut(slot uint32) {
	c := sh.client(slot)
	if c.session == 0 {
		return
	}
	sh.server.access.identities.leave(sh.sessions.at(c.session).identity)
	sh.sessions.free(c.session)
	c.session = 0
}

const (
	// mostWarning is how long before its end a client hears of it; of a token
	// that has less than twice as long, half of that.
	mostWarning = 30 * time.Second

	// longestLife keeps ticks within their range. Nobody is connected for so long.
	longestLife = 5 * 365 * 24 * time.Hour
)

// lifetime is when a token ends by the shard's own clock, which nobody sets: a
// wall clock that jumps neither ends connections nor keeps them. lead is how
// many seconds before there is a warning.
func (sh *shard) lifetime(expires, now time.Time) (seconds, ends uint32, lead uint8) {
	if expires.IsZero() {
		return 0, 0, 0
	}
	left := min(max(expires.Sub(now), 0), longestLife)
	tick := sh.loop.TickLength()
	warning := min(mostWarning, left/2)
	return uint32(expires.Unix()), sh.loop.Now() + uint32((left+tick-1)/tick), uint8((warning + time.Second - 1) / time.Second)
}

// sweepPeriod is how often each session is looked at.
const sweepPeriod = time.Second

// sweepSessions looks at the next of the slots for tokens that end: there is
// neither a timer nor a list, but all are looked at within a period.
func (sh *shard) sweepSessions(now uint32) {
	passed := now - sh.sweptAt
	sh.sweptAt = now
	if sh.sessions.used == 0 {
		return
	}
	slots := uint32(len(sh.clients) * clientsPerPage)
	perPeriod := uint32(sweepPeriod / sh.loop.TickLength())
	n := slots
	if passed < perPeriod {
		n = (slots*passed + perPeriod - 1) / perPeriod
	}
	for ; n > 0; n-- {
		if sh.sweepAt >= slots {
			sh.sweepAt = 0
		}
		if c := sh.client(sh.sweepAt); c.session != 0 {
			sh.ageToken(sh.table.ID(sh.sweepAt), c, now)
		}
		sh.sweepAt++
	}
}

// ageToken warns of the end of a token, and ends what it was good for.
func (sh *shard) ageToken(id poller.Token, c *client, now uint32) {
	s := sh.sessions.at(c.session)
	p := sh.poll(id)
	if s.expires == 0 || !sh.table.IsOpen(id) && p == nil {
		return
	}
	left := time.Duration(int32(s.ends-now)) * sh.loop.TickLength()
	switch {
	case left <= 0 && p != nil:
		sh.endPoll(p, conn.ReasonTokenExpired)
	case left <= 0:
		sh.endSubscriptions(id)
		sh.table.Close(id, conn.ReasonTokenExpired)
	case c.lead > 0 && left <= time.Duration(c.lead)*time.Second:
		c.lead = 0
		if c.shape.tells() {
			sh.reply(id, wire.AppendTokenExpires(sh.json[:0], left, int64(s.expires)*1000))
		}
	}
}

// endSubscriptions ends all that an expired token was good for.
func (sh *shard) endSubscriptions(id poller.Token) {
	slot := id.Slot()
	var frames []byte // one write for all
	for _, pattern := range sh.members.Patterns(slot, nil) {
		sh.members.Unsubscribe(slot, pattern)
		sh.json = wire.AppendUnsubscribed(sh.json[:0], wire.ID{}, pattern, wire.UnsubscribedTokenExpired)
		frames = appendTold(frames, sh.client(slot).shape, sh.json)
	}
	if sh.client(slot).shape.tells() && len(frames) > 0 {
		sh.table.Reply(id, frames)
	}
}

// deadline is when a client must have shown a token.
type deadline struct {
	id   poller.Token
	tick uint32
}

// expectToken has a connection end that shows no token in time. All wait
// equally long, so the list is in the order of time.
func (sh *shard) expectToken(id poller.Token) {
	sh.expectTokenWithin(id, sh.server.access.timeout)
}

func (sh *shard) expectTokenWithin(id poller.Token, d time.Duration) {
	tick := sh.loop.TickLength()
	sh.tokenDue = append(sh.tokenDue, deadline{id, sh.loop.Now() + uint32((d+tick-1)/tick) + 1})
}

// sortDue puts deadlines that were handed over into the order of time.
func (sh *shard) sortDue() {
	slices.SortStableFunc(sh.tokenDue, func(a, b deadline) int { return int(int32(a.tick - b.tick)) })
}

// thawTokens gives back the time in which no token could be shown.
func (sh *shard) thawTokens() {
	ticks, _ := sh.table.Frozen()
	if ticks == 0 {
		return
	}
	for i := range sh.tokenDue {
		sh.tokenDue[i].tick += ticks
	}
	if sh.sessions.used == 0 {
		return
	}
	now := sh.loop.Now()
	for slot := range sh.table.Slots() {
		if c := sh.client(slot); c.session != 0 {
			s := sh.sessions.at(c.session)
			s.ends = now + sh.leftOf(s)
		}
	}
}

// leftOf is for how many ticks a token is still good. What would end while nothing
// is read has its time afterwards.
func (sh *shard) leftOf(s *session) uint32 {
	ticks, _ := sh.table.Frozen()
	left := int32(s.ends - sh.loop.Now())
	if left <= int32(ticks) {
		left += int32(ticks)
	}
	return uint32(max(left, 0))
}

// missTokens ends those whose time has passed. A token that is being checked
// just now has come in time.
func (sh *shard) missTokens(now uint32) {
	due := sh.tokenDue
	for len(due) > 0 && int32(now-due[0].tick) >= 0 {
		id := due[0].id
		due = due[1:]
		if !sh.table.IsOpen(id) {
			continue
		}
		switch c := sh.client(id.Slot()); {
		case c.standing&mustAuthenticate == 0:
		case c.standing&checking != 0:
			c.standing |= overdue
		default:
			sh.missToken(id)
		}
	}
	if sh.tokenDue = due; len(due) == 0 {
		sh.tokenDue = nil
	}
}

func (sh *shard) missToken(id poller.Token) {
	sh.server.metrics.auth.WithLabelValues(string(auth.Missing)).Inc()
	sh.table.Close(id, conn.ReasonNoToken)
}
