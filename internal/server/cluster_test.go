package server

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/gobwas/ws"

	"github.com/pushd/pushd/internal/config"
	"github.com/pushd/pushd/internal/natstest"
	"github.com/pushd/pushd/internal/statistics"
)

// nodes are the names that a node lists, with their states.
func (r *running) nodes() map[string]string {
	r.t.Helper()
	var list struct{ Nodes []statistics.Node }
	r.do(200, "GET", "/nodes", &list)
	states := make(map[string]string)
	for _, n := range list.Nodes {
		states[n.Node] = n.State
	}
	return states
}

func (r *running) presence(topic string) presence {
	r.t.Helper()
	var p presence
	r.do(200, "GET", "/presence/"+topic, &p)
	return p
}

// trio starts three nodes with authentication on one NATS, and waits until each knows all.
func trio(t *testing.T) (all []*running) {
	t.Helper()
	server := natstest.Start(t)
	for _, name := range []string{"a", "b", "c"} {
		all = append(all, secure(t, func(c *config.Config) {
			c.NATS, c.NodeName, c.Shards, c.Default.Public = []string{server.URL()}, name, 1, config.PublicAll
		}))
	}
	for _, r := range all {
		eventually(t, "each knows all", func() bool { return len(r.nodes()) == 3 })
	}
	return all
}

// TestCluster counts, disconnects and drains from any of three nodes.
func TestCluster(t *testing.T) {
	t.Parallel()
	all := trio(t)
	var sockets []*socket
	for i, r := range all {
		for range i + 1 {
			sockets = append(sockets, r.subscribed("rooms.x", "rooms.*"))
		}
	}
	for i, r := range all {
		eventually(t, "the sum is right everywhere", func() bool { return r.presence("rooms.x").Connections == 6 })
		p := r.presence("rooms.x")
		if !maps.Equal(p.Nodes, map[string]int{"a": 1, "b": 2, "c": 3}) {
			t.Errorf("node %d: %+v", i, p)
		}
		if p := r.presence("rooms.*"); p.Connections != 6 {
			t.Errorf("of a pattern: %+v", p)
		}
		s := r.subscribed()
		s.send(`{"type":"presence","topic":"rooms.x"}`)
		if m := s.want("presence"); m.Connections != 6 {
			t.Errorf("a client of node %d is told %+v", i, m)
		}
	}
	if p := all[0].presence("_pushd.nodes.*"); p.Connections != 0 {
		t.Errorf("of the reserved namespace: %+v", p)
	}
	sockets[5].send(`{"type":"unsubscribe","topic":"rooms.x"}`)
	sockets[5].want("unsubscribed")
	sockets[4].conn.Close()
	eventually(t, "who leaves is not counted", func() bool { return all[0].presence("rooms.x").Connections == 4 })

	// Messages of clients to each other.
	sockets[0].send(`{"type":"publish","topic":"rooms.x","data":"hello"}`)
	sockets[1].wantData("rooms.x", `"hello"`)

	// Disconnecting.
	victim, name := all[2].welcomed()
	var did disconnected
	all[0].do(200, "POST", "/connections/"+name+"/disconnect?reason=policy", &did)
	if code := victim.wantClose(); code != 1008 || did.Disconnected != 1 {
		t.Errorf("closed with %d: %+v", code, did)
	}
	var no message
	all[0].do(404, "POST", "/connections/"+name+"/disconnect", &no)
	if !strings.Contains(no.Message, "not connected any more") {
		t.Errorf("once more: %+v", no)
	}
	var alices []*socket
	for _, r := range all {
		s, _ := r.welcomedAs("alice", "rooms.x")
		alices = append(alices, s)
	}
	did = disconnected{}
	all[1].do(200, "POST", "/identities/alice/disconnect", &did)
	if did.Disconnected != 3 || len(did.Silent) != 0 {
		t.Errorf("alice: %+v", did)
	}
	for _, s := range alices {
		if code := s.wantClose(); code != 4003 {
			t.Errorf("alice: closed with %d", code)
		}
	}
	all[2].wantMetric(`pushd_admin_actions_total{action="disconnect_client"} 1`)

	// Draining.
	var st drainStatus
	eventually(t, "b tells of its three clients", func() bool {
		all[0].do(200, "GET", "/nodes/b/drain", &st)
		return st.State == "serving" && st.Connections == 3
	})
	all[0].do(202, "POST", "/nodes/b/drain?grace=3600", &st)
	if st.State != "waiting" || st.WindowMS != 30_000 {
		t.Errorf("of b: %+v", st)
	}
	all[2].do(200, "DELETE", "/nodes/b/drain", &st)
	all[0].do(202, "POST", "/nodes/b/drain?grace=0&window=0", &st)
	if code := sockets[1].wantClose(); code != 1012 {
		t.Errorf("drained with %d", code)
	}
	eventually(t, "it is seen", func() bool { return all[0].nodes()["b"] == "drained" })
	all[2].do(409, "DELETE", "/nodes/b/drain", &no)
	all[0].do(404, "POST", "/nodes/z/drain", &no)
	all[1].do(200, "GET", "/nodes/b/drain", &st) // itself

	// A goodbye is heard at once: no node is silent.
	if err := all[2].stop(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "c is gone", func() bool { return len(all[0].nodes()) == 2 && all[0].presence("rooms.x").Connections == 1 })
}

