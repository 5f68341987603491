package natstest_test

import (
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"github.com/pushd/pushd/internal/natstest"
)

func TestMain(m *testing.M) {
	natstest.Main()
	goleak.VerifyTestMain(m)
}

func connect(t *testing.T, url string, opts ...nats.Option) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(url, append(opts, nats.NoReconnect())...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

func TestKillAndRestart(t *testing.T) {
	s := natstest.Start(t)
	url := s.URL()
	connect(t, url)

	s.Kill()
	if c, err := net.DialTimeout("tcp", s.Addr(), time.Second); err == nil {
		c.Close()
		t.Fatal("a killed server accepts connections")
	}
	s.Kill() // harmless

	s.Restart()
	if s.URL() != url {
		t.Fatalf("restarted on %s, want %s", s.URL(), url)
	}
	if err := connect(t, url).Flush(); err != nil {
		t.Fatal(err)
	}
}

// TestStoreSurvives ends the server both ways.
func TestStoreSurvives(t *testing.T) {
	t.Run("killed", func(t *testing.T) { testStoreSurvives(t, (*natstest.Process).Kill) })
	t.Run("stopped", func(t *testing.T) { testStoreSurvives(t, (*natstest.Process).Stop) })
}

func testStoreSurvives(t *testing.T, end func(*natstest.Process)) {
	dir := t.TempDir()
	s := natstest.Start(t, natstest.Store(dir))
	js, err := connect(t, s.URL()).JetStream()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.AddStream(&nats.StreamConfig{Name: "S", Subjects: []string{"s.>"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish("s.a", []byte("kept")); err != nil {
		t.Fatal(err)
	}
	end(s)
	end(s) // harmless
	s.Restart()
	js, err = connect(t, s.URL()).JetStream()
	if err != nil {
		t.Fatal(err)
	}
	if m, err := js.GetMsg("S", 1); err != nil || string(m.Data) != "kept" {
		t.Fatalf("message after a restart: %v, %v", m, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "jetstream")); err != nil {
		t.Fatal(err)
	}
}

func TestConfig(t *testing.T) {
	s := natstest.Start(t, natstest.Config(`authorization { user: u, password: p }`))
	if nc, err := nats.Connect(s.URL()); err == nil {
		nc.Close()
		t.Fatal("connected without the password")
	}
	connect(t, s.URL(), nats.UserInfo("u", "p"))
}

func TestFreeze(t *testing.T) {
	s := natstest.Start(t)
	nc := connect(t, s.URL())
	s.Freeze()
	if err := nc.FlushTimeout(50 * time.Millisecond); err == nil {
		t.Fatal("a frozen server answers")
	}
	s.Thaw()
	if err := nc.FlushTimeout(10 * time.Second); err != nil {
		t.Fatal(err)
	}
}

func TestCluster(t *testing.T) {
	c := natstest.StartCluster(t)
	js, err := connect(t, c.URLs()[0]).JetStream()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.AddStream(&nats.StreamConfig{Name: "S", Subjects: []string{"s.>"}, Replicas: 3}); err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish("s.a", []byte("kept")); err != nil {
		t.Fatal(err)
	}
	leader := c.Leader("S")
	leader.Stop() // which elects in no time; after Kill it takes seconds
	next := c.Leader("S")
	if next == leader {
		t.Fatal("a stopped server leads")
	}
	js, err = connect(t, next.URL()).JetStream()
	if err != nil {
		t.Fatal(err)
	}
	if m, err := js.GetMsg("S", 1); err != nil || string(m.Data) != "kept" {
		t.Fatalf("message after the leader's end: %v, %v", m, err)
	}
	leader.Restart()
}
