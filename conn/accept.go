package conn

import (
	"errors"
	"fmt"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/pushd/pushd/poller"
)

// acceptBatch bounds the sockets that one turn accepts, so that a storm of new
// clients does not hold up those who are served.
const acceptBatch = 64

var (
	overloaded  = &Refusal{Status: 503, Code: "unavailable", Message: "no more connections are taken (--max-connections, or the limit of open files)", RetryAfter: 5 * time.Second}
	unavailable = &Refusal{Status: 503, Code: "unavailable", Message: "the subscriptions could not be set up in time", RetryAfter: time.Second}
	stopping    = &Refusal{Status: 503, Code: "unavailable", Message: "this server is shutting down", RetryAfter: time.Second}
	consoles    = &Refusal{Status: 503, Code: "unavailable", Message: fmt.Sprintf("operators have %d connections already, which is as many as they may: close a console", maxOperators), RetryAfter: 5 * time.Second}
)

// Quota bounds the connections over all tables that share it. Safe for use by
// several goroutines.
type Quota struct {
	max       int64 // static
	sockets   atomic.Int64
	open      atomic.Int64
	operators atomic.Int64 // sockets of operators, which are in neither of the others
}

// maxOperators bounds the sockets of operators over all tables. They are beside
// max, so that one gets in whatever clients do, and nobody can be many by them.
const maxOperators = 64

// quotaSlack is how many sockets beyond the quota may be in handshake, so that
// those too many are answered, and not only cut off.
const quotaSlack = 64

// NewQuota allows for max upgraded connections; 0: any number.
func NewQuota(max int) *Quota { return &Quota{max: int64(max)} }

// take counts a new socket and reports whether there is room to hear it.
func (q *Quota) take() bool {
	if n := q.sockets.Add(1); q.max > 0 && n > q.max+quotaSlack {
		q.sockets.Add(-1)
		return false
	}
	return true
}

func (q *Quota) release() { q.sockets.Add(-1) }

// takeOperator counts an operator's socket and reports whether there may be one more.
func (q *Quota) takeOperator() bool {
	if q.operators.Add(1) > maxOperators {
		q.operators.Add(-1)
		return false
	}
	return true
}

// admits reports whether one more may be upgraded. Shards that ask at the same
// time may go over the quota by one each.
func (q *Quota) admits() bool { return q.max == 0 || q.open.Load() < q.max }

func (q *Quota) opened() { q.open.Add(1) }
func (q *Quota) closed() { q.open.Add(-1) }

// Operators is how many sockets operators have now, which Open does not count.
func (q *Quota) Operators() int { return int(q.operators.Load()) }

// Max is how many connections the quota allows for; 0: any number.
func (q *Quota) Max() int { return int(q.max) }

// Open is how many connections are upgraded now.
func (q *Quota) Open() int { return int(q.open.Load()) }

// accept takes what waits at the listener. That nothing more does takes a
// failing call to learn, which makes a socket for nothing: so it takes as many
// as there were of late, and the poller tells again if there are more.
func (t *Table) accept() {
	if t.stopped {
		return
	}
	for n := range t.accepts.next {
		fd, from, err := t.listener.AcceptFrom()
		switch {
		case err == nil:
			t.stats.accepted.Add(1)
			t.admit(fd, from)
		case errors.Is(err, poller.ErrWouldBlock):
			t.accepts.were(n)
			return
		case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
			t.shed()
			return
		default:
			t.cfg.Log.Error("accept failed; trying again with the next tick", "listen", t.listener.Addr(), "err", err)
			t.pauseListener()
			return
		}
	}
	t.accepts.wereEnough()
}

// acceptPace is how many sockets a table accepts at a time.
type acceptPace struct {
	next int // at least 1
	full int // how often in a row there were that many
}

// wereEnough is for when there were as many as expected, and perhaps more: one
// call that fails in so many is little.
func (a *acceptPace) wereEnough() {
	if a.full++; a.full == 8 {
		a.next, a.full = min(2*a.next, acceptBatch), 0
	}
}

// were is for when there were only n.
func (a *acceptPace) were(n int) { a.next, a.full = max(n, 1), 0 }

