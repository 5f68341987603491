package server

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// lasting has the requests of NDJSON of each identity that are under way. They
// may go on for ever, so that they are counted, listed and disconnected as
// connections are. Without authentication all are of the identity "".
type lasting struct {
	mu sync.Mutex
	of map[string]map[*lastingRequest]struct{} // guarded by mu, as is what it leads to
}

// lastingRequest is one of them.
type lastingRequest struct {
	// Static.
	all      *lasting
	identity string
	conn     *plainConn
	client   netip.Addr
	begun    time.Time

	// Atomic.
	ended atomic.Bool
}

// beginLasting counts a request as a connection of its identity, and answers it
// where that has as many as it may.
func (s *Server) beginLasting(w http.ResponseWriter, r *http.Request, v visitor) (st *lastingRequest, ok bool) {
	if v.identity != "" && !s.access.identities.enter(v.identity) {
		s.metrics.auth.WithLabelValues(authIdentityFull).Inc()
		refuse(w, 0, errFull)
		return nil, false
	}
	c, _ := r.Context().Value(connKey{}).(*plainConn)
	return s.lasting.open(v.identity, c, callerFrom(r).address), true
}

// endLasting undoes beginLasting.
func (s *Server) endLasting(st *lastingRequest) {
	if st.close(); st.identity != "" {
		s.access.identities.leave(st.identity)
	}
}

// open begins a request, which has to be closed.
func (all *lasting) open(identity string, c *plainConn, client netip.Addr) *lastingRequest {
	st := &lastingRequest{all: all, identity: identity, conn: c, client: client, begun: time.Now()}
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

// requestInfo is such a request, beside the connections of GET /connections.
type requestInfo struct {
	Identity string `json:"identity,omitempty"`
	Peer     string `json:"peer"`
	Address  string `json:"address,omitempty"` // the client's, where the peer is a proxy
	BegunMS  int64  `json:"begun_ms_ago"`
}

// list describes the requests that are asked for, the oldest first.
func (all *lasting) list(asked func(identity string, client netip.Addr) bool) []requestInfo {
	all.mu.Lock()
	defer all.mu.Unlock()
	list := []requestInfo{}
	for _, requests := range all.of {
		for st := range requests {
			if !asked(st.identity, st.client) {
				continue
			}
			peer := st.conn.socket.RemoteAddr().(*net.TCPAddr).AddrPort()
			info := requestInfo{Identity: st.identity, Peer: peer.String(), BegunMS: time.Since(st.begun).Milliseconds()}
			if st.client != peer.Addr().Unmap() {
				info.Address = st.client.String()
			}
			list = append(list, info)
		}
	}
	slices.SortFunc(list, func(a, b requestInfo) int {
		if a.BegunMS != b.BegunMS {
			return int(b.BegunMS - a.BegunMS)
		}
		return strings.Compare(a.Peer, b.Peer)
	})
	return list
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
	st.all.mu.Lock()
	defer st.all.mu.Unlock()
	mine := st.all.of[st.identity]
	if delete(mine, st); len(mine) == 0 {
		delete(st.all.of, st.identity)
	}
}
