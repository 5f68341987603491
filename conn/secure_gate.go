package conn

import (
	"runtime"
	"sync"

	"github.com/pushd/pushd/poller"
)

// Handshakes bounds the TLS handshakes over all tables that share it: how many
// are under way, each with a goroutine, and how many of those compute, so that a
// flood of new clients leaves processors to those who are connected. Safe for
// use by several goroutines.
type Handshakes struct {
	// Static.
	max   int
	turns chan struct{} // holds one for each that computes

	// Guarded by mu.
	mu     sync.Mutex
	active int
	queue  []waiter // in the order of their coming; those that gave up are still there
	head   int
	alive  int // of queue
}

// waiter is a connection whose ClientHello is complete.
type waiter struct {
	table *Table
	id    poller.Token
}

const (
	defaultHandshakes = 512

	// waitersEach is how many may wait for each handshake that may be under way.
	// Those beyond it could not be served within any reasonable timeout.
	waitersEach = 16
)

// NewHandshakes allows for max handshakes at a time; 0: 512. At most half of
// the processors, rounded up, compute for them.
func NewHandshakes(max int) *Handshakes {
	if max <= 0 {
		max = defaultHandshakes
	}
	return &Handshakes{max: max, turns: make(chan struct{}, (runtime.GOMAXPROCS(0)+1)/2)}
}

// Counts says how many are under way, and how many wait until they may begin.
func (h *Handshakes) Counts() (active, waiting int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.active, h.alive
}

// admission is what becomes of a complete ClientHello.
type admission uint8

const (
	admitted    admission = iota // it may begin; leave when it is over
	admitLater                   // Table.startHandshake will be called on its loop
	admitNobody                  // too many wait already
)

func (h *Handshakes) enter(w waiter) admission {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.active < h.max:
		h.active++
		return admitted
	case h.alive >= waitersEach*h.max:
		return admitNobody
	}
	if h.head > 64 && h.head > len(h.queue)/2 {
		h.queue = h.queue[:copy(h.queue, h.queue[h.head:])]
		h.head = 0
	}
	h.queue = append(h.queue, w)
	h.alive++
	return admitLater
}

// giveUp is for one that waited and has ended, or begins now.
func (h *Handshakes) giveUp() {
	h.mu.Lock()
	h.alive--
	h.mu.Unlock()
}

// leave passes the place of one that is over to the next that waits.
func (h *Handshakes) leave() {
	for {
		w, ok := h.next()
		if !ok || w.table.loop.Post(poller.Func(func() { w.table.startWaiting(w.id) })) {
			return
		}
	}
}

func (h *Handshakes) next() (w waiter, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.head == len(h.queue) {
		h.active--
		h.queue, h.head = nil, 0
		return w, false
	}
	w, h.queue[h.head] = h.queue[h.head], waiter{}
	h.head++
	return w, true
}
