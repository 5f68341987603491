package main

import (
	"fmt"

	"github.com/pushd/pushd/bench/load"
)

// measured is what real connections cost. CPU is that of all pushd processes
// together, or of the nats-server; memory likewise.
type measured struct {
	origin
	Machine         load.Machine `json:"machine"`
	Mode            string       `json:"mode"`        // "real"
	Connections     int          `json:"connections"` // with one subscription each
	PushdProcesses  int          `json:"pushd_processes"`
	ClientProcesses int          `json:"client_processes"`
	Rounds          int          `json:"rounds"` // figures of which medians are taken have one value for each

	UserBytes    float64 `json:"user_bytes_per_connection"`     // resident memory of all pushd, beyond that without connections
	UserBytesPSS float64 `json:"user_pss_bytes_per_connection"` // the same, pages that processes share divided among them
	UserBefore   float64 `json:"user_mib_before"`               // without connections
	UserAfter    float64 `json:"user_mib_after"`
	KernelBytes  float64 `json:"kernel_bytes_per_connection_both_ends"` // slab, page tables and stacks of the whole machine
	KernelBefore float64 `json:"kernel_mib_before"`
	KernelAfter  float64 `json:"kernel_mib_after"`

	Connect connecting `json:"connect"` // medians over all that was played

	Heartbeat beating    `json:"heartbeat"`
	One       delivering `json:"one_topic"`
	Many      delivering `json:"many_topics"`
}

// connecting is how all come, and subscribe.
type connecting struct {
	Seconds   float64 `json:"seconds"` // until all had their subscription
	CPU       float64 `json:"cpu_us_per_connection"`
	UserCPU   float64 `json:"user_mode_cpu_us_per_connection"`
	ClientCPU float64 `json:"client_cpu_us_per_connection"`
	P50       float64 `json:"p50_ms"` // connect to subscribed
	P99       float64 `json:"p99_ms"`
}

// beating is how all wait.
type beating struct {
	Interval float64 `json:"interval_seconds"`
	Seconds  float64 `json:"measured_seconds"`
	Pings    uint64  `json:"pings"`
	Percent  float64 `json:"cpu_percent"` // of one CPU
	PerPing  float64 `json:"cpu_us_per_ping"`
	NATS     float64 `json:"nats_cpu_percent"`
}

// delivering is medians over rounds but for the counts, which are sums.
type delivering struct {
	Topics     int     `json:"topics"`
	Messages   int     `json:"messages"`
	Deliveries uint64  `json:"deliveries"`
	Missing    uint64  `json:"missing"` // 0, or there would be no report
	CPU        float64 `json:"cpu_us_per_delivery"`
	CPULeast   float64 `json:"cpu_us_per_delivery_least"` // of the rounds
	CPUMost    float64 `json:"cpu_us_per_delivery_most"`
	UserCPU    float64 `json:"user_mode_cpu_us_per_delivery"`
	PerSecond  float64 `json:"deliveries_per_second"`
	P50        float64 `json:"p50_ms"` // publish to delivery
	P99        float64 `json:"p99_ms"`
	LastP50    float64 `json:"last_subscriber_p50_ms"` // publish to the last subscriber
	LastP99    float64 `json:"last_subscriber_p99_ms"`
	NATS       float64 `json:"nats_cpu_percent"`
	PerMessage float64 `json:"nats_cpu_us_per_message"` // coarse: the kernel counts in steps of 10 ms
	Elsewhere  float64 `json:"elsewhere_cpu_percent"`   // of the machine, that neither pushd, NATS nor the clients had: noise
}

func (e *experiment) measured(all *findings) *measured {
	idle := all.idle
	get := func(r *load.Result, key string) float64 {
		value, ok := r.Figure(key)
		if !ok {
			panic("scale: the scenario has no figure " + key)
		}
		return value
	}
	waiting := idle.Window("idle")
	everything := append(append([]*load.Result{idle}, all.one...), all.many...)
	connect := func(of func(w *load.Window, r *load.Result) float64) float64 {
		return median(everything, func(r *load.Result) float64 { return of(r.Window("connect"), r) })
	}
	each := float64(e.connections)
	return &measured{
		origin: newOrigin(), Machine: idle.Machine, Mode: "real", Connections: e.connections,
		PushdProcesses: e.processes, ClientProcesses: len(idle.Connections.Workers), Rounds: e.rounds,
		UserBytes: get(idle, "bytes_per_connection"), UserBytesPSS: get(idle, "pss_bytes_per_connection"),
		UserBefore: get(idle, "memory_before"), UserAfter: get(idle, "memory_after"),
		KernelBytes: get(idle, "kernel_bytes_per_connection"), KernelBefore: get(idle, "kernel_before"), KernelAfter: get(idle, "kernel_after"),
		Connect: connecting{
			Seconds:   connect(func(_ *load.Window, r *load.Result) float64 { return r.Connections.Took.Seconds() }),
			CPU:       connect(func(w *load.Window, _ *load.Result) float64 { return 1e6 * w.Server.Total() / each }),
			UserCPU:   connect(func(w *load.Window, _ *load.Result) float64 { return 1e6 * w.Server.User / each }),
			ClientCPU: connect(func(w *load.Window, _ *load.Result) float64 { return 1e6 * w.Generator.Total() / each }),
			P50:       connect(func(w *load.Window, _ *load.Result) float64 { return w.Ready.P50 / 1e3 }),
			P99:       connect(func(w *load.Window, _ *load.Result) float64 { return w.Ready.P99 / 1e3 }),
		},
		Heartbeat: beating{
			Interval: e.heartbeat.Seconds(), Seconds: waiting.Seconds, Pings: waiting.Pings,
			Percent: 100 * waiting.Server.Total() / waiting.Seconds, PerPing: 1e6 * waiting.Server.Total() / float64(max(1, waiting.Pings)),
			NATS: 100 * waiting.Broker.Total() / waiting.Seconds,
		},
		One: deliveries(all.one), Many: deliveries(all.many),
	}
}

