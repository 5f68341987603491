package load

import (
	"time"

	"github.com/pushd/pushd/bench/load/internal/control"
)

// Result is what a run found. It holds all that is needed to run it again and
// to compare it with another.
type Result struct {
	Scenario string    `json:"scenario"`
	Question string    `json:"question"` // that the scenario answers
	Name     string    `json:"name"`     // of the server
	Started  time.Time `json:"started"`
	Command  []string  `json:"command"`
	Spec     Spec      `json:"spec"` // as it was run, defaults filled in
	Machine  Machine   `json:"machine"`

	// Figures are the answer, the most telling first.
	Figures     []Figure    `json:"figures"`
	Connections Connections `json:"connections"`
	// Windows are the stretches of time that were counted, in order. The last is the measured one.
	Windows []*Window `json:"windows"`
}

// Figure is one number of an answer. Keys are the same for all servers.
type Figure struct {
	Key   string  `json:"key"`
	Text  string  `json:"text"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
}

// Figure returns the value of a key.
func (r *Result) Figure(key string) (value float64, ok bool) {
	for _, f := range r.Figures {
		if f.Key == key {
			return f.Value, true
		}
	}
	return 0, false
}

// Window returns the window of a name, nil where there is none.
func (r *Result) Window(name string) *Window {
	for _, w := range r.Windows {
		if w.Name == name {
			return w
		}
	}
	return nil
}

func (r *Result) add(key, text string, value float64, unit string) {
	r.Figures = append(r.Figures, Figure{key, text, value, unit})
}

// Connections is what became of the clients.
type Connections struct {
	Wanted  int           `json:"wanted"`
	Open    int           `json:"open"`   // when all had been tried
	Failed  int           `json:"failed"` // attempts
	Lost    int           `json:"lost"`   // ended, not by our doing, over the whole run
	Took    time.Duration `json:"took_ns"`
	Workers []int         `json:"workers"` // process IDs
}

// Counts is what some clients got in a window.
type Counts = control.Counts

// Window is a stretch of time that is counted by itself.
type Window struct {
	Name      string  `json:"name"`
	Seconds   float64 `json:"seconds"`
	Published int     `json:"published"` // messages
	Overdue   int     `json:"overdue"`   // of these, in flight for longer than Patience

	Steady Counts `json:"steady"` // of clients that neither stall nor churn
	Others Counts `json:"others"` // of those that do

	Foreign  uint64         `json:"foreign"`            // messages of another run
	Reads    uint64         `json:"reads"`              // read calls of the clients that brought something
	Bytes    uint64         `json:"bytes"`              // that clients received
	Deflated uint64         `json:"deflated"`           // messages that came compressed
	Pings    uint64         `json:"pings"`              // that clients received, and answered
	Lost     int            `json:"lost"`               // connections that ended, not by our doing
	Problems map[string]int `json:"problems,omitempty"` // how often what went wrong with a connection

	Handshakes uint64 `json:"handshakes"` // connections that came to stand
	Changes    uint64 `json:"changes"`    // of topic, confirmed

	Latency Times `json:"latency"` // publisher to client, each delivery to a steady client
	Last    Times `json:"last"`    // publisher to the last steady subscriber, each message that reached all
	Ready   Times `json:"ready"`   // connect to confirmed subscription
	Behind  Times `json:"behind"`  // how late the publisher was, where it publishes at a rate

	Server    CPU     `json:"server"`    // of its process tree, of all servers where there are nodes
	Broker    CPU     `json:"broker"`    // of its process tree, where it is known
	Generator CPU     `json:"generator"` // of workers and publisher
	Elsewhere float64 `json:"elsewhere"` // CPU seconds of the machine that none of these had: noise
	Memory    Memory  `json:"memory"`    // of the server, at the end of the window

	Resumed   uint64 `json:"resumed"`   // subscriptions that were to go on from a cursor
	Recovered uint64 `json:"recovered"` // answers that say that nothing was lost on the way

	// CatchUp is the last part of a window in which clients got what they had missed at first.
	CatchUp *CatchUp `json:"catch_up,omitempty"`
}

// CatchUp is what it took until clients were where they would have been.
type CatchUp struct {
	Messages uint64  `json:"messages"` // that they received
	Seconds  float64 `json:"seconds"`  // until the last of these came
	Server   CPU     `json:"server"`
	Broker   CPU     `json:"broker"`
}

// CPU is CPU time in seconds.
type CPU struct {
	User   float64 `json:"user"`
	System float64 `json:"system"`
}

// Total is user and system.
func (c CPU) Total() float64 { return c.User + c.System }

// Memory is bytes of user space.
type Memory struct {
	RSS  uint64 `json:"rss"`
	PSS  uint64 `json:"pss"`  // what processes share divided among them
	Peak uint64 `json:"peak"` // since the server's start
}

// per is CPU microseconds for each of n; 0 where there were none.
func per(seconds float64, n uint64) float64 {
	if n == 0 {
		return 0
	}
	return seconds * 1e6 / float64(n)
}

// Deliveries are the messages that clients received for the first time.
func (w *Window) Deliveries() uint64 { return w.Steady.Received + w.Others.Received }

// PerDelivery is the server's CPU microseconds for each delivery.
func (w *Window) PerDelivery() float64 { return per(w.Server.Total(), w.Deliveries()) }
