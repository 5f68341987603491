package server

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pushd/pushd/conn"
	"github.com/pushd/pushd/internal/config"
	"github.com/pushd/pushd/internal/wire"
)

// Nodes ask each other over NATS for what an operator wants of one of them. A
// question goes to a node's own topic, or to that of all, and its answer to the
// topic of who asked: no right in NATS is needed but to the reserved namespace.

// noteVersion is that of note. It stays the same while fields are only added.
const noteVersion = 1

// answerTime is how long a node waits for the answers of others.
const answerTime = 2 * time.Second

// maxOrders bounds what is done for other nodes at a time.
const maxOrders = 16

// What a node may ask of another.
const (
	doTell               = "tell" // the connections of all its topics; the answer is for all nodes
	doDisconnectClient   = actDisconnectClient
	doDisconnectIdentity = actDisconnectIdentity
	doDrain              = actDrain
	doUndrain            = actUndrain
	doDrainStatus        = "drain_status"
)

// note is a question to another node, or its answer.
type note struct {
	Version int    `json:"v"`
	From    string `json:"from"`
	ID      uint64 `json:"id,omitempty"` // of a question; its answer has the same
	Do      string `json:"do,omitempty"` // "": it is an answer

	// Of questions.
	Client   string         `json:"client,omitempty"`
	Identity string         `json:"identity,omitempty"`
	Reason   string         `json:"reason,omitempty"`
	Grace    *time.Duration `json:"grace_ns,omitempty"` // nil: as the node's settings say
	Window   *time.Duration `json:"window_ns,omitempty"`

	// Of answers.
	Status       int          `json:"status,omitempty"` // of HTTP; 0: as Error.Code has it
	Error        *wire.Error  `json:"error,omitempty"`
	Disconnected int          `json:"disconnected,omitempty"`
	Drain        *drainStatus `json:"drain,omitempty"`
}

// questions are those that wait for answers.
type questions struct {
	mu sync.Mutex
	of map[uint64]chan *note // by ID; never blocks
}

// noted takes a question or an answer. Only run calls it.
func (p *peers) noted(ctx context.Context, n *note) {
	switch {
	case n.Do == "":
		p.asked.mu.Lock()
		defer p.asked.mu.Unlock()
		select {
		case p.asked.of[n.ID] <- n: // nil where nobody waits any more
		default:
		}
	case n.From == p.member.name: // to all, and it has done its part
	case p.replaced() && n.Do != doTell: // the other process may not hear this yet
		p.answer(n, &note{Error: errUpgraded})
	case p.member.silent.Load(): // another process answers
	case n.Do == doTell:
		p.teller.Want()
	default:
		select {
		case p.room <- struct{}{}:
			p.acting.Go(func() {
				defer func() { <-p.room }()
				a := p.server.obey(ctx, n)
				if p.replaced() { // meanwhile: whom it is about may be elsewhere by now
					a = &note{Error: errUpgraded}
				}
				p.answer(n, a)
			})
		default:
			p.answer(n, &note{Error: &wire.Error{Code: wire.Unavailable, Message: "too much is being done for other nodes: try again"}})
		}
	}
}

// replaced reports whether another process has this node's clients, and this member
// is not the one that has what is left.
func (p *peers) replaced() bool { return p.server.next.gone.Load() && !p.member.retires }

func (p *peers) answer(question, a *note) {
	a.ID = question.ID
	p.send(controlPrefix+question.From, a)
}

// ask sends a question to a topic and gathers the answers of these nodes, for as
// long as answerTime. Who has not answered is silent.
func (p *peers) ask(ctx context.Context, topic string, n *note, of []string) (answers []*note, silent []string) {
	n.ID = rand.Uint64() | 1
	came := make(chan *note, len(of))
	p.asked.mu.Lock()
	if p.asked.of == nil {
		p.asked.of = make(map[uint64]chan *note)
	}
	p.asked.of[n.ID] = came
	p.asked.mu.Unlock()
	defer func() {
		p.asked.mu.Lock()
		delete(p.asked.of, n.ID)
		p.asked.mu.Unlock()
	}()
	silent = slices.Clone(of)
	if len(of) == 0 || !p.send(topic, n) {
		return nil, silent
	}
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	for len(silent) > 0 {
		select {
		case a := <-came:
			if at := slices.Index(silent, a.From); at >= 0 {
				answers = append(answers, a)
				silent = slices.Delete(silent, at, at+1)
			}
		case <-ctx.Done():
			return answers, silent
		}
	}
	return answers, nil
}

