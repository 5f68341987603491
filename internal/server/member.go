package server

import (
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pushd/pushd/internal/statistics"
)

// member is this process as a node of the cluster: its name, what it says of itself,
// and what it knows of the others. Before a process takes over from another it only
// listens; from when it serves the other is silent, or if it still has clients, goes
// on as a member of another name, so that they are counted and can be found.
type member struct {
	// Static.
	name     string
	retires  bool // it is what another process has left of this one
	reporter *reporter
	peers    *peers

	// Whose New it was has these: TakeOver, then Run.
	stop    context.CancelFunc // nil: it has not begun
	running sync.WaitGroup

	// Atomic.
	silent atomic.Bool // another process speaks as this node
}

// self is the member that this process is now.
func (s *Server) self() *member { return s.member.Load() }

// newMember makes one that says nothing yet.
func (s *Server) newMember(name string, started time.Time) *member {
	m := &member{name: name}
	m.reporter = &reporter{
		server: s, member: m, topic: statistics.Topic(name), started: started, software: software(),
		fanOut: lately{of: s.metrics.fanOut}, loopLag: lately{of: s.metrics.loopLag}, before: time.Now(),
	}
	m.peers = newPeers(s, m)
	return m
}

// listen has the member hear the others, until end.
func (m *member) listen() {
	ctx, stop := context.WithCancel(context.Background())
	m.stop = stop
	m.peers.listen(ctx)
	m.running.Go(func() { m.peers.run(ctx) })
}

// speak has it say how it stands, until end. What others may know of a process
// before it under the same name is not true any more, and all is told at once: first
// the connections of topics, so that nobody counts none meanwhile.
func (m *member) speak(replaces bool) {
	m.silent.Store(false)
	if replaces {
		m.peers.tellAll()
	}
	ctx, stop := context.WithCancel(context.Background())
	listening := m.stop
	m.stop = func() { stop(); listening() }
	m.running.Go(func() { m.reporter.run(ctx) })
}

// end returns when it does nothing any more. Others forget it at once, but where
// another process speaks as the node.
func (m *member) end() {
	if m.stop == nil {
		return
	}
	m.stop()
	m.running.Wait()
	if !m.silent.Load() {
		m.reporter.sayGoodbye()
	}
}

// retireMember has this process be another member of the cluster than the node that
// it was, as which another process serves, for as long as it has clients.
func (s *Server) retireMember() {
	before := s.self()
	before.end()
	if s.quota.Open() == 0 {
		return
	}
	m := s.newMember(fmt.Sprintf("%s-retiring-%d", before.name, os.Getpid()), time.Now())
	m.retires = true
	m.reporter.confirmed.Store(before.reporter.confirmed.Load())
	s.member.Store(m)
	m.listen()
	m.speak(true)
}
