package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/pushd/pushd/bench/load"
)

func TestMain(m *testing.M) {
	load.WorkerMain()
	// With the race detector a process sleeps for a second when it exits; workers need not.
	if err := os.Setenv("GORACE", "atexit_sleep_ms=0"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// The program measures a pushd that it starts, and writes all that it is asked for.
func TestRun(t *testing.T) {
	directory := t.TempDir()
	binary := filepath.Join(directory, "pushd")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "github.com/pushd/pushd/cmd/pushd").CombinedOutput(); err != nil {
		t.Fatalf("build pushd: %v\n%s", err, out)
	}
	address := freeAddresses(t)
	file := filepath.Join(directory, "result.json")
	args := []string{
		"pushbench", "fanout", "--clients=20", "--rate=200", "--messages=20", "--duration=1m", "--settle=10ms", "--patience=20s",
		"--url=ws://" + address[0] + "/ws", "--publish=nats://" + address[2],
		fmt.Sprintf("--start=exec '%s' serve --listen=%s --admin=%s --nats-listen=%s --store=memory --drain-window=0s", binary, address[0], address[1], address[2]),
		"--json=" + file, "--plot=" + directory,
	}
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), args, &stdout, &stderr); code != 0 || stderr.Len() > 0 {
		t.Fatalf("exit code %d, stderr %q", code, stderr.String())
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var result load.Result
	if err := json.Unmarshal(text, &result); err != nil {
		t.Fatal(err)
	}
	if got := result.Window("fanout").Steady.Received; got != 20*20 {
		t.Errorf("%d deliveries, want 400", got)
	}
	if strings.Join(result.Command, " ") != strings.Join(args, " ") {
		t.Errorf("the command is %q", result.Command)
	}
	drawing := filepath.Join(directory, "fanout-latency.svg")
	if _, err := os.Stat(drawing); err != nil {
		t.Error(err)
	}
	for _, part := range []string{"## fanout: pushd", "server CPU for a delivery", "--messages=20", "- " + drawing} {
		if !strings.Contains(stdout.String(), part) {
			t.Errorf("stdout lacks %q:\n%s", part, stdout.String())
		}
	}
}

// freeAddresses returns three addresses at which nothing listens.
func freeAddresses(t *testing.T) (addresses [3]string) {
	t.Helper()
	for i := range addresses {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close() // at the end, so that they differ
		addresses[i] = listener.Addr().String()
	}
	return addresses
}

func TestUsage(t *testing.T) {
	f := func(code int, stdoutHas, stderrHas string, args ...string) {
		t.Helper()
		var stdout, stderr bytes.Buffer
		got := run(t.Context(), append([]string{"pushbench"}, args...), &stdout, &stderr)
		if got != code || !strings.Contains(stdout.String(), stdoutHas) || !strings.Contains(stderr.String(), stderrHas) {
			t.Errorf("%q: exit code %d, stdout %q, stderr %q", args, got, stdout.String(), stderr.String())
		}
	}
	help := "storm: When all clients lose their connections"
	f(0, help, "", "--help")
	f(80, "", "pushbench: error: expected \"<scenario>\"")
	f(80, "", "unknown flag --clint", "fanout", "--clint=3")
	f(1, "", `pushbench: there is no scenario "flood", but idle, fanout`, "flood")
	f(1, "", "pushbench: --clients is -3, but must be at least 1", "fanout", "--clients=-3")
}

func TestLossy(t *testing.T) {
	f := func(r load.Result, want bool) {
		t.Helper()
		if got := lossy(&r); got != want {
			t.Errorf("%+v: %v", r, got)
		}
	}
	window := func(w load.Window) load.Result { return load.Result{Windows: []*load.Window{{}, &w}} }
	f(load.Result{}, false)
	f(window(load.Window{Steady: load.Counts{Expected: 3, Received: 2, Away: 1}, Others: load.Counts{Missing: 3}}), false)
	f(window(load.Window{Steady: load.Counts{Missing: 1}}), true)
	f(window(load.Window{Steady: load.Counts{Duplicate: 1}}), true)
	f(window(load.Window{Steady: load.Counts{OutOfOrder: 1}}), true)
	f(window(load.Window{Lost: 1}), true)
	f(load.Result{Connections: load.Connections{Failed: 1}}, true)
}
