package conn

import (
	"sync/atomic"
	"time"

	"github.com/pushd/pushd/poller"
)

// Answering bounds the answers (Table.Answer) that clients do not take, over all
// tables that share it. Safe for use by several goroutines.
//
// Who answers asks for room before, and puts off what finds none. So that there is
// room for those who read, an answer has to leave at some pace while more than half
// is taken: half of it is never held by who does not read for longer than answerTime.
// So who reserves room for longer than a turn gives it back while it is Tight.
type Answering struct {
	max  int64 // static; 0: no bound
	kept atomic.Int64
}

const (
	answerTime = time.Second // how often it is looked at whether an answer leaves
	answerPace = 8 << 10     // bytes in an answerTime
)

// SmallAnswer is how many bytes an answer may have without a reservation: it costs
// no more than the connection's other needs.
const SmallAnswer = maxIdleBuffer

// NewAnswering allows for max bytes, and for SmallAnswer of each connection in any
// case; 0: any number.
func NewAnswering(max int64) *Answering { return &Answering{max: max} }

// Kept is how many bytes are kept now, as the memory that they take, and reserved.
func (q *Answering) Kept() int64 { return q.kept.Load() }

// Reserve counts n bytes of an answer that is being made and reports whether there
// is room for them. Release undoes it, when Answer counts what is really kept.
func (q *Answering) Reserve(n int) bool {
	if kept := q.kept.Add(int64(n)); q.max > 0 && kept > q.max {
		q.kept.Add(-int64(n))
		return false
	}
	return true
}

// Room reports whether there is room for n bytes, and counts none.
func (q *Answering) Room(n int) bool { return q.max == 0 || q.kept.Load()+int64(n) <= q.max }

// Release gives back what Reserve has counted.
func (q *Answering) Release(n int) { q.kept.Add(-int64(n)) }

// Tight reports whether answers have to leave at answerPace.
func (q *Answering) Tight() bool { return q.max > 0 && q.kept.Load() > q.max/2 }

// unread is an answer that has not left, as Answering has counted it.
type unread struct {
	size  int
	since uint32 // tick
}

// keepAnswer counts an answer that its socket has not taken.
func (t *Table) keepAnswer(id poller.Token, r *record) {
	if _, counted := t.unread[id.Slot()]; counted {
		return
	}
	if t.unread == nil {
		t.unread = make(map[uint32]unread)
	}
	a := unread{size: cap(t.sides.all[r.side].own.B), since: t.loop.Now()}
	t.unread[id.Slot()] = a
	t.cfg.Answering.kept.Add(int64(a.size))
	t.deadlines.unread.add(id, a.since+t.ticks.answer)
}

// answerLeft gives back what an answer was counted with.
func (t *Table) answerLeft(slot uint32) {
	if a, counted := t.unread[slot]; counted {
		t.cfg.Answering.kept.Add(-int64(a.size))
		delete(t.unread, slot)
	}
}

// hurryAnswer looks at an answer that was there an answerTime ago, and ends its
// connection if others need the room.
func (t *Table) hurryAnswer(id poller.Token, r *record) {
	a, waits := t.unread[id.Slot()]
	if !waits {
		return
	}
	s, now := t.sides.all[r.side], t.loop.Now()
	due := int64(now-a.since) * answerPace / int64(t.ticks.answer)
	if t.cfg.Answering.Tight() && int64(s.ownSent) < due {
		s.dropUnsent()
		t.answerLeft(id.Slot())
		t.doom(id, r, ReasonAnswerFull)
		return
	}
	t.deadlines.unread.add(id, now+t.ticks.answer)
}
