package server

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
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
	"time"

	"github.com/gobwas/ws"
	natsgo "github.com/nats-io/nats.go"

	"github.com/pushd/pushd/internal/natstest"
)

// upgradable is a pushd in a process of its own, and then in the next.
type upgradable struct {
	t       testing.TB
	path    string // of the binary
	logPath string
	admin   string
	pid     int
	running
}

// startUpgradable runs the real program on an external NATS.
func startUpgradable(t testing.TB, nats string, flags ...string) *upgradable {
	t.Helper()
	u := &upgradable{t: t, path: filepath.Join(t.TempDir(), "pushd"), logPath: filepath.Join(t.TempDir(), "log")}
	build(t, u.path)
	cmd := exec.Command(u.path, append([]string{"serve", "--listen=127.0.0.1:0", "--admin=127.0.0.1:0", "--shards=2"}, flags...)...)
	if nats != "" {
		cmd.Args = append(cmd.Args, "--nats="+nats)
	}
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "PUSHD_") })
	log, err := os.Create(u.logPath)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	u.pid = cmd.Process.Pid
	first := make(chan error, 1)
	go func() { first <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = syscall.Kill(u.pid, syscall.SIGTERM)
		if err := <-first; err != nil {
			t.Errorf("the first process ended with %v", err)
		}
		eventually(t, "the last process ends", func() bool { return !runs(u.pid) })
		if t.Failed() {
			t.Logf("log:\n%s", u.log())
		}
	})
	var found []string
	eventually(t, "pushd serves", func() bool {
		found = servingLine.FindStringSubmatch(u.log())
		return found != nil
	})
	u.running, u.admin = running{Server: &Server{addr: found[1]}, t: t}, found[2]
	return u
}

func (u *upgradable) log() string {
	text, err := os.ReadFile(u.logPath)
	if err != nil {
		u.t.Fatal(err)
	}
	return string(text)
}

// runs reports whether there is such a process, which is no zombie.
func runs(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

// upgrade asks for it, and returns the answer.
func (u *upgradable) upgrade() (status int, body string, done Upgraded) {
	u.t.Helper()
	request, err := http.NewRequest(http.MethodPost, "http://"+u.admin+"/upgrade", nil)
	if err != nil {
		u.t.Fatal(err)
	}
	request.Close = true // the next is another process's
	r, err := http.DefaultClient.Do(request)
	if err != nil {
		u.t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		u.t.Fatal(err)
	}
	if r.StatusCode == http.StatusOK {
		if err := json.Unmarshal(text, &done); err != nil {
			u.t.Fatal(err)
		}
		u.pid = done.PID
	}
	return r.StatusCode, string(text), done
}

// upgraded is a client that must not notice anything.
type upgraded struct {
	socket *socket
	feeds  []string
	json   bool

	// Guarded by mu.
	mu      sync.Mutex
	last    map[string]int
	wrong   string
	came    time.Time
	longest time.Duration
}

var numberedLine = regexp.MustCompile(`"f":"([a-z.]+)","n":(\d+)`)

// run reads until the test ends.
func (f *upgraded) run(ending *atomic.Bool) {
	for {
		h, err := ws.ReadHeader(f.socket.read)
		payload := make([]byte, max(0, h.Length))
		if err == nil {
			_, err = io.ReadFull(f.socket.read, payload)
		}
		if ending.Load() {
			return
		}
		f.mu.Lock()
		switch found := numberedLine.FindSubmatch(payload); {
		case err != nil:
			f.wrong = fmt.Sprint("the connection ended: ", err)
		case h.OpCode == ws.OpPing:
		case h.OpCode != ws.OpText:
			f.wrong = fmt.Sprintf("a frame %v %q", h.OpCode, payload)
		case found == nil && strings.Contains(string(payload), `"pong"`):
		case found == nil:
			f.wrong = fmt.Sprintf("was told %s", payload)
		default:
			feed := string(found[1])
			n, _ := strconv.Atoi(string(found[2]))
			if last, begun := f.last[feed]; begun && n != last+1 && f.wrong == "" {
				f.wrong = fmt.Sprintf("%s: %d came after %d", feed, n, last)
			}
			f.last[feed] = n
			if now := time.Now(); !f.came.IsZero() {
				f.longest, f.came = max(f.longest, now.Sub(f.came)), now
			} else {
				f.came = now
			}
		}
		wrong := f.wrong
		f.mu.Unlock()
		if wrong != "" {
			return
		}
	}
}

// write is for who may send commands.
func (f *upgraded) write(p []byte) {
	if !f.json {
		return
	}
	if _, err := f.socket.conn.Write(p); err != nil {
		f.socket.t.Errorf("writing: %v", err)
	}
}

// publishing sends to each feed at a pace until it is stopped, and says how many there were.
func publishing(t testing.TB, nc *natsgo.Conn, feeds []string, every time.Duration) (stop func() int) {
	var running sync.WaitGroup
	end, n := make(chan struct{}), 0
	running.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-end:
				return
			case <-tick.C:
			}
			n++
			for _, feed := range feeds {
				if err := nc.Publish("push."+feed, fmt.Appendf(nil, `{"f":%q,"n":%d}`, feed, n)); err != nil {
					t.Error(err)
				}
			}
		}
	})
	return sync.OnceValue(func() int {
		close(end)
		running.Wait()
		return n
	})
}

