package monitoring

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pushd/pushd/deploy/binary"
)

// patience is how long an alert may take to be seen, at sixty times its speed.
const patience = time.Minute

// node is a pushd that Prometheus asks.
type node struct {
	*binary.Process
	name string
}

// stage is what alerts are provoked on: NATS, nodes, and a Prometheus that asks them.
type stage struct {
	t          *testing.T
	dir        string
	nats       *exec.Cmd
	natsAddr   string
	prometheus string // its address
	nodes      []*node
}

// begin starts a program that ends with the test, and whose words are shown where that fails.
func (s *stage) begin(name string, arg ...string) *exec.Cmd {
	s.t.Helper()
	var said strings.Builder
	command := exec.Command(name, arg...)
	command.Stdout, command.Stderr = &said, &said
	if err := command.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		_ = command.Process.Kill() // it may have ended
		_ = command.Wait()
		if s.t.Failed() {
			s.t.Logf("%s:\n%s", name, said.String())
		}
	})
	return command
}

// file writes one into the stage's directory.
func (s *stage) file(name, text string) string {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// freeAddr is one that nobody listens at.
func (s *stage) freeAddr() string {
	s.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// serve starts a node.
func (s *stage) serve(program, name string, flags ...string) *node {
	s.t.Helper()
	p, err := binary.Start(program, append(flags, "--node-name="+name)...)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(p.Stop)
	n := &node{p, name}
	s.nodes = append(s.nodes, n)
	return n
}

// targets says which nodes there are to ask.
func (s *stage) targets(nodes ...*node) {
	s.t.Helper()
	type group struct {
		Targets []string          `json:"targets"`
		Labels  map[string]string `json:"labels"`
	}
	groups := []group{}
	for _, n := range nodes {
		groups = append(groups, group{[]string{n.Admin}, map[string]string{"instance": n.name}})
	}
	text, err := json.Marshal(groups)
	if err != nil {
		s.t.Fatal(err)
	}
	// By renaming, since Prometheus reads it at any moment.
	if err := os.Rename(s.file("targets.new", string(text)), filepath.Join(s.dir, "targets.json")); err != nil {
		s.t.Fatal(err)
	}
}

// firing lists the alerts that fire, each with the node it is about.
func (s *stage) firing() []string {
	s.t.Helper()
	response, err := http.Get("http://" + s.prometheus + "/api/v1/alerts")
	if err != nil {
		return nil // it starts
	}
	defer response.Body.Close()
	var answer struct {
		Data struct {
			Alerts []struct {
				State  string
				Labels map[string]string
			}
		}
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return nil
	}
	var list []string
	for _, a := range answer.Data.Alerts {
		if a.State == "firing" {
			list = append(list, strings.TrimSpace(a.Labels["alertname"]+" "+a.Labels["instance"]))
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// wantFiring does something again and again until an alert fires.
func (s *stage) wantFiring(alert string, provoke func()) {
	s.t.Helper()
	began := time.Now()
	for end := began.Add(patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if provoke != nil {
			provoke()
		}
		if slices.Contains(s.firing(), alert) {
			s.t.Logf("%s after %v", alert, time.Since(began).Round(100*time.Millisecond))
			return
		}
	}
	s.t.Errorf("%s does not fire: %v do", alert, s.firing())
}

// wantQuiet waits until only these fire, of a node.
func (s *stage) wantQuiet(n *node, but ...string) {
	s.t.Helper()
	var rest []string
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		rest = slices.DeleteFunc(s.firing(), func(a string) bool { return !strings.HasSuffix(a, " "+n.name) || slices.Contains(but, a) })
		if len(rest) == 0 {
			return
		}
	}
	s.t.Errorf("%v still fire", rest)
}

// say speaks to NATS as user all: a line of its protocol at a time.
func (s *stage) say(lines ...string) {
	s.t.Helper()
	c, err := net.Dial("tcp", s.natsAddr)
	if err != nil {
		s.t.Fatal(err)
	}
	defer c.Close()
	said := `CONNECT {"user":"all","pass":"all","verbose":false}` + "\r\n" + strings.Join(lines, "\r\n") + "\r\nPING\r\n"
	if _, err := io.WriteString(c, said); err != nil {
		s.t.Fatal(err)
	}
	for r := bufio.NewReader(c); ; {
		line, err := r.ReadString('\n')
		if err != nil || strings.HasPrefix(line, "-ERR") {
			s.t.Fatalf("NATS: %q, %v", line, err)
		}
		if strings.HasPrefix(line, "PONG") {
			return
		}
	}
}

// publication is what say says to publish.
func publication(subject, data string) string {
	return fmt.Sprintf("PUB %s %d\r\n%s", subject, len(data), data)
}

// connect opens a WebSocket, and returns it with the status of the answer. It reads nothing more.
func (s *stage) connect(n *node, query string, secure bool) (net.Conn, string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 5*time.Second)
	defer cancel()
	c, err := new(net.Dialer).DialContext(ctx, "tcp", n.Listen)
	if err != nil {
		return nil, err.Error()
	}
	if secure {
		c = tls.Client(c, &tls.Config{InsecureSkipVerify: true}) // made for this test, for an hour
	}
	_ = c.SetDeadline(time.Now().Add(5 * time.Second)) // a socket can have one
	fmt.Fprintf(c, "GET /ws?%s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", query, n.Listen)
	answer, err := bufio.NewReaderSize(c, 16).ReadString('\n')
	if err != nil {
		c.Close()
		return nil, err.Error()
	}
	_ = c.SetDeadline(time.Time{})
	s.t.Cleanup(func() { c.Close() })
	return c, strings.TrimSpace(strings.TrimPrefix(answer, "HTTP/1.1 "))
}

// pause stops a process for a while, as a machine without CPU does.
func pause(t *testing.T, signal func(syscall.Signal) error, for_ time.Duration) {
	t.Helper()
	if err := signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	time.Sleep(for_)
	if err := signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
}
