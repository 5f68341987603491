package natstest

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// clusterName is of every cluster: each has ports of its own.
const clusterName = "natstest"

// electTime is how long a cluster may take to have a leader.
const electTime = 60 * time.Second

// joinCluster makes the server one of a cluster's, where settings say so.
func (s settings) joinCluster(opts *server.Options) {
	if s.Name == "" {
		return
	}
	opts.ServerName = s.Name
	opts.Cluster.Name = clusterName
	opts.Cluster.Host, opts.Cluster.Port = "127.0.0.1", s.Routed
	for _, port := range s.Routes {
		opts.Routes = append(opts.Routes, &url.URL{Scheme: "nats", Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(port))})
	}
}

// Cluster is three servers with JetStream, each a process with a store of its
// own. Its methods belong to the test's goroutine.
type Cluster struct {
	tb      testing.TB
	Servers []*Process
}

// StartCluster returns once streams can be made. Options are of each server.
func StartCluster(tb testing.TB, options ...Option) *Cluster {
	tb.Helper()
	const size = 3
	c := &Cluster{tb: tb}
	dir := tb.TempDir()
	ports := freePorts(tb, 2*size)
	clients, routes := ports[:size], ports[size:]
	for i := range size {
		name := fmt.Sprintf("n%d", i+1)
		member := func(s *settings) { s.Name, s.Routed, s.Routes = name, routes[i], routes }
		all := append([]Option{Port(clients[i]), Store(filepath.Join(dir, name)), member}, options...)
		c.Servers = append(c.Servers, Start(tb, all...))
	}
	c.await("JetStream", func(ctx context.Context, js jetstream.JetStream) bool {
		_, err := js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{Name: "natstest", Replicas: size})
		return err == nil && js.DeleteStream(ctx, "natstest") == nil
	})
	return c
}

// URLs are where clients connect.
func (c *Cluster) URLs() []string {
	var urls []string
	for _, s := range c.Servers {
		urls = append(urls, s.URL())
	}
	return urls
}

// Leader is the server that leads a stream. It waits for an election.
func (c *Cluster) Leader(stream string) *Process {
	c.tb.Helper()
	var leader *Process
	c.await("leader of "+stream, func(ctx context.Context, js jetstream.JetStream) bool {
		s, err := js.Stream(ctx, stream)
		if err != nil || s.CachedInfo().Cluster == nil {
			return false
		}
		for _, p := range c.Servers {
			if p.running != nil && p.settings.Name == s.CachedInfo().Cluster.Leader {
				leader = p
			}
		}
		return leader != nil
	})
	return leader
}

// await asks until the cluster answers as it should, through a server that runs.
func (c *Cluster) await(what string, done func(context.Context, jetstream.JetStream) bool) {
	c.tb.Helper()
	var running []string
	for _, p := range c.Servers {
		if p.running != nil {
			running = append(running, p.URL())
		}
	}
	if len(running) == 0 {
		c.tb.Fatal("no server of the cluster runs")
	}
	nc, err := nats.Connect(running[0], nats.NoReconnect())
	if err != nil {
		c.tb.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		c.tb.Fatal(err)
	}
	for deadline := time.Now().Add(electTime); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		ok := done(ctx, js)
		cancel()
		if ok {
			return
		}
	}
	c.tb.Fatalf("no %s in %v", what, electTime)
}
