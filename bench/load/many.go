// Many asks: what does a delivery cost where a message has few subscribers,
// and how long does it take?

package load

import "time"

func many() scenario {
	return scenario{
		name:     "many",
		question: "What does a delivery cost, and how long does it take, where there are 1,000 topics of 10 subscribers?",
		defaults: Spec{Clients: 10_000, Topics: 1_000, Rate: 2_000, Duration: 10 * time.Second}, publishes: true,
		play: playDeliveries,
	}
}
