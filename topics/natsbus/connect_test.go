package natsbus

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nkeys"

	"github.com/pushd/pushd/internal/natstest"
	"github.com/pushd/pushd/topics"
)

// openFails returns Open's error, and wants one line.
func openFails(t *testing.T, ctx context.Context, cfg Config) string {
	t.Helper()
	cfg.Log = slog.New(slog.DiscardHandler)
	b, err := Open(ctx, cfg)
	if err == nil {
		b.Close()
		t.Fatal("Open succeeded")
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("more than one line: %s", err)
	}
	return err.Error()
}

func TestOpenExternalErrors(t *testing.T) {
	dead := natstest.Start(t)
	dead.Kill()
	guarded := natstest.Start(t, natstest.Config(`authorization { user: u, password: p }`))
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	missing := filepath.Join(t.TempDir(), "missing")
	noKey := filepath.Join(t.TempDir(), "nokey")
	if err := os.WriteFile(noKey, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()

	f := func(name string, cfg Config, want string) {
		t.Run(name, func(t *testing.T) {
			if got := openFails(t, context.Background(), cfg); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
	f("refused", Config{URLs: []string{dead.URL()}},
		"cannot connect to NATS at "+dead.URL()+": connection refused: start it there, or correct --nats")
	f("password is not shown", Config{URLs: []string{"nats://u:secret@" + dead.Addr(), dead.Addr()}},
		"cannot connect to NATS at nats://u:xxxxx@"+dead.Addr()+", "+dead.URL()+": connection refused: start it there, or correct --nats")
	f("no password", Config{URLs: []string{guarded.URL()}},
		"cannot connect to NATS at "+guarded.URL()+": nats: Authorization Violation: correct the credentials in --nats, --nats-creds or --nats-nkey")
	f("silent", Config{URLs: []string{"nats://" + silent.Addr().String()}, ConnectTimeout: 50 * time.Millisecond},
		"cannot connect to NATS at nats://"+silent.Addr().String()+": no answer in 50ms: start it there, or correct --nats")
	f("scheme", Config{URLs: []string{"http://127.0.0.1:4222"}},
		"NATS URL http://127.0.0.1:4222: write it as nats://host:4222 in --nats")
	f("no host", Config{URLs: []string{"nats://"}},
		"NATS URL nats:: write it as nats://host:4222 in --nats")
	f("unreadable", Config{URLs: []string{"nats://u:p%zz@h"}},
		"an URL of --nats cannot be read: write it as nats://host:4222")
	f("creds", Config{URLs: []string{dead.URL()}, Credentials: missing},
		"cannot read NATS file "+missing+": no such file or directory: correct --nats-creds")
	f("nkey", Config{URLs: []string{dead.URL()}, NKey: noKey},
		"NATS key "+noKey+": nkeys: no nkey seed found: correct --nats-nkey")
	f("CA", Config{URLs: []string{dead.URL()}, CA: noKey},
		"NATS CA "+noKey+" holds no certificate in PEM form: correct --nats-ca")
	f("cert alone", Config{URLs: []string{dead.URL()}, Cert: noKey},
		"a NATS client certificate needs its key: give both --nats-cert and --nats-key")

	t.Run("prefix", func(t *testing.T) {
		got := openFails(t, context.Background(), Config{Prefix: "a.*"})
		if !strings.HasPrefix(got, `prefix: topic "a.*": `) || !strings.HasSuffix(got, ": correct --prefix") {
			t.Error(got)
		}
	})
	t.Run("unknown host", func(t *testing.T) {
		got := openFails(t, context.Background(), Config{URLs: []string{"nats://no-such-host.invalid"}})
		if !strings.HasPrefix(got, "cannot connect to NATS at nats://no-such-host.invalid: ") {
			t.Error(got)
		}
	})
	t.Run("given up", func(t *testing.T) {
		got := openFails(t, cancelled, Config{URLs: []string{"nats://" + silent.Addr().String()}})
		if want := "cannot connect to NATS at nats://" + silent.Addr().String() + ": context canceled: given up"; got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	})
}

func TestNKey(t *testing.T) {
	user, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	public, _ := user.PublicKey()
	seed, _ := user.Seed()
	file := filepath.Join(t.TempDir(), "seed")
	if err := os.WriteFile(file, seed, 0o600); err != nil {
		t.Fatal(err)
	}
	s := natstest.Start(t, natstest.Config(`authorization { users: [ { nkey: `+public+` } ] }`))
	b, r := open(t, Config{URLs: []string{s.URL()}, NKey: file})
	mustSubscribe(t, b, topic("a"))
	mustPublish(t, b, "a", "signed")
	r.awaitMessage(t, "signed")
	if got := b.State(); got.Embedded || got.URL != s.URL() || b.ClientURL() != s.URL() {
		t.Errorf("state %+v, client URL %s", got, b.ClientURL())
	}
}

// TestRestart kills an external NATS under load, twice.
func TestRestart(t *testing.T) {
	s := natstest.Start(t)
	b, r := open(t, Config{URLs: []string{s.URL()}})
	mustSubscribe(t, b, namespace("ns"), topic("gone"))

	stop, stopped := make(chan struct{}), make(chan struct{})
	away := make(chan error, 1)
	var asked, answered atomic.Int64
	const window = 1000 // publications under way at most: it must not fill the queue
	done := func(_ topics.Cursor, err error) {
		answered.Add(1)
		if err != nil {
			select {
			case away <- err:
			default:
			}
		}
	}
	go func() { // the load
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
			}
			if asked.Load()-answered.Load() >= window {
				runtime.Gosched()
			} else if b.Publish(Publication{Topic: "ns.load", Data: []byte("load"), Done: done}) {
				asked.Add(1)
			} else {
				t.Error("Publish refused")
				return
			}
		}
	}()
	defer func() {
		close(stop)
		<-stopped
		eventually(t, "every Done called", func() bool { return answered.Load() == asked.Load() })
	}()
	r.awaitMessage(t, "load")

	for round := range 2 {
		s.Kill()
		if err := wait(t, away, "failed publication"); !errors.Is(err, ErrAway) {
			t.Fatalf("publication while NATS was killed: %v", err)
		}
		eventually(t, "disconnected", func() bool { return !b.State().Connected })
		if err := subscribe(t, b, topic("while.away")); !errors.Is(err, ErrAway) {
			t.Fatalf("Subscribe while away: %v", err)
		}
		b.Unsubscribe(topic("gone"))
		if err := publish(t, b, "ns.a", "not sent"); !errors.Is(err, ErrAway) {
			t.Fatalf("Publish while away: %v", err)
		}
		lostBefore := r.count(func(e event) bool { return e.lostAll })

		s.Restart()
		r.await(t, "LostAll", func(events []event) bool {
			return r.count(func(e event) bool { return e.lostAll }) > lostBefore
		})
		// Told after the subscriptions work: what is published now arrives.
		nc := client(t, s.URL())
		word := []string{"first", "second"}[round]
		for _, subject := range []string{"push.gone", "push.while.away", "push.ns"} {
			if err := nc.Publish(subject, []byte(word+subject)); err != nil {
				t.Fatal(err)
			}
		}
		r.awaitMessage(t, word+"push.ns")
		r.awaitMessage(t, word+"push.while.away")
		if r.count(func(e event) bool { return e.topic == "gone" }) != 0 {
			t.Error("an interest that ended while away is served")
		}
		nc.Close()
		b.Unsubscribe(topic("while.away"))
		eventually(t, "connected", func() bool { return b.State().Connected })
		for len(away) > 0 {
			<-away
		}
	}
	if got := b.State().Reconnects; got != 4 {
		t.Errorf("%d reconnects of two connections in two rounds", got)
	}
}

func (r *recorder) count(match func(event) bool) int {
	n := 0
	for _, e := range r.all() {
		if match(e) {
			n++
		}
	}
	return n
}

// TestCloseWithin closes while a frozen server leaves a round trip, or a write,
// unanswered: neither may end by a timeout of its own, of 5 and 10 s.
func TestCloseWithin(t *testing.T) {
	f := func(name string, size, count int) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := natstest.Start(t)
			b, _ := open(t, Config{URLs: []string{s.URL()}})
			s.Freeze()
			done := make(chan error, count)
			for range count {
				b.Publish(Publication{Topic: "a", Data: make([]byte, size), Done: func(_ topics.Cursor, err error) { done <- err }})
			}
			b.Subscribe(topic("a"), func(error) {})
			if err := b.CloseWithin(100 * time.Millisecond); err != nil {
				t.Error(err)
			}
			if len(done) != count {
				t.Fatalf("%d of %d Done called by the end", len(done), count)
			}
			for range count {
				err := <-done
				if !errors.Is(err, ErrAway) || strings.Contains(err.Error(), "no answer") || strings.Contains(err.Error(), "timeout") {
					t.Errorf("Done: %v", err)
				}
			}
		})
	}
	f("round trip", 1, 1)
	f("write", 1<<20, 32) // more than the sockets' buffers take
}

// TestFrozen has a server that keeps its connections and says nothing.
func TestFrozen(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b, _ := open(t, Config{URLs: []string{s.URL()}})
	s.Freeze()
	published := make(chan error, 1)
	b.Publish(Publication{Topic: "a", Done: func(_ topics.Cursor, err error) { published <- err }})
	if err := subscribe(t, b, topic("a")); !errors.Is(err, ErrAway) {
		t.Errorf("Subscribe: %v", err)
	}
	if err := wait(t, published, "Done"); !errors.Is(err, ErrAway) {
		t.Errorf("Publish: %v", err)
	}
	s.Thaw()
	eventually(t, "it goes on", func() bool { return publish(t, b, "a", "x") == nil })
}
