package pushd

import (
	"strconv"
	"time"
)

// interest is one topic or pattern of a subscription, and how far it has come.
type interest struct {
	// Static.
	topic string
	sub   *Subscription

	// Guarded by client.mu.
	stand  stand
	on     *flow     // by which it comes, or came last; nil: by none of this link's
	begun  bool      // it has stood, on this connection or an earlier one
	cursor string    // what it is resumed from; "": from now
	place  string    // where the last poll ended for it; "": there was none of this link
	due    time.Time // waiting: not to be asked for before
	retry  Backoff   // of its temporary refusals
	gone   bool      // its subscription has ended
	ahead  map[*interest]string
	passed []passed

	// Guarded by sub.mu.
	taken string // cursor of the last message that the consumer took
}

// stand is where an interest stands on the connection that there is.
type stand uint8

const (
	absent  stand = iota // not asked for, and not about to be
	waiting              // in asking.todo
	asked                // for, without a reply yet
	stands               // the server sends what there is
	refused              // by the server, for as long as this connection lasts
)

// maxAsked bounds the subscribe commands without a reply. A server that limits
// them refuses the rest, and would end the connection after more of those.
const maxAsked = 64

// asking is how a session comes to its subscriptions. Guarded by client.mu.
type asking struct {
	todo    []*interest // in their order
	leaving []*interest // to be unsubscribed, before anything of todo
	asked   int         // commands without a reply
	window  int         // most of them; 1 after the server found them too many
	pause   time.Time   // nothing is asked for before
	timer   *time.Timer // calls advanceLocked when the next is due
}

type subscribeCommand struct {
	Type    string  `json:"type"`
	ID      int     `json:"id"`
	Topic   string  `json:"topic"`
	Cursor  string  `json:"cursor,omitempty"`
	Mode    Mode    `json:"mode,omitempty"`
	MaxRate float64 `json:"max_rate,omitempty"`
}

type unsubscribeCommand struct {
	Type   string   `json:"type"`
	ID     int      `json:"id"`
	Topics []string `json:"topics"`
}

// lineUpLocked reports whether an interest is one to ask for. Then it is in line.
func (i *interest) lineUpLocked() bool {
	if i.stand != absent && i.stand != refused || i.gone || i.sub.isPaused() {
		return false
	}
	i.stand = waiting
	return true
}

// wantLocked puts interests in line to be asked for.
func (s *session) wantLocked(all ...*interest) {
	for _, i := range all {
		i.on = &s.flow
		if i.lineUpLocked() {
			s.todo = append(s.todo, i)
		}
	}
	s.advanceLocked()
}

// advanceLocked asks for as many as may be asked for now, and comes back by
// itself when the next is due.
func (s *session) advanceLocked() {
	if s.over {
		return
	}
	if len(s.leaving) > 0 {
		if wait := time.Until(s.pause); wait > 0 {
			s.comeBackLocked(wait)
			return
		}
		s.leaveLocked()
	}
	for len(s.todo) > 0 && s.asked < s.window {
		now := time.Now()
		at, next := -1, time.Time{}
		for n, i := range s.todo {
			due := i.due
			if s.pause.After(due) {
				due = s.pause
			}
			if !due.After(now) {
				at = n
				break
			}
			if next.IsZero() || due.Before(next) {
				next = due
			}
		}
		if at < 0 {
			s.comeBackLocked(next.Sub(now))
			return
		}
		i := s.todo[at]
		s.todo = append(s.todo[:at], s.todo[at+1:]...)
		if i.gone {
			continue
		}
		i.stand = asked
		s.asked++
		o := &i.sub.options
		s.commandLocked(subscribeCommand{"subscribe", s.callLocked(&call{interest: i}), i.topic, i.cursor, o.Mode, o.MaxRate})
	}
}

func (s *session) comeBackLocked(after time.Duration) {
	if s.timer != nil {
		s.timer.Stop()
	}
	c := s.client
	s.timer = time.AfterFunc(after, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		s.advanceLocked()
	})
}

