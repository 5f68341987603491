package server

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/pushd/pushd/internal/natstest"
)

// runningNode is a node of a cluster: a process of the built pushd, at the same addresses
// whenever it runs. Its methods belong to the test's goroutine.
type runningNode struct {
	t           testing.TB
	name        string
	command     []string
	host, admin string
	token       string // of operators; "": none is needed
	log         string
	http        *http.Client
	process     *os.Process // nil: it does not run
}

func newRunningNode(t testing.TB, path, name string, flags ...string) *runningNode {
	t.Helper()
	m := &runningNode{t: t, name: name}
	m.at("127.0.0.1")
	m.serve(append([]string{path}, m.settings(flags...)...)...)
	return m
}

// at gives it addresses.
func (m *runningNode) at(ip string) {
	free := func() string { return net.JoinHostPort(ip, strconv.Itoa(natstest.FreePort(m.t))) }
	m.host, m.admin = free(), free()
}

// settings are those of its command line.
func (m *runningNode) settings(more ...string) []string {
	return append([]string{"serve", "--node-name=" + m.name, "--listen=" + m.host, "--admin=" + m.admin, "--shards=2"}, more...)
}

// serve runs a command until the test ends.
func (m *runningNode) serve(command ...string) {
	t := m.t
	t.Helper()
	m.command, m.log = command, filepath.Join(t.TempDir(), m.name+".log")
	transport := &http.Transport{}
	m.http = &http.Client{Transport: transport, Timeout: patience}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		if m.process != nil {
			m.end(syscall.SIGKILL)
		}
		said, _ := os.ReadFile(m.log)
		if t.Failed() {
			t.Logf("%s said:\n%s", m.name, said)
		}
	})
	m.start()
}

// start starts it, and returns when it is ready.
func (m *runningNode) start() {
	m.t.Helper()
	log, err := os.OpenFile(m.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		m.t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(m.command[0], m.command[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "PUSHD_") })
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	m.process = cmd.Process
	inTime(m.t, stall, m.name+" is ready", m.ready)
}

func (m *runningNode) ready() bool { return m.ask("GET", "/readyz", nil) == http.StatusOK }

// end ends the process and waits for it: after SIGTERM it is to end well.
func (m *runningNode) end(sig syscall.Signal) {
	m.t.Helper()
	m.process.Signal(sig)
	m.await(m.process, sig == syscall.SIGTERM)
	m.process = nil
}

// await waits for the end of a process of this node.
func (m *runningNode) await(p *os.Process, well bool) {
	m.t.Helper()
	state, err := p.Wait()
	if err != nil || well && !state.Success() {
		m.t.Errorf("process %d of %s ended with %v, %v", p.Pid, m.name, state, err)
	}
}

// upgrade has another process take over, and returns when the one before has ended
// well; or what was answered where everything is as it was.
func (m *runningNode) upgrade() (done Upgraded, refusal string) {
	m.t.Helper()
	m.http.CloseIdleConnections() // the process before closes them when it likes, and a POST is not sent twice
	r, err := m.http.Post("http://"+m.admin+"/upgrade", "", nil)
	if err != nil {
		m.t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		m.t.Fatal(err)
	}
	if r.StatusCode == http.StatusConflict {
		return done, string(text)
	}
	if err := json.Unmarshal(text, &done); err != nil || r.StatusCode != http.StatusOK || done.PID == m.process.Pid {
		m.t.Fatalf("%s became, of process %d: %d %s %v", m.name, m.process.Pid, r.StatusCode, text, err)
	}
	before := m.process
	if m.process, err = os.FindProcess(done.PID); err != nil {
		m.t.Fatal(err)
	}
	m.await(before, true)
	return done, ""
}

// ask asks its admin listener; 0: it does not answer.
func (m *runningNode) ask(method, path string, v any) (status int) {
	req, err := http.NewRequest(method, "http://"+m.admin+path, nil)
	if err != nil {
		m.t.Fatal(err)
	}
	if m.token != "" {
		req.Header.Set("Authorization", "Bearer "+m.token)
	}
	response, err := m.http.Do(req)
	if err != nil {
		return 0
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return 0
	}
	if v != nil && response.StatusCode/100 == 2 {
		if err := json.Unmarshal(text, v); err != nil {
			m.t.Fatalf("%s %s: %s: %v", method, path, text, err)
		}
	}
	return response.StatusCode
}

// presence is how many connections of each node it counts for a topic.
func (m *runningNode) presence(topic string) (p presence) {
	m.ask("GET", "/presence/"+url.PathEscape(topic), &p)
	return p
}

// counts are the ticks of a second that a node has had since somebody began to look.
type counts struct {
	last  int64
	ticks int
}

// inTicks waits until something is so for each node, and fails where one has had more
// than so many of its own ticks before. It returns the most that it took.
func inTicks(t testing.TB, nodes []*runningNode, most int, what string, ok func(*runningNode) bool) (took int) {
	t.Helper()
	pending := make(map[*runningNode]*counts)
	for _, m := range nodes {
		pending[m] = &counts{}
	}
	inTime(t, stall, what, func() bool {
		for m, seen := range pending {
			var told struct{ Time int64 }
			if m.ask("GET", "/statistics", &told) == http.StatusOK && told.Time != seen.last {
				if seen.last != 0 {
					seen.ticks++
				}
				seen.last = told.Time
			}
			if ok(m) {
				took = max(took, seen.ticks)
				delete(pending, m)
			} else if seen.ticks > most {
				t.Errorf("%s has had %d ticks, and still not: %s", m.name, seen.ticks, what)
				return true
			}
		}
		return len(pending) == 0
	})
	return took
}
