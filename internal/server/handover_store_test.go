package server

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pushd/pushd/internal/config"
	"github.com/pushd/pushd/internal/handover"
)

// An embedded NATS changes hands too, with its store: what is kept comes once and
// in order, of what is not clients are told that something may be missing, and a
// process that has asked for the store and ends has changed nothing.
func TestHotUpgradeWithEmbeddedNATS(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pushd.yaml")
	if err := os.WriteFile(file, []byte("namespaces:\n  scores: {delivery: all, history: {age: 1h}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	free.Close()
	u := startUpgradable(t, "", "--config="+file, "--store="+t.TempDir(), "--nats-listen="+address)
	scores, chat := u.subscribed("scores.a"), u.subscribed("chat.x")

	stop := storing(t, "nats://"+address)
	defer stop()
	next := 1
	follow := func(n int) {
		t.Helper()
		for ; next <= n; next++ {
			if m := scores.want("message"); string(m.Data) != fmt.Sprint(next) {
				t.Fatalf("%v, want message %d", m, next)
			}
		}
	}
	follow(20)

	good := u.path + ".good"
	for _, takesIt := range []bool{true, false, true} {
		if takesIt {
			if status, body, _ := u.upgrade(); status != http.StatusOK {
				t.Fatalf("%d %s", status, body)
			}
		} else {
			// It says hello in version 1, asks for the store, and ends.
			script := "#!/bin/sh\nprintf 'push\\001\\000\\000\\000\\000\\000\\000\\003\\001\\001\\001push\\003\\000\\000\\000\\000\\000\\000\\000' >&3\nsleep 0.2\nexit 3\n"
			if err := os.Rename(u.path, good); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(u.path, []byte(script), 0o755); err != nil {
				t.Fatal(err)
			}
			if status, body, _ := u.upgrade(); status != http.StatusConflict || !strings.Contains(body, "exit status 3") {
				t.Fatalf("%d %s", status, body)
			}
			if err := os.Rename(good, u.path); err != nil {
				t.Fatal(err)
			}
		}
		chat.want("gap")
		follow(next + 20) // published since: NATS is back
		eventually(t, "NATS is back for clients too", func() bool {
			status, _, _ := u.http("POST", "/publish/chat.x", "", "1")
			return status == http.StatusAccepted
		})
		chat.want("message")
	}
	follow(stop())
}

// storing keeps numbers of scores.a, one after the other, each until NATS has it,
// and says at its end how many there were.
func storing(t *testing.T, url string) (stop func() int) {
	nc, err := natsgo.Connect(url, natsgo.MaxReconnects(-1), natsgo.ReconnectWait(20*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	running.Go(func() {
		defer nc.Close()
		for ctx.Err() == nil {
			n++
			for try := true; try; {
				one, done := context.WithTimeout(context.Background(), 500*time.Millisecond)
				_, err := js.Publish(one, "push.scores.a", fmt.Append(nil, n), jetstream.WithMsgID(fmt.Sprint(n)))
				done()
				try = err != nil
			}
			time.Sleep(2 * time.Millisecond)
		}
	})
	return sync.OnceValue(func() int {
		cancel()
		running.Wait()
		return n
	})
}

func TestHotUpgradeOfWhatIsInMemory(t *testing.T) {
	r := start(t)
	r.next.start = func(*os.File) (*os.Process, error) {
		t.Error("a process was started")
		return nil, os.ErrInvalid
	}
	if _, err := r.Upgrade(); err != errKeptInMemory {
		t.Errorf("%v, want %v", err, errKeptInMemory)
	}
}

// startStoring runs a server with an embedded NATS in a folder, that listens.
func startStoring(t *testing.T) (r *running, address string) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address = free.Addr().String()
	free.Close()
	return start(t, func(c *config.Config) {
		c.NATSListen, c.Store = address, t.TempDir()
		scores := c.Default
		scores.Delivery, scores.History = config.DeliveryAll, config.History{Age: time.Hour}
		c.Namespaces = map[string]config.Namespace{"scores": scores}
	}), address
}

// A process that has taken the store and fails may hold on to what NATS needs for a
// while: it is opened again as soon as that goes, or not at all where this node ends.
func TestStoreComesBackLater(t *testing.T) {
	for _, ends := range []bool{false, true} {
		r, address := startStoring(t)
		var holds net.Listener
		acted := r.pretend(func(n *successor) (err error) {
			if err := n.walk(3); err != nil {
				return err
			}
			if err := n.link.Send(handover.KindNeedStore, nil); err != nil {
				return err
			}
			if err := n.receive(handover.KindStore); err != nil {
				return err
			}
			if holds, err = net.Listen("tcp", address); err != nil {
				return err
			}
			return n.link.Send(handover.KindFailed, []byte("out of luck"))
		})
		if _, err := r.Upgrade(); err == nil || err.Error() != "out of luck" {
			t.Errorf("%v", err)
		}
		if err := <-acted; err != nil {
			t.Fatal(err)
		}
		if _, err := r.Upgrade(); err != errStoreAway {
			t.Errorf("%v, want %v", err, errStoreAway)
		}
		if ends {
			if err := r.stop(); err != nil {
				t.Error(err)
			}
			holds.Close()
			continue
		}
		holds.Close()
		eventually(t, "NATS is back", func() bool {
			status, _, _ := r.http("POST", "/publish/scores.a", "", "1")
			return status == http.StatusOK
		})
	}
}

// Whoever publishes or reads history over HTTP while the store is with another
// process waits, and is answered as ever if it comes back. If it does not, he is
// told to come again, to the other process.
func TestStoreHoldsHTTP(t *testing.T) {
	for _, given := range []bool{false, true} {
		r, _ := startStoring(t)
		var clients []*http.Client
		for range 2 { // whose connections are net/http's by the time of the upgrade
			c := &http.Client{Transport: &http.Transport{}, Timeout: patience}
			defer c.CloseIdleConnections()
			clients = append(clients, c)
			got, err := c.Post("http://"+r.Addr()+"/publish/scores.a", "", strings.NewReader("1"))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, got.Body); err != nil { // else the connection is not kept
				t.Fatal(err)
			}
			got.Body.Close()
		}
		type answer struct {
			*http.Response
			err error
		}
		answers := make(chan answer, 2)
		ask := func() {
			go func() {
				got, err := clients[0].Post("http://"+r.Addr()+"/publish/scores.a", "", strings.NewReader("2"))
				answers <- answer{got, err}
			}()
			go func() {
				got, err := clients[1].Get("http://" + r.Addr() + "/history/scores.a")
				answers <- answer{got, err}
			}()
		}
		acted := r.pretend(func(n *successor) error {
			if err := n.walk(3); err != nil {
				return err
			}
			if err := n.link.Send(handover.KindNeedStore, nil); err != nil {
				return err
			}
			if err := n.receive(handover.KindStore); err != nil {
				return err
			}
			ask()
			time.Sleep(50 * time.Millisecond)
			if len(answers) > 0 {
				t.Error("somebody was answered while NATS was away")
			}
			if !given {
				return n.link.Send(handover.KindFailed, []byte("out of luck"))
			}
			for _, step := range steps[3:] {
				if err := step.do(n); err != nil {
					return err
				}
			}
			if err := n.link.Send(handover.KindAdopted, nil); err != nil {
				return err
			}
			_, err := n.link.Expect(handover.KindCommit)
			return err
		})
		if _, err := r.Upgrade(); (err == nil) != given {
			t.Errorf("handed over: %v, want %v", err, given)
		}
		if err := <-acted; err != nil {
			t.Fatal(err)
		}
		for range clients {
			a := <-answers
			switch {
			case a.err != nil:
				t.Errorf("handed over %v: %v", given, a.err)
				continue
			case !given && a.StatusCode != http.StatusOK:
				t.Errorf("%s: %s", a.Request.URL.Path, a.Status)
			case given && (a.StatusCode != http.StatusServiceUnavailable || a.Header.Get("Retry-After") == "" || !a.Close):
				t.Errorf("%s: %s, %v, closes %v", a.Request.URL.Path, a.Status, a.Header, a.Close)
			}
			a.Body.Close()
		}
	}
}

// What a request has published before the store goes is waited for, within bounds.
func TestErrandsAreAwaited(t *testing.T) {
	var e errands
	if err := e.begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := e.awaited(); n != 0 {
		t.Errorf("%d are waited for where none is held", n)
	}
	e.hold()
	if n := e.awaited(); n != 1 {
		t.Errorf("%d are waited for, want 1", n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := e.begin(ctx); err == nil {
		t.Error("one went on that was held")
	}
	e.end()
	if n := e.awaited(); n != 0 {
		t.Errorf("%d are waited for, want 0", n)
	}
	e.goOn(false)
	if err := e.begin(t.Context()); err != nil {
		t.Error(err)
	}
	e.hold()
	e.goOn(true)
	if err := e.begin(t.Context()); err != errUpgraded {
		t.Errorf("%v, want %v", err, errUpgraded)
	}
}
