package swarm

import (
	"fmt"
	"slices"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sys/unix"

	"github.com/pushd/pushd/bench/load/internal/control"
)

type arrival = control.Arrival

// What the histograms hold: three digits, from a microsecond to two minutes.
const (
	shortest    = time.Microsecond
	longest     = 2 * time.Minute
	digits      = 3
	maxArrivals = 1 << 21 // messages of a window whose last arrival is kept
)

func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(int64(shortest), int64(longest), digits)
}

// begin counts anew.
func (s *Swarm) begin(w *control.Window) {
	s.window = window{
		Window: *w, counted: control.Counted{Problems: map[string]int{}},
		latency: newHistogram(), ready: newHistogram(), arrivals: s.window.arrivals[:0],
		subscribers: slices.Clone(s.locals),
	}
	s.status.Received, s.status.Others = 0, 0
	for i := range s.clients {
		c := &s.clients[i]
		for at := c.first; at < c.first+uint32(c.count); at++ {
			sub := &s.subs[at]
			sub.state &^= counted
			if c.status == open && !s.plan.Churns(s.plan.First+i) {
				sub.state |= counted
			}
		}
	}
	s.window.usage = usage()
}

// report ends the window: last is the newest sequence number of each topic.
func (s *Swarm) report(last []uint32) (*control.Counted, error) {
	if len(last) != len(s.plan.Topics) {
		return nil, fmt.Errorf("report on %d topics, but there are %d", len(last), len(s.plan.Topics))
	}
	for i := range s.clients {
		c := &s.clients[i]
		for at := c.first; at < c.first+uint32(c.count); at++ {
			if sub := &s.subs[at]; sub.state&counted != 0 {
				s.settle(at, s.window.First[sub.topic], last[sub.topic], c.status == open, &s.window.counts[c.group])
			}
		}
	}
	counted := s.window.counted
	counted.Steady, counted.Others = s.window.counts[steady], s.window.counts[others]
	counted.Subscribers = s.window.subscribers
	counted.Arrivals = control.PackArrivals(s.window.arrivals)
	now := usage()
	counted.User = time.Duration(now.Utime.Nano() - s.window.usage.Utime.Nano())
	counted.System = time.Duration(now.Stime.Nano() - s.window.usage.Stime.Nano())
	var err error
	if counted.Latency, err = s.window.latency.Encode(hdrhistogram.V2CompressedEncodingCookieBase); err != nil {
		return nil, fmt.Errorf("encode latencies: %w", err)
	}
	if counted.Ready, err = s.window.ready.Encode(hdrhistogram.V2CompressedEncodingCookieBase); err != nil {
		return nil, fmt.Errorf("encode times to connect: %w", err)
	}
	return &counted, nil
}

// usage is the CPU time of this process.
func usage() (u unix.Rusage) {
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u) // fails for a bad argument alone
	return u
}

// unproven counts the subscriptions that no probe has reached.
func (s *Swarm) unproven() (n int) {
	for i := range s.clients {
		if c := &s.clients[i]; c.status == open {
			for _, sub := range s.subs[c.first : c.first+uint32(c.count)] {
				if sub.state&proven == 0 {
					n++
				}
			}
		}
	}
	return n
}
