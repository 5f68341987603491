package server

import (
	"net/url"
	"strings"
	"time"

	"github.com/pushd/pushd/conn"
	"github.com/pushd/pushd/internal/auth"
	"github.com/pushd/pushd/internal/gate"
	"github.com/pushd/pushd/internal/wire"
	"github.com/pushd/pushd/poller"
	"github.com/pushd/pushd/topics"
)

// path of long-polling on the public listener.
const pollPath = "/poll"

// poll is a request that waits for its answer. It is a subscriber like any other
// for as long as it waits, but that what it is sent is gathered. The answer says
// where each of its subscriptions stands, and the next request goes on from there.
type poll struct {
	// Static after readPoll.
	id     poller.Token
	topics []string
	places []string // where each goes on from, as the client says; "": from now
	origin string   // of the page; "": it is no browser's
	wait   time.Duration
	ask    topics.Want // what all topics have in common

	// Loop-only.
	leaves   time.Time     // in a drain: when its client has to; zero: it was not told
	keep     bool          // the connection goes on with another request
	lacking  int           // subscriptions that do not stand yet
	opens    uint32        // tick from which messages are taken
	until    uint32        // tick at which it is answered whatever there is
	blocked  bool          // something came before opens
	full     bool          // there is more than one answer takes
	hurried  bool          // it is answered now, and nothing is awaited
	due      bool          // in polls.due
	reserved int           // bytes of frames that there is room for
	frames   []byte        // what was gathered: objects with a comma behind each
	refused  *conn.Refusal // the answer, if there is no other
	closed   conn.Reason   // why the server ends it; none: it does not
}

// polls are those of one shard. They belong to its loop.
type polls struct {
	of    map[uint32]*poll          // by slot
	due   []*poll                   // are looked at in the next turn
	spare []*poll                   // the memory of due, in turns
	later map[uint32][]poller.Token // by the tick at which they are looked at
	tick  uint32                    // up to which that was done
	place []byte                    // the cursor that is being made
	body  []byte                    // the answer that is
	bytes []byte                    // the same with its head
}

// poll returns the request that waits in a slot, nil if there is none.
func (sh *shard) poll(id poller.Token) *poll {
	if len(sh.polls.of) == 0 {
		return nil
	}
	if p := sh.polls.of[id.Slot()]; p != nil && p.id == id {
		return p
	}
	return nil
}

// getPoll begins a request for /poll. The strings of r have to be cloned.
func (sh *shard) getPoll(id poller.Token, r *conn.Request) *conn.Refusal {
	refused := sh.openPoll(id, r)
	if refused != nil {
		sh.server.metrics.polls.WithLabelValues(pollRefused).Inc()
		refused.Header = corsHeader(r.Origin)
		return refused
	}
	sh.counted[overPolls].opened.Add(1)
	return nil
}

func (sh *shard) openPoll(id poller.Token, r *conn.Request) *conn.Refusal {
	if sh.server.stopping.Load() {
		return refusal(0, errStopping)
	}
	p := &poll{id: id, keep: r.KeepAlive, origin: strings.Clone(r.Origin)}
	if now := time.Now(); sh.leaving.begun(now) {
		var taken bool
		if p.leaves, taken = sh.pollsUntil(id.Slot(), r.Again, p.keep, now); !taken {
			return refusal(503, errDraining)
		}
	}
	tokens, err := sh.readPoll(p, strings.Clone(r.Query))
	if err != nil {
		return refusal(0, err)
	}
	if sh.polls.of == nil {
		sh.polls.of = make(map[uint32]*poll)
		sh.polls.later = make(map[uint32][]poller.Token)
		sh.polls.tick = sh.loop.Now()
	}
	*sh.client(id.Slot()) = client{shape: polled, unlimited: r.Unlimited}
	sh.polls.of[id.Slot()] = p
	refused := sh.admitPoll(p, r, tokens)
	if refused != nil {
		sh.forgetPoll(id)
		*sh.client(id.Slot()) = client{}
		return refused
	}
	sh.table.Await(id)
	return nil
}

