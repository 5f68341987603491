package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pushd/pushd/internal/cluster"
	"github.com/pushd/pushd/internal/config"
	"github.com/pushd/pushd/internal/statistics"
	"github.com/pushd/pushd/topics"
	"github.com/pushd/pushd/topics/natsbus"
)

// Topics on which nodes talk to each other, besides statistics.Prefix. A node's
// name follows; controlAll is for all.
const (
	occupancyPrefix = "_pushd.occupancy."
	controlPrefix   = "_pushd.control."
	controlAll      = "_pushd.control"
)

// maxPiece bounds a message of counts, beside what NATS takes.
const maxPiece = 512 << 10

// maxLetters is how many messages of other nodes may wait for run.
const maxLetters = 1024

// peers is this node's part of the cluster: it tells the others how many
// connections its topics have, hears the same of them, and does what they ask for.
type peers struct {
	// Static.
	server  *Server
	member  *member
	known   *cluster.Cluster
	letters chan letter
	whole   chan chan struct{} // has the state told, and is closed then

	// Only run touches these.
	teller  *cluster.Teller
	clashed time.Time // when a namesake was last logged

	// Their own guards.
	asked  questions      // questions to other nodes
	acting sync.WaitGroup // what other nodes have ordered
	room   chan struct{}  // holds one for each order under way

	// Atomic.
	sequence atomic.Uint64 // of teller
}

// letter is a message of another node.
type letter struct {
	topic string
	data  []byte
}

func newPeers(s *Server, m *member) *peers {
	return &peers{
		server: s, member: m, known: cluster.New(m.name, s.cfg.PresenceTopics), letters: make(chan letter, maxLetters), whole: make(chan chan struct{}),
		teller: cluster.NewTeller(m.name, m.reporter.started.UnixMilli()), room: make(chan struct{}, maxOrders),
	}
}

// listen passes on what others say to run, until ctx is done.
func (p *peers) listen(ctx context.Context) {
	s := p.server
	subjects := []string{statistics.All, controlAll, controlPrefix + p.member.name}
	if s.cfg.PresenceTopics > 0 {
		subjects = append(subjects, occupancyPrefix+"*")
	}
	if err := s.bus.Listen(subjects, func(topic string, data []byte) {
		select {
		case p.letters <- letter{topic, data}:
		case <-ctx.Done():
		}
	}); err != nil {
		s.log.Warn("this node does not hear the others", "err", err)
	}
}

// run ends with ctx, and when nothing is done for other nodes any more.
func (p *peers) run(ctx context.Context) {
	defer p.acting.Wait()
	tick := time.NewTicker(statisticsPeriod)
	defer tick.Stop()
	for {
		select {
		case l := <-p.letters:
			p.take(ctx, l)
		case told := <-p.whole:
			p.teller.Want()
			p.tick()
			close(told)
		case <-tick.C:
			p.tick()
		case <-ctx.Done():
			return
		}
	}
}

// tellAll returns when the connections of all topics have been told. It is called while run runs.
func (p *peers) tellAll() {
	told := make(chan struct{})
	p.whole <- told
	<-told
}

// take reads one message of another node.
func (p *peers) take(ctx context.Context, l letter) {
	var err error
	switch {
	case strings.HasPrefix(l.topic, statistics.Prefix):
		n := new(statistics.Node)
		if err = json.Unmarshal(l.data, n); err == nil && statistics.Topic(n.Node) == l.topic {
			p.heard(n)
		}
	case strings.HasPrefix(l.topic, occupancyPrefix):
		if l.topic == occupancyPrefix+p.member.name {
			return // what it told itself
		}
		var piece cluster.Piece
		if err = json.Unmarshal(l.data, &piece); err == nil && occupancyPrefix+piece.Node == l.topic {
			p.known.Told(&piece)
		}
	default:
		var n note
		if err = json.Unmarshal(l.data, &n); err == nil {
			p.noted(ctx, &n)
		}
	}
	if err != nil {
		p.server.log.Debug("a message of another node cannot be read", "topic", l.topic, "err", err)
	}
}

// heard takes what a node says of itself.
func (p *peers) heard(n *statistics.Node) {
	s := p.server
	if n.Node == p.member.name && n.ID != nodeID(s.node) && n.State != statistics.StateGone && time.Since(p.clashed) > statisticsPause {
		p.clashed = time.Now()
		s.log.Error("another node has the name of this one, and neither is seen right: change one --node-name", "node", n.Node)
	}
	p.known.Heard(n)
}

// tick tells what has changed, and asks for what is missing.
func (p *peers) tick() {
	s := p.server
	ask, gone := p.known.Tick()
	for _, name := range gone {
		s.log.Warn("a node is silent, and is taken for gone", "node", name)
	}
	if s.cfg.PresenceTopics == 0 {
		return
	}
	s.hub.Changes(func(o topics.Occupied) {
		if toldOf(o.Pattern) {
			p.teller.Changed(o.Pattern, o.Connections)
		}
	})
	state := s.bus.State()
	if !state.Connected || p.member.reporter.mute.Load() {
		return
	}
	for _, name := range ask {
		p.send(controlPrefix+name, &note{Do: doTell})
	}
	if p.member.silent.Load() {
		return
	}
	p.teller.Tick(min(maxPiece, int(state.MaxPayload)), func(yield func(string, int)) {
		s.hub.Occupied(func(o topics.Occupied) {
			if toldOf(o.Pattern) {
				yield(o.Pattern, o.Connections)
			}
		})
	}, func(piece []byte) { p.publish(occupancyPrefix+p.member.name, piece) })
	p.sequence.Store(p.teller.Sequence()) // behind the pieces: nobody is to miss what is on its way
}

// toldOf reports whether other nodes hear of a pattern's connections.
func toldOf(pattern string) bool { return topics.Namespace(pattern) != config.ReservedNamespace }

// send tells a node something, or asks it.
func (p *peers) send(topic string, n *note) bool {
	n.Version, n.From = noteVersion, p.member.name
	data, err := json.Marshal(n)
	if err != nil {
		panic(err) // strings and numbers alone
	}
	return p.publish(topic, data)
}

func (p *peers) publish(topic string, data []byte) bool {
	r := p.member.reporter
	return p.server.bus.Publish(natsbus.Publication{Topic: topic, Data: data, Done: func(_ topics.Cursor, err error) {
		switch {
		case err == nil:
			r.confirmed.Add(1)
		case errors.Is(err, natsbus.ErrDenied):
			r.mute.Store(true)
		}
	}})
}

// connectionsOf is how many connections of all nodes are subscribed to exactly a
// topic: here now, and on others as they told last.
func (s *Server) connectionsOf(topic string) int {
	return s.hub.Connections(topic) + s.self().peers.known.Connections(topic)
}

// nodeID is how a run of a node is written, of which its clients' names have a part.
func nodeID(node uint32) string { return fmt.Sprintf("%08x", node) }
