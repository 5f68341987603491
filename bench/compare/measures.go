package main

import (
	"strings"
	"time"

	"github.com/pushd/pushd/bench/load"
)

// measure is a scenario with the figures that are compared.
type measure struct {
	name    string
	title   string
	spec    load.Spec
	columns []column
	without []string // servers that it says nothing about
	once    bool     // in the first round only: it takes long
}

// column is one figure in a table.
type column struct {
	key     string
	title   string
	ofFloor bool // shown beside as a ratio to the floor's of the same round
}

func (m measure) skip(server string) bool {
	for _, name := range m.without {
		if strings.HasPrefix(server, name) {
			return true
		}
	}
	return false
}

var deliveryColumns = []column{
	{"server_us_per_delivery", "CPU for a delivery, us", true},
	{"server_user_us_per_delivery", "in user mode, us", false},
	{"deliveries_per_read", "deliveries in a read", false},
	{"latency_p99", "to delivery, p99, ms", false},
	{"last_p99", "to the last subscriber, p99, ms", false},
}

// measures is what is compared. A measure's spec leaves Duration to the flag,
// unless it has to be longer.
var measures = []measure{
	{
		name: "fanout", title: "One message at a time to 10,000 subscribers",
		spec: load.Spec{Scenario: "fanout", Clients: 10_000}, columns: deliveryColumns,
	},
	{
		name: "inflight", title: "16 messages in flight to 18,000 subscribers",
		spec: load.Spec{Scenario: "fanout", Clients: 18_000, InFlight: 16, Patience: 20 * time.Second}, columns: deliveryColumns,
	},
	{
		name: "many", title: "1,000 topics of 10 subscribers, 2,000 messages a second",
		spec: load.Spec{Scenario: "many"}, columns: deliveryColumns,
	},
	{
		name: "ticker", title: "1,000 clients on 20 of 500 symbols each, 2,000 updates a second in bursts of 100",
		spec: load.Spec{Scenario: "ticker"}, columns: deliveryColumns,
	},
	{
		name: "handshake", title: "Connect, subscribe once, close",
		spec: load.Spec{Scenario: "handshake"},
		columns: []column{
			{"server_us_per_handshake", "CPU for each, us", true},
			{"server_user_us_per_handshake", "in user mode, us", false},
			{"ready_p99", "to subscribed, p99, ms", false},
		},
	},
	{
		name: "memory", title: "18,000 idle connections with one subscription",
		spec: load.Spec{Scenario: "idle", Clients: 18_000, Duration: time.Second},
		columns: []column{
			{"bytes_per_connection", "memory of each, bytes", false},
		},
	},
	{
		name: "heartbeat", title: "18,000 idle connections, pinged every 25 s",
		spec: load.Spec{Scenario: "idle", Clients: 18_000, Duration: time.Minute},
		columns: []column{
			{"idle_cpu", "CPU, % of one", false},
			{"server_us_per_ping", "CPU for a ping and its pong, us", false},
		},
		without: []string{"floor", "gorilla", "gws", "nbio", "gobwas", "centrifuge"}, // these do not ping here
		once:    true,
	},
}

// goal is what pushd wants to reach.
type goal struct {
	text    string
	measure string
	server  string
	key     string
	most    float64
	unit    string
	ofFloor string // measure whose floor it is divided by; "": an absolute figure
}

var goals = []goal{
	{"user-space bytes for an idle connection with one subscription", "memory", "pushd-uring", "bytes_per_connection", 200, "bytes", ""},
	{"CPU for a delivery, one message at a time to 10,000, write lane, of the bare loop", "fanout", "pushd-write", "server_us_per_delivery", 1.12, "", "fanout"},
	{"the same, io_uring lane", "fanout", "pushd-uring", "server_us_per_delivery", 0.75, "", "fanout"},
	{"of it in user mode, write lane", "fanout", "pushd-write", "server_user_us_per_delivery", 0.5, "us", ""},
	{"of it in user mode, io_uring lane", "fanout", "pushd-uring", "server_user_us_per_delivery", 0.5, "us", ""},
	{"1,000 topics of 10 subscribers, of the bare loop", "many", "pushd-uring", "server_us_per_delivery", 1.1, "", "many"},
	{"ticker, CPU for a delivery, of the bare loop with one message a write", "ticker", "pushd-uring", "server_us_per_delivery", 0.3, "", "ticker"},
	{"16 messages in flight to 18,000, CPU for a delivery, of the bare loop", "inflight", "pushd-uring", "server_us_per_delivery", 0.3, "", "inflight"},
	{"connect and subscribe once, of the bare accept-and-101 loop", "handshake", "pushd-uring", "server_us_per_handshake", 1.25, "", "handshake"},
	{"idle CPU of 18,000 connections with heartbeats at 25 s", "heartbeat", "pushd-uring", "idle_cpu", 1.5, "% of a CPU", ""},
}
