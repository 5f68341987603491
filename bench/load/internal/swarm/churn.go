package swarm

import (
	"time"

	"github.com/pushd/pushd/bench/load/internal/control"
)

// churn is clients that change topics.
type churn struct {
	clients []uint32 // who does, in turn
	next    int
	rate    float64 // changes a second; 0: none
	since   time.Time
	started int
}

// startChurn begins, or ends with a rate of 0; changes that are under way go on.
func (s *Swarm) startChurn(rate float64) {
	if s.churn.clients == nil {
		for i := range s.clients {
			if s.plan.Churns(s.plan.First + i) {
				s.churn.clients = append(s.churn.clients, uint32(i))
			}
		}
	}
	s.churn.rate, s.churn.since, s.churn.started = rate, time.Now(), 0
	if len(s.churn.clients) == 0 {
		s.churn.rate = 0
	}
}

// churnSome begins the changes that are due, and returns when it wants to go on.
func (s *Swarm) churnSome(now time.Time) time.Time {
	ch := &s.churn
	for n := 0; ch.rate > 0; n++ {
		turn := ch.since.Add(time.Duration(float64(ch.started) / ch.rate * float64(time.Second)))
		if now.Before(turn) {
			return turn
		}
		if n == openBatch {
			return now
		}
		ch.started++
		i := ch.clients[ch.next%len(ch.clients)]
		ch.next++
		if c := &s.clients[i]; c.status == open && c.acks == 0 {
			if err := s.change(c); err != nil {
				s.end(i, c, reason(err))
			}
		} // else its turn is lost: the server does not keep up, and Changes shows it
	}
	return time.Time{}
}

// change leaves the client's first topic for the next one, in one write.
func (s *Swarm) change(c *client) error {
	sub := &s.subs[c.first]
	topic := (sub.topic + 1) % uint32(len(s.plan.Topics))
	s.scratch = appendFrame(s.scratch[:0], opText, s.text.unsubscribe(sub.topic, 1), s.random.Uint32())
	s.scratch = appendFrame(s.scratch, opText, s.text.subscribe(topic, 2), s.random.Uint32())
	delete(s.holes, c.first)
	*sub = subscription{topic: topic, state: joining}
	if s.plan.SubscribedMark != "" {
		c.acks++
	}
	if s.plan.UnsubscribedMark != "" {
		c.acks++
	}
	if c.acks == 0 {
		s.status.Changes++
	}
	return s.write(c, s.scratch)
}

// tolerates says whether a message of a topic that the client has left may
// still be on its way.
func (*churn) tolerates(c *client, plan *control.Plan) bool {
	return c.group == others && plan.ChurnEvery > 0 && (c.acks > 0 || plan.UnsubscribedMark == "")
}

// stall lets the slow clients read no more, or again.
func (s *Swarm) stall(on bool) error {
	s.stalled = on
	var events uint32 = watched
	if on {
		events = ignored
	}
	for i := range s.clients {
		if c := &s.clients[i]; c.status == open && s.plan.Slow(s.plan.First+i) {
			if err := s.events.modify(int(c.fd), int32(i), c.generation, events); err != nil {
				return err
			}
		}
	}
	return nil
}
