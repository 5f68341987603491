package conn

import (
	"slices"
	"sync/atomic"

	"github.com/pushd/pushd/poller"
)

// Answering bounds the answers (Table.Answer) that clients do not take, over all
// tables that share it. Safe for use by several goroutines.
//
// Where one more is too much, others make room, of which the client has taken
// nothing for longest: who polls and does not read never holds up who does. A table
// can end only its own. So half of the bound is for whoever needs it, and the other
// half the tables have in equal parts, of which nobody outside can deprive them.
type Answering struct {
	half int64 // static; 0: no bound

	// Atomic.
	tables atomic.Int64
	kept   atomic.Int64
}

// NewAnswering allows for max bytes, and for one answer of each table in any case;
// 0: any number.
func NewAnswering(max int64) *Answering { return &Answering{half: max / 2} }

// Kept is how many bytes are kept now, as the memory that they take.
func (q *Answering) Kept() int64 { return q.kept.Load() }

// over reports whether a table that keeps so many bytes has to give some back.
func (q *Answering) over(own int64) bool {
	return q.half > 0 && q.kept.Load() > q.half && own > q.half/q.tables.Load()
}

// unread has the answers of one table that have not left.
type unread struct {
	line dueList // when their clients were last seen to take something; some have left
	many int     // those in it that have not
	kept int64   // their bytes
}

// keepAnswer counts an answer that its socket has not taken, and makes room for it.
func (t *Table) keepAnswer(id poller.Token, r *record) {
	s, all := t.sides.all[r.side], &t.unread
	if s.answer > 0 || s.own == nil {
		return
	}
	s.answer = cap(s.own.B)
	t.cfg.Answering.kept.Add(int64(s.answer))
	all.kept += int64(s.answer)
	all.many++
	if l := &all.line; len(l.queue)-l.head > 2*all.many+keepQueue {
		l.queue = slices.DeleteFunc(l.queue[l.head:], func(d due) bool { return !t.isUnread(d.id) })
		l.head = 0
	}
	all.line.add(id, t.loop.Now())
	for all.many > 1 && t.cfg.Answering.over(all.kept) {
		t.endSlowest(id)
	}
}

// isUnread reports whether a connection has an answer that has not left.
func (t *Table) isUnread(id poller.Token) bool {
	r := t.live(id)
	return r != nil && r.side != 0 && t.sides.all[r.side].answer > 0
}

// endSlowest ends the connection that has taken nothing of its answer for longest;
// one that has taken some since it stood in the line goes to the end of that. newest,
// which has had no time to, is not it.
func (t *Table) endSlowest(newest poller.Token) {
	for line := &t.unread.line; ; {
		at := line.queue[line.head].tick
		id, _ := line.next(at)
		if !t.isUnread(id) {
			continue
		}
		r := t.live(id)
		s := t.sides.all[r.side]
		if id == newest || int32(s.stalled-at) > 0 {
			line.add(id, s.stalled)
			continue
		}
		s.dropUnsent()
		t.answerLeft(s)
		t.doom(id, r, ReasonAnswerFull)
		return
	}
}

// answerLeft gives back what an answer was counted with.
func (t *Table) answerLeft(s *side) {
	if s.answer == 0 {
		return
	}
	t.cfg.Answering.kept.Add(-int64(s.answer))
	t.unread.kept -= int64(s.answer)
	t.unread.many--
	s.answer = 0
}
