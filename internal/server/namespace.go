package server

import (
	"github.com/pushd/pushd/internal/config"
	"github.com/pushd/pushd/topics"
	"github.com/pushd/pushd/topics/natsbus"
)

// streams says which streams keep the history of which namespaces.
func streams(cfg *config.Config) map[string]natsbus.StreamConfig {
	all := make(map[string]natsbus.StreamConfig)
	for name, ns := range cfg.Namespaces {
		if !ns.KeepsHistory() {
			continue
		}
		stream := natsbus.StreamConfig{Name: cfg.StreamOf(name), Subject: cfg.SubjectOf(name)}
		if ns.Stream != "" {
			stream.Existing = true
		} else {
			h := ns.History
			stream.Age, stream.Bytes, stream.Messages = h.Age, int64(h.Bytes), h.Messages
			stream.Replicas = max(1, h.Replicas)
			stream.InMemory = cfg.StorageOf(h) == config.StorageMemory
		}
		all[name] = stream
	}
	return all
}

// servedReserved is how subscribers are served with what nodes say of themselves.
var servedReserved = topics.Settings{Mode: topics.ModeLive, RingMessages: statisticsRing}

// feedOf names the feed that a topic or pattern is of.
func (s *Server) feedOf(pattern string) string {
	namespace := topics.Namespace(pattern)
	if served(s.cfg.Namespace(namespace)).ByTopic {
		return pattern
	}
	return namespace
}

// served says how a namespace's subscribers are served.
func served(ns config.Namespace) topics.Settings {
	s := topics.Settings{ByTopic: ns.Interest == config.InterestTopic, History: ns.KeepsHistory(), BatchDelay: ns.BatchDelay, MaxRate: ns.MaxRate}
	switch ns.Delivery {
	case config.DeliveryAll:
		s.Mode = topics.ModeAll
	case config.DeliveryLatest:
		s.Mode = topics.ModeLatest
	default:
		s.Mode = topics.ModeLive
	}
	return s
}
