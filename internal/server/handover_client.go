package server

import (
	"fmt"
	"time"

	"github.com/pushd/pushd/conn"
	"github.com/pushd/pushd/internal/auth"
	"github.com/pushd/pushd/internal/handover"
	"github.com/pushd/pushd/poller"
	"github.com/pushd/pushd/topics"
)

// isBusy reports whether something is under way for a connection that is not
// handed over: it is waited for.
func (sh *shard) isBusy(id poller.Token) bool {
	c := sh.client(id.Slot())
	return sh.table.IsHeld(id) || c.publish > 0 || c.awaited > 0 || c.standing&checking != 0 || sh.turns[id] != nil || sh.poll(id) != nil || sh.members.IsAsked(id.Slot())
}

// busy counts those connections.
func (sh *shard) busy() (n int) {
	for slot := range sh.table.Slots() {
		if id := sh.table.ID(slot); sh.table.IsOpen(id) || sh.table.IsHeld(id) {
			if sh.isBusy(id) {
				n++
			}
		}
	}
	return n
}

// rightsNumbers gives each kind of rights a number when it is first met, and knows
// when tokens are due.
type rightsNumbers struct {
	known map[*auth.Rights]uint64
	send  func(handover.Rights) error

	ofShard *shard                  // whose dues are known
	dues    map[poller.Token]uint32 // ticks
}

// due is how long a connection has to show a token. While nothing is read this
// stands still.
func (n *rightsNumbers) due(sh *shard, id poller.Token) time.Duration {
	if n.ofShard != sh {
		n.ofShard, n.dues = sh, make(map[poller.Token]uint32, len(sh.tokenDue))
		for _, d := range sh.tokenDue {
			n.dues[d.id] = d.tick
		}
	}
	frozen, _ := sh.table.Frozen()
	left := int32(n.dues[id] + frozen - sh.loop.Now())
	return time.Duration(max(left, 1)) * sh.loop.TickLength()
}

func (n *rightsNumbers) of(r *auth.Rights) (uint64, error) {
	if r == nil {
		return 0, nil
	}
	if number, ok := n.known[r]; ok {
		return number, nil
	}
	number := uint64(len(n.known) + 1)
	n.known[r] = number
	record := handover.Rights{Number: number}
	record.Subscribe, record.Publish = r.Permissions()
	return number, n.send(record)
}

// export says all that is known of a connection, and its socket. Without ok it
// stays here.
func (sh *shard) export(id poller.Token, numbers *rightsNumbers) (c handover.Client, fd int, ok bool, err error) {
	known := sh.client(id.Slot())
	if sh.isOperator(id.Slot()) || sh.isBusy(id) {
		return c, -1, false, nil
	}
	subs, ok := sh.members.Export(id.Slot()) // it may send something: so before the socket is looked at
	if !ok {
		return c, -1, false, nil
	}
	carried, fd, ok := sh.table.Export(id)
	if !ok {
		return c, -1, false, nil
	}
	c = handover.Client{
		Shard: sh.index, Conn: carried, Subs: subs, Shape: uint8(known.shape), Strikes: known.strikes, Denials: known.denials, Lead: known.lead,
		Owes: known.standing&mustAuthenticate != 0,
	}
	if c.Owes {
		c.OwesWithin = numbers.due(sh, id)
	}
	if known.session != 0 {
		s := sh.sessions.at(known.session)
		c.Session = &handover.Session{Identity: s.identity, Expires: s.expires}
		if s.expires != 0 {
			c.Session.Left = time.Duration(sh.leftOf(s)) * sh.loop.TickLength()
		}
		c.Session.Rights, err = numbers.of(s.rights)
	}
	return c, fd, err == nil, err
}

// abandon forgets a connection that the next process has.
func (sh *shard) abandon(id poller.Token) {
	slot := id.Slot()
	sh.members.Leave(slot)
	if sh.table.IsOpen(id) {
		sh.counted[sh.client(slot).shape.transport()].closed.Add(1)
	}
	sh.signOut(slot)
	*sh.client(slot) = client{}
	delete(sh.debts, slot)
	sh.table.Abandon(id)
}

// adopt goes on with a connection of the process before this one. The socket is
// this one's from here on, an error included.
func (sh *shard) adopt(c *handover.Client, fd int, h *heir) error {
	id := c.Conn.ID
	if err := sh.table.Import(&c.Conn, fd); err != nil {
		return err
	}
	if c.Conn.Stage != conn.StageOpen {
		return nil
	}
	if shape(c.Shape) >= polled {
		return fmt.Errorf("a connection is handed over in shape %d, which is not known", c.Shape)
	}
	known := sh.client(id.Slot())
	*known = client{shape: shape(c.Shape), strikes: c.Strikes, unlimited: c.Conn.Unlimited, denials: c.Denials}
	sh.counted[known.shape.transport()].opened.Add(1)
	if err := sh.adoptSession(id, c, h.rights); err != nil {
		return err
	}
	owes := sh.adoptDebt(id, c)
	return sh.adoptSubscriptions(id, c, owes, h.offer.Access != accessOf(&sh.server.cfg))
}

// adoptDebt has a client show a token that has shown none and has to, and reports
// false of one that cannot.
func (sh *shard) adoptDebt(id poller.Token, c *handover.Client) (may bool) {
	a, known := sh.server.access, sh.client(id.Slot())
	switch {
	case a == nil, c.Session != nil, !c.Owes && a.public.any:
		return true
	case !known.shape.talks():
		return false
	}
	known.standing = mustAuthenticate
	if c.OwesWithin > 0 {
		sh.expectTokenWithin(id, min(c.OwesWithin, a.timeout))
	} else {
		sh.expectToken(id)
	}
	return true
}

func (sh *shard) adoptSession(id poller.Token, c *handover.Client, rights map[uint64]*auth.Rights) error {
	if c.Session == nil || sh.server.access == nil { // without authentication everybody may do everything
		return nil
	}
	held, ok := rights[c.Session.Rights]
	if !ok && c.Session.Rights != 0 {
		return fmt.Errorf("rights %d were not handed over", c.Session.Rights)
	}
	sh.server.access.identities.admit(c.Session.Identity)
	known := sh.client(id.Slot())
	known.session, known.lead = sh.sessions.take(), c.Lead
	s := sh.sessions.at(known.session)
	s.rights, s.identity, s.expires = held, c.Session.Identity, c.Session.Expires
	if s.expires != 0 {
		s.ends = sh.loop.Now() + uint32(min(c.Session.Left, longestLife)/sh.loop.TickLength())
	}
	return nil
}

// tellCarried tells a client whose subscription was handed over what it has
// missed, if anything. Before the handover is done nothing may be sent, and tasks
// run after it.
func (sh *shard) tellCarried(slot uint32, pattern string, st topics.Standing, err error) {
	if err == nil && st.Resumed != topics.NotRecovered {
		return
	}
	why := st.Why
	if err != nil {
		why = topics.LossUpstream
	}
	id := sh.table.ID(slot)
	sh.loop.Post(poller.Func(func() {
		if !sh.table.IsOpen(id) {
			return
		}
		if frame := sh.server.encoder.Gap(topics.Format(sh.client(slot).shape), pattern, why, topics.Cursor{}, st.Cursor); frame != nil {
			sh.table.Reply(id, frame)
		}
	}))
}