// Connections of every kind, under traffic, are handed over several times and
// notice nothing: none is closed, nothing is lost, doubled or reordered. How many
// and how often is PUSHD_SOAK's to say.
func TestHotUpgrade(t *testing.T) {
	clients, upgrades := 200, 3
	if soaking() {
		clients, upgrades = 10_000, 10
	}
	nats := natstest.Start(t, natstest.Store(t.TempDir()))
	file := filepath.Join(t.TempDir(), "pushd.yaml")
	if err := os.WriteFile(file, []byte("namespaces:\n  scores: {delivery: all, history: {age: 1h}}\n  user: {interest: topic}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	u := startUpgradable(t, nats.URL(), "--config="+file)
	feeds := []string{"scores.a", "chat.a", "user.a"}
	var all []*upgraded
	var reading sync.WaitGroup
	var ending atomic.Bool
	for i := range clients {
		f := &upgraded{feeds: feeds, json: i%2 == 0, last: make(map[string]int)}
		format := "raw"
		if f.json {
			format = "json"
		}
		f.socket = u.dial("format=" + format + "&topic=scores.>&topic=chat.*&topic=user.a")
		if f.json {
			for range 4 { // welcome, and three subscriptions
				f.socket.next()
			}
		}
		if err := f.socket.conn.SetDeadline(time.Time{}); err != nil { // who waits for all of them gives up
			t.Fatal(err)
		}
		all = append(all, f)
		reading.Go(func() { f.run(&ending) })
	}
	defer reading.Wait()
	defer func() {
		ending.Store(true)
		for _, f := range all {
			f.socket.conn.Close()
		}
	}()
	nc, err := natsgo.Connect(nats.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	every := 5 * time.Millisecond
	if clients > 1000 {
		every = 200 * time.Millisecond
	}
	stop := publishing(t, nc, feeds, every)
	defer stop()
	wantAll := func(n int) {
		t.Helper()
		for deadline := time.Now().Add(2 * patience); ; time.Sleep(10 * time.Millisecond) {
			behind := 0
			for i, f := range all {
				f.mu.Lock()
				if f.wrong != "" {
					t.Fatalf("client %d (json: %v): %s", i, f.json, f.wrong)
				}
				for _, feed := range feeds {
					if f.last[feed] < n {
						behind++
					}
				}
				f.mu.Unlock()
			}
			if behind == 0 {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%d of %d lack messages", behind, clients*len(feeds))
			}
		}
	}
	ping := ws.MustCompileFrame(ws.MaskFrame(ws.NewTextFrame([]byte(`{"type":"ping"}`))))
	for i := range upgrades {
		time.Sleep(100 * time.Millisecond)
		halves := all[:50] // each is in the middle of a frame
		for _, f := range halves {
			f.write(ping[:7])
		}
		before := u.pid
		status, body, done := u.upgrade()
		if status != http.StatusOK {
			t.Fatalf("upgrade %d: %d %s", i, status, body)
		}
		t.Logf("upgrade %d: %+v", i, done)
		if done.Connections < clients {
			t.Errorf("%d of %d connections were handed over", done.Connections, clients)
		}
		for _, f := range halves {
			f.write(ping[7:])
		}
		eventually(t, "the old process ends", func() bool { return !runs(before) })
	}
	time.Sleep(100 * time.Millisecond)
	wantAll(stop())
	longest := time.Duration(0)
	for _, f := range all {
		longest = max(longest, f.longest)
	}
	t.Logf("%d clients, %d upgrades: a message came to each at least every %v", clients, upgrades, longest)
	u.dial("topic=chat.a") // and others are taken
}
