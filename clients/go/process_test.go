package pushd_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	pushd "github.com/pushd/pushd/clients/go"
	"github.com/pushd/pushd/internal/config"
	"github.com/pushd/pushd/internal/natstest"
	"github.com/pushd/pushd/internal/server"
)

// envServe holds the settings of a server process as JSON: the test binary itself,
// started again, so that it can be killed as a crash would.
const envServe = "PUSHD_GO_CLIENT_SERVE"

type serveSettings struct{ Listen, Store string }

// config has a namespace kept with history, and few with that of three messages.
func (s serveSettings) config() config.Config {
	cfg := config.Default()
	cfg.Listen, cfg.Admin, cfg.NATSListen = s.Listen, "127.0.0.1:0", "127.0.0.1:0"
	cfg.Store, cfg.Shards = s.Store, 2
	kept := cfg.Default
	kept.Delivery, kept.History.Age = "all", time.Hour
	few := kept
	few.History.Messages = 3
	cfg.Namespaces = map[string]config.Namespace{"kept": kept, "few": few}
	return cfg
}

// serveMain runs the server where this process is one, and never returns then.
func serveMain() {
	raw, child := os.LookupEnv(envServe)
	if !child {
		return
	}
	var s serveSettings
	err := json.Unmarshal([]byte(raw), &s)
	if err == nil {
		var running *server.Server
		if running, err = server.New(s.config(), slog.New(slog.DiscardHandler)); err == nil {
			go func() { // it ends with its parent
				_, _ = bufio.NewReader(os.Stdin).ReadByte()
				os.Exit(1)
			}()
			fmt.Println("ready")
			err = running.Run(context.Background())
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// killable is a server in a process of its own.
type killable struct {
	t        testing.TB
	settings serveSettings
	cmd      *exec.Cmd
}

func startKillable(t testing.TB) *killable {
	t.Helper()
	k := &killable{t: t, settings: serveSettings{"127.0.0.1:" + strconv.Itoa(natstest.FreePort(t)), t.TempDir()}}
	k.start()
	t.Cleanup(k.kill)
	return k
}

func (k *killable) url() string { return "http://" + k.settings.Listen }

func (k *killable) start() {
	k.t.Helper()
	raw, err := json.Marshal(k.settings)
	if err != nil {
		k.t.Fatal(err)
	}
	k.cmd = exec.Command(os.Args[0])
	k.cmd.Env = append(os.Environ(), envServe+"="+string(raw))
	k.cmd.Stderr = os.Stderr
	if _, err := k.cmd.StdinPipe(); err != nil {
		k.t.Fatal(err)
	}
	out, err := k.cmd.StdoutPipe()
	if err == nil {
		err = k.cmd.Start()
	}
	if err != nil {
		k.t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		k.t.Fatalf("the server said %q, %v", line, err)
	}
}

func (k *killable) kill() {
	if k.cmd == nil {
		return
	}
	_ = k.cmd.Process.Kill()
	_ = k.cmd.Wait()
	k.cmd = nil
}

// publish publishes without the client under test.
func (k *killable) publish(topic string, n int) {
	k.t.Helper()
	await(k.t, "a publication", func() bool {
		request, err := http.NewRequestWithContext(testContext(k.t), "POST", k.url()+"/publish/"+topic, strings.NewReader(strconv.Itoa(n)))
		if err != nil {
			k.t.Fatal(err)
		}
		request.Header.Set("Idempotency-Key", strconv.Itoa(n))
		request.Close = true
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return false
		}
		response.Body.Close()
		return response.StatusCode < 300
	})
}

// A server that is killed takes nothing with it: whoever comes back to the next
// process gets what he missed, once. What has no history is told as missing.
func TestKilledServer(t *testing.T) {
	byEach(t, func(t *testing.T, alone func(*pushd.Options)) {
		k := startKillable(t)
		c, told := connect(t, k.url(), alone)
		all := subscribe(t, c, "kept.>", pushd.SubscribeOptions{})
		one := subscribe(t, c, "kept.a", pushd.SubscribeOptions{})
		few := subscribe(t, c, "few.a", pushd.SubscribeOptions{})
		plain := subscribe(t, c, "plain.a", pushd.SubscribeOptions{})
		k.publish("few.a", 1000)
		wantNumbers(t, few, 1000, 1000)
		at := 0
		for range 2 {
			for range 10 {
				k.publish("kept.a", at)
				at++
			}
			wantNumbers(t, all, at-10, at-1)
			waiting := count(told, func(e *pushd.StateChange) bool { return e.State == pushd.Waiting })
			k.kill()
			await(t, "the client notices", func() bool {
				return count(told, func(e *pushd.StateChange) bool { return e.State == pushd.Waiting }) > waiting
			})
			k.start()
			for range 100 {
				k.publish("kept.a", at)
				at++
			}
			wantNumbers(t, all, at-100, at-1)
		}
		wantNumbers(t, one, 0, at-1)
		if by, want := c.Transport(), pushd.Transport(t.Name()[strings.LastIndex(t.Name(), "/")+1:]); by != want {
			t.Errorf("connected by %s, want %s", by, want)
		}
		if _, err := plain.Next(testContext(t)); !isGap(err, "disconnected", "restarted") {
			t.Errorf("without history: %v", err)
		}
		// What history has lost meanwhile is told too. (A server has it in memory, until it is another.)
		for n := range 9 {
			k.publish("few.a", 2000+n)
		}
		from := few.Cursor()
		k.kill()
		k.start()
		other, _ := connect(t, k.url(), alone)
		late, err := other.Subscribe(testContext(t), "few.a", pushd.SubscribeOptions{Cursor: from})
		if err != nil {
			t.Fatal(err)
		}
		m, err := late.Next(testContext(t))
		if !isGap(err, "expired") {
			t.Errorf("after the end of history: %s, %v", m.Data, err)
		}
		for isGap(err, "expired") { // by a subscription that is not recovered, and by its reader
			m, err = late.Next(testContext(t))
		}
		if err != nil || string(m.Data) != "2006" {
			t.Errorf("behind the gap: %s, %v; want 2006", m.Data, err)
		}
		wantNumbers(t, late, 2007, 2008)
		if count(told, func(g *pushd.Gap) bool { return strings.HasPrefix(g.Topic, "kept") }) != 0 {
			t.Error("something of the history is missing")
		}
	})
}

func isGap(err error, reasons ...string) bool {
	gap, ok := err.(*pushd.Gap)
	for _, reason := range reasons {
		if ok && gap.Reason == reason {
			return true
		}
	}
	return false
}
