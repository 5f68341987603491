package topics

import (
	"slices"
	"strings"
)

// HubCounts is what a hub has done up to now, and what it holds.
type HubCounts struct {
	Messages     uint64 // from the bus
	Unheard      uint64 // of them those that nobody here was subscribed to
	Losses       uint64 // times that a feed was told of a loss on the way here
	Repairs      uint64 // times that a feed with history read what it lacked
	Repeated     uint64 // live messages that a feed with history had had
	Restarts     uint64 // times that a history began anew
	SharedBytes  int64  // now, of what was read of histories for those who are behind
	GivenUp      uint64 // messages that rings gave up for newer ones
	RingMessages int64  // now
	RingBytes    int64  // now, as counted for RingMemory
	Feeds        int64  // now, those that linger included
	Patterns     int64  // now: distinct subscriptions
}

// Counts may be called from any goroutine.
func (h *Hub) Counts() HubCounts {
	s := &h.stats
	unheard := s.unheard.Load() // before messages, of which it is a part: the difference never wraps
	return HubCounts{
		Messages: s.messages.Load(), Unheard: unheard, Losses: s.lostMarks.Load(), GivenUp: s.evicted.Load(),
		Repairs: s.repairs.Load(), Repeated: s.repeated.Load(), Restarts: s.restarts.Load(), SharedBytes: s.shared.Load(),
		RingMessages: s.entries.Load(), RingBytes: s.held.Load() + s.excess.Load(), Feeds: s.feeds.Load(), Patterns: s.subs.Load(),
	}
}

// Connections says how many of this node's connections are subscribed to
// exactly this pattern.
func (h *Hub) Connections(pattern string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.connectionsLocked(pattern)
}

func (h *Hub) connectionsLocked(pattern string) int {
	if f := h.feedOf(pattern); f != nil {
		if s, ok := f.subs.get(pattern); ok {
			return int(s.members.Load())
		}
	}
	return 0
}

// Heard reports whether anybody on this node listens to something of a namespace
// that is one feed, or did until a moment ago.
func (h *Hub) Heard(namespace string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	_, heard := h.namespaces.get(namespace)
	return heard
}

// MemberCounts is what the members of a shard have seen up to now.
type MemberCounts struct {
	Deliveries    uint64 // live: messages and gaps taken by a socket
	CaughtUp      uint64 // the same from the ring, by connections that were behind
	FellBehind    uint64
	Gaps          [NumLossReasons]uint64 // told to subscribers
	Behind        int64                  // now: connections, once for each feed
	Subscriptions int64                  // now
}

// Add adds the counts of another shard.
func (c *MemberCounts) Add(o MemberCounts) {
	c.Deliveries += o.Deliveries
	c.CaughtUp += o.CaughtUp
	c.FellBehind += o.FellBehind
	c.Behind += o.Behind
	c.Subscriptions += o.Subscriptions
	for i, n := range o.Gaps {
		c.Gaps[i] += n
	}
}

// Counts may be called from any goroutine.
func (m *Members) Counts() MemberCounts {
	s := &m.stats
	c := MemberCounts{
		Deliveries: s.deliveries.Load(), CaughtUp: s.caughtUp.Load(), FellBehind: s.fellBehind.Load(),
		Behind: s.behind.Load(), Subscriptions: s.subscriptions.Load(),
	}
	for i := range c.Gaps {
		c.Gaps[i] = s.gaps[i].Load()
	}
	return c
}

// FeedInfo describes a feed to a person.
type FeedInfo struct {
	Name         string        `json:"name"`
	Interest     string        `json:"interest"`
	Ready        bool          `json:"ready"`
	Last         uint64        `json:"last"`
	RingMessages int           `json:"ring_messages"`
	Patterns     int           `json:"patterns"`
	Subscribed   []PatternInfo `json:"subscribed"`
}

// PatternInfo is one distinct subscription and how many connections have it.
type PatternInfo struct {
	Pattern     string `json:"pattern"`
	Connections int64  `json:"connections"`
}

// Describe shows up to limit feeds, each with up to limit patterns.
func (h *Hub) Describe(limit int) []FeedInfo {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := []FeedInfo{}
	for _, feeds := range [...]table[string, *feed]{h.namespaces, h.topics} {
		for _, f := range feeds.entries {
			if len(list) == limit {
				break
			}
			list = append(list, f.describe(limit))
		}
	}
	slices.SortFunc(list, func(a, b FeedInfo) int { return strings.Compare(a.Name, b.Name) })
	return list
}

func (f *feed) describe(limit int) FeedInfo {
	info := FeedInfo{
		Name: f.in.Name, Interest: "topic", Ready: f.ready, Last: f.last, RingMessages: f.ring.count,
		Patterns: len(f.list), Subscribed: []PatternInfo{},
	}
	if f.in.Namespace {
		info.Interest = "namespace"
	}
	for _, s := range f.list[:min(limit, len(f.list))] {
		info.Subscribed = append(info.Subscribed, PatternInfo{s.pattern, s.members.Load()})
	}
	return info
}
