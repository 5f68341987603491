package server

import (
	"net/http"
	"sync"
	"sync/atomic"
)

// lasting has the requests of NDJSON of each identity that are under way. They
// may go on for ever, so that they are counted and disconnected as connections are.
type lasting struct {
	mu sync.Mutex
	of map[string]map[*lastingRequest]struct{} // guarded by mu, as is what it leads to
}

// lastingRequest is one of them.
type lastingRequest struct {
	// Static.
	all      *lasting // nil: of nobody, and not ended by name
	identity string
	conn     *plainConn

	// Atomic.
	ended atomic.Bool
}

// beginLasting counts a request as a connection of its identity, and answers it
// where that has as many as it may.
func (s *Server) beginLasting(w http.ResponseWriter, r *http.Request, v visitor) (st *lastingRequest, ok bool) {
	switch {
	case v.identity == "":
		return &lastingRequest{}, true
	case !s.access.identities.enter(v.identity):
		s.metrics.auth.WithLabelValues(authIdentityFull).Inc()
		refuse(w, 0, errFull)
		return nil, false
	}
	c, _ := r.Context().Value(connKey{}).(*plainConn)
	return s.access.lasting.open(v.identity, c), true
}

// endLasting undoes beginLasting.

func (s *Server) endLasting(st *lastingRequest) {
	if st.close(); st.identity != "" {
		s.access.identities.leave(st.identity)
	}
}

// open begins a request, which has to be closed.
func (all *lasting) open(identity string, c *plainConn) *lastingRequest {
	st := &lastingRequest{all: all, identity: identity, conn: c}
	all.mu.Lock()
	defer all.mu.Unlock()
	if all.of == nil {
		all.of = make(map[string]map[*lastingRequest]struct{})
	}
	if all.of[identity] == nil {
		all.of[identity] = make(map[*lastingRequest]struct{})
	}
	all.of[identity][st] = struct{}{}
	return st
}

// end ends all requests of an identity, and says how many those were.
func (all *lasting) end(identity string) int {
	all.mu.Lock()
	defer all.mu.Unlock()
	n := 0
	for st := range all.of[identity] {
		if !st.ended.Swap(true) {
			st.conn.endRead()
			n++
		}
	}
	return n
}

// endRead has whoever waits for more of a request hear that no more comes. What
// has been read is answered.
func (c *plainConn) endRead() {
	if c != nil {
		_ = c.socket.CloseRead() // it fails where the connection has ended by itself
	}
}

func (st *lastingRequest) close() {
	if st.all == nil {
		return
	}
	st.all.mu.Lock()
	defer st.all.mu.Unlock()
	mine := st.all.of[st.identity]
	if delete(mine, st); len(mine) == 0 {
		delete(st.all.of, st.identity)
	}
}
