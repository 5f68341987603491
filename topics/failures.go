package topics

import (
	"errors"
	"time"
)

// failures counts what could not be read of a stream since that was last told.
type failures struct {
	count int
	told  time.Time
}

// tellEvery is how often the log says of one stream that it cannot be read: all
// who want something of it try again several times a second.
const tellEvery = time.Minute

// noteFailure notes why a stream could not be read, if it could not. mu must be
// held. What a replica does not have yet, and what is of a life that has ended, is
// no failure: it comes.
func (h *Hub) noteFailure(st *stream, err error) {
	if err == nil || h.closed || errors.Is(err, errLags) || errors.Is(err, errStale) {
		return
	}
	st.failed.count++
	if time.Since(st.failed.told) < tellEvery {
		return
	}
	h.cfg.Log.Warn("history could not be read: who waits for it gets it when it can be", "namespace", st.namespace, "err", err, "failures", st.failed.count)
	st.failed = failures{told: time.Now()}
}