// Adopt takes a connected, non-blocking socket whose request for an upgrade
// has been read elsewhere, with what was read, which is changed in place. If it
// turns out to be no such request it is refused, not handed over once more: two
// sides that disagree would play ball with it. h is what NotUpgrade gave with
// it; its Client is valid only where that is not the socket's own address.
//
// What h calls an operator's is let in however many clients there are: it is to
// see why.
func (t *Table) Adopt(fd int, read []byte, h Handed) {
	if t.stopped {
		t.answerAndClose(fd, h.TLS, stopping) // Shutdown may be past, and would not see it
		return
	}
	if t.frozen { // a slot given out now would be one that the next process may give to another
		t.parked = append(t.parked, func() { t.Adopt(fd, read, h) })
		return
	}
	if h.Operator {
		t.adoptOperator(fd, read)
		return
	}
	if !t.cfg.Quota.take() {
		t.answerAndClose(fd, h.TLS, overloaded)
		return
	}
	id, r := t.adopt(fd, flagAdopted)
	if r == nil {
		return
	}
	if read = t.attach(id, r, read, h.TLS); r.state != stateDead && t.arrive(id, r, h.Client) {
		t.shake(id, r, read)
	}
}

// resumeParked takes what waited while the table was frozen. Where it is stopped,
// Adopt refuses.
func (t *Table) resumeParked() {
	parked := t.parked
	t.parked = nil
	for _, goOn := range parked {
		goOn()
	}
}

// adoptOperator is Adopt for the socket of an operator.
func (t *Table) adoptOperator(fd int, read []byte) {
	if !t.cfg.Quota.takeOperator() {
		t.answerAndClose(fd, nil, consoles)
		return
	}
	if id, r := t.adopt(fd, flagAdopted|flagUnlimited|flagOperator); r != nil {
		t.shake(id, r, read)
	}
}

func (t *Table) adopt(fd int, f flags) (poller.Token, *record) {
	slot, r := t.slab.take(fd)
	r.flags = f
	id := poller.NewToken(slot, r.generation)
	r.state = stateHandshake
	r.received, r.sent = t.loop.Now(), t.loop.Now()
	t.deadlines.handshake.add(id, t.loop.Now()+t.ticks.handshake)
	if err := t.loop.Add(fd, id, poller.Readable); err != nil {
		t.cfg.Log.Error("poller refused a socket", "fd", fd, "err", err)
		closeFD(fd)
		t.slab.free(slot)
		t.releaseQuota(r)
		return 0, nil
	}
	return id, r
}

// releaseQuota gives back the place of a socket that has ended.
func (t *Table) releaseQuota(r *record) {
	if r.flags&flagOperator != 0 {
		t.cfg.Quota.operators.Add(-1)
	} else {
		t.cfg.Quota.release()
	}
}

// shed answers new clients when the process has no file descriptor for them:
// a spare one is given up, used for each in turn, and taken back. Then the
// listener rests until the next tick, so that a flood does not become a spin.
func (t *Table) shed() {
	for range acceptBatch {
		more := false
		if !t.reserve.Use(func() {
			fd, err := t.listener.Accept()
			if err != nil {
				return
			}
			more = true
			t.turnAway(fd, overloaded)
		}) || !more {
			break
		}
	}
	t.pauseListener()
}

// turnAway answers a socket that gets no record. What has come is read first:
// closing with unread input would destroy the answer.
func (t *Table) turnAway(fd int, answer *Refusal) {
	t.stats.shed.Add(1)
	t.dismiss(fd, appendRefusal(nil, answer))
}

// dismiss closes a socket that has no record, with an answer if it can read one.
func (t *Table) dismiss(fd int, answer []byte) {
	if t.secures == nil {
		rawRead(fd, t.buf)
		rawWrite(fd, answer)
	}
	closeFD(fd)
}

func (t *Table) pauseListener() {
	if !t.paused && t.loop.Modify(t.listener.FD(), listenerToken, 0) == nil {
		t.paused = true
		t.tally.acceptPauses++
	}
}

func (t *Table) resumeListener() {
	if t.stopped || t.loop.Modify(t.listener.FD(), listenerToken, poller.Readable) == nil {
		t.paused = false
	}
}

// StopAccepting closes the listener and has Adopt refuse; those who are
// connected stay.
func (t *Table) StopAccepting() {
	if t.stopped {
		return
	}
	t.stopped = true
	t.resumeParked()
	if t.listener == nil {
		return
	}
	if err := t.loop.Remove(t.listener.FD()); err != nil {
		t.cfg.Log.Error("poller refused to forget the listener", "err", err)
	}
	if err := t.listener.Close(); err != nil {
		t.cfg.Log.Error("closing the listener", "err", err)
	}
	t.reserve.Close()
}

// Shutdown ends what is left, without a further word.
func (t *Table) Shutdown() {
	t.StopAccepting()
	for slot := range t.slab.next {
		if r := t.slab.at(slot); r.state != stateFree {
			id := poller.NewToken(slot, r.generation)
			t.doom(id, r, ReasonShutdown)
		}
	}
	t.Turn()
	t.giveBack()
	t.shakers.Wait() // they end with their connections, within one step of a handshake
	t.lane.close()
}