// readPoll reads the query string of a poll, and returns the tokens in it.
func (sh *shard) readPoll(p *poll, query string) (tokens []string, refused *wire.Error) {
	q, err := url.ParseQuery(query)
	if err != nil {
		return nil, &wire.Error{Code: wire.BadRequest, Message: "query string: " + err.Error()}
	}
	p.topics = q["topic"]
	switch most := sh.server.cfg.MaxSubscriptions; {
	case len(p.topics) == 0:
		return nil, &wire.Error{Code: wire.BadRequest, Message: "topic= is missing: a poll has the topics of its query string"}
	case len(p.topics) > most:
		return nil, tooManyTopics(len(p.topics), most)
	case q.Get("format") != "" && q.Get("format") != wire.JSON.String():
		return nil, &wire.Error{Code: wire.BadRequest, Message: "format of a poll is json"}
	}
	if p.places, refused = wire.PollPlaces(q["cursor"], len(p.topics)); refused != nil {
		return nil, refused
	}
	if p.wait, refused = wire.ParsePollWait(q.Get("wait")); refused != nil {
		return nil, refused
	}
	ask := wire.Command{}
	if m := q.Get("mode"); m != "" {
		if ask.Mode, refused = wire.ParseMode(m); refused != nil {
			return nil, refused
		}
	}
	if rate := q.Get("max_rate"); rate != "" {
		if ask.MaxRate, refused = wire.ParseMaxRate(rate); refused != nil {
			return nil, refused
		}
	}
	p.ask, refused = wanted(&ask)
	return tokensOf(q), refused
}

// admitPoll checks what a poll shows of credentials, if anything, and begins.
func (sh *shard) admitPoll(p *poll, r *conn.Request, tokens []string) *conn.Refusal {
	a := sh.server.access
	if a == nil {
		return sh.beginPoll(p)
	}
	s := credentials(r, tokens)
	switch {
	case s.conflict:
		sh.server.metrics.auth.WithLabelValues(authConflict).Inc()
		return refusal(0, errConflict)
	case s.Credentials != (auth.Credentials{}):
		s.Bearer = strings.Clone(s.Bearer)
		if !sh.check(p.id, s.Credentials, func(grant auth.Grant, err *wire.Error) { sh.checkedPoll(p, grant, err) }) {
			return refusal(0, errBusy)
		}
		return nil
	case !a.public.any:
		sh.server.metrics.auth.WithLabelValues(string(auth.Missing)).Inc()
		return unauthorized(errNoToken, false)
	}
	return sh.beginPoll(p)
}

func (sh *shard) checkedPoll(p *poll, grant auth.Grant, err *wire.Error) {
	if sh.poll(p.id) != p {
		return // it has gone
	}
	var refused *conn.Refusal
	switch {
	case sh.server.stopping.Load():
		refused = refusal(0, errStopping)
	case err != nil && err.Code == wire.Unauthorized:
		refused = unauthorized(err, true)
	case err != nil:
		refused = refusal(0, err)
	case !sh.signIn(p.id, grant):
		sh.server.metrics.auth.WithLabelValues(authIdentityFull).Inc()
		refused = refusal(0, errFull)
	default:
		sh.client(p.id.Slot()).lead = 0 // it hears of the end of its token with the next request
		refused = sh.beginPoll(p)
	}
	if refused != nil {
		sh.refusePoll(p, refused)
	}
}

// beginPoll subscribes to what a poll wants.
func (sh *shard) beginPoll(p *poll) *conn.Refusal {
	now := sh.loop.Now()
	if !p.leaves.IsZero() {
		p.wait = min(p.wait, max(0, time.Until(p.leaves)))
	}
	p.opens, p.until = now, now+sh.ticks(p.wait)
	if resumes := strings.Join(p.places, "") != ""; resumes && p.ask.MaxRate > 0 {
		p.opens = now + min(sh.ticks(time.Duration(min(1/p.ask.MaxRate, p.wait.Seconds())*float64(time.Second))), p.until-now)
	}
	if wait := sh.pollTooFast(p); wait > 0 {
		p.opens = max(p.opens, now+sh.ticks(wait))
		p.until = max(p.until, p.opens)
	}
	for i := range p.topics {
		if err := sh.subscribePoll(p, i); err != nil {
			return refusal(0, err)
		}
	}
	sh.lookAt(p)
	if p.opens > now {
		sh.lookLater(p, p.opens)
	}
	if p.until > now {
		sh.lookLater(p, p.until)
	}
	return nil
}

