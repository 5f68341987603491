package server

import (
	"context"
	"net/netip"

	"github.com/pushd/pushd/internal/auth"
	"github.com/pushd/pushd/internal/config"
	"github.com/pushd/pushd/internal/wire"
	"github.com/pushd/pushd/poller"
	"github.com/pushd/pushd/topics"
)

// Bounds of what one connection may have waiting for permissions.
const (
	maxAsking  = 16   // questions under way
	maxPending = 1024 // commands, a command with many topics being many

	// maxPendingData is the data of the publications among them, in bytes,
	// beside a single one that may be larger.
	maxPendingData = 256 << 10
)

// turns are the commands of one connection of which one waits for a permission.
// Those behind it wait too: what a client asked for is done in its order.
type turns struct {
	steps  []*step // the first is to be done next
	asking int
	size   int  // bytes of data
	busy   bool // advance is under way
}

// step is one thing that a client wants to do with one topic.
type step struct {
	action auth.Action // "": needs no permission
	topic  string
	size   int               // bytes that it keeps waiting
	do     func(*wire.Error) // nil: it may; else why not

	patient bool // it is no command: its question waits for others of the kind

	asked    bool
	answered bool
	refused  *wire.Error
}

// decide says whether a connection may do something, by what is known of it.
func (sh *shard) decide(id poller.Token, action auth.Action, topic string) decision {
	if sh.isOperator(id.Slot()) && (action != auth.Publish || topics.Namespace(topic) != config.ReservedNamespace) {
		return yes
	}
	a := sh.server.access
	identity, rights := sh.who(id.Slot())
	d := a.decide(rights, action, topic)
	if d == perhaps {
		if allow, _ := a.verdicts.Known(auth.Question{Identity: identity, Action: action, Topic: topic, Address: sh.address(id)}); allow {
			return yes
		}
	}
	return d // perhaps also where the answer was no: why, is told by who asks
}

// mustWait reports whether something cannot be done yet: it has to be asked
// for, or something before it has.
func (sh *shard) mustWait(id poller.Token, d decision) bool {
	return d == perhaps || len(sh.turns) > 0 && sh.turns[id] != nil
}

// forbidden is the refusal of what decide answered no to.
func (sh *shard) forbidden(id poller.Token, action auth.Action, topic string) *wire.Error {
	c := sh.client(id.Slot())
	err := sh.server.forbidden(action, topic, c.session != 0)
	if sh.server.access != nil && c.session == 0 && (!c.shape.talks() || c.standing&mustAuthenticate != 0) {
		err.Code = wire.Unauthorized // it is told over HTTP, or with a token it might
	}
	return err
}

// wait puts a step behind those of its connection. An error means that there
// are too many; then do is not called.
func (sh *shard) wait(id poller.Token, s *step) *wire.Error {
	t := sh.turns[id]
	if t == nil {
		t = &turns{}
	}
	if len(t.steps) >= maxPending || t.size > 0 && t.size+s.size > maxPendingData {
		return &wire.Error{Code: wire.RateLimited, Message: "too many commands of this connection wait for permissions: wait for their replies"}
	}
	if sh.turns == nil {
		sh.turns = make(map[poller.Token]*turns)
	}
	sh.turns[id] = t
	t.steps = append(t.steps, s)
	t.size += s.size
	if len(t.steps) == 1 || t.asking < maxAsking {
		sh.advance(id, t)
	}
	return nil
}

// advance does what can be done, and asks for what follows.
func (sh *shard) advance(id poller.Token, t *turns) {
	if t.busy {
		return // do, below, has led here
	}
	t.busy = true
	for len(t.steps) > 0 && (sh.table.IsOpen(id) || sh.table.IsHeld(id)) {
		s := t.steps[0]
		refused, done := sh.outcome(id, s)
		if !done {
			break
		}
		t.steps[0] = nil
		t.steps = t.steps[1:]
		t.size -= s.size
		s.do(refused)
	}
	t.busy = false
	if len(t.steps) == 0 {
		delete(sh.turns, id)
		return
	}
	for _, s := range t.steps {
		if t.asking >= maxAsking {
			break
		}
		if !s.asked && s.action != "" && sh.decide(id, s.action, s.topic) == perhaps {
			sh.ask(id, t, s)
		}
	}
}

// outcome says whether a step may be done, as the rights are now, or that this
// is not known yet.
func (sh *shard) outcome(id poller.Token, s *step) (refused *wire.Error, known bool) {
	if s.action == "" {
		return nil, true
	}
	switch sh.decide(id, s.action, s.topic) {
	case yes:
		return nil, true
	case no:
		return sh.forbidden(id, s.action, s.topic), true
	}
	return s.refused, s.answered
}

// ask has a worker wait for the verdict.
func (sh *shard) ask(id poller.Token, t *turns, s *step) {
	server := sh.server
	q := auth.Question{Identity: sh.identityOf(id.Slot()), Action: s.action, Topic: s.topic, Address: sh.address(id)}
	s.asked = true
	t.asking++
	answer := func(refused *wire.Error) {
		sh.loop.Post(poller.Func(func() {
			t.asking--
			s.answered, s.refused = true, refused
			if sh.turns[id] == t {
				sh.advance(id, t)
			}
			if s.patient {
				sh.answeredPatient()
			}
		}))
	}
	put := func() {
		if !server.access.questions.Submit(func() { answer(server.ask(context.Background(), q)) }) {
			answer(&wire.Error{Code: wire.Unavailable, Message: "too many questions for permissions are under way: try again"})
		}
	}
	if !s.patient {
		put()
		return
	}
	sh.askPatiently(func() (asked bool) {
		if sh.turns[id] != t {
			return false // it has gone
		}
		put()
		return true
	})
}

// address is a connection's client, as the service is told of it.
func (sh *shard) address(id poller.Token) string { return askedAddress(sh.table.Client(id)) }

// askedAddress is a client's address, of IPv6 the network of 64 bits that it is
// in: one customer's, and all that is kept of a WebSocket behind a proxy.
func askedAddress(a netip.Addr) string {
	a = a.Unmap().WithZone("")
	if !a.Is6() {
		return a.String()
	}
	return netip.PrefixFrom(a, 64).Masked().String()
}
