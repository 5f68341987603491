package swarm

import (
	"encoding/binary"
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// errStuck is the end of a connection that went on for too long.
var errStuck = errors.New("timeout")

// shut closes the socket of a client.
func (s *Swarm) shut(c *client) {
	if c.fd >= 0 {
		unix.Close(int(c.fd)) // takes it out of the set too; there is nobody to tell of an error
	}
	c.fd, c.status, c.acks = -1, closed, 0
	c.rest, c.message, c.fragmented, c.chunks = nil, nil, false, nil
}

// end closes a client, for a reason that is counted unless it was we who wanted it.
func (s *Swarm) end(i uint32, c *client, reason string) {
	switch c.status {
	case open:
		s.status.Open--
		s.status.Lost++
		s.window.counted.Lost++
		s.problem("lost: " + reason)
		s.count(c, -1)
		s.forsake(c)
	case leaving:
		s.opening.underway--
		if reason == errStuck.Error() {
			s.problem("the server did not close after a close frame")
		}
	default:
		s.opening.underway--
		s.status.Failed++
		s.problem("failed: " + reason)
	}
	s.shut(c)
	if s.again && int(i) < s.cycling {
		s.opening.queue = append(s.opening.queue, i)
	}
	s.settleOpening()
}

// forsake notes that messages may now be missed by nobody's fault. One that
// resumes is to get them all the same.
func (s *Swarm) forsake(c *client) {
	if s.resumes(c) {
		return
	}
	for at := range uint32(c.count) {
		s.subs[c.first+at].state |= away
	}
}

// problem counts what went wrong, under its own words.
func (s *Swarm) problem(what string) {
	s.window.counted.Problems[what]++
}

// drop closes all sockets at once, as when a network goes away.
func (s *Swarm) drop() {
	for i := range s.clients {
		c := &s.clients[i]
		switch c.status {
		case closed:
			continue
		case open:
			s.status.Open--
			s.count(c, -1)
			s.forsake(c)
		default:
			s.opening.underway--
		}
		s.shut(c)
	}
	s.opening.queue = nil
	s.settleOpening()
}

// leave says goodbye: the close frame, where there are frames, and that nothing more will follow.
func (s *Swarm) leave(c *client) error {
	s.status.Open--
	s.count(c, -1)
	c.status = leaving
	s.opening.underway++
	s.settleOpening()
	if !s.plan.Events {
		if err := s.write(c, appendFrame(s.scratch[:0], opClose, binary.BigEndian.AppendUint16(nil, 1000), s.random.Uint32())); err != nil {
			return err
		}
	}
	return unix.Shutdown(int(c.fd), unix.SHUT_WR)
}

// cycle lets the first clients connect, subscribe and leave, over and over; 0
// lets those that are on the way end it.
func (s *Swarm) cycle(clients int) {
	if s.again = clients > 0; !s.again {
		s.opening.queue = nil
		s.settleOpening()
		return
	}
	s.cycling = min(clients, len(s.clients))
	s.opening.pace.Rate, s.opening.pace.InFlight = 0, s.cycling
	for i := range s.cycling {
		if s.clients[i].status == closed {
			s.opening.queue = append(s.opening.queue, uint32(i))
		}
	}
	s.settleOpening()
}

// expireSome ends what is on the way for too long, once a second, and returns
// when it wants to look again.
func (s *Swarm) expireSome(now time.Time) time.Time {
	o := &s.opening
	if o.underway == 0 {
		return time.Time{}
	}
	if now.Sub(o.looked) >= time.Second {
		o.looked = now
		limit := s.clock.Now() - int64(s.plan.HandshakeTime)*int64(time.Second)
		for i := range s.clients {
			if c := &s.clients[i]; c.status != closed && c.status != open && c.began < limit {
				s.end(uint32(i), c, errStuck.Error())
			}
		}
	}
	return o.looked.Add(time.Second)
}
