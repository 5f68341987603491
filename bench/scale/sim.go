package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/gobwas/ws"

	"github.com/pushd/pushd/conn"
	"github.com/pushd/pushd/poller"
	"github.com/pushd/pushd/topics"
)

// sim is one pushd without sockets, NATS and loops of its own: its shards run
// when they are told to, one after the other.
type sim struct {
	heartbeat time.Duration
	bus       bus
	hub       *topics.Hub
	shards    []*simShard
}

type simShard struct {
	loop    *poller.Loop
	table   *conn.Table
	members *topics.Members
	tasks   []topics.Task
}

func newSim(shardCount int, heartbeat time.Duration) (*sim, error) {
	s := &sim{heartbeat: heartbeat}
	s.hub = topics.NewHub(topics.HubConfig{}, &s.bus, encoder{})
	for range shardCount {
		sh := &simShard{}
		var err error
		if sh.loop, err = poller.New(poller.Config{}); err != nil {
			return nil, err
		}
		sh.table, err = conn.NewTable(conn.Config{
			Lane: conn.LaneSink, Heartbeat: heartbeat,
			PongTimeout: time.Hour, // nobody answers, and nobody is to be closed for it
		}, sh.loop, nil, noHandler{})
		if err != nil {
			return nil, err
		}
		sh.members = topics.NewMembers(s.hub, sender{sh.table}, func(t topics.Task) bool {
			sh.tasks = append(sh.tasks, t)
			return true
		}, 1024)
		s.shards = append(s.shards, sh)
	}
	return s, nil
}

func (s *sim) close() {
	for _, sh := range s.shards {
		sh.loop.Close()
	}
}

func topicName(i int) string { return fmt.Sprintf("scale.t%d", i) }

// populate connects and subscribes n connections.
func (s *sim) populate(n, topicCount int) {
	for i := range n {
		sh := s.shards[i%len(s.shards)]
		id := sh.table.Simulate()
		if _, _, err := sh.members.Subscribe(id.Slot(), 0, topicName(i/len(s.shards)%topicCount), "", topics.Want{}); err != nil {
			panic(err)
		}
	}
	s.bus.answer()
	s.turn()
}

// broadcast publishes one message to each topic and has it sent to everybody.
func (s *sim) broadcast(topicCount, number int) {
	payload := fmt.Appendf(nil, `{"n":%d,"pad":%q}`, number, strings.Repeat("x", 100))
	batch := make([]topics.Message, 0, 256)
	for i := range topicCount {
		if batch = append(batch, topics.Message{Topic: topicName(i), Data: payload}); len(batch) == cap(batch) || i+1 == topicCount {
			s.hub.Deliver(batch)
			batch = batch[:0]
			s.turn()
		}
	}
}

// turn runs the shards until nothing is left to do.
func (s *sim) turn() {
	for busy := true; busy; {
		busy = false
		for _, sh := range s.shards {
			tasks := sh.tasks
			sh.tasks = nil
			for _, t := range tasks {
				t.Run()
			}
			if sh.members.Turn() || len(sh.tasks) > 0 {
				busy = true
			}
			sh.table.Turn()
		}
	}
}

// heartbeats has one interval pass in which nobody says anything: each
// connection is looked at ten times, and pinged once.
func (s *sim) heartbeats() {
	for _, sh := range s.shards {
		interval := uint32(s.heartbeat / sh.loop.TickLength())
		for now := interval + 2; now <= 2*interval+2; now++ {
			sh.table.Tick(now)
			sh.table.Turn()
		}
	}
}

func (s *sim) delivered() (n uint64) {
	for _, sh := range s.shards {
		n += sh.members.Counts().Deliveries
	}
	return n
}

func (s *sim) pings() (n uint64) {
	for _, sh := range s.shards {
		n += sh.table.Counts().Pings
	}
	return n
}

// bus is ready for everything when it is asked; the simulation delivers itself.
type bus struct{ asked []func(error) }

func (b *bus) Subscribe(_ topics.Interest, ready func(error)) { b.asked = append(b.asked, ready) }
func (b *bus) Unsubscribe(topics.Interest)                    {}

func (b *bus) answer() {
	for _, ready := range b.asked {
		ready(nil)
	}
	b.asked = nil
}

// encoder sends the payload alone.
type encoder struct{}

func (encoder) Message(_ topics.Format, m *topics.Message) []byte {
	return conn.AppendFrame(nil, ws.OpText, m.Data)
}

func (encoder) Like(f topics.Format, _ *topics.Message) topics.Format { return f }

func (encoder) Skipped(topics.Format, string, int) []byte { return nil }

func (encoder) Gap(topics.Format, string, topics.LossReason, topics.Cursor, topics.Cursor) []byte {
	panic("scale: a gap, though nothing is slow")
}

// sender is the way from topics to the tables, as in internal/server.
type sender struct{ table *conn.Table }

func (s sender) Send(slot uint32, frames []byte) topics.Outcome {
	if s.table.Send(slot, frames) != conn.Sent {
		panic("scale: the sink refused a frame")
	}
	return topics.Sent
}

func (s sender) SendCopy(slot uint32, frames []byte) topics.Outcome        { return s.Send(slot, frames) }
func (s sender) Subscribed(uint32, string, string, topics.Standing, error) {}
func (s sender) FannedOut(int, time.Duration)                              {}

// noHandler is never called: there are no sockets.
type noHandler struct{ conn.Handler }
