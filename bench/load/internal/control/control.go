// Package control is what the driver of a run and its worker processes say to
// each other: one JSON object a line, requests on the worker's stdin, events on
// its stdout. Each request has exactly one answer.
package control

import "time"

// Verb is what a worker is asked to do.
type Verb string

// The verbs, in the order in which most runs use them.
const (
	Prepare Verb = "prepare" // make the clients of Plan; the first request
	Connect Verb = "connect" // begin to open all clients that are closed, at Pace; State tells how far it is
	Probing Verb = "probing" // take a probe as the sign that a subscription stands
	State   Verb = "state"   // answer with State
	Begin   Verb = "begin"   // begin to count anew, by Window
	Report  Verb = "report"  // answer with Report on what came since Begin, given what was published in Last
	Stall   Verb = "stall"   // let the slow clients read no more where On, else read on
	Drop    Verb = "drop"    // close all sockets at once, without a close frame
	Churn   Verb = "churn"   // let the churning clients change topics, Rate times a second in all; 0 ends it
	Cycle   Verb = "cycle"   // let Clients clients connect, subscribe and close, over and over; 0 ends it
	End     Verb = "end"     // close all sockets and exit after the answer
)

// Request is a line of the worker's stdin.
type Request struct {
	ID      int      `json:"id"` // from 1, and back in the answer
	Verb    Verb     `json:"verb"`
	Plan    *Plan    `json:"plan,omitempty"`
	Pace    *Pace    `json:"pace,omitempty"`
	Window  *Window  `json:"window,omitempty"`
	Last    []uint32 `json:"last,omitempty"` // of Report: the newest sequence number of each topic
	On      bool     `json:"on,omitempty"`
	Rate    float64  `json:"rate,omitempty"`
	Clients int      `json:"clients,omitempty"`
}

// Event is a line of the worker's stdout.
type Event struct {
	ID       int      `json:"id,omitempty"`       // of the request that this answers; 0 where nobody asked
	Error    string   `json:"error,omitempty"`    // why the request could not be met
	Status   *Status  `json:"status,omitempty"`   // to State
	Counted  *Counted `json:"counted,omitempty"`  // to Report
	Complete []uint32 `json:"complete,omitempty"` // unasked: numbers of messages that all of this worker's subscribers now have
}

// Pace bounds how connections are opened.
type Pace struct {
	Rate     float64 `json:"rate"`      // connections a second; 0: as fast as InFlight allows
	InFlight int     `json:"in_flight"` // connections between connect and the confirmed subscription
}

// Window is a stretch of time that is counted by itself. Messages in flight
// belong to no window, so whoever publishes is silent at its ends.
type Window struct {
	First  []uint32 `json:"first"`  // sequence number of each topic before the window
	Number uint32   `json:"number"` // of the window's first message
	Stride uint32   `json:"stride"` // keep the last arrival of each Stride-th message; 0: of none
	Notify bool     `json:"notify"` // tell of messages that all subscribers have
}

// Status is how a worker's clients are.
type Status struct {
	Open       int    `json:"open"`       // subscribed, as far as was confirmed
	Opening    int    `json:"opening"`    // on the way there, or waiting for their turn
	Failed     int    `json:"failed"`     // attempts that came to nothing
	Lost       int    `json:"lost"`       // were open and ended, not by our doing
	Unproven   int    `json:"unproven"`   // subscriptions without a probe yet
	Received   uint64 `json:"received"`   // messages since Begin, of clients that neither stall nor churn
	Others     uint64 `json:"others"`     // messages since Begin, of those that do
	Handshakes uint64 `json:"handshakes"` // connections that came to stand, since the start
	Changes    uint64 `json:"changes"`    // changes of topic that were confirmed, since the start
	Settled    int64  `json:"settled"`    // when Opening last became 0, as stamp.Clock has it
	Heard      int64  `json:"heard"`      // when the last of Received and Others came, as stamp.Clock has it
}

// Counts is what some clients got in a window. For a window's subscriptions
// Expected is Received + Missing + Away.
type Counts struct {
	Expected   uint64 `json:"expected"`     // messages published times those subscribed when the window began
	Received   uint64 `json:"received"`     // of these, each once
	Missing    uint64 `json:"missing"`      // never came
	Away       uint64 `json:"away"`         // never came, and were sent before anything came on a new connection
	Duplicate  uint64 `json:"duplicate"`    // came again
	OutOfOrder uint64 `json:"out_of_order"` // came behind one that was published later; Received has them too
	Late       uint64 `json:"late"`         // were missing in an earlier window, and came in this one
	Unwanted   uint64 `json:"unwanted"`     // of a topic that the client is not subscribed to
	Gaps       uint64 `json:"gaps"`         // losses that the server announced
}

// Add adds o.
func (c *Counts) Add(o Counts) {
	c.Expected += o.Expected
	c.Received += o.Received
	c.Missing += o.Missing
	c.Away += o.Away
	c.Duplicate += o.Duplicate
	c.OutOfOrder += o.OutOfOrder
	c.Late += o.Late
	c.Unwanted += o.Unwanted
	c.Gaps += o.Gaps
}

// Counted is what a worker saw in a window.
type Counted struct {
	Steady      Counts         `json:"steady"`      // of clients that neither stall nor churn
	Others      Counts         `json:"others"`      // of those that do
	Foreign     uint64         `json:"foreign"`     // messages of another run
	Reads       uint64         `json:"reads"`       // read calls that brought something
	Bytes       uint64         `json:"bytes"`       // received, everything counted
	Deflated    uint64         `json:"deflated"`    // messages that came compressed
	Pings       uint64         `json:"pings"`       // received, and answered
	Resumed     uint64         `json:"resumed"`     // subscriptions that were to go on from a cursor
	Recovered   uint64         `json:"recovered"`   // answers that say that nothing was lost on the way
	Lost        int            `json:"lost"`        // connections that ended, not by our doing
	Problems    map[string]int `json:"problems"`    // how often what went wrong
	Latency     []byte         `json:"latency"`     // HDR histogram, V2 compressed, ns: sent to received, steady clients
	Ready       []byte         `json:"ready"`       // the same: connect to confirmed subscription
	Subscribers []uint32       `json:"subscribers"` // of each topic, steady, when the window began
	Arrivals    []byte         `json:"arrivals"`    // see Arrival
	User        time.Duration  `json:"user"`        // the worker's own CPU time in the window
	System      time.Duration  `json:"system"`
}
