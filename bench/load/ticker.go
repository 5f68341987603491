// Ticker asks: what does an update cost where each client watches 20 of 500
// symbols, and many of them change at once?
//
// A market moves in bursts, in which some of a client's symbols change together:
// a server that has them leave in one write spends a fraction of what it would
// otherwise.

package load

import "time"

func ticker() scenario {
	return scenario{
		name:     "ticker",
		question: "What does an update cost where each client watches 20 of 500 symbols, and 100 of them change at once, 20 times a second?",
		defaults: Spec{
			Clients: 1_000, Topics: 500, TopicsPerClient: 20, Rate: 2_000, Burst: 100, Duration: 10 * time.Second,
		}, publishes: true,
		play: playDeliveries,
	}
}
