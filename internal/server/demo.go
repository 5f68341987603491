package server

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/pushd/pushd/internal/config"
	"github.com/pushd/pushd/internal/demofeed"
	"github.com/pushd/pushd/internal/hostfeed"
	"github.com/pushd/pushd/topics/natsbus"
)

// withDemo adds the namespaces of the demo pages, which everybody may hear, unless
// they are configured. Their history is kept by pushd's own NATS alone: no streams
// are made in another.
func withDemo(cfg config.Config) config.Config {
	stocks := config.Namespace{Delivery: config.DeliveryLatest, History: config.History{Messages: 1}}
	match := config.Namespace{Delivery: config.DeliveryAll, History: config.History{Age: time.Hour}}
	if len(cfg.NATS) > 0 {
		stocks = config.Namespace{Delivery: config.DeliveryLive}
		match = stocks
	}
	own := map[string]config.Namespace{demofeed.Stocks: stocks, demofeed.Match: match, demofeed.Crowd: {Delivery: config.DeliveryLive}}
	all := maps.Clone(cfg.Namespaces)
	if all == nil {
		all = make(map[string]config.Namespace)
	}
	for name, ns := range own {
		if _, named := all[name]; !named {
			ns.Interest, ns.Public = config.InterestNamespace, config.PublicSubscribe
			all[name] = ns
		}
	}
	if _, named := all[hostfeed.Namespace]; !named { // as it would be served without a word of it, but for everybody
		ns := cfg.Default
		if ns.Public = config.PublicSubscribe; cfg.Default.Public.MayPublish() {
			ns.Public = config.PublicAll
		}
		all[hostfeed.Namespace] = ns
	}
	cfg.Namespaces = all
	return cfg
}

// startDemo publishes what this machine measures of itself, and what the demo pages show.
func (s *Server) startDemo(ctx context.Context, running *sync.WaitGroup) error {
	publish := func(topic string, payload []byte) {
		s.bus.Publish(natsbus.Publication{Topic: topic, Data: payload})
	}
	running.Go(func() { demofeed.Run(ctx, demofeed.Bus{Publish: publish, Heard: s.hub.Heard}) })
	feed, err := hostfeed.New(time.Second, publish)
	if err != nil {
		return err
	}
	running.Go(func() { feed.Run(ctx) })
	return nil
}
