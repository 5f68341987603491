package swarm

import "github.com/pushd/pushd/bench/load/internal/control"

// subscription is what one client knows of one topic: 12 bytes, since a swarm
// has hundreds of thousands.
type subscription struct {
	topic uint32
	next  uint32 // the sequence number that should come; those below came, or are holes
	state byte
}

// The states of a subscription; several at a time.
const (
	proven  = 1 << iota // a probe has come
	joining             // subscribed while messages flow: the first that comes sets where it begins
	away                // the connection was lost since the last message
	counted             // stood when the window began
)

// span is a range of sequence numbers, without last.
type span struct{ first, last uint32 }

// verdict is what a message is to its subscription.
type verdict byte

const (
	fresh verdict = iota // counts as received
	stale                // came again, or too late to count
)

// track judges the message with a sequence number, from 1, and counts it.
// before is the newest sequence number ahead of the window.
func (s *Swarm) track(at uint32, sequence, before uint32, counts *control.Counts) verdict {
	sub := &s.subs[at]
	switch {
	case sub.state&joining != 0:
		sub.state &^= joining
		sub.next = sequence + 1
	case sequence == sub.next:
		sub.next++
	case sequence < sub.next:
		return s.trackOld(at, sequence, before, counts)
	case sub.state&away != 0:
		counts.Away += uint64(sequence - max(sub.next, before+1))
		sub.next = sequence + 1
	default:
		s.miss(at, sequence, counts)
		sub.next = sequence + 1
	}
	sub.state &^= away
	counts.Received++
	return fresh
}

// trackOld judges a message behind which others came already.
func (s *Swarm) trackOld(at uint32, sequence, before uint32, counts *control.Counts) verdict {
	switch {
	case !s.fill(at, sequence):
		counts.Duplicate++
	case sequence <= before:
		counts.Late++
	default:
		counts.Missing--
		counts.Received++
		counts.OutOfOrder++
		return fresh
	}
	return stale
}

// miss notes that what the subscription waits for did not come before the
// message with this sequence number.
func (s *Swarm) miss(at uint32, sequence uint32, counts *control.Counts) {
	next := s.subs[at].next
	counts.Missing += uint64(sequence - next)
	s.holes[at] = append(s.holes[at], span{next, sequence})
}

// fill takes a sequence number out of the holes of a subscription, and says
// whether it was there.
func (s *Swarm) fill(at uint32, sequence uint32) bool {
	holes := s.holes[at]
	for i, hole := range holes {
		if sequence < hole.first || sequence >= hole.last {
			continue
		}
		// The rest of the hole is none, one or two.
		rest := make([]span, 0, len(holes)+1)
		rest = append(rest, holes[:i]...)
		if hole.first < sequence {
			rest = append(rest, span{hole.first, sequence})
		}
		if sequence+1 < hole.last {
			rest = append(rest, span{sequence + 1, hole.last})
		}
		if rest = append(rest, holes[i+1:]...); len(rest) == 0 {
			delete(s.holes, at)
		} else {
			s.holes[at] = rest
		}
		return true
	}
	return false
}

// settle ends a window for one subscription that stood when it began: what has not
// come up to last is missing; or it was sent while the client was away, where that is back and has
// had nothing since.
func (s *Swarm) settle(at uint32, before, last uint32, back bool, counts *control.Counts) {
	sub := &s.subs[at]
	counts.Expected += uint64(last - before)
	if sub.next > last {
		return
	}
	if sub.state&away != 0 && back {
		sub.state &^= away
		counts.Away += uint64(last + 1 - sub.next)
		s.holes[at] = append(s.holes[at], span{sub.next, last + 1})
	} else {
		s.miss(at, last+1, counts)
	}
	sub.next = last + 1
}
