package control

import (
	"math/rand/v2"
	"slices"
)

// Plan is all that a worker must know of a run.
type Plan struct {
	Run     uint32   `json:"run"`     // what the stamps of this run carry
	Address string   `json:"address"` // IP:port of the server
	Sources []string `json:"sources"` // IP addresses to connect from, in turn; empty: the kernel's choice

	First           int      `json:"first"` // the worker's clients are First to First+Count-1
	Count           int      `json:"count"`
	Topics          []string `json:"topics"`
	TopicsPerClient int      `json:"topics_per_client"` // see Assign

	Events      bool   `json:"events"`      // clients have streams of Server-Sent Events, and say nothing but Request
	Deflate     bool   `json:"deflate"`     // Request offers permessage-deflate, and the server has to accept it
	Request     string `json:"request"`     // the HTTP request; {topic} is the client's first topic
	Accept      string `json:"accept"`      // what the 101 has to contain; empty: anything
	Hello       string `json:"hello"`       // first message of a client; empty: none
	Subscribe   string `json:"subscribe"`   // message that subscribes to {topic}; {id} is a number of its own
	Unsubscribe string `json:"unsubscribe"` // the same for the opposite
	InRequest   bool   `json:"in_request"`  // the request subscribes to the first topic, so no message does

	SubscribedMark   string `json:"subscribed_mark"`   // text in the answer to Subscribe; empty: there is none
	UnsubscribedMark string `json:"unsubscribed_mark"` // the same for Unsubscribe
	GapMark          string `json:"gap_mark"`          // text in what announces a loss; empty: nothing does
	Echo             string `json:"echo"`              // a line of a message that is sent back as it is, as an application's ping

	// Where clients go on from where they were; each has one topic then.
	Resume        string `json:"resume"`         // message that subscribes to {topic} behind {cursor}, with {epoch}; empty: none does
	CursorMark    string `json:"cursor_mark"`    // text before the cursor of a message
	EpochMark     string `json:"epoch_mark"`     // text before the epoch; empty: there is none
	RecoveredMark string `json:"recovered_mark"` // text in the answer to Resume where nothing was lost

	SlowEvery     int `json:"slow_every"`     // each client divisible by this stalls when told to; 0: none
	SlowWindow    int `json:"slow_window"`    // TCP window of these at most, bytes
	ChurnEvery    int `json:"churn_every"`    // this part of each topic's clients changes topics when told to; 0: none
	HandshakeTime int `json:"handshake_time"` // seconds until an attempt to connect has failed
}

// Slow says whether a client is one of those that stall.
func (p *Plan) Slow(client int) bool { return p.SlowEvery > 0 && client%p.SlowEvery == 0 }

// Churns says whether a client is one of those that change topics. On each topic there are
// others as well, as far as there are clients.
func (p *Plan) Churns(client int) bool {
	return p.ChurnEvery > 0 && client/len(p.Topics)%p.ChurnEvery == 0
}

// Assign appends the topics of a client, as indices: one each in turn where a client
// has one, else a choice that looks random and is the same in each run.
func (p *Plan) Assign(topics []uint32, client int) []uint32 {
	all := uint32(len(p.Topics))
	if p.TopicsPerClient == 1 {
		return append(topics, uint32(client)%all)
	}
	random := rand.New(rand.NewPCG(uint64(client), 1))
	first := len(topics)
	for len(topics)-first < min(p.TopicsPerClient, len(p.Topics)) {
		topic := random.Uint32N(all)
		if !slices.Contains(topics[first:], topic) {
			topics = append(topics, topic)
		}
	}
	return topics
}
