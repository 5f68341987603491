package server

import (
	"net/http"
	"sync"
	"time"

	"github.com/pushd/pushd/conn"
	"github.com/pushd/pushd/internal/wire"
	"github.com/pushd/pushd/poller"
)

// A drain empties a node before it is stopped, so that its clients come to the
// others a few at a time and not all at once. First /readyz fails, and for the
// grace nothing else happens: load balancers look away. Then there are no
// upgrades any more; each client is told by `reconnect` how long it may stay,
// which spreads them over the window, and closed with 1012 when that has passed. The
// order of the slots is the order of leaving, so nothing is kept for a connection.

const (
	defaultDrainGrace  = 0
	defaultDrainWindow = 30
	maxDrainSeconds    = 3600
)

// tellAtOnce bounds how many clients of a shard are told, or closed, in one tick.
const tellAtOnce = 4096

// drainOrder is whether this node is being drained, and since when.
type drainOrder struct {
	mu     sync.Mutex
	given  bool
	begins time.Time // of the window
	window time.Duration
}

func (d *drainOrder) ordered() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.given
}

// serveDrain begins a drain: ?grace=10&window=60, in seconds. One that is under
// way goes on as it was ordered.
func (s *Server) serveDrain(w http.ResponseWriter, r *http.Request) {
	grace, err1 := queryInt(r, "grace", defaultDrainGrace, 0, maxDrainSeconds)
	window, err2 := queryInt(r, "window", defaultDrainWindow, 0, maxDrainSeconds)
	for _, err := range []error{err1, err2} {
		if err != nil {
			refuse(w, 0, &wire.Error{Code: wire.BadRequest, Message: err.Error()})
			return
		}
	}
	d := &s.draining
	d.mu.Lock()
	first := !d.given
	if first {
		d.given, d.begins, d.window = true, time.Now().Add(time.Duration(grace)*time.Second), time.Duration(window)*time.Second
		s.tellShards(leaving{begins: d.begins, window: d.window})
	}
	d.mu.Unlock()
	if first {
		s.acted(r, actDrain, "grace_s", grace, "window_s", window, "connections", s.quota.Open())
	}
	writeIndented(w, http.StatusAccepted, s.drainStatus())
}

// serveUndrain takes a drain back while its grace lasts. Afterwards clients
// have been told to leave.
func (s *Server) serveUndrain(w http.ResponseWriter, r *http.Request) {
	d := &s.draining
	d.mu.Lock()
	was, late := d.given, d.given && !time.Now().Before(d.begins)
	if was && !late {
		d.given = false
		s.tellShards(leaving{})
	}
	d.mu.Unlock()
	if late {
		refuse(w, http.StatusConflict, &wire.Error{Code: wire.BadRequest, Message: "the grace has passed and clients have been told to leave: let the drain end, and restart pushd"})
		return
	}
	if was {
		s.acted(r, actUndrain)
	}
	writeIndented(w, http.StatusOK, s.drainStatus())
}

func (s *Server) serveDrainStatus(w http.ResponseWriter, _ *http.Request) {
	writeIndented(w, http.StatusOK, s.drainStatus())
}

// tellShards is called with drainOrder.mu held, so that the shards hear orders as they were given.
func (s *Server) tellShards(l leaving) {
	for _, sh := range s.shards {
		sh.loop.Post(poller.Func(func() { sh.leaving = l }))
	}
}

// drainStatus is what GET /drain shows.
type drainStatus struct {
	State       string `json:"state"` // serving, waiting (the grace), closing, drained
	Connections int    `json:"connections"`
	GraceLeftMS int64  `json:"grace_left_ms"`
	WindowMS    int64  `json:"window_ms"`
}

func (s *Server) drainStatus() drainStatus {
	d := &s.draining
	d.mu.Lock()
	defer d.mu.Unlock()
	st := drainStatus{State: "serving", Connections: s.clientsOpen()}
	if !d.given {
		return st
	}
	st.WindowMS = d.window.Milliseconds()
	st.GraceLeftMS = max(0, time.Until(d.begins).Milliseconds())
	switch {
	case time.Now().Before(d.begins):
		st.State = "waiting"
	case st.Connections > 0:
		st.State = "closing"
	default:
		st.State = "drained"
	}
	return st
}

// leaving is how far a shard's part of a drain has come.
type leaving struct {
	begins time.Time // zero: there is no drain
	window time.Duration
	slots  uint32 // how many there were when it began
	told   uint32 // the slots below it have had their `reconnect`
	closed uint32 // the slots below it have been closed
}

func (l *leaving) begun(now time.Time) bool { return !l.begins.IsZero() && !now.Before(l.begins) }

// until is how long the client in a slot may stay, less than nothing if it is late.
func (l *leaving) until(slot uint32, now time.Time) time.Duration {
	return time.Duration(float64(l.window)*float64(slot+1)/float64(l.slots)) - now.Sub(l.begins)
}

// drain goes on with a drain that has begun: it is called every tick.
func (sh *shard) drain(now time.Time) {
	l := &sh.leaving
	if !l.begun(now) {
		return
	}
	if l.slots == 0 {
		l.slots = max(1, sh.table.Slots())
	}
	for end := min(l.slots, l.told+tellAtOnce); l.told < end; l.told++ {
		sh.tellToLeave(l.told, l.until(l.told, now))
	}
	for end := l.closed + tellAtOnce; l.closed < min(l.told, end) && l.until(l.closed, now) <= 0; l.closed++ {
		if !sh.isOperator(l.closed) {
			sh.disconnect(sh.table.ID(l.closed), conn.ReasonDraining)
		}
	}
	if l.closed == l.slots && sh.table.Counts().Open > 0 { // those whose 101 had to wait for NATS
		l.slots, l.told, l.closed = 0, 0, 0
	}
}

func (sh *shard) tellToLeave(slot uint32, after time.Duration) {
	id := sh.table.ID(slot)
	if p := sh.poll(id); p != nil {
		sh.tellPoll(p, wire.AppendReconnect(sh.json[:0], max(0, after), wire.ReconnectDraining))
		sh.hurryPoll(p)
		return
	}
	if sh.table.IsOpen(id) && sh.client(slot).shape.tells() && !sh.isOperator(slot) {
		sh.reply(id, wire.AppendReconnect(sh.json[:0], max(0, after), wire.ReconnectDraining))
	}
}
