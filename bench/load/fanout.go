// Fanout asks: what does a delivery cost where one message goes to all, and
// when does the last subscriber have it?

package load

import (
	"context"
	"time"
)

func fanout() scenario {
	return scenario{
		name:     "fanout",
		question: "What does a delivery cost where one message goes to all, and when does the last subscriber have it?",
		defaults: Spec{Clients: 10_000, InFlight: 1, Duration: 10 * time.Second}, publishes: true,
		play: playDeliveries,
	}
}

// playDeliveries plays what is told by its numbers alone.
func playDeliveries(ctx context.Context, r *run) error {
	w, err := r.deliver(ctx)
	if err != nil {
		return err
	}
	r.deliveryFigures(w)
	return nil
}