// subscribed notes that an interest stands, from the cursor of its reply.
func (s *session) subscribed(m *envelope) {
	c := s.client
	c.mu.Lock()
	defer c.mu.Unlock()
	call := s.takeLocked(m.ID)
	if call == nil || call.interest == nil {
		return
	}
	i := call.interest
	s.asked--
	defer s.advanceLocked()
	if i.gone {
		return // the unsubscribe is on its way
	}
	if gap := c.stoodLocked(i, m); gap != nil {
		defer c.unlockedTell(gap)
	}
	if i.sub.isPaused() { // it was asked for before
		s.dropLocked(i)
	}
}

// stoodLocked notes that an interest stands, as m tells it. It comes before the
// messages. The gap is to be told, and nil where nothing is missing.
func (c *Client) stoodLocked(i *interest, m *envelope) *Gap {
	lost := m.Recovered != nil && !*m.Recovered
	unknown := i.begun && i.cursor == "" // what came since
	i.stand, i.begun, i.cursor = stands, true, m.Cursor
	i.retry.Reset()
	i.caughtUpLocked(m.Recovered != nil && !lost)
	i.sub.stood(i, m.Cursor)
	gap := &Gap{Topic: i.topic, To: m.Cursor}
	switch {
	case lost:
		gap.Reason, gap.Resumed = m.Reason, true
		c.forgetLocked()
	case unknown:
		gap.Reason = disconnected
	default:
		return nil
	}
	i.sub.pushGap(i, gap)
	return gap
}

// unlockedTell tells of events for a caller that holds mu.
func (c *Client) unlockedTell(events ...Event) {
	c.mu.Unlock()
	defer c.mu.Lock()
	c.tell(events...)
}

// dropLocked unsubscribes interests, which stay absent.
func (s *session) dropLocked(drop ...*interest) {
	for _, i := range drop {
		i.stand = absent
	}
	s.leaving = append(s.leaving, drop...)
	s.advanceLocked()
}

// leaveLocked sends what dropLocked wants.
func (s *session) leaveLocked() {
	call := &call{left: s.leaving}
	s.leaving = nil
	command := unsubscribeCommand{Type: "unsubscribe", ID: s.callLocked(call)}
	for _, i := range call.left {
		command.Topics = append(command.Topics, i.topic)
	}
	s.commandLocked(command)
}

// notLeftLocked is for an unsubscribe that was refused.
func (s *session) notLeftLocked(left []*interest, no *Error) {
	if no.Temporary() {
		s.pause = time.Now().Add(max(no.RetryAfter, 10*time.Millisecond))
		s.leaving = append(left, s.leaving...)
		s.advanceLocked()
		return
	}
	for _, i := range left { // the server does not know them
		i.leftLocked(s.client)
	}
}

// left is the reply to leaveLocked.
func (s *session) left(m *envelope) {
	c := s.client
	c.mu.Lock()
	defer c.mu.Unlock()
	n, _ := strconv.Atoi(string(m.ID)) // 0 is no command's
	call := s.calls[n]
	if call == nil {
		return
	}
	for at, i := range call.left {
		if i.topic == m.Topic {
			i.leftLocked(c)
			call.left = append(call.left[:at], call.left[at+1:]...)
			break
		}
	}
	if len(call.left) == 0 {
		delete(s.calls, n)
	}
}

// refusedLocked is the answer no to a subscribe: not now, or not at all.
func (s *session) refusedLocked(i *interest, no *Error) []Event {
	c := s.client
	s.asked--
	defer s.advanceLocked()
	no.Topic = i.topic
	switch {
	case i.gone:
	case no.Temporary():
		i.stand = absent
		wait := max(no.RetryAfter, i.retry.Next())
		if no.Code == RateLimited { // so would be all others
			s.window, wait = 1, max(no.RetryAfter, 10*time.Millisecond)
			s.pause = time.Now().Add(wait)
			i.retry.Reset()
		}
		i.due = time.Now().Add(wait)
		if i.lineUpLocked() {
			s.todo = append(s.todo, i)
		}
		return []Event{&Refused{no}}
	default:
		return c.endLocked(i, no)
	}
	return nil
}

// endLocked takes an interest out, and its subscription where it was the last.
func (c *Client) endLocked(i *interest, why *Error) []Event {
	i.stand = refused
	for _, other := range i.sub.interests {
		if other.stand != refused {
			return []Event{&Refused{why}}
		}
	}
	i.sub.removeLocked()
	i.sub.end(why)
	return nil // its consumer is told
}
