package main

import (
	"encoding/json"
	"io"
	"os"
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

// TestSimulate holds that the simulation delivers everything and pings everybody,
// at a small size: run fails otherwise.
func TestSimulate(t *testing.T) {
	f := func(args, want string) {
		t.Helper()
		var out strings.Builder
		if err := run(t.Context(), strings.Fields(args), &out, io.Discard); err != nil {
			t.Errorf("%s: %v", args, err)
		}
		if !strings.Contains(out.String(), want) {
			t.Errorf("%s: %q is not in\n%s", args, want, &out)
		}
	}
	f("-n 10000 -shards 2", "| connections, subscriptions, topics, shards | 10000, 10000, 1, 2 |\n")
	f("-n 10000 -shards 2 -topics 10", "| connections, subscriptions, topics, shards | 10000, 10000, 10, 2 |\n")
	f("-n 10000 -shards 2 -text", "connections, subscriptions, topics, shards   10000, 10000, 1, 2\n")
}

func TestSimulateJSON(t *testing.T) {
	var out strings.Builder
	if err := run(t.Context(), []string{"-n=10000", "-json"}, &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal([]byte(out.String()), &got); err != nil {
		t.Fatalf("%v in\n%s", err, &out)
	}
	if got["mode"] != "simulated" || got["connections"] != 10000.0 {
		t.Errorf("mode %v, %v connections", got["mode"], got["connections"])
	}
	for _, name := range []string{"heap_bytes_per_connection", "resident_bytes_per_connection", "gc_cpu_seconds", "broadcast_cpu_seconds", "heartbeat_cpu_seconds"} {
		if value, ok := got[name].(float64); !ok || value < 0 {
			t.Errorf("%s is %v in\n%s", name, got[name], &out)
		}
	}
}

func TestUsage(t *testing.T) {
	f := func(args, want string) {
		t.Helper()
		err := run(t.Context(), strings.Fields(args), io.Discard, io.Discard)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", args, err, want)
		}
	}
	f("-m 3", "flag provided but not defined: -m")
	f("-n 3 real", `"real" is no flag`)
	f("-n -3", "-n is -3, -shards ")
	f("-real -rounds 0", "must be at least 1")
	f("-real -n 1", "-n is 1, but there are 2 pushd processes")
	f("-real -n 100000000 -limit 1m", "lower -n, or take a larger machine")
}
