package main

import (
	"runtime"
	"time"

	"github.com/pushd/pushd/bench/load"
)

// measure is a scenario with the figures that are compared.
type measure struct {
	name    string
	title   string
	short   string // below a group of bars
	spec    load.Spec
	columns []column
	cannot  map[string]string // servers that cannot do it, and why
	cutsOff bool              // a server may end connections here
	once    bool              // in the first round only: it takes long
	history keeping           // whether servers keep history here
	events  bool              // clients have Server-Sent Events, but for those of the floor
}

// keeping is whether servers keep history.
type keeping int

const (
	noHistory   keeping = iota
	withHistory         // where they can
	needHistory         // and who cannot is not measured
)

// refusal says why a server is not measured; "" where it is.
func (m measure) refusal(s server) string {
	switch {
	case m.history == needHistory && s.history == "":
		return "keeps no history"
	case s.name == floorName: // it stands for a bare write, whatever the others do with theirs
	case m.events && s.events.URL == "":
		return "has no Server-Sent Events"
	case m.spec.Deflate && !s.compresses:
		return "does not compress"
	}
	return m.cannot[s.name]
}

// column is one figure in a table.
type column struct {
	title    string
	figure   figure
	ofFloor  bool // shown beside as a ratio to the floor's of the same round
	optional bool // may be missing: it takes more than a short window
}

// figure takes a number out of a result.
type figure func(*load.Result) (float64, bool)

// value is the figure of a key.
func value(key string) figure {
	return func(r *load.Result) (float64, bool) { return r.Figure(key) }
}

// quotient is of two figures of the same run.
func quotient(key, by string) figure {
	return func(r *load.Result) (float64, bool) {
		v, ok := r.Figure(key)
		of, also := r.Figure(by)
		return v / of, ok && also && of > 0
	}
}

// elsewhere is what part of the machine's CPU neither server nor generator had
// in the measured window: of pushd NATS, and noise.
func elsewhere(r *load.Result) (float64, bool) {
	if len(r.Windows) == 0 {
		return 0, false
	}
	w := r.Windows[len(r.Windows)-1]
	return 100 * w.Elsewhere / (w.Seconds * float64(runtime.NumCPU())), w.Seconds > 0
}

// floorName is the server to which figures are ratios.
const floorName = "floor"

// How few clients and topics a measure has, however much it is shrunk.
const (
	leastClients = 20
	leastTopics  = 2
)

// Figures that goals and drawings show too.

func costOfDelivery(r *load.Result) (float64, bool)     { return r.Figure("server_us_per_delivery") }
func costOfHandshake(r *load.Result) (float64, bool)    { return r.Figure("server_us_per_handshake") }
func lastP99(r *load.Result) (float64, bool)            { return r.Figure("last_p99") }
func bytesPerConnection(r *load.Result) (float64, bool) { return r.Figure("bytes_per_connection") }
func caughtUp(r *load.Result) (float64, bool)           { return r.Figure("caught_up") }
func idleCPU(r *load.Result) (float64, bool)            { return r.Figure("idle_cpu") }

func deliveryColumns() []column {
	return []column{
		{title: "CPU for a delivery, µs", figure: costOfDelivery, ofFloor: true},
		{title: "in user mode, µs", figure: value("server_user_us_per_delivery")},
		{title: "deliveries in a read", figure: value("deliveries_per_read")},
		{title: "to delivery, p99, ms", figure: value("latency_p99")},
		{title: "to the last subscriber, p99, ms", figure: lastP99},
		{title: "CPU elsewhere, %", figure: elsewhere},
	}
}

// wireColumns are of measures where bytes on the wire count.
func wireColumns() []column {
	return append(deliveryColumns(), column{title: "bytes for a delivery", figure: value("bytes_per_delivery")})
}

// withoutPings are servers that send none as they are set here.
func withoutPings() map[string]string {
	cannot := make(map[string]string)
	for _, name := range []string{"floor", "gorilla", "gws", "nbio", "gobwas", "centrifuge"} {
		cannot[name] = "sends no pings here"
	}
	return cannot
}

