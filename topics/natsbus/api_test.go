package natsbus

import (
	"testing"

	"github.com/nats-io/nats.go/jetstream"
)

// Replicas answer for a stream too while none of them leads.
func TestInfoOfLeader(t *testing.T) {
	peers := func(names ...string) (all []*jetstream.PeerInfo) {
		for _, name := range names {
			all = append(all, &jetstream.PeerInfo{Name: name})
		}
		return all
	}
	for _, c := range []struct {
		what     string
		replicas int
		cluster  *jetstream.ClusterInfo
		want     bool
	}{
		{"a server alone", 1, nil, true},
		{"one replica in a cluster", 1, &jetstream.ClusterInfo{Leader: "a"}, true},
		{"the leader", 3, &jetstream.ClusterInfo{Leader: "a", Replicas: peers("b", "c")}, true},
		{"any, with no leader", 3, &jetstream.ClusterInfo{Replicas: peers("a", "b", "c")}, false},
		{"one that has just come back", 3, &jetstream.ClusterInfo{Leader: "a", Replicas: peers("a", "c")}, false},
	} {
		info := &jetstream.StreamInfo{Config: jetstream.StreamConfig{Replicas: c.replicas}, Cluster: c.cluster}
		if got := ofLeader(info); got != c.want {
			t.Errorf("%s: %v", c.what, got)
		}
	}
}