// TestClusterLost kills a node, and cuts all off from NATS.
func TestClusterLost(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t, natstest.Store(t.TempDir()))
	r := start(t, func(c *config.Config) { c.NATS, c.NodeName = []string{server.URL()}, "a" })
	n := startNode(t, nodeSpec{NATS: []string{server.URL()}, Ring: 64, Age: patience, Replicas: 1})
	for range 3 {
		n.subscribed("rooms.x")
	}
	r.subscribed("rooms.x")
	eventually(t, "all are counted", func() bool { return r.presence("rooms.x").Connections == 4 })
	server.Kill()
	eventually(t, "others vanish with NATS", func() bool { return r.presence("rooms.x").Connections == 1 && len(r.nodes()) == 1 })
	server.Restart()
	eventually(t, "they are counted again", func() bool { return r.presence("rooms.x").Connections == 4 })
	n.end(t, syscall.SIGKILL)
	eventually(t, "its counts vanish", func() bool { return r.presence("rooms.x").Connections == 1 && len(r.nodes()) == 1 })
}

// TestClusterAlone keeps and tells nothing where it is told not to.
func TestClusterAlone(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t)
	node := func(name string, counts int) *running {
		return start(t, func(c *config.Config) {
			c.NATS, c.NodeName, c.PresenceTopics = []string{server.URL()}, name, counts
		})
	}
	alone, other := node("alone", 0), node("other", 100)
	alone.subscribed("rooms.x")
	other.subscribed("rooms.x")
	for _, r := range []*running{alone, other} {
		eventually(t, "they know each other", func() bool { return slices.Equal(slices.Sorted(maps.Keys(r.nodes())), []string{"alone", "other"}) })
		if n := r.presence("rooms.x").Connections; n != 1 {
			t.Errorf("%s counts %d", r.name, n)
		}
	}
}

// TestClusterSilent asks a node that does not answer.
func TestClusterSilent(t *testing.T) {
	t.Parallel()
	r := start(t)
	nc := r.backend()
	eventually(t, "it is known", func() bool { // it is told again, as nodes do: at first nobody may be listening
		if err := nc.Publish("push._pushd.nodes.ghost", fmt.Appendf(nil, `{"v":1,"node":"ghost","id":"00000001","started":1,"state":"serving"}`)); err != nil {
			t.Fatal(err)
		}
		return len(r.nodes()) == 2
	})
	for _, bad := range []string{"nodes.ghost", "nodes.other", "occupancy.ghost", "control", "control." + r.name} {
		for _, data := range []string{"", "{", `{"node":7}`, `{"do":"explode","from":"ghost"}`, `{"do":"drain","from":"> bad","reason":"x"}`, `{"id":1}`} {
			if err := nc.Publish("push._pushd."+bad, []byte(data)); err != nil {
				t.Fatal(err)
			}
		}
	}
	var did disconnected
	r.do(200, "POST", "/identities/alice/disconnect", &did)
	if !slices.Equal(did.Silent, []string{"ghost"}) {
		t.Errorf("%+v", did)
	}
	eventually(t, "it is forgotten", func() bool { return len(r.nodes()) == 1 })
	s := r.subscribed()
	s.send(`{"type":"ping"}`)
	if f := s.next(); f.Header.OpCode != ws.OpText {
		t.Errorf("received %v", f)
	}
}
