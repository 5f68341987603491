package conn

import "github.com/pushd/pushd/poller"

// deadlines are for the few connections that have one at a time. In each list
// all wait equally long, so the lists are in the order of their time by
// themselves. An entry is not taken out when its connection moves on: it is
// found void when it comes due.
type deadlines struct {
	handshake dueList // from accept, or the first byte of a further request, to the upgrade
	idle      dueList // from an answer to the first byte of the next request
	stalled   dueList // bytes wait and the socket takes none
	unread    dueList // an answer waits for its socket
	flushing  dueList // a close frame or refusal is to leave
	lingering dueList // our side is closed, the other's end is awaited
	throttled dueList // too much was sent of late: looked at each tick
}

type due struct {
	id   poller.Token
	tick uint32
}

// keepQueue is the capacity above which a queue that has run empty gives its
// memory back: a storm has passed.
const keepQueue = 4096

// dueList is a queue in the order of time.
type dueList struct {
	queue []due
	head  int
}

func (l *dueList) add(id poller.Token, tick uint32) {
	if l.head > 64 && l.head > len(l.queue)/2 {
		l.queue = l.queue[:copy(l.queue, l.queue[l.head:])]
		l.head = 0
	}
	l.queue = append(l.queue, due{id, tick})
}

// next takes out the first entry if its time has come.
func (l *dueList) next(now uint32) (poller.Token, bool) {
	if l.head == len(l.queue) {
		if cap(l.queue) > keepQueue {
			l.queue = nil
		}
		l.queue, l.head = l.queue[:0], 0
		return 0, false
	}
	if d := l.queue[l.head]; int32(now-d.tick) >= 0 {
		l.head++
		return d.id, true
	}
	return 0, false
}

// postpone has all that is due be due later.
func (l *dueList) postpone(ticks uint32) {
	for i := range l.queue {
		l.queue[i].tick += ticks
	}
}

// listStalled has a connection whose bytes wait looked at again and again, at
// an eighth of the write timeout, until they have left.
func (t *Table) listStalled(id poller.Token, r *record) {
	if r.flags&flagStallListed == 0 {
		r.flags |= flagStallListed
		t.deadlines.stalled.add(id, t.loop.Now()+t.ticks.write/8+1)
	}
}

// expire does what is due.
func (t *Table) expire(now uint32) {
	if !t.frozen {
		t.expireReading(now)
	}
	for {
		id, ok := t.deadlines.stalled.next(now)
		if !ok {
			break
		}
		r := t.live(id)
		if r == nil {
			continue
		}
		r.flags &^= flagStallListed
		if r.state != stateOpen && r.state != stateAnswered || r.flags&flagWriteWatch == 0 {
			continue
		}
		if now-t.sideOf(r).stalled >= t.ticks.write {
			if r.state == stateAnswered {
				t.doom(id, r, ReasonTooSlow)
			} else {
				t.Close(id, ReasonTooSlow) // it may read again yet, and then hears why
			}
			continue
		}
		t.listStalled(id, r)
	}
	for {
		id, ok := t.deadlines.unread.next(now)
		if !ok {
			break
		}
		if r := t.live(id); r != nil {
			t.hurryAnswer(id, r)
		}
	}
	for {
		id, ok := t.deadlines.flushing.next(now)
		if !ok {
			break
		}
		if r := t.live(id); r != nil && r.state == stateClosing {
			t.doom(id, r, r.why)
		}
	}
}

// expireReading does what is due where the client was to send something.
func (t *Table) expireReading(now uint32) {
	for {
		id, ok := t.deadlines.handshake.next(now)
		if !ok {
			break
		}
		if r := t.live(id); r != nil {
			t.handshakeExpired(id, r)
		}
	}
	for {
		id, ok := t.deadlines.idle.next(now)
		if !ok {
			break
		}
		if r := t.live(id); r != nil && r.state == stateIdle {
			t.doom(id, r, ReasonHandshakeTimeout)
		}
	}
	for {
		id, ok := t.deadlines.lingering.next(now)
		if !ok {
			break
		}
		if r := t.live(id); r != nil {
			t.doom(id, r, r.why)
		}
	}
}
