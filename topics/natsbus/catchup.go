package natsbus

import (
	"context"
	"time"
)

// routeTime is how long servers of a NATS cluster may take to hear of a
// subscription at another of them, and to pass on a message.
const routeTime = 250 * time.Millisecond

// CatchUp returns when all has been delivered to the sink that NATS had to send
// before it was called, on what was subscribed to then: what any publisher's flush
// had confirmed. It is called after Start, of a Bus that is not closed meanwhile.
func (b *Bus) CatchUp(ctx context.Context) error {
	nc := b.live.nc
	if nc.ConnectedClusterName() != "" {
		select {
		case <-time.After(routeTime):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if err := b.live.flush(); err != nil { // NATS answers in order
		return err
	}
	passed := make(chan struct{})
	for fences := b.reader.fences; ; fences = nil {
		select {
		case fences <- passed:
			continue
		case <-passed:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-b.reader.stop:
			return ErrClosed
		}
	}
}
