// Package demofeed publishes what the demo pages show: prices of symbols that
// do not exist, a match as it was played, and a pulse.
//
// It publishes only while somebody listens; but each price once at the start, so
// that there is a newest value.
package demofeed

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"sync"
	"time"
)

// The namespaces of the demos.
const (
	Stocks = "demo-stocks" // topics are symbols; wants delivery latest
	Match  = "demo-match"  // its topic is bra-ger; wants history
	Crowd  = "demo-crowd"  // its topic is pulse
)

// Bus is where to publish, and what says whether anybody listens.
type Bus struct {
	Publish func(topic string, payload []byte)
	Heard   func(namespace string) bool
}

// Run publishes until ctx is done.
func Run(ctx context.Context, bus Bus) {
	market := newMarket(rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())))
	market.open(bus.Publish)
	var replay replay
	var pulse pulse
	var all sync.WaitGroup
	for _, beat := range []struct {
		namespace string
		every     time.Duration
		publish   func(publish func(string, []byte))
	}{
		{Stocks, marketBeat, market.move},
		{Match, time.Second, replay.minute},
		{Crowd, 500 * time.Millisecond, pulse.beat},
	} {
		all.Go(func() {
			ticker := time.NewTicker(beat.every)
			defer ticker.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-ticker.C:
					if bus.Heard(beat.namespace) {
						beat.publish(bus.Publish)
					}
				}
			}
		})
	}
	all.Wait()
}

// pulse is what a crowd hears.
type pulse struct{ number int }

func (p *pulse) beat(publish func(string, []byte)) {
	p.number++
	publish(Crowd+".pulse", marshal(struct {
		Number int `json:"number"`
	}{p.number}))
}

// marshal is for values that always can be.
func marshal(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("demofeed: " + err.Error())
	}
	return b
}
