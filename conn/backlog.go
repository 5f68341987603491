package conn

import (
	"github.com/valyala/bytebufferpool"

	"github.com/pushd/pushd/poller"
)

// One read may bring a thousand compressed messages, each of which comes to as
// much as a message may have. So what a read brought is looked at in parts, with
// others between them; meanwhile nothing more is read of the client. Very many may
// have such reads at a time: they stand in a line, of which a turn of the loop
// serves the first few, each for one part.

// inflateSlice is how many bytes the messages of one part come to, the last
// message excepted; and those of all parts of one turn, the last part excepted.
const inflateSlice = 256 << 10

// backlog is the line. Whoever is throttled is not in it: resumeThrottled puts
// them there when they are forgiven. So nobody is in it twice.
type backlog struct {
	line   dueList
	posted bool // a task goes on with it
}

// keepRest puts by what of a read is still to be looked at, for which frames has
// found room.
func (t *Table) keepRest(id poller.Token, r *record, rest []byte) {
	b := &bytebufferpool.ByteBuffer{B: make([]byte, 0, len(rest))}
	b.Write(rest)
	t.sideOf(r).head = b // rest may be part of the one before
	r.flags |= flagBacklog
	t.watch(id, r, false, r.flags&flagWriteWatch != 0)
	if r.flags&flagThrottled == 0 {
		t.lineUp(id)
	}
}

// lineUp puts a connection with flagBacklog at the end of the line. One task at a
// time is posted for all, so that others' never wait behind very many.
func (t *Table) lineUp(id poller.Token) {
	t.backlog.line.add(id, t.loop.Now())
	t.goOnInLine()
}

func (t *Table) goOnInLine() {
	if !t.backlog.posted {
		t.backlog.posted = true
		t.loop.Post(poller.Func(t.resumeBacklog))
	}
}

// resumeBacklog serves the line until enough has been looked at for one turn.
func (t *Table) resumeBacklog() {
	for looked := 0; looked < inflateSlice; {
		if t.frozen { // Thaw comes back to it
			t.backlog.posted = false
			return
		}
		id, ok := t.backlog.line.next(t.loop.Now())
		if !ok {
			t.backlog.posted = false
			return
		}
		looked += t.resumeRest(id)
	}
	t.loop.Post(poller.Func(t.resumeBacklog))
}

// resumeRest goes on with what a connection has in the line, and answers how many
// bytes it has looked at, and what they came to.
func (t *Table) resumeRest(id poller.Token) (looked int) {
	r := t.live(id)
	if r == nil {
		return 0
	}
	s := t.sides.all[r.side]
	rest := s.head.B
	s.head = nil
	r.flags &^= flagBacklog
	if r.state == stateOpen {
		looked = t.frames(id, r, rest)
	}
	if r.state == stateDead || r.flags&flagBacklog != 0 {
		return looked
	}
	t.trimHead(r)
	t.readOn(id, r)
	return looked
}

// readOn watches a connection again that nothing holds back any more but its
// own replies, if those.
func (t *Table) readOn(id poller.Token, r *record) {
	if r.flags&flagWriteWatch == 0 || t.unsent(r) <= keepReading {
		t.watch(id, r, true, r.flags&flagWriteWatch != 0)
	}
}
