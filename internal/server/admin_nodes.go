package server

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/pushd/pushd/internal/statistics"
	"github.com/pushd/pushd/internal/wire"
	"github.com/pushd/pushd/topics"
)

// serveNodes lists the nodes of the cluster with the newest of what each said of
// itself, this one first.
func (s *Server) serveNodes(w http.ResponseWriter, _ *http.Request) {
	nodes := []*statistics.Node{}
	if message := s.self().reporter.last.Load(); message != nil {
		self := new(statistics.Node)
		if err := json.Unmarshal(*message, self); err != nil {
			refuse(w, 0, &wire.Error{Code: wire.Internal, Message: err.Error()})
			return
		}
		nodes = append(nodes, self)
	}
	writeIndented(w, http.StatusOK, struct {
		Nodes []*statistics.Node `json:"nodes"`
	}{append(nodes, s.self().peers.known.Nodes()...)})
}

// presence is what GET /presence/{topic} shows.
type presence struct {
	Topic       string         `json:"topic"`
	Connections int            `json:"connections"`
	Nodes       map[string]int `json:"nodes"` // those with any
}

// servePresence counts the connections that are subscribed to exactly a topic or
// a pattern, node by node.
func (s *Server) servePresence(w http.ResponseWriter, r *http.Request) {
	topic := r.PathValue("topic")
	if err := topics.CheckPattern(topic); err != nil {
		refuse(w, 0, &wire.Error{Code: wire.InvalidTopic, Message: err.Error()})
		return
	}
	m := s.self()
	p := presence{Topic: topic, Nodes: m.peers.known.ByNode(topic)}
	if here := s.hub.Connections(topic); here > 0 {
		p.Nodes[m.name] = here
	}
	for _, n := range p.Nodes {
		p.Connections += n
	}
	writeIndented(w, http.StatusOK, p)
}

// serveNodeDrain is serveDrain, serveUndrain and serveDrainStatus of any node.
func (s *Server) serveNodeDrain(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("node")
	m := s.self()
	if name == m.name {
		map[string]http.HandlerFunc{http.MethodPost: s.serveDrain, http.MethodDelete: s.serveUndrain, http.MethodGet: s.serveDrainStatus}[r.Method](w, r)
		return
	}
	if !m.peers.knows(name) {
		refuse(w, http.StatusNotFound, &wire.Error{Code: wire.BadRequest, Message: fmt.Sprintf("%.64q is no node that was heard of in the last seconds", name)})
		return
	}
	question, status := note{Do: doDrainStatus}, http.StatusOK
	switch r.Method {
	case http.MethodDelete:
		question.Do = doUndrain
	case http.MethodPost:
		var refused *wire.Error
		if question, refused = drainOf(r); refused != nil {
			refuse(w, 0, refused)
			return
		}
		status = http.StatusAccepted
	}
	answer, failed, refused := m.peers.askNode(r.Context(), name, &question)
	if refused != nil {
		refuse(w, failed, refused)
		return
	}
	if r.Method != http.MethodGet {
		s.acted(r, question.Do, "node", name)
	}
	writeIndented(w, status, answer.Drain)
}

// drainOf reads the order for another node, whose settings have the defaults.
func drainOf(r *http.Request) (note, *wire.Error) {
	q := note{Do: doDrain}
	const unset = -time.Second
	grace, err1 := querySeconds(r, "grace", unset)
	window, err2 := querySeconds(r, "window", unset)
	for _, err := range []error{err1, err2} {
		if err != nil {
			return q, &wire.Error{Code: wire.BadRequest, Message: err.Error()}
		}
	}
	if grace != unset {
		q.Grace = &grace
	}
	if window != unset {
		q.Window = &window
	}
	return q, nil
}
