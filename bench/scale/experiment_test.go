package main

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pushd/pushd/bench/load"
)

// An experiment with few connections.
func TestExperiment(t *testing.T) {
	p, err := build(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Run("performed", func(t *testing.T) { testPerformed(t, p) })
	t.Run("interrupted", func(t *testing.T) { testInterrupted(t, p) })
	if err := p.remove(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(p.dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the programs are not gone: %v", err)
	}
}

// All come, all get everything once, and nothing is left behind.
func testPerformed(t *testing.T, p programs) {
	e := experiment{
		connections: 300, processes: 2, topics: 10, rounds: 1, broadcasts: 3, deliveries: 3_000, duration: 500 * time.Millisecond,
		wait: 1500 * time.Millisecond, heartbeat: time.Second, settle: 10 * time.Millisecond, progress: io.Discard, programs: p,
	}
	m, err := e.perform(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if m.Connections != 300 || m.PushdProcesses != 2 || m.ClientProcesses != 2 {
		t.Errorf("%d connections, %d and %d processes", m.Connections, m.PushdProcesses, m.ClientProcesses)
	}
	if m.Heartbeat.Pings == 0 {
		t.Error("no pings")
	}
	if d := m.One; d.Messages != 3 || d.Deliveries != 3*300 || d.Missing != 0 {
		t.Errorf("one topic: %+v", d)
	}
	if d := m.Many; d.Messages == 0 || d.Deliveries != uint64(d.Messages)*30 || d.Missing != 0 {
		t.Errorf("many topics: %+v", d)
	}
	if want := 3 * (1 + 2 + 2); len(e.pids) != want {
		t.Errorf("%d processes were started, want %d", len(e.pids), want)
	}
	e.checkGone(t)
	var out strings.Builder
	if err := writeMarkdown(&out, m); err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{
		"| connections, pushd processes, client processes | 300, 2, 2 |", "| one message to all: messages, deliveries, missing | 3, 900, 0 |", "| 10 topics: NATS's CPU |",
	} {
		if !strings.Contains(out.String(), part) {
			t.Errorf("%q is not in\n%s", part, &out)
		}
	}
}

// later calls a function a second after something was first written to it.
type later struct {
	once sync.Once
	call func()
}

func (l *later) Write(p []byte) (int, error) {
	l.once.Do(func() { time.AfterFunc(time.Second, l.call) })
	return len(p), nil
}

// An experiment that is ended in the middle says so, and leaves nothing behind.
func testInterrupted(t *testing.T, p programs) {
	ctx, cancel := context.WithCancel(t.Context())
	e := experiment{
		connections: 10, processes: 2, topics: 1, rounds: 1, broadcasts: 1, deliveries: 1, wait: time.Hour, heartbeat: time.Second,
		settle: 10 * time.Millisecond, progress: &later{call: cancel}, programs: p,
	}
	if _, err := e.perform(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	e.checkGone(t)
}

// checkGone holds that nothing is left of what was started.
func (e *experiment) checkGone(t *testing.T) {
	t.Helper()
	for _, pid := range e.pids {
		if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("process %d is not gone: %v", pid, err)
		}
	}
}

// A loss makes figures worthless.
func TestComplete(t *testing.T) {
	whole := func() *load.Result {
		return &load.Result{
			Connections: load.Connections{Open: 5},
			Windows:     []*load.Window{{Name: "many", Steady: load.Counts{Expected: 10, Received: 10}}},
		}
	}
	if err := complete(whole(), 5); err != nil {
		t.Error(err)
	}
	f := func(want string, change func(r *load.Result)) {
		t.Helper()
		r := whole()
		change(r)
		err := complete(r, 5)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "worth nothing") {
			t.Errorf("error %v, want %q", err, want)
		}
	}
	f("4 of 5 connections open", func(r *load.Result) { r.Connections.Open = 4 })
	f("1 lost", func(r *load.Result) { r.Connections.Lost = 1 })
	f("many: of 10 deliveries 9 arrived, 1 missing", func(r *load.Result) { r.Windows[0].Steady.Received, r.Windows[0].Steady.Missing = 9, 1 })
	f("1 twice", func(r *load.Result) { r.Windows[0].Steady.Duplicate = 1 })
	f("many: map[lost:1]", func(r *load.Result) { r.Windows[0].Problems = map[string]int{"lost": 1} })
}
