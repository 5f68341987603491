package main

import (
	"context"
	"math/rand/v2"
	"time"
)

// backoff says how long to wait before the next attempt: exponential, with
// full jitter, so that the clients of a server that comes back do not return
// all at once.
type backoff struct {
	first    time.Duration // the most that the first wait can be
	most     time.Duration // the most that any can be
	failures int           // since the last success; the caller resets it
}

func (b *backoff) next() time.Duration {
	ceiling := b.most
	if doublings := b.failures; doublings < 32 && b.first<<doublings < b.most {
		ceiling = b.first << doublings
	}
	b.failures++
	return rand.N(ceiling) + 1
}

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