// askNode asks one node. What it refuses, and that it is silent, are errors.
func (p *peers) askNode(ctx context.Context, name string, n *note) (*note, int, *wire.Error) {
	answers, _ := p.ask(ctx, controlPrefix+name, n, []string{name})
	if len(answers) == 0 {
		return nil, 0, &wire.Error{Code: wire.Unavailable, Message: fmt.Sprintf("node %s has not answered in %v: it may have done it all the same", name, answerTime)}
	}
	if a := answers[0]; a.Error == nil {
		return a, 0, nil
	}
	return nil, answers[0].Status, answers[0].Error
}

// obey does what another node asks for.
func (s *Server) obey(ctx context.Context, n *note) *note {
	why, refused := kickReason(n.Reason)
	if refused != nil {
		return &note{Error: refused}
	}
	a := &note{}
	act := func(args ...any) {
		s.metrics.adminActions.WithLabelValues(n.Do).Inc()
		s.log.Info("admin", append([]any{"action", n.Do, "from", "node " + n.From}, args...)...)
	}
	switch n.Do {
	case doDisconnectClient:
		if a.Status, a.Error = s.disconnectClient(ctx, n.Client, why); a.Error == nil {
			a.Disconnected = 1
			act("client", n.Client, "reason", why.String())
		}
	case doDisconnectIdentity:
		if a.Disconnected, a.Error = s.disconnectIdentity(ctx, n.Identity, why); a.Error == nil {
			act("identity", n.Identity, "reason", why.String(), "disconnected", a.Disconnected)
		}
	case doDrain:
		grace, window := within(n.Grace, s.cfg.DrainGrace), within(n.Window, s.cfg.DrainWindow)
		if s.orderDrain(grace, window) {
			act("grace", grace, "window", window, "connections", s.quota.Open())
		} else if s.next.gone.Load() {
			a.Error = errUpgraded
		}
	case doUndrain:
		was, late := s.takeBackDrain()
		switch {
		case late:
			a.Status, a.Error = 409, errDrainLate
		case was:
			act()
		}
	case doDrainStatus:
	default:
		a.Error = &wire.Error{Code: wire.BadRequest, Message: fmt.Sprintf("%.64q is nothing that this version of pushd does for another node", n.Do)}
	}
	if st := s.drainStatus(); strings.Contains(n.Do, "drain") {
		a.Drain = &st
	}
	return a
}

// within is what was asked for, as far as a drain may last.
func within(asked *time.Duration, byDefault time.Duration) time.Duration {
	if asked == nil {
		return byDefault
	}
	return min(max(0, *asked), config.MaxDrain)
}

// knows reports whether there is another node of that name.
func (p *peers) knows(name string) bool { return slices.Contains(p.names(), name) }

// nodesOf are the other nodes that may have the client of a name: several while a
// process that was replaced still has some.
func (p *peers) nodesOf(client string) (names []string) {
	b, ok := decodeClientName(client)
	if !ok {
		return nil
	}
	id := nodeID(binary.BigEndian.Uint32(b[9:]))
	for _, n := range p.known.Nodes() {
		if n.ID == id {
			names = append(names, n.Node)
		}
	}
	return names
}

// names are those of the other nodes.
func (p *peers) names() (names []string) {
	for _, n := range p.known.Nodes() {
		names = append(names, n.Node)
	}
	return names
}

// disconnectAnywhere ends a client's connection, wherever it is.
func (s *Server) disconnectAnywhere(ctx context.Context, client string, why conn.Reason) (status int, refused *wire.Error) {
	status, refused = s.disconnectClient(ctx, client, why)
	p := s.self().peers
	for _, name := range p.nodesOf(client) {
		if refused == nil || status != http.StatusNotFound {
			break
		}
		_, status, refused = p.askNode(ctx, name, &note{Do: doDisconnectClient, Client: client, Reason: why.String()})
	}
	if refused != nil && s.next.gone.Load() { // the client may have been handed over before it was looked for
		return 0, errUpgraded
	}
	return status, refused
}

// disconnectEverywhere ends an identity's connections on all nodes.
func (s *Server) disconnectEverywhere(ctx context.Context, identity string, why conn.Reason) (n int, silent []string, refused *wire.Error) {
	n, refused = s.disconnectIdentity(ctx, identity, why)
	if s.next.gone.Load() { // some may have been handed over before they were looked for
		return n, nil, errUpgraded
	}
	if refused != nil {
		return n, nil, refused
	}
	p := s.self().peers
	answers, silent := p.ask(ctx, controlAll, &note{Do: doDisconnectIdentity, Identity: identity, Reason: why.String()}, p.names())
	for _, a := range answers {
		n += a.Disconnected
		if a.Error != nil {
			silent = append(silent, a.From)
		}
	}
	return n, silent, nil
}
