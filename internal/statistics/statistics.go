// Package statistics is what a node says of itself once a second, to the
// console and to whatever else watches a cluster.
package statistics

// Version is that of [Node]'s JSON. It stays the same while fields are only
// added: who reads ignores what it does not know.
const Version = 1

// Namespace and topics: a node publishes to Prefix and its name.
const (
	Prefix = "_pushd.nodes."
	All    = Prefix + "*" // the pattern of all nodes
)

// StateGone is of a node's last message: it has served.
const StateGone = "gone"

// Topic is where the node of that name publishes.
func Topic(node string) string { return Prefix + node }

// Node is how a node stands, and what it has done since it started. What
// counts only grows, so that a reader that missed a message still has the
// whole: rates are differences. Counts by reason leave out those that are 0.
type Node struct {
	Version  int    `json:"v"`
	Node     string `json:"node"`
	ID       string `json:"id"`          // of this run of it: eight hexadecimal digits, part of its clients' names
	Time     int64  `json:"time"`        // ms since 1970, by the node's clock
	Interval int64  `json:"interval_ms"` // which Latency is of: since the message before
	Started  int64  `json:"started"`     // ms since 1970
	Software string `json:"software"`    // its version
	State    string `json:"state"`       // serving; of a drain waiting, closing, drained; stopping; StateGone

	Occupancy uint64 `json:"occupancy_sequence"` // of its newest message on how many connections topics have; 0: there was none

	Process       Process       `json:"process"`
	Connections   Connections   `json:"connections"`
	Subscriptions Subscriptions `json:"subscriptions"`
	Traffic       Traffic       `json:"traffic"`
	Latency       Latency       `json:"latency"`
	Memory        Memory        `json:"memory"`
	NATS          NATS          `json:"nats"`
	Lost          Lost          `json:"lost"`
	Refused       Refused       `json:"refused"`
	Closed        Counts        `json:"closed"` // connections that have ended, by reason
}

// Counts are by reason, the word that logs, metrics and clients have.
type Counts map[string]uint64

// Process is what the operating system has for it.
type Process struct {
	CPU        float64 `json:"cpu_seconds"` // user and system, since the start
	Resident   int64   `json:"resident_bytes"`
	Goroutines int     `json:"goroutines"`
	CPUs       int     `json:"cpus"` // that Go may use
	Shards     int     `json:"shards"`
}

// Connections are those of clients.
type Connections struct {
	Open       int            `json:"open"` // operators not included
	Max        int            `json:"max"`
	Sockets    int64          `json:"sockets"` // those in handshake and closing included
	Transports map[string]int `json:"transports"`
	HTTP       int64          `json:"http"`       // that have a request under way, or may have another
	Operators  int64          `json:"operators"`  // consoles
	Identities int            `json:"identities"` // distinct, that are connected
	Accepted   uint64         `json:"accepted"`   // sockets, since the start
	Upgraded   uint64         `json:"upgraded"`
}

// Subscriptions is who wants what now.
type Subscriptions struct {
	Open     int64 `json:"open"`     // of connections
	Patterns int64 `json:"patterns"` // distinct ones
	Feeds    int64 `json:"feeds"`    // that the node takes from NATS
	Behind   int64 `json:"behind"`   // connections, once for each feed that they are behind in
}

// Traffic has counts since the start.
type Traffic struct {
	Messages    uint64 `json:"messages"`   // that came from NATS
	Deliveries  uint64 `json:"deliveries"` // messages taken by sockets, live or later
	CaughtUp    uint64 `json:"caught_up"`  // of these, by connections that were behind
	FellBehind  uint64 `json:"fell_behind"`
	Blocked     uint64 `json:"blocked"` // times that a socket took no more
	Published   uint64 `json:"published"`
	Commands    uint64 `json:"commands"`
	BytesIn     uint64 `json:"bytes_in"`
	BytesOut    uint64 `json:"bytes_out"`
	RingEvicted uint64 `json:"ring_evicted"` // messages that rings gave up for newer ones
}

// Latency is of the last interval.
type Latency struct {
	FanOut  Quantiles `json:"fan_out_ms"`  // of a message, from its first to its last subscriber in a shard
	LoopLag Quantiles `json:"loop_lag_ms"` // how late a shard's tick was
	NATS    float64   `json:"nats_ms"`     // until NATS had confirmed the message before this one; 0: it has not
}

// Quantiles are estimated from buckets, as a histogram of Prometheus has them.
type Quantiles struct {
	P50   float64 `json:"p50"`
	P99   float64 `json:"p99"`
	Max   float64 `json:"max,omitempty"` // exact; of LoopLag alone
	Count uint64  `json:"count"`         // 0: there was nothing to measure
}

// Memory is what is kept for clients.
type Memory struct {
	RingMessages int64 `json:"ring_messages"`
	RingBytes    int64 `json:"ring_bytes"`
	RingMax      int64 `json:"ring_max_bytes"`
	HistoryBytes int64 `json:"history_bytes"` // read of streams for clients that are behind
}

// NATS is the node's connection to it.
type NATS struct {
	Connected  bool   `json:"connected"`
	Embedded   bool   `json:"embedded"`
	Pending    int    `json:"pending"`    // messages that wait for the hub
	Unstored   int    `json:"unstored"`   // publications that their stream has not answered yet
	Reconnects uint64 `json:"reconnects"` // since the start, as the next
	Denied     uint64 `json:"denied"`     // subjects refused by the account's permissions
}

// Lost are messages that somebody did not get.
type Lost struct {
	Gaps     Counts `json:"gaps"`     // told to subscribers
	Upstream uint64 `json:"upstream"` // times that messages may have been lost on the way from NATS
	NATS     Counts `json:"nats"`     // dropped between NATS and the hub
}

// Refused is what clients wanted and did not get.
type Refused struct {
	Handshakes  Counts `json:"handshakes"`
	Commands    Counts `json:"commands"`    // by code
	HTTP        Counts `json:"http"`        // by status
	Credentials Counts `json:"credentials"` // by result
}
