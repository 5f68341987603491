package server

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"net/netip"
	"strconv"
	"strings"

	"github.com/pushd/pushd/conn"
	"github.com/pushd/pushd/internal/via"
	"github.com/pushd/pushd/internal/wire"
	"github.com/pushd/pushd/poller"
	"github.com/pushd/pushd/topics"
)

// connectionInfo is one connection of GET /connections.
type connectionInfo struct {
	Client        string   `json:"client"`
	Operator      bool     `json:"operator,omitempty"` // it came by the admin listener
	Identity      string   `json:"identity,omitempty"`
	Shard         int      `json:"shard"`
	Peer          string   `json:"peer"`
	Address       string   `json:"address,omitempty"` // the client's, where the peer is a proxy
	State         string   `json:"state"`
	Transport     string   `json:"transport"`
	Format        string   `json:"format"`
	Subscriptions []string `json:"subscriptions"`
	ReceivedMS    int64    `json:"received_ms_ago"`
	SentMS        int64    `json:"sent_ms_ago"`
	UnsentBytes   int      `json:"unsent_bytes"`
	BehindFeeds   int      `json:"behind_feeds"`
	Reading       bool     `json:"reading"`
}

const (
	defaultListLimit = 100
	maxListLimit     = 10_000
	maxListPatterns  = 20  // of one connection
	walkSlice        = 256 // connections of one shard that are looked at before its loop does something else
)

// serveConnections lists connections:
//
//	?identity=alice            whose credentials say so
//	?address=192.0.2.0/24      an address, or a network
//	?topic=stocks.AAPL         that get what is published there
//	?pattern=stocks.*          that subscribed to exactly that
//	?behind=true               that are behind in a feed
//	?limit=100&after=NEXT      goes on where an answer that had "next" ended
//
// and, at once with the first of them, requests of NDJSON that are under way.
// Connections come and go meanwhile. One that stays is listed exactly once.
func (s *Server) serveConnections(w http.ResponseWriter, r *http.Request) {
	limit, err1 := queryInt(r, "limit", defaultListLimit, 1, maxListLimit)
	at, err2 := s.parsePlace(r.URL.Query().Get("after"))
	filter, err3 := readFilter(r)
	for _, err := range []error{err1, err2, err3} {
		if err != nil {
			refuse(w, 0, &wire.Error{Code: wire.BadRequest, Message: err.Error()})
			return
		}
	}
	first := at == (place{})
	list := []connectionInfo{}
	next, err := s.walk(r.Context(), at, func(sh *shard, c conn.Info) bool {
		if filter.has(sh, c) {
			list = append(list, sh.describe(c, maxListPatterns))
		}
		return len(list) < limit
	})
	if err != nil {
		refuse(w, 0, &wire.Error{Code: wire.Unavailable, Message: err.Error()})
		return
	}
	requests := []requestInfo{}
	if first {
		requests = s.lasting.list(filter.hasRequest)
	}
	writeIndented(w, http.StatusOK, struct {
		Open        int              `json:"open"`
		Connections []connectionInfo `json:"connections"`
		Requests    []requestInfo    `json:"requests"`
		Next        string           `json:"next,omitempty"`
	}{s.quota.Open(), list, requests, next.String()})
}

// connectionFilter is which connections are asked for.
type connectionFilter struct {
	identity, topic, pattern string
	behind                   bool
	within                   via.Networks // nil: anywhere
}

func readFilter(r *http.Request) (f connectionFilter, err error) {
	q := r.URL.Query()
	f.identity, f.topic, f.pattern = q.Get("identity"), q.Get("topic"), q.Get("pattern")
	if f.topic != "" {
		if err := topics.CheckTopic(f.topic); err != nil {
			return f, err
		}
	}
	if f.pattern != "" {
		if err := topics.CheckPattern(f.pattern); err != nil {
			return f, err
		}
	}
	if text := q.Get("behind"); text != "" {
		if f.behind, err = strconv.ParseBool(text); err != nil {
			return f, fmt.Errorf("behind=%.64q: it is true or false", text)
		}
	}
	if address := q.Get("address"); address != "" {
		if f.within, err = via.ParseNetworks([]string{address}); err != nil {
			return f, fmt.Errorf("address=%w", err)
		}
	}
	return f, nil
}

// has is of the shard's loop.
func (f *connectionFilter) has(sh *shard, c conn.Info) bool {
	slot := c.ID.Slot()
	if f.within != nil && !f.within[0].Overlaps(clientOf(c)) || f.identity != "" && sh.identityOf(slot) != f.identity || f.behind && sh.members.Behind(slot) == 0 {
		return false
	}
	if f.topic == "" && f.pattern == "" {
		return true
	}
	var matches, is bool
	for _, p := range sh.members.Patterns(slot, nil) {
		matches = matches || f.topic != "" && topics.Match(p, f.topic)
		is = is || p == f.pattern
	}
	return (f.topic == "" || matches) && (f.pattern == "" || is)
}

