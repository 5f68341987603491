package server

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

// shipped is pushd as it is shipped: without the race detector, whose memory
// would hide ours, and in a process of its own.
type shipped struct {
	running
	cmd          *exec.Cmd
	adminAddress string
}

var servingLine = regexp.MustCompile(`listen=(\S+) admin=(\S+)`)

// program makes pushd, once for all tests, in a folder that TestMain removes.
var program = sync.OnceValues(func() (path string, err error) {
	dir, err := os.MkdirTemp("", "pushd-test-")
	if err != nil {
		return "", err
	}
	path = filepath.Join(dir, "pushd")
	if out, err := exec.Command("go", "build", "-o", path, "github.com/pushd/pushd/cmd/pushd").CombinedOutput(); err != nil {
		return path, fmt.Errorf("go build: %w\n%s", err, out)
	}
	built.Store(&dir)
	return path, nil
})

var built atomic.Pointer[string] // the folder

// build puts the program pushd at a path.
func build(t testing.TB, path string) {
	t.Helper()
	from, err := program()
	if err == nil {
		err = os.MkdirAll(filepath.Dir(path), 0o755)
	}
	if err == nil {
		err = os.Link(from, path)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// startShipped builds and starts pushd.
func startShipped(t testing.TB, flags ...string) *shipped {
	t.Helper()
	path := filepath.Join(t.TempDir(), "pushd")
	build(t, path)
	b := &shipped{cmd: exec.Command(path, append([]string{"serve", "--listen=127.0.0.1:0", "--admin=127.0.0.1:0",
		"--nats-listen=127.0.0.1:0", "--store=memory"}, flags...)...)}
	b.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	b.cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { // what sets up tests is no setting of the server
		return strings.HasPrefix(v, "PUSHD_")
	})
	logPath := filepath.Join(t.TempDir(), "log")
	log, err := os.Create(logPath)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	b.cmd.Stderr = log
	if err := b.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		b.cmd.Process.Signal(syscall.SIGTERM)
		if err := b.cmd.Wait(); err != nil {
			said, _ := os.ReadFile(logPath)
			t.Errorf("pushd ended with %v; it said:\n%s", err, said)
		}
	})
	var found []string
	eventually(t, "pushd serves", func() bool {
		text, err := os.ReadFile(logPath)
		if err != nil {
			t.Fatal(err)
		}
		found = servingLine.FindStringSubmatch(string(text))
		return found != nil
	})
	b.running = running{Server: &Server{addr: found[1]}, t: t}
	b.adminAddress = found[2]
	return b
}

// goroutines forces garbage collections, and says how many goroutines there are.
func (b *shipped) goroutines() int {
	b.t.Helper()
	for range 3 { // the memory of one is given back after the next
		b.get("/debug/pprof/heap?gc=1")
	}
	profile := b.get("/debug/pprof/goroutine?debug=1")
	var n int
	if _, err := fmt.Sscanf(profile, "goroutine profile: total %d", &n); err != nil {
		b.t.Fatalf("%v in %.60q", err, profile)
	}
	return n
}

func (b *shipped) get(path string) string {
	b.t.Helper()
	status, _, body := b.request("GET", "http://"+b.adminAddress+path, "", "")
	if status != 200 {
		b.t.Fatalf("GET %s: %d", path, status)
	}
	return body
}

// rss is the process's resident memory in bytes.
func (b *shipped) rss() int {
	b.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", b.cmd.Process.Pid))
	if err != nil {
		b.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				b.t.Fatal(err)
			}
			return kib << 10
		}
	}
	b.t.Fatal("no VmRSS")
	return 0
}

// budget is the most user-space memory that an idle, subscribed connection may
// cost, everything counted.
const budget = 256

// manyEnough is how many connections there must be for what they take to stand
// out from the ups and downs of a process's memory, some hundred KiB.
const manyEnough = 10_000

// TestIdleConnections holds that a connection costs no goroutine, and no more
// memory than budget, whether all are subscribed to one topic or 30 to each. Of
// few connections, and of streams of events, it is the heap and the stacks in use that are looked at.
func TestIdleConnections(t *testing.T) {
	n := crowdSize(t)
	for _, c := range []struct{ name, path string }{
		{"one topic", "/ws?topic=scores.final"},
		{"one topic, compressed", "deflate:/ws?topic=scores.final"},
		{"30 to each topic", "/ws?topic=stocks.S{i}"},
		{"events, 30 to each topic", "/sse?topic=stocks.S{i}"},
	} {
		t.Run(c.name, func(t *testing.T) {
			n, inUse := n, n < manyEnough
			if strings.HasPrefix(c.path, eventsPath) {
				n, inUse = min(n, manyEnough), true
			}
			b := startShipped(t)
			crowd(t, b.addr, c.path[:strings.Index(c.path, "?")]+"?topic=warm.up", 500)() // what is there once, whoever comes
			memory := b.rss
			if inUse {
				memory = func() int { return int(b.heap()) }
			}
			before, beforeMemory := b.goroutines(), memory()
			crowd(t, b.addr, c.path, n)
			after, afterMemory := b.goroutines(), memory()
			each := float64(afterMemory-beforeMemory) / float64(n)
			t.Logf("%d connections: %.0f bytes each, %d goroutines before, %d after", n, each, before, after)
			if after > before+5 { // those of the admin request itself come and go
				t.Errorf("%d goroutines with %d connections, %d without", after, n, before)
			}
			if each > budget {
				t.Errorf("%.0f bytes for each connection, want at most %d", each, budget)
			}
		})
	}
}

// TestIdleAuthenticated is TestIdleConnections with a token and an identity for
// each. To check a token makes garbage, and the room that Go's collector
// leaves for that hides in the process's memory what connections keep: so it
// is the heap in use that is held to the budget.
func TestIdleAuthenticated(t *testing.T) {
	n := min(crowdSize(t), 10_000)
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte(testSecret), 0o600); err != nil {
		t.Fatal(err)
	}
	b := startShipped(t, "--token-secret-file="+secret)
	crowd(t, b.addr, "/ws?topic=warm.up&token={token}", 500)()
	before, beforeRSS, beforeHeap := b.goroutines(), b.rss(), b.heap()
	crowd(t, b.addr, "/ws?topic=scores.final&token={token}", n)
	after, afterRSS, afterHeap := b.goroutines(), b.rss(), b.heap()
	each := (float64(afterHeap) - float64(beforeHeap)) / float64(n)
	t.Logf("%d connections: %.0f bytes of the heap each, %.0f of the process; %d goroutines before, %d after",
		n, each, float64(afterRSS-beforeRSS)/float64(n), before, after)
	if after > before+5 {
		t.Errorf("%d goroutines with %d connections, %d without", after, n, before)
	}
	if each > budget {
		t.Errorf("%.0f bytes for each connection, want at most %d", each, budget)
	}
}
