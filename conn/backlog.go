package conn

import (
	"github.com/valyala/bytebufferpool"

	"github.com/pushd/pushd/poller"
)

// One read may bring a thousand compressed messages, each of which comes to as
// much as a message may have. So what a read brought is looked at in parts, with
// others between them; meanwhile nothing more is read of the client.

// inflateSlice is how many bytes the messages of one part come to, the last
// message excepted.
const inflateSlice = 256 << 10

// keepRest puts by what of a read is still to be looked at.
func (t *Table) keepRest(id poller.Token, r *record, rest []byte) {
	b := &bytebufferpool.ByteBuffer{B: make([]byte, 0, len(rest))}
	b.Write(rest)
	t.sideOf(r).head = b // rest may be part of the one before
	r.flags |= flagBacklog
	t.watch(id, r, false, r.flags&flagWriteWatch != 0)
	t.loop.Post(poller.Func(func() { t.resumeRest(id) }))
}

// resumeRest goes on with it.
func (t *Table) resumeRest(id poller.Token) {
	r := t.live(id)
	if r == nil || r.flags&flagBacklog == 0 || r.flags&flagThrottled != 0 && r.state == stateOpen {
		return // if it is throttled, resumeThrottled comes back to it
	}
	s := t.sideOf(r)
	rest := s.head.B
	s.head = nil
	r.flags &^= flagBacklog
	if r.state == stateOpen {
		t.frames(id, r, rest)
	}
	if r.state == stateDead || r.flags&flagBacklog != 0 {
		return
	}
	t.trimSide(r)
	t.readOn(id, r)
}

// readOn watches a connection again that nothing holds back any more but its
// own replies, if those.
func (t *Table) readOn(id poller.Token, r *record) {
	if r.flags&flagWriteWatch == 0 || t.unsent(r) <= keepReading {
		t.watch(id, r, true, r.flags&flagWriteWatch != 0)
	}
}
