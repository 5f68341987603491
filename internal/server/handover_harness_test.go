package server

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/nats-io/nats.go"
	"golang.org/x/sys/unix"

	"github.com/pushd/pushd/internal/handover"
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

// startUpgradable runs the real program on an external NATS, or "", with one of its own.
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
		_ = syscall.Kill(u.pid, syscall.SIGINT)
		if err := <-first; err != nil {
			t.Errorf("the first process ended with %v", err)
		}
		u.wantEnd(u.pid)
		if strings.Contains(u.log(), "panic") {
			t.Error("something panicked")
		}
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

// startUpgradableOn is startUpgradable with settings, and a publisher on its NATS.
func startUpgradableOn(t testing.TB, settings string, flags ...string) (*upgradable, *nats.Conn) {
	t.Helper()
	server := natstest.Start(t, natstest.Store(t.TempDir()))
	file := filepath.Join(t.TempDir(), "pushd.yaml")
	if err := os.WriteFile(file, []byte(settings), 0o600); err != nil {
		t.Fatal(err)
	}
	nc, err := nats.Connect(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return startUpgradable(t, server.URL(), append([]string{"--config=" + file}, flags...)...), nc
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

// openFiles is how many a process has.
func openFiles(t testing.TB, pid int) int {
	t.Helper()
	all, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

func (u *upgradable) openFiles() int { return openFiles(u.t, u.pid) }

func (u *upgradable) wantEnd(pid int) {
	u.t.Helper()
	eventually(u.t, fmt.Sprintf("process %d ends", pid), func() bool { return !runs(pid) })
}

// upgrade asks for it, and returns the answer.
func (u *upgradable) upgrade() (status int, body string, done Upgraded) {
	u.t.Helper()
	return u.upgradeBy(&http.Client{Transport: &http.Transport{DisableKeepAlives: true}})
}

func (u *upgradable) upgradeBy(client *http.Client) (status int, body string, done Upgraded) {
	u.t.Helper()
	r, err := client.Post("http://"+u.admin+"/upgrade", "", nil)
	if err != nil {
		u.t.Fatalf("%v\n%s", err, u.log())
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
		if done.Version != software() { // the same source
			u.t.Errorf("version %q, want %q", done.Version, software())
		}
	}
	return r.StatusCode, string(text), done
}

// mustUpgrade returns which process there was before.
func (u *upgradable) mustUpgrade() (before int, done Upgraded) {
	u.t.Helper()
	before = u.pid
	status, body, done := u.upgrade()
	if status != http.StatusOK {
		u.t.Fatalf("%d %s", status, body)
	}
	return before, done
}

// ask is a request to the admin listener.
func (u *upgradable) ask(method, path string, v any) {
	u.t.Helper()
	status, _, body := u.request(method, "http://"+u.admin+path, "", "")
	if status >= 300 {
		u.t.Fatalf("%s %s: %d %s", method, path, status, body)
	}
	if err := json.Unmarshal([]byte(body), v); err != nil {
		u.t.Fatalf("%s %s: %q: %v", method, path, body, err)
	}
}

// pretend has the test be the next process of a server. A process of the system is
// what the server knows of it; act ends before the link does.
func (r *running) pretend(act func(*successor) error) (acted <-chan error) {
	done := make(chan error, 1)
	r.next.start = func(theirs *os.File) (*os.Process, error) {
		fd, err := unix.Dup(int(theirs.Fd()))
		if err != nil {
			return nil, err
		}
		n := &successor{}
		if n.link, err = handover.Join(uintptr(fd)); err != nil {
			return nil, err
		}
		cmd := exec.Command("sleep", "1000")
		if err := cmd.Start(); err != nil {
			return nil, err
		}
		go func() {
			defer n.end()
			defer syscall.Kill(cmd.Process.Pid, syscall.SIGKILL) // in place of a process that goes on
			done <- act(n)
		}()
		return cmd.Process, nil
	}
	return done
}

// walk does the first steps of a new process.
func (n *successor) walk(many int) error {
	for _, step := range steps[:many] {
		if err := step.do(n); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	return nil
}