// ticks rounds up.
func (sh *shard) ticks(d time.Duration) uint32 {
	tick := sh.loop.TickLength()
	return uint32((d + tick - 1) / tick)
}

// pollTooFast counts a poll as a command of its connection, and says how long it
// has to gather before it may be answered: a client that asks again at once is
// slowed down, and not refused.
func (sh *shard) pollTooFast(p *poll) time.Duration {
	if sh.client(p.id.Slot()).unlimited {
		return 0
	}
	pace := &sh.server.paces
	now := gate.Clock(pace.began)
	owed := sh.debts[p.id.Slot()]
	wait := pace.commands.Charge(&owed.commands, now, 1+len(p.topics)/topicsOfCommand)
	sh.debts[p.id.Slot()] = owed
	return wait
}

// subscribePoll adds one of a poll's subscriptions where that is permitted, now or
// when it is known.
func (sh *shard) subscribePoll(p *poll, n int) *wire.Error {
	topic := p.topics[n]
	if err := topics.CheckPattern(topic); err != nil {
		return &wire.Error{Code: wire.InvalidTopic, Message: err.Error()}
	}
	want := p.ask
	if p.places[n] != "" {
		at, err := topics.ParsePosition(p.places[n])
		if err != nil {
			return &wire.Error{Code: wire.BadRequest, Message: `"cursor" is ` + err.Error()}
		}
		want.Resume, want.Cursor, want.Ring = true, at.Cursor, at.Ring
	}
	d := sh.decide(p.id, auth.Subscribe, topic)
	switch {
	case sh.mustWait(p.id, d):
		p.lacking++
		return sh.wait(p.id, &step{action: auth.Subscribe, topic: topic, do: func(err *wire.Error) {
			if sh.poll(p.id) != p {
				return
			}
			p.lacking--
			if err == nil {
				err = sh.joinPoll(p, topic, want)
			}
			if err != nil {
				sh.refusePoll(p, refusal(0, err))
			}
		}})
	case d == no:
		return sh.forbidden(p.id, auth.Subscribe, topic)
	}
	return sh.joinPoll(p, topic, want)
}

// joinPoll adds a subscription that is permitted.
func (sh *shard) joinPoll(p *poll, topic string, want topics.Want) *wire.Error {
	st, stands, err := sh.members.Subscribe(p.id.Slot(), topics.Format(polled), topic, "", want)
	switch {
	case err != nil:
		return sh.server.subscribeError(topic, err)
	case !stands:
		p.lacking++
	default:
		sh.pollStands(p, topic, st)
	}
	return nil
}

// subscribedPoll is what sender.Subscribed is to a poll.
func (sh *shard) subscribedPoll(p *poll, topic string, st topics.Standing, err error) {
	if p == nil {
		return // it has been answered
	}
	p.lacking--
	if err != nil {
		sh.refusePoll(p, refusal(0, notBrought(topic, err)))
		return
	}
	sh.pollStands(p, topic, st)
}

// pollStands tells what became of a place to go on from, if that is no more.
func (sh *shard) pollStands(p *poll, topic string, st topics.Standing) {
	switch {
	case st.Resumed != topics.NotRecovered:
	case st.Cursor.IsZero():
		sh.tellPoll(p, wire.AppendGap(sh.json[:0], topic, "", "", gapReasons[st.Why]))
	default:
		sh.tellPoll(p, wire.AppendSubscribed(sh.json[:0], wire.ID{}, topic, st.Cursor.String(), wire.Recovery(st.Resumed), gapReasons[st.Why]))
	}
	sh.lookAt(p)
}

// forgetPoll ends what is known of a poll.
func (sh *shard) forgetPoll(id poller.Token) {
	p := sh.poll(id)
	if p == nil {
		return
	}
	delete(sh.polls.of, id.Slot())
	sh.server.answering.Release(p.reserved)
	sh.members.Leave(id.Slot())
	delete(sh.turns, id)
}
