package server

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pushd/pushd/internal/config"
	"github.com/pushd/pushd/topics"
	"github.com/pushd/pushd/topics/natsbus"
)

func TestStreamsOfNamespaces(t *testing.T) {
	cfg := config.Default()
	cfg.Prefix = "eu.push"
	cfg.Namespaces = map[string]config.Namespace{
		"chat":   {Delivery: config.DeliveryLive},
		"scores": {Delivery: config.DeliveryAll, History: config.History{Age: time.Hour, Bytes: 1 << 30, Messages: 9}},
		"stocks": {Delivery: config.DeliveryLatest, Subject: "ticks", History: config.History{Messages: 1, Replicas: 3, Storage: config.StorageMemory}},
		"orders": {Delivery: config.DeliveryAll, Interest: config.InterestTopic, Stream: "ORDERS"},
	}
	want := map[string]natsbus.StreamConfig{
		"scores": {Name: "eu_push_scores", Subject: "eu.push.scores", Age: time.Hour, Bytes: 1 << 30, Messages: 9, Replicas: 1},
		"stocks": {Name: "eu_push_stocks", Subject: "ticks", Messages: 1, Replicas: 3, InMemory: true},
		"orders": {Name: "ORDERS", Subject: "eu.push.orders", Existing: true},
	}
	if diff := cmp.Diff(want, streams(&cfg)); diff != "" {
		t.Errorf("streams (-want +got):\n%s", diff)
	}
	for name, want := range map[string]topics.Settings{
		"chat":    {Mode: topics.ModeLive},
		"scores":  {History: true, Mode: topics.ModeAll},
		"stocks":  {History: true, Mode: topics.ModeLatest},
		"orders":  {ByTopic: true, History: true, Mode: topics.ModeAll},
		"unnamed": {Mode: topics.ModeLive},
	} {
		if got := served(cfg.Namespace(name)); got != want {
			t.Errorf("%s is served as %+v, want %+v", name, got, want)
		}
	}
}