// hasRequest is has for a request of NDJSON, which gets nothing.
func (f *connectionFilter) hasRequest(identity string, client netip.Addr) bool {
	return (f.identity == "" || f.identity == identity) && (f.within == nil || f.within.Contains(client)) && f.topic == "" && f.pattern == "" && !f.behind
}

// clientOf is where a connection's client is: behind a proxy, as far as that is kept.
func clientOf(c conn.Info) netip.Prefix {
	if c.Client.IsValid() {
		return c.Client
	}
	peer := c.Peer.Addr().Unmap().WithZone("")
	return netip.PrefixFrom(peer, peer.BitLen())
}

// serveConnection shows one connection, with all that it is subscribed to.
func (s *Server) serveConnection(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("client")
	sh, id, ok := s.parseClient(name)
	if !ok {
		refuse(w, http.StatusNotFound, noClient(name))
		return
	}
	seen := make(chan *connectionInfo, 1)
	if !sh.loop.Post(poller.Func(func() { seen <- sh.find(id) })) {
		refuse(w, 0, errStopping)
		return
	}
	select {
	case info := <-seen:
		if info == nil {
			refuse(w, http.StatusNotFound, &wire.Error{Code: wire.BadRequest, Message: fmt.Sprintf("client %s is not connected any more", name)})
			return
		}
		writeIndented(w, http.StatusOK, info)
	case <-r.Context().Done():
	}
}

// find describes a connection, nil if it has ended.
func (sh *shard) find(id poller.Token) (found *connectionInfo) {
	sh.table.Each(id.Slot(), func(c conn.Info) bool {
		if c.ID == id {
			info := sh.describe(c, math.MaxInt)
			found = &info
		}
		return false // its slot is the first
	})
	return found
}

// describe is a connection to a person, with most of its subscriptions. It is
// of its loop.
func (sh *shard) describe(c conn.Info, most int) connectionInfo {
	slot := c.ID.Slot()
	patterns := sh.members.Patterns(slot, []string{})
	if len(patterns) > most {
		patterns = append(patterns[:most], fmt.Sprintf("and %d more", len(patterns)-most))
	}
	address := ""
	switch {
	case c.Client.IsSingleIP():
		address = c.Client.Addr().String()
	case c.Client.IsValid():
		address = c.Client.String()
	}
	return connectionInfo{
		Client: sh.server.clientName(sh, c.ID), Operator: sh.isOperator(slot), Identity: sh.identityOf(slot), Shard: sh.index,
		Peer: c.Peer.String(), Address: address, State: c.State,
		Transport: sh.client(slot).shape.transport().String(), Format: sh.client(slot).shape.format().String(), Subscriptions: patterns,
		ReceivedMS: c.Received.Milliseconds(), SentMS: c.Sent.Milliseconds(),
		UnsentBytes: c.Unsent, BehindFeeds: sh.members.Behind(slot), Reading: c.Reading,
	}
}

// place is a slot of a shard, from which a walk goes on.
type place struct {
	shard int
	slot  uint32
}

// String is "" for the zero place, where a walk begins and after its end.
func (p place) String() string {
	if p == (place{}) {
		return ""
	}
	return fmt.Sprintf("%d-%d", p.shard, p.slot)
}

func (s *Server) parsePlace(text string) (p place, err error) {
	if text == "" {
		return p, nil
	}
	first, second, _ := strings.Cut(text, "-")
	shard, err1 := strconv.Atoi(first)
	slot, err2 := strconv.ParseUint(second, 10, 32)
	if err1 != nil || err2 != nil || shard < 0 || shard >= len(s.shards) {
		return p, fmt.Errorf("after=%.64q: it is the next of an answer before", text)
	}
	return place{shard, uint32(slot)}, nil
}

// walk shows visit the connections of all shards, from a place on and until it
// answers false, and returns where to go on: the zero place where there are no
// more. visit runs on each shard's loop, for a slice of its connections at a time. Where
// walk fails, visit may still be running.
func (s *Server) walk(ctx context.Context, at place, visit func(*shard, conn.Info) bool) (place, error) {
	for at.shard < len(s.shards) {
		sh := s.shards[at.shard]
		seen := make(chan slice, 1)
		if !sh.loop.Post(poller.Func(func() { seen <- sh.visitSlice(at.slot, visit) })) {
			return place{}, errStopping
		}
		select {
		case part := <-seen:
			if at.slot = part.next; part.last {
				at = place{shard: at.shard + 1}
			}
			if part.stopped && at.shard < len(s.shards) {
				return at, nil
			}
		case <-ctx.Done():
			return place{}, ctx.Err()
		}
	}
	return place{}, nil
}

// slice is how far a slice of a walk came.
type slice struct {
	next    uint32 // the first slot that was not looked at
	last    bool   // there is none
	stopped bool   // visit has seen enough
}

func (sh *shard) visitSlice(from uint32, visit func(*shard, conn.Info) bool) slice {
	end := slice{next: from, last: true}
	n := 0
	sh.table.Each(from, func(c conn.Info) bool {
		if end.stopped || n == walkSlice {
			end.last = false // there is this one
			return false
		}
		n++
		end.next = c.ID.Slot() + 1
		end.stopped = !visit(sh, c)
		return true
	})
	return end
}
