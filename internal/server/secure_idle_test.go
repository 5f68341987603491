package server

import (
	"crypto/tls"
	"path/filepath"
	"testing"

	"github.com/pushd/pushd/internal/certstest"
)

// secureBudget is the most user-space memory that an idle, subscribed
// connection behind TLS may cost, everything counted.
const secureBudget = 5 << 10

// TestIdleSecured is TestIdleConnections behind TLS. Handshakes make garbage, for
// which Go's collector leaves room, so it is the heap and the stacks in use that
// are held to the budget; the process's memory is logged beside.
func TestIdleSecured(t *testing.T) {
	n := 2_000
	if soaking() {
		n = min(5_000, crowdSize(t))
	}
	a := certstest.New(t)
	dir := t.TempDir()
	a.Write(dir, a.Server())
	b := startShipped(t, "--tls-cert="+filepath.Join(dir, "tls.crt"), "--tls-key="+filepath.Join(dir, "tls.key"), "--handshake-timeout=20s")
	crowd(t, b.addr, "tls:/ws?topic=warm.up", 200)()
	before, beforeHeap, beforeRSS := b.goroutines(), b.heap(), b.rss()
	crowd(t, b.addr, "tls:/ws?topic=scores.final", n)
	after, afterHeap, afterRSS := b.goroutines(), b.heap(), b.rss()
	each := float64(afterHeap-beforeHeap) / float64(n)
	t.Logf("%d connections: %.0f bytes each, %.0f of the process's memory, %d goroutines before, %d after",
		n, each, float64(afterRSS-beforeRSS)/float64(n), before, after)
	if after > before+5 { // those of the admin request itself come and go
		t.Errorf("%d goroutines with %d connections, %d without", after, n, before)
	}
	if each > secureBudget {
		t.Errorf("%.0f bytes for each connection, want at most %d", each, secureBudget)
	}
}

// crowdTLS is how the clients of a crowd trust a server that they are sent to.
var crowdTLS = &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}}
