package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"github.com/pushd/pushd/internal/statistics"
	"github.com/pushd/pushd/internal/wire"
	"github.com/pushd/pushd/topics"
	"github.com/pushd/pushd/topics/natsbus"
)

const (
	// statisticsPeriod is how often a node says how it stands.
	statisticsPeriod = time.Second

	// statisticsPause is for how long it does not try where its NATS account may
	// not publish them: each attempt is a line in the log of the NATS server.
	statisticsPause = time.Minute

	// statisticsRing is how many of these messages are kept of all nodes, for who
	// reads slowly: the next of each makes those before it worthless.
	statisticsRing = 1024
)

// reporter says once a second how this node stands. It reads what shards, hub
// and bus publish of themselves anyway, so that it costs them nothing.
type reporter struct {
	// Static.
	server   *Server
	member   *member
	topic    string
	started  time.Time
	software string

	// Only run touches these.
	fanOut, loopLag lately    // of histograms
	before          time.Time // when the last message was made
	mayPublish      time.Time // zero: now

	// Atomic.
	worstLag  atomic.Int64           // ns, of all shards, since the last message
	last      atomic.Pointer[[]byte] // the newest message, that nobody changes
	confirmed atomic.Uint64          // of these messages and those to other nodes, by NATS
	mute      atomic.Bool            // the account may not publish below the reserved namespace, as far as is known
	roundTrip atomic.Int64           // ns until it had the last one; 0: it does not have it yet
	gone      atomic.Bool            // the next message is the last
	denied    atomic.Bool            // the account may not publish them
}

// lagged notes how late a tick was. It is called by the shards, once a tick.
func (r *reporter) lagged(lag time.Duration) {
	for worst := r.worstLag.Load(); int64(lag) > worst; worst = r.worstLag.Load() {
		if r.worstLag.CompareAndSwap(worst, int64(lag)) {
			return
		}
	}
}

// lag reads what there was since the last message. A few ticks say little of a
// bucket's place in it, so nothing is estimated beyond the worst of them.
func (r *reporter) lag() statistics.Quantiles {
	q := r.loopLag.read()
	q.Max = milliseconds(time.Duration(r.worstLag.Swap(0)).Seconds())
	q.P50, q.P99 = min(q.P50, q.Max), min(q.P99, q.Max)
	return q
}

// software is the version that the Go toolchain recorded in this binary.
func software() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}

// nodeName is what a node is called that was given no name: its host's, and an
// end that no other process has.
func nodeName(host string, random uint32) string {
	const longest = 48
	name := strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' {
			return c
		}
		return '-'
	}, host)
	if name == "" {
		name = "node"
	}
	return fmt.Sprintf("%.*s-%04x", longest, name, random&0xffff)
}

// run ends with ctx.
func (r *reporter) run(ctx context.Context) {
	tick := time.NewTicker(statisticsPeriod)
	defer tick.Stop()
	for {
		r.report(time.Now())
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// sayGoodbye tells other nodes that this one has served.
func (r *reporter) sayGoodbye() {
	r.gone.Store(true)
	r.report(time.Now())
}

// report makes a message and publishes it where NATS is there.
func (r *reporter) report(now time.Time) {
	message, err := json.Marshal(r.describe(now))
	if err != nil {
		r.server.log.Error("no statistics of this node", "err", err) // a fault in the program
		return
	}
	r.last.Store(&message)
	if r.denied.Swap(false) {
		r.mayPublish = now.Add(statisticsPause)
		r.server.log.Warn("statistics of this node are not published for a minute: the NATS account has no permission to", "topic", r.topic)
	}
	r.mute.Store(now.Before(r.mayPublish))
	if r.mute.Load() || r.member.silent.Load() || !r.server.bus.State().Connected {
		return
	}
	began := time.Now()
	r.server.bus.Publish(natsbus.Publication{Topic: r.topic, Data: message, Done: func(_ topics.Cursor, err error) {
		switch {
		case err == nil:
			r.confirmed.Add(1)
			r.roundTrip.Store(int64(time.Since(began)))
		case errors.Is(err, natsbus.ErrDenied):
			r.mute.Store(true)
			r.denied.Store(true)
		}
	}})
}

// serveStatistics answers with the newest message of this node, which says also
// what cannot be published: that NATS is away.
func (s *Server) serveStatistics(w http.ResponseWriter, _ *http.Request) {
	message := s.self().reporter.last.Load()
	if message == nil {
		refuse(w, 0, &wire.Error{Code: wire.Unavailable, Message: "the node has just started: try again"})
		return
	}
	writeJSON(w, http.StatusOK, append([]byte(nil), *message...))
}

// state is where the node stands in its life.
func (s *Server) state() string {
	if s.self().reporter.gone.Load() {
		return statistics.StateGone
	}
	if s.stopping.Load() {
		return "stopping"
	}
	return s.drainStatus().State
}

// clientsOpen are the connections that are no operator's.
func (s *Server) clientsOpen() int { return max(0, s.quota.Open()-int(s.operators.Load())) }

// process asks the operating system what it has for this process. What it does
// not tell is 0.
func (s *Server) process() statistics.Process {
	return statistics.Process{
		CPU: cpuSeconds(), Resident: residentBytes(),
		Goroutines: runtime.NumGoroutine(), CPUs: runtime.GOMAXPROCS(0), Shards: len(s.shards),
	}
}

func residentBytes() int64 {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	var size, resident int64
	if _, err := fmt.Sscan(string(text), &size, &resident); err != nil {
		return 0
	}
	return resident * int64(os.Getpagesize())
}
