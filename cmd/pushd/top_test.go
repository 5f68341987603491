package main

import (
	"context"
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/pushd/pushd/internal/statistics"
)

func nodeAt(name string, time int64, open int, deliveries uint64) statistics.Node {
	n := statistics.Node{Node: name, State: "serving", Started: 1000, Time: time}
	n.Connections.Open, n.Connections.Max, n.Traffic.Deliveries = open, 100, deliveries
	n.Process.CPU, n.Latency.LoopLag.Max, n.NATS.Connected = float64(time)/10_000, 2.5, name != "b"
	return n
}

// TestTop draws two seconds of three nodes.
func TestTop(t *testing.T) {
	var v top
	f := v.see([]statistics.Node{nodeAt("a", 5000, 3, 100), nodeAt("b", 5000, 7, 100)}, nil)
	if f.all.deliveries != 0 || f.all.connections != 10 || f.nodes[0].name != "b" {
		t.Errorf("the first: %+v", f)
	}
	again := nodeAt("b", 7000, 7, 0) // it began anew
	again.Started = 6000
	f = v.see([]statistics.Node{nodeAt("a", 7000, 3, 500), again, nodeAt("c\x1b[2J", 7000, 1, 9)}, nil)
	want := strings.TrimSpace(`
NODE     STATE    CONNECTIONS  MAX  DELIVERIES/S  LAG MS  SLOW  CPU %  NATS
3 nodes           11           300  200           2.5     0     10     
b        serving  7            100  0             2.5     0     0      away
a        serving  3            100  200           2.5     0     10     connected
c?[2J    serving  1            100  0             2.5     0     0      connected`) + "\n"
	if got := f.text(24); got != want {
		t.Errorf("got\n%q\nwant\n%q", got, want)
	}
	var b strings.Builder
	if err := draw(&b, f, 12, 4); err != nil {
		t.Fatal(err)
	}
	if got, want := b.String(), "\x1b[HNODE     STA\x1b[K\r\n3 nodes     \x1b[K\r\nb        ser\x1b[K\r\n\x1b[J"; got != want {
		t.Errorf("drawn %q, want %q", got, want)
	}
	b.Reset()
	for _, f := range []frame{f, v.see(nil, errors.New("away"))} {
		if err := showLine(&b, f); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := b.String(), "3 nodes  11 connections  200 deliveries/s  lag 2.5 ms  slow 0\naway\n"; got != want {
		t.Errorf("lines %q, want %q", got, want)
	}
}

func TestAwaitQuit(t *testing.T) {
	for keys, want := range map[string]bool{"q": true, "xyq": true, "\x03": true, "xy": false} {
		quit := false
		awaitQuit(strings.NewReader(keys), func() { quit = true })
		if quit != want {
			t.Errorf("%q: %v", keys, quit)
		}
	}
}

// TestNodes prints the one node that there is, and watches it.
func TestNodes(t *testing.T) {
	s := serveWith(t, "--node-name=alpha")
	s.welcomed(t)
	row := regexp.MustCompile(`(?m)^alpha +serving +1 +\d+ +0 +0 +connected `)
	eventually(t, "it is listed", func() bool {
		got := runWith(testContext(t), "", "nodes", "--admin", s.admin)
		return got.code == 0 && strings.HasPrefix(got.stdout, "NODE ") && row.MatchString(got.stdout)
	})
	ctx, stop := context.WithCancel(testContext(t))
	var stdout, stderr output
	code := make(chan int, 1)
	go func() {
		p := program{path: "pushd", stdin: strings.NewReader(""), stdout: &stdout, stderr: &stderr}
		code <- p.run(ctx, []string{"top", "--admin", s.admin})
	}()
	eventually(t, "two lines", func() bool { return strings.Count(stdout.String(), "1 nodes  1 connections") >= 2 })
	stop()
	if got := <-code; got != 0 {
		t.Errorf("ended with %d: %s", got, &stderr)
	}
	got := runWith(testContext(t), "", "drain", "--node=alpha", "--grace=3600", "--admin", s.admin)
	if got != (result{0, "waiting, 1 connections\n", ""}) {
		t.Errorf("%+v", got)
	}
	got = runWith(testContext(t), "", "drain", "--node=beta", "--admin", s.admin)
	if got.code != 1 || !strings.Contains(got.stderr, "no node that was heard of") {
		t.Errorf("%+v", got)
	}
}
