package server

import (
	"context"
	"sync"

	"github.com/pushd/pushd/internal/wire"
)

// errands are what requests of net/http want of NATS. While the embedded NATS changes
// hands those that come wait, and those under way are waited for.
type errands struct {
	mu       sync.Mutex
	underWay int           // guarded by mu
	held     chan struct{} // the same: closed when they go on; nil: none is held
	over     bool          // the same: NATS does not come back to this process
}

var errUpgraded = &wire.Error{Code: wire.Unavailable, Message: "this process is being replaced, and another serves: try again, on a new connection"}

// begin returns when NATS may be asked; without an error end has to follow.
func (e *errands) begin(ctx context.Context) *wire.Error {
	for {
		e.mu.Lock()
		held, over := e.held, e.over
		if held == nil && !over {
			e.underWay++
		}
		e.mu.Unlock()
		switch {
		case over:
			return errUpgraded
		case held == nil:
			return nil
		}
		select {
		case <-held:
		case <-ctx.Done():
			return &wire.Error{Code: wire.Unavailable, Message: ctx.Err().Error()}
		}
	}
}

func (e *errands) end() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.underWay--
}

// awaited is how many are under way while others are held.
func (e *errands) awaited() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.held == nil {
		return 0
	}
	return e.underWay
}

// hold has those wait that come from now on, until goOn.
func (e *errands) hold() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.held == nil {
		e.held = make(chan struct{})
	}
}

// goOn ends hold, if there was one. With over those who waited are refused.
func (e *errands) goOn(over bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.held == nil {
		return
	}
	close(e.held)
	e.held, e.over = nil, over
}
