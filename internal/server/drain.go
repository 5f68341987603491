package server

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pushd/pushd/poller"
)

// A drain empties a node before it is stopped, so that its clients come to the
// others a few at a time and not all at once. First /readyz fails, and for the
// grace nothing else happens: load balancers look away. Then there are no
// upgrades any more; each client is told by `reconnect` how long it may stay,
// which spreads them over the window, and closed with 1012 when that has passed.
// Polls are answered until then.

// tellAtOnce bounds how many clients of a shard are told, or closed, in one tick.
const tellAtOnce = 4096

// drainPoll is how often Drain looks whether somebody is left.
const drainPoll = 20 * time.Millisecond

// drainSlack is how long after its window a drain of Drain may last: loops may be
// late, and closing takes a round trip. Who is there then is closed by the shutdown.
func drainSlack(window time.Duration) time.Duration { return window/4 + 2*time.Second }

// pollGap is how soon somebody is back who has had an answer to a poll, as a rule.
const pollGap = 2 * time.Second

// drainOrder is whether this node is being drained, and since when.
type drainOrder struct {
	// Atomic.
	answered atomic.Int64 // when a poll was last, whose connection was kept: ms since the epoch

	// Guarded by mu.
	mu     sync.Mutex
	given  bool
	begins time.Time // of the window
	window time.Duration
	polled time.Time // until when some who poll may do so
}

// between reports whether somebody may be between two polls, and nowhere to be seen.
func (d *drainOrder) between(now time.Time) bool {
	soon := now.Before(d.begins.Add(d.window)) && now.Sub(time.UnixMilli(d.answered.Load())) < pollGap
	return soon || now.Before(d.polled)
}

// awaits has the drain last until then: somebody was told that it may poll.
func (d *drainOrder) awaits(until time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if until.After(d.polled) {
		d.polled = until
	}
}

func (d *drainOrder) ordered() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.given
}

// Drain empties the server as --drain-grace and --drain-window say, while it goes on
// to serve who is left, and returns when nobody is or ctx is done. A drain that is
// under way goes on as it was ordered. It is called while Run runs, which is then stopped.
func (s *Server) Drain(ctx context.Context) {
	if s.orderDrain(s.cfg.DrainGrace, s.cfg.DrainWindow) {
		s.log.Info("draining", "grace", s.cfg.DrainGrace, "window", s.cfg.DrainWindow, "connections", s.quota.Open())
	}
	tick := time.NewTicker(drainPoll)
	defer tick.Stop()
	for {
		st := s.drainStatus()
		if st.State == drained || st.late {
			s.log.Info("drained", "connections", st.Connections)
			return
		}
		select {
		case <-ctx.Done():
			s.log.Info("the drain was cut short", "connections", st.Connections)
			return
		case <-tick.C:
		}
	}
}

// orderDrain begins a drain, and reports false where one was ordered before, or
// where it is another process by now that is to be drained.
func (s *Server) orderDrain(grace, window time.Duration) bool {
	d := &s.draining
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.given {
		return false
	}
	s.next.callOff()
	if s.next.gone.Load() { // it was too late for that
		return false
	}
	s.beginDrain(grace, window)
	return true
}

// beginDrain is called with drainOrder.mu held.
func (s *Server) beginDrain(grace, window time.Duration) {
	d := &s.draining
	d.given, d.begins, d.window = true, time.Now().Add(grace), window
	s.tellShards(leaving{begins: d.begins, window: d.window})
}

// takeBackDrain ends a drain while its grace lasts; afterwards clients have been
// told to leave, and it is late.
func (s *Server) takeBackDrain() (was, late bool) {
	d := &s.draining
	d.mu.Lock()
	defer d.mu.Unlock()
	was, late = d.given, d.given && !time.Now().Before(d.begins)
	if was && !late {
		d.given = false
		s.tellShards(leaving{})
	}
	return was, late
}

// tellShards is called with drainOrder.mu held, so that the shards hear orders as they were given.
func (s *Server) tellShards(l leaving) {
	for _, sh := range s.shards {
		sh.loop.Post(poller.Func(func() { sh.leaving = l }))
	}
}

// drained is the state of a drain that has nobody left.
const drained = "drained"

// drainStatus is what GET /drain shows.
type drainStatus struct {
	State       string `json:"state"` // serving, waiting (the grace), closing, drained
	Connections int    `json:"connections"`
	GraceLeftMS int64  `json:"grace_left_ms"`
	WindowMS    int64  `json:"window_ms"`

	late bool // it should have ended by now
}

func (s *Server) drainStatus() drainStatus {
	d := &s.draining
	d.mu.Lock()
	defer d.mu.Unlock()
	st := drainStatus{State: "serving", Connections: s.quota.Open()}
	if !d.given {
		return st
	}
	st.WindowMS = d.window.Milliseconds()
	st.GraceLeftMS = max(0, time.Until(d.begins).Milliseconds())
	st.late = time.Since(d.begins) > d.window+drainSlack(d.window)
	switch {
	case time.Now().Before(d.begins):
		st.State = "waiting"
	case st.Connections > 0, d.between(time.Now()):
		st.State = "closing"
	default:
		st.State = drained
	}
	return st
}
