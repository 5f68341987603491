package server

import (
	"context"
	"fmt"
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
