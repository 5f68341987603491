package server

import (
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
)

// pollBudget is the most of the heap that a poll may take that waits, its query included.
const pollBudget = 600

// TestIdlePolls holds that a poll that waits, or a connection between two polls, costs
// no goroutine, and little memory.
func TestIdlePolls(t *testing.T) {
	n := min(crowdSize(t), 2000)
	b := startShipped(t)
	waiting := func(n int) func() bool {
		want := fmt.Sprintf("pushd_transport_connections{transport=\"poll\"} %d\n", n)
		return func() bool { return strings.Contains(b.get("/metrics"), want) }
	}
	crowd(t, b.addr, "/poll?topic=warm.up", 500)()
	eventually(t, "nobody waits", waiting(0))
	for _, path := range []string{"/poll?topic=scores.final&wait=60", "/poll?topic=stocks.S{i}&wait=60"} {
		before, beforeHeap := b.goroutines(), b.heap()
		end := crowd(t, b.addr, path, n)
		eventually(t, "all wait", waiting(n))
		after, afterHeap := b.goroutines(), b.heap()
		each := (float64(afterHeap) - float64(beforeHeap)) / float64(n)
		t.Logf("%s: %d polls: %.0f bytes of the heap each, %d goroutines before, %d after", path, n, each, before, after)
		if after > before+5 {
			t.Errorf("%s: %d goroutines with %d polls, %d without", path, after, n, before)
		}
		if each > pollBudget {
			t.Errorf("%s: %.0f bytes for each poll, want at most %d", path, each, pollBudget)
		}
		end()
		eventually(t, "nobody waits", waiting(0))
	}

	crowd(t, b.addr, "/poll?topic=scores.final&wait=0", n) // and has its answer, and is kept
	eventually(t, "all are answered", waiting(0))
	if kept := b.goroutines(); kept > 50 {
		t.Errorf("%d goroutines with %d connections between two polls", kept, n)
	}
}

// A poll that is answered makes a bounded number of allocations.
func TestPollAllocations(t *testing.T) {
	r := start(t)
	c, err := net.Dial("tcp", r.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	request := []byte("GET /poll?topic=chat.a&wait=0 HTTP/1.1\r\nHost: x\r\n\r\n")
	buf := make([]byte, 4096)
	ask := func() {
		if _, err := c.Write(request); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAtLeast(c, buf, 1); err != nil { // an answer so small comes in one read
			t.Fatal(err)
		}
	}
	for range 100 {
		ask()
	}
	const polls = 1000
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range polls {
		ask()
	}
	runtime.ReadMemStats(&after)
	if each := float64(after.Mallocs-before.Mallocs) / polls; each > 40 {
		t.Errorf("%.1f allocations for each poll, want at most 40", each)
	} else {
		t.Logf("%.1f allocations for each poll", each)
	}
}
