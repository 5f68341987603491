package auth

import (
	"container/list"
	"context"
	"errors"
	"sync"
	"time"
)

// Action is what a client wants to do with a topic.
type Action string

// The actions.
const (
	Subscribe Action = "subscribe"
	Publish   Action = "publish"
)

// Question is what a service of the user's is asked.
type Question struct {
	Identity string
	Action   Action
	Topic    string // or a pattern, to subscribe
	Address  string // of the client, without its port
}

// Verdict is its answer.
type Verdict struct {
	Allow bool
	TTL   time.Duration // how long it may be relied on, at most 1 minute, or 5 s where it refuses; zero: that long
}

// How long answers are relied on, since nobody tells of a change. One that
// refuses ends soon after its cause; what was no answer at all is asked again
// as soon as that makes no flood.
const (
	longestAllow   = time.Minute
	longestRefusal = 5 * time.Second
	failureTTL     = time.Second
)

// maxFlights bounds the questions that wait for an answer at a time.
const maxFlights = 4096

// Errors of [Verdicts.Ask], beside those of the function that asks.
var (
	ErrBusy   = errors.New("too many questions wait for an answer")
	ErrClosed = errors.New("the server is shutting down")
)

// Verdicts asks a service of the user's what clients may do, and remembers
// its answers. Safe for use by several goroutines.
type Verdicts struct {
	// Static.
	ask     func(context.Context, Question) (Verdict, error)
	timeout time.Duration
	size    int
	now     func() time.Time
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup // flights

	mu      sync.Mutex
	closed  bool
	entries map[Question]*list.Element // of *remembered
	recent  list.List                  // of *remembered, the most recently used first
	flights map[Question]*flight
}

// remembered is a verdict that was given.
type remembered struct {
	question Question
	allow    bool
	err      error // why there was no answer
	until    time.Time
}

// flight is a question on its way. What follows done is set before it closes.
type flight struct {
	done  chan struct{}
	allow bool
	err   error
}

// NewVerdicts returns a cache of at most size verdicts of ask, which has
// timeout for each and must return when its context ends. Close it.
func NewVerdicts(size int, timeout time.Duration, ask func(context.Context, Question) (Verdict, error)) *Verdicts {
	ctx, cancel := context.WithCancel(context.Background())
	return &Verdicts{
		ask: ask, timeout: timeout, size: max(1, size), now: time.Now, ctx: ctx, cancel: cancel,
		entries: make(map[Question]*list.Element), flights: make(map[Question]*flight),
	}
}

// Known returns a verdict that is remembered. It never waits.
func (v *Verdicts) Known(q Question) (allow, known bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	r := v.lookup(q)
	if r == nil {
		return false, false
	}
	return r.allow, true
}

// Ask returns what is remembered, or asks and waits. Whoever has the same
// question meanwhile waits for the same answer. No answer is no: where there
// is an error, which says why, allow is false.
func (v *Verdicts) Ask(ctx context.Context, q Question) (allow bool, err error) {
	v.mu.Lock()
	if r := v.lookup(q); r != nil {
		v.mu.Unlock()
		return r.allow, r.err
	}
	f := v.flights[q]
	switch {
	case f != nil:
	case v.closed:
		err = ErrClosed
	case len(v.flights) >= maxFlights:
		err = ErrBusy
	default:
		f = &flight{done: make(chan struct{})}
		v.flights[q] = f
		v.running.Go(func() { v.run(q, f) })
	}
	v.mu.Unlock()
	if err != nil {
		return false, err
	}
	select {
	case <-f.done:
		return f.allow, f.err
	case <-ctx.Done():
		return false, ctx.Err()
	}
}

// Close ends what is under way with the answer no, and waits for that.
func (v *Verdicts) Close() {
	v.mu.Lock()
	v.closed = true
	v.mu.Unlock()
	v.cancel()
	v.running.Wait()
}

// run asks one question. It goes on when those who wait have gone: the next
// who asks will find the answer.
func (v *Verdicts) run(q Question, f *flight) {
	ctx, cancel := context.WithTimeout(v.ctx, v.timeout)
	defer cancel()
	verdict, err := v.ask(ctx, q)
	f.allow, f.err = verdict.Allow && err == nil, err

	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.flights, q)
	v.remember(&remembered{question: q, allow: f.allow, err: err, until: v.now().Add(lifetime(verdict, err))})
	close(f.done)
}

func lifetime(verdict Verdict, err error) time.Duration {
	switch {
	case err != nil:
		return failureTTL
	case !verdict.Allow && verdict.TTL <= 0:
		return longestRefusal
	case !verdict.Allow:
		return min(verdict.TTL, longestRefusal)
	case verdict.TTL <= 0:
		return longestAllow
	}
	return min(verdict.TTL, longestAllow)
}

// lookup returns what is remembered, nil where that is nothing. It needs mu.
func (v *Verdicts) lookup(q Question) *remembered {
	element := v.entries[q]
	if element == nil {
		return nil
	}
	r := element.Value.(*remembered)
	if !v.now().Before(r.until) {
		v.drop(element)
		return nil
	}
	v.recent.MoveToFront(element)
	return r
}

// remember needs mu.
func (v *Verdicts) remember(r *remembered) {
	if len(v.entries) >= v.size {
		v.drop(v.recent.Back())
	}
	v.entries[r.question] = v.recent.PushFront(r)
}

// drop needs mu.
func (v *Verdicts) drop(element *list.Element) {
	v.recent.Remove(element)
	delete(v.entries, element.Value.(*remembered).question)
}
