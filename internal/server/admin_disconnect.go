package server

import (
	"context"
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
	actUpgrade            = "upgrade"
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

func kickReason(word string) (conn.Reason, *wire.Error) {
	why, ok := kickReasons[word]
	if !ok {
		return why, &wire.Error{Code: wire.BadRequest, Message: fmt.Sprintf("reason=%.64q: it is kicked (the default), token_expired, policy, draining or overloaded", word)}
	}
	return why, nil
}

// serveDisconnectClient ends one connection, on whatever node it is, by the name
// that welcome told it.
func (s *Server) serveDisconnectClient(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("client")
	why, refused := kickReason(r.URL.Query().Get("reason"))
	if refused != nil {
		refuse(w, 0, refused)
		return
	}
	if status, refused := s.disconnectAnywhere(r.Context(), name, why); refused != nil {
		refuse(w, status, refused)
		return
	}
	s.acted(r, actDisconnectClient, "client", name, "reason", why.String())
	writeIndented(w, http.StatusOK, disconnected{Client: name, Reason: why.String(), Disconnected: 1})
}

// disconnectClient ends one connection of this node. A status of 0 is the one that
// the code has.
func (s *Server) disconnectClient(ctx context.Context, name string, why conn.Reason) (status int, refused *wire.Error) {
	sh, id, ok := s.parseClient(name)
	if !ok {
		return http.StatusNotFound, noClient(name)
	}
	closed := make(chan bool, 1)
	if !sh.loop.Post(poller.Func(func() { closed <- sh.disconnect(id, why) })) {
		return 0, errStopping
	}
	select {
	case was := <-closed:
		if !was {
			return http.StatusNotFound, &wire.Error{Code: wire.BadRequest, Message: fmt.Sprintf("client %s is not connected any more", name)}
		}
		return 0, nil
	case <-ctx.Done():
		return 0, &wire.Error{Code: wire.Unavailable, Message: ctx.Err().Error()}
	}
}

func noClient(name string) *wire.Error {
	return &wire.Error{Code: wire.BadRequest, Message: fmt.Sprintf("%.64q is no client of this node, nor of another that was heard of in the last seconds", name)}
}

// disconnected answers what was done.
type disconnected struct {
	Client       string `json:"client,omitempty"`
	Identity     string `json:"identity,omitempty"`
	Reason       string `json:"reason"`
	Disconnected int    `json:"disconnected"`

	Silent []string `json:"silent,omitempty"` // nodes that have not answered
}

// serveDisconnectIdentity ends all connections that an identity has, on all
// nodes. Whose credentials are still good may come back.
func (s *Server) serveDisconnectIdentity(w http.ResponseWriter, r *http.Request) {
	identity := r.PathValue("identity")
	why, refused := kickReason(r.URL.Query().Get("reason"))
	if refused != nil {
		refuse(w, 0, refused)
		return
	}
	n, silent, refused := s.disconnectEverywhere(r.Context(), identity, why)
	if refused != nil {
		refuse(w, 0, refused)
		return
	}
	s.acted(r, actDisconnectIdentity, "identity", identity, "reason", why.String(), "disconnected", n, "silent", silent)
	writeIndented(w, http.StatusOK, disconnected{Identity: identity, Reason: why.String(), Disconnected: n, Silent: silent})
}

// disconnectIdentity ends all connections that an identity has on this node.
func (s *Server) disconnectIdentity(ctx context.Context, identity string, why conn.Reason) (n int, refused *wire.Error) {
	n = s.lasting.end(identity)
	if _, err := s.walk(ctx, place{}, func(sh *shard, c conn.Info) bool {
		if sh.identityOf(c.ID.Slot()) == identity && sh.disconnect(c.ID, why) {
			n++
		}
		return true
	}); err != nil {
		return 0, &wire.Error{Code: wire.Unavailable, Message: err.Error()}
	}
	return n, nil
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

// parseClient finds a client of this node by its name; see clientName.
func (s *Server) parseClient(name string) (*shard, poller.Token, bool) {
	b, ok := decodeClientName(name)
	if !ok || int(b[8]) >= len(s.shards) || binary.BigEndian.Uint32(b[9:]) != s.node {
		return nil, 0, false
	}
	return s.shards[b[8]], poller.NewToken(binary.BigEndian.Uint32(b[4:]), binary.BigEndian.Uint32(b[0:])), true
}

func decodeClientName(name string) (b []byte, ok bool) {
	text, prefixed := strings.CutPrefix(name, clientPrefix)
	b, err := clientNames.DecodeString(text)
	return b, prefixed && err == nil && len(b) == clientNameBytes
}
