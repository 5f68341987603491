package server

import (
	"math"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/pushd/pushd/conn"
	"github.com/pushd/pushd/internal/statistics"
	"github.com/pushd/pushd/topics"
)

// notRefused are reasons for which a socket ends before it is upgraded, and
// nobody was refused anything.
var notRefused = map[conn.Reason]bool{
	conn.ReasonNone: true, conn.ReasonHandedOver: true, conn.ReasonClientGone: true, conn.ReasonClientClosed: true, conn.ReasonShutdown: true,
}

// describe gathers one message. Only run calls it.
func (r *reporter) describe(now time.Time) *statistics.Node {
	s := r.server
	interval := now.Sub(r.before)
	r.before = now

	var c conn.Counts
	var m topics.MemberCounts
	for _, sh := range s.shards {
		c.Add(sh.table.Counts())
		m.Add(sh.members.Counts())
	}
	h, b := s.hub.Counts(), s.bus.State()
	n := &statistics.Node{
		Version: statistics.Version, Node: r.member.name, ID: nodeID(s.node), Time: now.UnixMilli(), Interval: interval.Milliseconds(),
		Started: r.started.UnixMilli(), Software: r.software, State: s.state(),
		Occupancy: r.member.peers.sequence.Load(),
		Process:   s.process(),
		Connections: statistics.Connections{
			Open: s.clientsOpen(), Max: s.quota.Max(), Sockets: c.Sockets, Operators: s.operators.Load(),
			Transports: s.transports(), HTTP: s.plain.open.Load(),
			Accepted: c.Accepted, Upgraded: c.Upgraded,
		},
		Subscriptions: statistics.Subscriptions{Open: m.Subscriptions, Patterns: h.Patterns, Feeds: h.Feeds, Behind: m.Behind},
		Traffic: statistics.Traffic{
			Messages: h.Messages, Deliveries: m.Deliveries + m.CaughtUp, CaughtUp: m.CaughtUp, FellBehind: m.FellBehind, Blocked: c.Blocked,
			Published: s.publishedByClients(b.Published), Commands: c.Messages, BytesIn: c.BytesIn, BytesOut: c.BytesOut, RingEvicted: h.GivenUp,
		},
		Latency: statistics.Latency{
			FanOut: r.fanOut.read(), LoopLag: r.lag(), NATS: milliseconds(time.Duration(r.roundTrip.Swap(0)).Seconds()),
		},
		Memory: statistics.Memory{RingMessages: h.RingMessages, RingBytes: h.RingBytes, RingMax: int64(s.cfg.RingMemory), HistoryBytes: h.SharedBytes},
		NATS: statistics.NATS{
			Connected: b.Connected, Embedded: b.Embedded, Pending: b.Pending, Unstored: b.Unacked, Reconnects: b.Reconnects, Denied: b.Denied,
		},
		Lost: statistics.Lost{Gaps: statistics.Counts{}, Upstream: h.Losses, NATS: statistics.Counts{}},
		Refused: statistics.Refused{
			Handshakes: statistics.Counts{}, Commands: countsOf(s.metrics.refusals), HTTP: countsOf(s.metrics.responses), Credentials: countsOf(s.metrics.auth),
		},
		Closed: statistics.Counts{},
	}
	delete(n.Refused.Credentials, authOK)
	if s.access != nil {
		n.Connections.Identities = s.access.identities.len()
	}
	for reason := range conn.NumReasons {
		put(n.Closed, reason.String(), c.Closed[reason])
		if !notRefused[reason] {
			put(n.Refused.Handshakes, reason.String(), c.Refused[reason])
		}
	}
	put(n.Refused.Handshakes, "shed", c.Shed)
	for why := range topics.NumLossReasons {
		put(n.Lost.Gaps, why.String(), m.Gaps[why])
	}
	for why, count := range b.Dropped {
		put(n.Lost.NATS, string(why), count)
	}
	return n
}

// transports has the connections of clients by how they are made.
func (s *Server) transports() map[string]int {
	by := make(map[string]int)
	for over := range numTransports {
		opened, closed := s.countTransport(over)
		by[over.String()] = int(opened - closed)
	}
	by[overSocket.String()] = max(0, by[overSocket.String()]-int(s.operators.Load()))
	return by
}

// publishedByClients leaves out what the node has published of itself.
func (s *Server) publishedByClients(all uint64) uint64 {
	if own := s.self().reporter.confirmed.Load(); own < all {
		return all - own
	}
	return 0
}

func put(c statistics.Counts, reason string, n uint64) {
	if n > 0 {
		c[reason] = n
	}
}

// countsOf reads the counters of a vector with one label, by its values.
func countsOf(v *prometheus.CounterVec) statistics.Counts {
	counters := make(chan prometheus.Metric)
	go func() {
		v.Collect(counters)
		close(counters)
	}()
	counts := statistics.Counts{}
	for counter := range counters {
		var m dto.Metric
		if err := counter.Write(&m); err == nil && len(m.Label) == 1 {
			put(counts, m.Label[0].GetValue(), uint64(m.Counter.GetValue()))
		}
	}
	return counts
}

// lately reads a histogram in seconds, each time what came since the last.
type lately struct {
	of     prometheus.Histogram
	before []uint64 // cumulative, by bucket; the last has all
}

func (w *lately) read() statistics.Quantiles {
	var m dto.Metric
	if err := w.of.Write(&m); err != nil {
		return statistics.Quantiles{}
	}
	buckets := m.Histogram.Bucket
	if w.before == nil {
		w.before = make([]uint64, len(buckets)+1)
	}
	bounds, counts := make([]float64, len(buckets)), make([]uint64, len(buckets)+1)
	for i, b := range buckets {
		bounds[i] = b.GetUpperBound()
		counts[i] = b.GetCumulativeCount() - w.before[i]
		w.before[i] = b.GetCumulativeCount()
	}
	all := m.Histogram.GetSampleCount()
	counts[len(buckets)], w.before[len(buckets)] = all-w.before[len(buckets)], all
	return statistics.Quantiles{
		P50: milliseconds(quantile(0.5, bounds, counts)), P99: milliseconds(quantile(0.99, bounds, counts)), Count: counts[len(buckets)],
	}
}

// quantile estimates where in its bucket a part of all values ends, as
// histogram_quantile of Prometheus does. counts are cumulative, with one more
// than bounds for what is above them: there the answer is the highest bound.
func quantile(part float64, bounds []float64, counts []uint64) float64 {
	all := counts[len(counts)-1]
	if all == 0 {
		return 0
	}
	rank := part * float64(all)
	for i, bound := range bounds {
		if float64(counts[i]) < rank {
			continue
		}
		low, below := 0.0, uint64(0)
		if i > 0 {
			low, below = bounds[i-1], counts[i-1]
		}
		return low + (bound-low)*(rank-float64(below))/float64(counts[i]-below)
	}
	return bounds[len(bounds)-1]
}

// milliseconds keeps three decimals: microseconds.
func milliseconds(seconds float64) float64 { return math.Round(seconds*1e6) / 1e3 }

// cpuSeconds is what the process has used, user and system.
func cpuSeconds() float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	seconds := func(t syscall.Timeval) float64 { return float64(t.Sec) + float64(t.Usec)/1e6 }
	return math.Round((seconds(u.Utime)+seconds(u.Stime))*1e3) / 1e3
}
