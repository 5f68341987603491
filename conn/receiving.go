package conn

import (
	"sync/atomic"
	"time"
)

// Receiving bounds what is kept of clients that have not sent all of it yet, over
// all tables that share it: messages of which a part has come, and frames that
// wait to be looked at, of clients that are not let in yet or whose read came to
// much. Safe for use by several goroutines.
//
// Nobody may keep more than is left for all. So those who send half a message and
// no more, be they ever so many, leave something: n of them have n/(n+1) at most.
type Receiving struct {
	max  int64 // static; 0: no bound
	kept atomic.Int64
}

// NewReceiving allows for max bytes, and for 4 KiB of each connection in any
// case; 0: any number.
func NewReceiving(max int64) *Receiving { return &Receiving{max: max} }

// Kept is how many bytes are kept now, as the memory that they take.
func (q *Receiving) Kept() int64 { return q.kept.Load() }

// fits reports whether a connection that is counted with was bytes may keep size.
// What is small is never refused: it costs no more than the connection's other
// needs; nor is what does not grow, such as frames that are gone through in parts.
func (q *Receiving) fits(was, size int) bool {
	return q.max == 0 || size <= maxIdleBuffer || size <= was || int64(size) <= q.max-(q.kept.Load()+int64(size-was))
}

// receivingFull is told to a client whose upgrade is held back.
var receivingFull = &Refusal{Status: 503, Code: "unavailable", Message: "too much has come of clients in part (--receive-memory)", RetryAfter: 5 * time.Second}

// mayKeep reports whether size bytes may be kept of what a connection has sent.
func (t *Table) mayKeep(r *record, size int) bool {
	was := 0
	if r.side != 0 {
		was = t.sides.all[r.side].received
	}
	return t.cfg.Receiving.fits(was, size)
}

// countReceived has the budget know what is kept of a connection now.
func (t *Table) countReceived(r *record) {
	if r.side == 0 {
		return
	}
	s := t.sides.all[r.side]
	size := s.decoder.size()
	if s.head != nil {
		size += cap(s.head.B)
	}
	t.cfg.Receiving.kept.Add(int64(size - s.received))
	s.received = size
}
