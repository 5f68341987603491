package fleet

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pushd/pushd/bench/load/internal/control"
)

// behaviour in the environment makes the test binary a worker.
const behaviour = "PUSHD_BENCH_TEST_WORKER"

func TestMain(m *testing.M) {
	if how, ok := os.LookupEnv(behaviour); ok {
		work(how)
		os.Exit(0)
	}
	if err := os.Setenv("GORACE", "atexit_sleep_ms=0"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// work answers requests, and does at State what its behaviour is.
func work(how string) {
	out := json.NewEncoder(os.Stdout)
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		var r control.Request
		if err := json.Unmarshal(in.Bytes(), &r); err != nil {
			panic(err)
		}
		answer := control.Event{ID: r.ID, Status: &control.Status{Open: os.Getpid()}}
		if r.Verb == control.State {
			switch how {
			case "die":
				fmt.Fprintln(os.Stderr, "went wrong")
				os.Exit(3)
			case "garble":
				fmt.Println("{]")
			case "refuse":
				answer.Error = "no such thing"
			case "notify":
				if err := out.Encode(control.Event{Complete: []uint32{7, 8}}); err != nil {
					panic(err)
				}
			case "mute":
				continue
			}
		}
		if err := out.Encode(answer); err != nil {
			panic(err)
		}
		if r.Verb == control.End {
			return
		}
	}
}

func start(t *testing.T, how string, complete func([]uint32)) *Fleet {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	f, err := Start(Config{Path: self, Env: []string{behaviour + "=" + how}, Workers: 2, Complete: complete})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestEach(t *testing.T) {
	var mu sync.Mutex
	var completed []uint32
	f := start(t, "notify", func(numbers []uint32) {
		mu.Lock()
		defer mu.Unlock()
		completed = append(completed, numbers...)
	})
	for range 3 {
		answers, err := f.All(t.Context(), control.Request{Verb: control.State})
		if err != nil {
			t.Fatal(err)
		}
		for i, pid := range f.PIDs() {
			if answers[i].Status.Open != pid {
				t.Errorf("answer %d is not of worker %d", i, pid)
			}
		}
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	slices.Sort(completed)
	if want := []uint32{7, 7, 7, 7, 7, 7, 8, 8, 8, 8, 8, 8}; !slices.Equal(completed, want) {
		t.Errorf("completed %v, want %v", completed, want)
	}
}

// What a worker does wrong is an error that says what, and Close leaves none behind.
func TestFaults(t *testing.T) {
	f := func(how, want string, ended string) {
		t.Helper()
		fleet := start(t, how, nil)
		_, err := fleet.All(t.Context(), control.Request{Verb: control.State})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %q, want %q", how, err, want)
		}
		if err := fleet.Close(); (err == nil) != (ended == "") || err != nil && !strings.Contains(err.Error(), ended) {
			t.Errorf("%s: Close: %v, want %q", how, err, ended)
		}
	}
	f("die", "worker 0: exit status 3\nwent wrong", "exit status 3")
	f("garble", "worker 0: read its events: invalid character ']'", "read its events")
	f("refuse", "worker 0: no such thing", "")
}

// Who does not answer is left when the context ends, and ended all the same.
func TestMute(t *testing.T) {
	f := start(t, "mute", nil)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := f.All(ctx, control.Request{Verb: control.State}); err != context.DeadlineExceeded {
		t.Errorf("error %v", err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}