func deliveries(rounds []*load.Result) (d delivering) {
	last := func(r *load.Result) *load.Window { return r.Windows[len(r.Windows)-1] }
	for i, r := range rounds {
		w := last(r)
		d.Topics = r.Spec.Topics
		d.Messages += w.Published
		d.Deliveries += w.Deliveries()
		d.Missing += w.Steady.Missing
		if cpu := w.PerDelivery(); i == 0 {
			d.CPULeast, d.CPUMost = cpu, cpu
		} else {
			d.CPULeast, d.CPUMost = min(d.CPULeast, cpu), max(d.CPUMost, cpu)
		}
	}
	middle := func(of func(w *load.Window) float64) float64 {
		return median(rounds, func(r *load.Result) float64 { return of(last(r)) })
	}
	d.CPU = middle((*load.Window).PerDelivery)
	d.UserCPU = middle(func(w *load.Window) float64 { return 1e6 * w.Server.User / float64(max(1, w.Deliveries())) })
	d.PerSecond = middle(func(w *load.Window) float64 { return float64(w.Deliveries()) / w.Seconds })
	d.P50 = middle(func(w *load.Window) float64 { return w.Latency.P50 / 1e3 })
	d.P99 = middle(func(w *load.Window) float64 { return w.Latency.P99 / 1e3 })
	d.LastP50 = middle(func(w *load.Window) float64 { return w.Last.P50 / 1e3 })
	d.LastP99 = middle(func(w *load.Window) float64 { return w.Last.P99 / 1e3 })
	d.NATS = middle(func(w *load.Window) float64 { return 100 * w.Broker.Total() / w.Seconds })
	d.PerMessage = middle(func(w *load.Window) float64 { return 1e6 * w.Broker.Total() / float64(max(1, w.Published)) })
	d.Elsewhere = middle(func(w *load.Window) float64 { return 100 * w.Elsewhere / w.Seconds })
	return d
}

func (m *measured) header() string { return m.origin.header() + "\n" + m.Machine.String() }

func (m *measured) rows() []row {
	rows := []row{
		figure("connections, pushd processes, client processes", "%d, %d, %d", m.Connections, m.PushdProcesses, m.ClientProcesses),
		figure("pushd's memory for a connection", "%.0f bytes, shared pages divided %.0f (%.1f MiB without connections, %.1f with them)", m.UserBytes, m.UserBytesPSS, m.UserBefore, m.UserAfter),
		figure("kernel's memory for a connection, both ends", "%.0f bytes (%.1f MiB without connections, %.1f with them)", m.KernelBytes, m.KernelBefore, m.KernelAfter),
		figure("connect and subscribe all", "%.1f s, %.0f connections a second", m.Connect.Seconds, float64(m.Connections)/m.Connect.Seconds),
		figure("the same, pushd's CPU each", "%.1f us, of it %.1f in user mode", m.Connect.CPU, m.Connect.UserCPU),
		figure("the same, the clients' CPU each", "%.1f us", m.Connect.ClientCPU),
		figure("connect to subscribed, p50, p99", "%.1f, %.1f ms", m.Connect.P50, m.Connect.P99),
		figure(fmt.Sprintf("heartbeats of %v s, in %.0f s", m.Heartbeat.Interval, m.Heartbeat.Seconds), "%d pings, pushd %.1f %% of one CPU, %.1f us a ping with its pong; NATS %.1f %%", m.Heartbeat.Pings, m.Heartbeat.Percent, m.Heartbeat.PerPing, m.Heartbeat.NATS),
	}
	rows = append(rows, m.One.rows("one message to all")...)
	rows = append(rows, m.Many.rows(fmt.Sprintf("%d topics", m.Many.Topics))...)
	return append(rows, figure("NATS's CPU for a message, where there are many topics", "%.0f us", m.Many.PerMessage))
}

func (d *delivering) rows(name string) []row {
	return []row{
		figure(name+": messages, deliveries, missing", "%d, %d, %d", d.Messages, d.Deliveries, d.Missing),
		figure(name+": pushd's CPU for a delivery", "%.2f us (%.2f to %.2f), of it %.2f in user mode", d.CPU, d.CPULeast, d.CPUMost, d.UserCPU),
		figure(name+": to the last subscriber, p50, p99", "%.0f, %.0f ms", d.LastP50, d.LastP99),
		figure(name+": publish to delivery, p50, p99", "%.1f, %.1f ms", d.P50, d.P99),
		figure(name+": deliveries a second", "%.0f", d.PerSecond),
		figure(name+": NATS's CPU", "%.2f %% of one CPU", d.NATS),
		figure(name+": CPU that others had", "%.0f %% of one CPU", d.Elsewhere),
	}
}
