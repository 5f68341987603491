package pushd

import (
	"context"
	"math/rand/v2"
	"time"
)

// Backoff says how long to wait before the next attempt: exponential, with
// full jitter, so that the clients of a server that comes back do not return
// all at once. It is a value: a copy goes its own way.
type Backoff struct {
	Min time.Duration // the most that the first wait can be; 0: 500 ms
	Max time.Duration // the most that any can be; 0: 30 s

	failures int // since the last success
}

// Next returns how long to wait now, and counts a failure.
func (b *Backoff) Next() time.Duration {
	first, ceiling := b.Min, b.Max
	if first <= 0 {
		first = 500 * time.Millisecond
	}
	if ceiling <= 0 {
		ceiling = max(30*time.Second, first)
	}
	if doublings := b.failures; doublings < 32 && first<<doublings < ceiling {
		ceiling = first << doublings
	}
	b.failures++
	return rand.N(ceiling) + 1
}

// Reset is for a success.
func (b *Backoff) Reset() { b.failures = 0 }

// mostLate is the jitter of a client that was told when to come.
const mostLate = time.Second

// atTurn is how long to wait where the server said after how long the client is
// to come: it may keep a place in a queue for it, which passes unused later on.
func atTurn(after time.Duration) time.Duration { return after + rand.N(mostLate) }

// sleep waits for d, or until ctx is done.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
