package conn

import (
	"encoding/json"
	"net/http"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// vitals are what a server without file descriptors says of itself.
type vitals struct {
	Addr   string
	Counts Counts
	CPU    time.Duration // user and system, since its start
}

// fewFiles is how many descriptors the server may open beside those it has.
const fewFiles = 40

// serveWithFewFiles is a role: an echo server that answers each question with its vitals.
func serveWithFewFiles(t *testing.T, in *json.Decoder, out *json.Encoder) {
	sh := startShard(t, &script{}, func(s *settings) { s.tick = 100 * time.Millisecond })
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	few := old
	few.Cur = uint64(openFiles(t) + fewFiles)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &few); err != nil {
		t.Fatal(err)
	}
	for asked(t, in, new(string)) {
		var usage unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
			t.Fatal(err)
		}
		out.Encode(vitals{sh.addr, sh.Counts(), time.Duration(usage.Utime.Nano() + usage.Stime.Nano())})
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
}

func openFiles(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries) - 1 // the directory itself
}

// At its limit of open files a server goes on with those it has, answers those
// who come, does not spin, and takes more when it can.
func TestOutOfFiles(t *testing.T) {
	server := startChild(t, "server")
	now := func() (v vitals) { server.ask("vitals", &v); return v }
	sh := &shard{t: t, addr: now().Addr} // seen from its clients

	var open []*client
	for len(open) < 2*fewFiles {
		c := sh.connect()
		if status := c.tryUpgrade(); status != http.StatusSwitchingProtocols {
			break
		}
		open = append(open, c)
	}
	if len(open) < fewFiles/2 || len(open) == 2*fewFiles {
		t.Fatalf("%d connections with %d descriptors", len(open), fewFiles)
	}

	before, began := now(), time.Now()
	answered := 0
	for range 2 {
		var crowd []*client
		for range 200 {
			c := sh.connect()
			c.Write([]byte(plainRequest)) // it may be closed already
			crowd = append(crowd, c)
		}
		for _, c := range open {
			c.wantNothing()
		}
		for _, c := range crowd {
			switch r, err := http.ReadResponse(c.r, nil); {
			case err != nil: // shed without a word
			case r.StatusCode != http.StatusServiceUnavailable || r.Header.Get("Retry-After") == "":
				t.Fatalf("status %d, Retry-After %q", r.StatusCode, r.Header.Get("Retry-After"))
			default:
				answered++
			}
			c.Close()
		}
	}
	after, took := now(), time.Since(began)
	t.Logf("%d open; of 400 more, %d were answered; %v CPU in %v; %d pauses", len(open), answered, after.CPU-before.CPU, took, after.Counts.AcceptPauses)
	if answered == 0 {
		t.Error("nobody was told why")
	}
	if cpu := after.CPU - before.CPU; cpu > took/2 {
		t.Errorf("%v of CPU in %v: the server spins", cpu, took)
	}
	if after.Counts.AcceptPauses == 0 || after.Counts.Shed < uint64(answered) {
		t.Errorf("counts: %+v", after.Counts)
	}

	for _, c := range open[:5] {
		c.Close()
	}
	until(t, "there is room again", func() bool {
		c := sh.connect()
		if c.tryUpgrade() != http.StatusSwitchingProtocols {
			c.Close()
			return false
		}
		c.wantNothing()
		return true
	})
	for _, c := range open[5:] {
		c.wantNothing()
	}
}

// tryUpgrade returns the status of the answer, 0 if there is none.
func (c *client) tryUpgrade() int {
	c.Write([]byte(plainRequest))
	r, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return 0
	}
	return r.StatusCode
}
