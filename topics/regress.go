package topics

import (
	"math/rand/v2"
	"slices"
	"time"
)

// A stream may lose its end, as with a disk that had not written it yet, and
// give the same numbers again, in what its epoch says is the same life. But one
// with replicas has more than one server that may answer for it, and a leader
// that was cut off does not know for a while that there is another, nor what
// that one stored. So it is asked until the answer is certain, and meanwhile
// nothing is passed on: it could have the number of another message.

// regressPatience is how long a stream with replicas must stand below what
// came of it to be taken for cut short: by then a leader without a majority has
// noticed that it is none.
const regressPatience = 20 * time.Second

// came notes a message that was passed on, or is known to be stored.
func (st *stream) came(at Cursor) {
	if at.Seq > st.newest {
		st.newest, st.stamp = at.Seq, at.Stamp
	}
}

// regress is what is known of a stream that seems to have gone back.
type regress struct {
	since     time.Time
	comparing bool // the newest message that came is being read
	differs   bool // it was, and is another
	waits     bool // to ask again
}

// wentBack reports whether a stream has lost messages that came of it, as far
// as an answer of the same epoch tells, and whether that is certain.
func (h *Hub) wentBack(st *stream, s Stream, asked inquiry) (back, certain bool) {
	r := st.regress
	switch {
	case !st.known, s.Epoch != st.state.Epoch, s.Epoch != asked.epoch && r == nil:
		st.regress = nil
		return false, true
	case r == nil && s.Last >= asked.newest:
		return false, true
	case s.Replicas <= 1: // nobody else could have answered
		back = s.Last < asked.newest
	case r == nil:
		st.regress = &regress{since: time.Now()}
		h.askAgain(st)
		return false, false
	case r.differs:
		back = true
	case time.Since(r.since) >= regressPatience, s.First > st.newest: // then nothing is left to compare
		back = s.Last < st.newest
	case s.Last >= st.newest:
		h.compare(st)
		return false, false
	default:
		h.askAgain(st)
		return false, false
	}
	st.regress = nil
	return back, true
}

// askAgain asks in a while how a stream stands that seems to have gone back.
func (h *Hub) askAgain(st *stream) {
	r := st.regress
	if r.waits {
		return
	}
	r.waits = true
	h.later(errorPatience/2+rand.N(errorPatience/2), func() {
		if r.waits = false; st.regress == r && st.feeds > 0 {
			h.ask(st, nil)
		}
	})
}

// compare finds out whether a stream that has as many messages as came of it
// again has the same. What limits have dropped cannot tell, and is taken for it.
func (h *Hub) compare(st *stream) {
	r, newest := st.regress, st.newest
	if r.comparing {
		return
	}
	r.comparing = true
	q := Query{Namespace: st.namespace, From: newest, Messages: 1, Urgency: UrgentRepair}
	h.cfg.History.Read(q, func(p Page, err error) {
		h.mu.Lock()
		defer h.mu.Unlock()
		r.comparing = false
		switch {
		case st.regress != r || st.feeds == 0 || h.closed:
			return
		case err != nil || p.Next <= newest: // a replica lags
			h.askAgain(st)
			return
		case p.has(newest, func(c Cursor) bool { return st.stamp != 0 && c.Stamp != st.stamp }):
			r.differs = true
		default:
			st.regress = nil
		}
		h.ask(st, nil)
		h.wake()
	})
}

// has reports whether a page has a number, if only to say that nobody can have
// its message, and its cursor is as it should be.
func (p *Page) has(number uint64, is func(Cursor) bool) bool {
	at := func(c Cursor) bool { return c.Seq == number && is(c) }
	return slices.ContainsFunc(p.Messages, func(m Message) bool { return at(m.Cursor) }) || slices.ContainsFunc(p.LeftOut, at)
}
