package server

import (
	"encoding/binary"
	"fmt"
	"net/http"
	"strings"

	"github.com/pushd/pushd/conn"
	"github.com/pushd/pushd/internal/wire"
	"github.com/pushd/pushd/poller"
)

// Actions of the admin listener: log word and metric label.
const (
	actDisconnectClient   = "disconnect_client"
	actDisconnectIdentity = "disconnect_identity"
	actDrain              = "drain"
	actUndrain            = "undrain"
)

// kickReasons are the reasons for which an operator may disconnect, by their
// words. Those that a client is to be told of another fault are the server's to say.
var kickReasons = map[string]conn.Reason{
	"":                               conn.ReasonKicked,
	conn.ReasonKicked.String():       conn.ReasonKicked,
	conn.ReasonTokenExpired.String(): conn.ReasonTokenExpired,
	conn.ReasonPolicy.String():       conn.ReasonPolicy,
	conn.ReasonDraining.String():     conn.ReasonDraining,
	conn.ReasonOverloaded.String():   conn.ReasonOverloaded,
}

func kickReason(r *http.Request) (conn.Reason, *wire.Error) {
	word := r.URL.Query().Get("reason")
	why, ok := kickReasons[word]
	if !ok {
		return why, &wire.Error{Code: wire.BadRequest, Message: fmt.Sprintf("reason=%.64q: it is kicked (the default), token_expired, policy, draining or overloaded", word)}
	}
	return why, nil
}

// serveDisconnectClient ends one connection, by the name that welcome told it.
func (s *Server) serveDisconnectClient(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("client")
	why, refused := kickReason(r)
	if refused != nil {
		refuse(w, 0, refused)
		return
	}
	sh, id, ok := s.parseClient(name)
	if !ok {
		refuse(w, http.StatusNotFound, noClient(name))
		return
	}
	closed := make(chan bool, 1)
	if !sh.loop.Post(poller.Func(func() { closed <- sh.disconnect(id, why) })) {
		refuse(w, 0, &wire.Error{Code: wire.Unavailable, Message: errStopping.Message})
		return
	}
	select {
	case was := <-closed:
		if !was {
			refuse(w, http.StatusNotFound, &wire.Error{Code: wire.BadRequest, Message: fmt.Sprintf("client %s is not connected any more", name)})
			return
		}
	case <-r.Context().Done():
		return
	}
	s.acted(r, actDisconnectClient, "client", name, "reason", why.String())
	writeIndented(w, http.StatusOK, disconnected{Client: name, Reason: why.String(), Disconnected: 1})
}

func noClient(name string) *wire.Error {
	return &wire.Error{Code: wire.BadRequest, Message: fmt.Sprintf("%.64q is no client of this node", name)}
}

// disconnected answers what was done.
type disconnected struct {
	Client       string `json:"client,omitempty"`
	Identity     string `json:"identity,omitempty"`
	Reason       string `json:"reason"`
	Disconnected int    `json:"disconnected"`
}

// serveDisconnectIdentity ends all connections that an identity has on this
// node. Whose credentials are still good may come back.
func (s *Server) serveDisconnectIdentity(w http.ResponseWriter, r *http.Request) {
	identity := r.PathValue("identity")
	why, refused := kickReason(r)
	if refused != nil {
		refuse(w, 0, refused)
		return
	}
	n := s.lasting.end(identity)
	if _, err := s.walk(r.Context(), place{}, func(sh *shard, c conn.Info) bool {
		if sh.identityOf(c.ID.Slot()) == identity && sh.disconnect(c.ID, why) {
			n++
		}
		return true
	}); err != nil {
		refuse(w, 0, &wire.Error{Code: wire.Unavailable, Message: err.Error()})
		return
	}
	s.acted(r, actDisconnectIdentity, "identity", identity, "reason", why.String(), "disconnected", n)
	writeIndented(w, http.StatusOK, disconnected{Identity: identity, Reason: why.String(), Disconnected: n})
}

// disconnect ends a connection that is open, or about to be, and reports
// whether it was one.
func (sh *shard) disconnect(id poller.Token, why conn.Reason) bool {
	if sh.disconnectPoll(id, why) {
		return true
	}
	there := sh.table.IsOpen(id) || sh.table.IsHeld(id)
	if there {
		sh.table.Close(id, why)
	}
	return there
}

// parseClient finds a client by its name; see clientName.
func (s *Server) parseClient(name string) (*shard, poller.Token, bool) {
	text, prefixed := strings.CutPrefix(name, clientPrefix)
	b, err := clientNames.DecodeString(text)
	if !prefixed || err != nil || len(b) != clientNameBytes || int(b[8]) >= len(s.shards) || binary.BigEndian.Uint32(b[9:]) != s.node {
		return nil, 0, false
	}
	return s.shards[b[8]], poller.NewToken(binary.BigEndian.Uint32(b[4:]), binary.BigEndian.Uint32(b[0:])), true
}
