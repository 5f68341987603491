package main

import (
	"fmt"
	"maps"
	"slices"
)

// goal is what pushd wants to reach.
type goal struct {
	text    string
	measure string
	server  string
	figure  figure
	of      reference // what it is divided by
	most    float64
	unit    string
}

// reference is what a goal is a ratio to, in the same round.
type reference int

const (
	absolute reference = iota // to nothing
	theFloor
	bestPeer // whose median is the least; the floor is no peer
)

func goals() []goal {
	return []goal{
		{"memory of an idle connection with one subscription", "memory", "pushd-uring", bytesPerConnection, absolute, 200, "bytes"},
		{"one message at a time to 10,000, write lane: CPU for a delivery, of the floor's", "fanout", "pushd-write", costOfDelivery, theFloor, 1.12, ""},
		{"the same, io_uring lane", "fanout", "pushd-uring", costOfDelivery, theFloor, 0.75, ""},
		{"of it in user mode, write lane", "fanout", "pushd-write", value("server_user_us_per_delivery"), absolute, 0.5, "µs"},
		{"of it in user mode, io_uring lane", "fanout", "pushd-uring", value("server_user_us_per_delivery"), absolute, 0.5, "µs"},
		{"publish to the last of 10,000 subscribers, p99, of the best peer's", "fanout", "pushd-uring", lastP99, bestPeer, 0.8, ""},
		{"16 messages in flight to 18,000: CPU for a delivery, of the floor's", "inflight", "pushd-uring", costOfDelivery, theFloor, 0.3, ""},
		{"ticker: CPU for a delivery, of the floor's with one message a write", "ticker", "pushd-uring", costOfDelivery, theFloor, 0.3, ""},
		{"1,000 topics of 10 subscribers: CPU for a delivery, of the floor's", "many", "pushd-uring", costOfDelivery, theFloor, 1.1, ""},
		{"connect and subscribe once: CPU, of the floor's, which accepts and answers 101", "handshake", "pushd-uring", costOfHandshake, theFloor, 1.25, ""},
		{"18,000 idle connections with heartbeats every 25 s: CPU", "heartbeat", "pushd-uring", idleCPU, absolute, 1.5, "% of one"},
		{"1M simulated idle connections, subscribed: memory in all", scaleMeasure, simulation, value("memory"), absolute, 200, "MB"},
		{"the same: full garbage collection, CPU", scaleMeasure, simulation, value("gc_cpu"), absolute, 20, "ms"},
		{"the same: one broadcast through the shards, CPU", scaleMeasure, simulation, value("broadcast_cpu"), absolute, 60, "ms"},
	}
}

// judge says what was measured of a goal, and whether that reaches it.
func (c *comparison) judge(g goal) (measured, reached string) {
	values := c.values(g.measure, g.server, g.figure)
	note := ""
	switch g.of {
	case theFloor:
		values = values.over(c.values(g.measure, floorName, g.figure))
	case bestPeer:
		best, name := c.best(g)
		values = values.over(best)
		if name != "" {
			note = ", " + name
		}
	}
	faulty := slices.ContainsFunc(slices.Collect(maps.Values(c.outcomes[outcomeKey{g.measure, g.server}])), (*outcome).faulty)
	if len(values) == 0 {
		if faulty {
			return "–", "no: see what went wrong"
		}
		return "not measured", "–"
	}
	measured = show(values) + note
	median, _, _ := values.spread()
	switch {
	case c.shrink > 1:
		return measured, "not judged: too few clients"
	case faulty:
		return measured, "no: see what went wrong"
	case median > g.most:
		return measured, "no"
	}
	return measured, "yes"
}

// best returns the figure of the peer that is ahead of the others, and who that is.
func (c *comparison) best(g goal) (best byRound, name string) {
	for _, s := range c.servers {
		if s.library == "" {
			continue
		}
		values := c.values(g.measure, s.name, g.figure)
		if len(values) == 0 {
			continue
		}
		median, _, _ := values.spread()
		if name == "" {
			best, name = values, s.name
		} else if least, _, _ := best.spread(); median < least {
			best, name = values, s.name
		}
	}
	return best, name
}

func (g goal) limit() string {
	text := fmt.Sprintf("at most %v", g.most)
	if g.unit != "" {
		text += " " + g.unit
	}
	return text
}