// measures is what is compared. A measure's spec leaves Duration to the flag, unless it has to be longer.
func measures() []measure {
	return []measure{
		{
			name: "fanout", title: "One message at a time to 10,000 subscribers", short: "one message\nto 10,000",
			spec: load.Spec{Scenario: "fanout", Clients: 10_000, InFlight: 1}, columns: deliveryColumns(),
		},
		{
			name: "inflight", title: "16 messages in flight to 18,000 subscribers", short: "16 in flight\nto 18,000",
			spec: load.Spec{Scenario: "fanout", Clients: 18_000, InFlight: 16, Patience: 20 * time.Second}, columns: deliveryColumns(),
		},
		{
			name: "ticker", title: "1,000 clients on 20 of 500 symbols each, 2,000 updates a second in bursts of 100", short: "20 of 500\nsymbols",
			spec: load.Spec{Scenario: "ticker", Clients: 1_000, Topics: 500, TopicsPerClient: 20}, columns: deliveryColumns(),
		},
		{
			name: "many", title: "1,000 topics of 10 subscribers, 2,000 messages a second", short: "1,000 topics\nof 10",
			spec: load.Spec{Scenario: "many", Clients: 10_000, Topics: 1_000}, columns: deliveryColumns(),
		},
		{
			name: "events", title: "One message at a time to 10,000 subscribers by Server-Sent Events (the floor's: WebSockets)", short: "Server-Sent Events\nto 10,000",
			spec: load.Spec{Scenario: "fanout", Clients: 10_000, InFlight: 1}, columns: wireColumns(), events: true,
		},
		{
			name: "events-many", title: "1,000 topics of 10 subscribers by Server-Sent Events, 2,000 messages a second (the floor's: WebSockets)", short: "Server-Sent Events\n1,000 topics of 10",
			spec: load.Spec{Scenario: "many", Clients: 10_000, Topics: 1_000}, columns: wireColumns(), events: true,
		},
		{
			name: "json", title: "One message of 1,024 bytes of JSON at a time to 10,000 subscribers", short: "1 KiB of JSON\nto 10,000",
			spec: load.Spec{Scenario: "fanout", Clients: 10_000, InFlight: 1, Payload: 1024, Ticks: true}, columns: wireColumns(),
		},
		{
			name: "deflate", title: "The same, compressed by permessage-deflate (the floor's are not)", short: "1 KiB of JSON,\ncompressed",
			spec:    load.Spec{Scenario: "fanout", Clients: 10_000, InFlight: 1, Payload: 1024, Ticks: true, Deflate: true},
			columns: append(wireColumns(), column{title: "of the deliveries, compressed, %", figure: value("deflated"), optional: true}),
		},
		{
			name: "handshake", title: "Connect, subscribe once, close", short: "connect,\nsubscribe",
			spec: load.Spec{Scenario: "handshake", Clients: 64},
			columns: []column{
				{title: "CPU for each, µs", figure: costOfHandshake, ofFloor: true},
				{title: "in user mode, µs", figure: value("server_user_us_per_handshake")},
				{title: "to subscribed, p99, ms", figure: value("ready_p99")},
				{title: "CPU elsewhere, %", figure: elsewhere},
			},
		},
		{
			name: "storm", title: "10,000 clients on 100 topics lose their connections and come back at once", short: "all\nreconnect",
			spec: load.Spec{Scenario: "storm", Clients: 10_000, Topics: 100, Patience: 2 * time.Second}, // for what was sent while its subscriber was away
			columns: []column{
				{title: "CPU for each reconnect, µs", figure: costOfHandshake, ofFloor: true},
				{title: "until all are subscribed again, s", figure: value("back")},
				{title: "connect to subscribed, p99, ms", figure: value("ready_p99")},
				{title: "memory at its highest, MiB", figure: value("memory_peak")},
			},
		},
		{
			name: "resume", title: "10,000 clients of one topic lose their connections, miss 500 messages, and come back with their cursors", short: "10,000 come back,\n500 missed",
			spec: load.Spec{Scenario: "resume", Clients: 10_000, Messages: 500},
			columns: []column{
				{title: "until the last has caught up, s", figure: caughtUp},
				{title: "CPU for each message, connecting included, µs", figure: value("catch_up_us")},
				{title: "in user mode, µs", figure: value("catch_up_user_us")},
				{title: "CPU in all, s", figure: value("catch_up_cpu")},
				{title: "CPU of NATS in all, s", figure: value("catch_up_broker_cpu"), optional: true},
				{title: "deliveries in a read", figure: value("deliveries_per_read")},
				{title: "answers without \"recovered\"", figure: value("unrecovered")},
				{title: "memory at its highest, MiB", figure: value("memory_peak")},
			},
			history: needHistory,
		},
		{
			name: "churn", title: "500 of 1,000 clients leave one of 100 topics for another, 5,000 times a second, among 500 messages a second", short: "unsubscribe,\nsubscribe",
			spec: load.Spec{Scenario: "churn", Clients: 1_000, Topics: 100, Duration: 3 * time.Second},
			columns: []column{
				{title: "CPU for a pair of unsubscribe and subscribe, µs", figure: value("server_us_per_change"), ofFloor: true},
				{title: "in user mode, µs", figure: value("server_user_us_per_change")},
				{title: "pairs a second", figure: value("changes_per_second")},
				{title: "to delivery to those who stay, p99, ms", figure: value("latency_p99")},
				{title: "of the same without churn", figure: quotient("latency_p99", "latency_p99_before")},
			},
		},
		{
			name: "slow", title: "20 of 100 subscribers stop reading, 120 messages of 32,000 bytes a second for 4 s, and read again", short: "20 of 100\nstall",
			// 15 MB for each, which is more than the buffers of two sockets take.
			spec: load.Spec{Scenario: "slow", Clients: 100, Payload: 32_000, Rate: 120, Duration: 4 * time.Second},
			columns: []column{
				{title: "to delivery to the others, p99, ms", figure: value("latency_p99_stalled")},
				{title: "of the same before some stalled", figure: quotient("latency_p99_stalled", "latency_p99_before")},
				{title: "memory at its highest, MiB", figure: value("memory_peak")},
				{title: "connections that the server ended", figure: value("lost")},
				{title: "of all messages, received by the stalled in the end, %", figure: value("stalled_received")},
				{title: "losses told to the stalled", figure: value("stalled_gaps")},
				{title: "until they had everything, s", figure: caughtUp, optional: true},
				{title: "CPU for each message meanwhile, µs", figure: value("catch_up_us"), optional: true},
				{title: "CPU for a delivery, to all and from first to last, µs", figure: costOfDelivery},
				{title: "CPU of NATS in all, s", figure: value("catch_up_broker_cpu"), optional: true},
			},
			history: withHistory,
			cannot:  map[string]string{"floor": "one client that does not read stops it"},
			cutsOff: true,
		},
		{
			name: "memory", title: "18,000 idle connections with one subscription", short: "idle connection",
			spec:    load.Spec{Scenario: "idle", Clients: 18_000, Duration: time.Second},
			columns: []column{{title: "memory of each, bytes", figure: bytesPerConnection}},
		},
		{
			name: "events-memory", title: "18,000 idle streams of Server-Sent Events with one topic (the floor's: WebSockets)", short: "idle stream\nof events",
			spec:    load.Spec{Scenario: "idle", Clients: 18_000, Duration: time.Second},
			columns: []column{{title: "memory of each, bytes", figure: bytesPerConnection}}, events: true,
		},
		{
			name: "heartbeat", title: "18,000 idle connections, pinged every 25 s", short: "heartbeats",
			spec: load.Spec{Scenario: "idle", Clients: 18_000, Duration: time.Minute},
			columns: []column{
				{title: "CPU, % of one", figure: idleCPU},
				{title: "CPU for a ping and its pong, µs", figure: value("server_us_per_ping"), optional: true},
			},
			cannot: withoutPings(),
			once:   true,
		},
		{
			name: scaleMeasure, title: "1,000,000 simulated connections, subscribed to one topic, without sockets", short: "simulated",
			columns: []column{
				{title: "resident memory in all, MB", figure: value("memory")},
				{title: "full garbage collection, CPU, ms", figure: value("gc_cpu")},
				{title: "one message to all, CPU, ms", figure: value("broadcast_cpu")},
			},
		},
	}
}
