package server

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pushd/pushd/internal/config"
	"github.com/pushd/pushd/topics"
)

// A node is a pushd in a process of its own, so that a test can kill it as a
// crash would: the test binary, run again with this in its environment.
const nodeVariable = "PUSHD_TEST_NODE"

// nodeSpec is what a node is told.
type nodeSpec struct {
	NATS       []string      // empty: embedded
	NATSListen string        // where the embedded one takes publishers; empty: a free port
	Store      string        // of the embedded one
	Ring       int           // messages of a feed
	Lose       float64       // share of the live messages that are thrown away
	Age        time.Duration // what is kept, for so long,
	Bytes      int64         // … and so much,
	Replicas   int           // … on so many servers
}

// The namespaces of a node. Both keep history, and deliver all.
const (
	wholeNamespace = "whole" // one feed
	apartNamespace = "apart" // each topic is a feed
)

func (spec nodeSpec) config() config.Config {
	cfg := config.Default()
	cfg.Listen, cfg.Admin, cfg.NATSListen = "127.0.0.1:0", "127.0.0.1:0", cmp.Or(spec.NATSListen, "127.0.0.1:0")
	cfg.NATS, cfg.Store, cfg.RingMessages = spec.NATS, cmp.Or(spec.Store, "memory"), spec.Ring
	cfg.Shards = 2
	cfg.WriteTimeout = 5 * time.Minute // nobody is cut off for a pause
	kept := config.History{Age: spec.Age, Bytes: config.Bytes(spec.Bytes), Replicas: spec.Replicas}
	cfg.Namespaces = map[string]config.Namespace{
		wholeNamespace: {Delivery: config.DeliveryAll, Interest: config.InterestNamespace, History: kept},
		apartNamespace: {Delivery: config.DeliveryAll, Interest: config.InterestTopic, History: kept},
	}
	return cfg
}

// nodeMain is the node's process. It says where it serves, and ends with SIGTERM.
func nodeMain(text string) int {
	var spec nodeSpec
	if err := json.Unmarshal([]byte(text), &spec); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	s, err := New(spec.config(), slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	if spec.Lose > 0 {
		s.sink = func(hub topics.Sink) topics.Sink { return &lossy{Sink: hub, share: spec.Lose} }
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	fmt.Println(s.Addr(), s.AdminAddr(), s.NATSURL())
	if err := s.Run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// lossy throws away a share of the messages that NATS brings.
type lossy struct {
	topics.Sink
	share float64
}

func (l *lossy) Deliver(batch []topics.Message) {
	kept := batch[:0]
	for _, m := range batch {
		if rand.Float64() >= l.share {
			kept = append(kept, m)
		}
	}
	l.Sink.Deliver(kept)
}

// node is such a process, killed and started again at will. Its methods belong
// to one goroutine, those of running excepted.
type node struct {
	*running
	spec  nodeSpec
	nats  string
	admin string
	cmd   *exec.Cmd // nil: it does not run
	said  *said
}

// said is what a process writes to stderr.
type said struct {
	mu    sync.Mutex
	text  strings.Builder
	ended chan struct{} // closed when that is all
}

func (s *said) read(from io.Reader) {
	defer close(s.ended)
	lines := bufio.NewScanner(from)
	for lines.Scan() {
		s.mu.Lock()
		s.text.WriteString(lines.Text() + "\n")
		s.mu.Unlock()
	}
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// startNode returns a node that serves, until the test ends.
func startNode(t testing.TB, spec nodeSpec) *node {
	t.Helper()
	n := &node{spec: spec}
	t.Cleanup(func() { n.end(t, syscall.SIGTERM) })
	n.start(t)
	return n
}

// start starts it on other ports than before.
func (n *node) start(t testing.TB) {
	t.Helper()
	text, err := json.Marshal(n.spec)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), nodeVariable+"="+string(text), "GORACE="+os.Getenv("GORACE")+" atexit_sleep_ms=0")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	errs, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	n.cmd, n.said = cmd, &said{ended: make(chan struct{})}
	go n.said.read(errs)
	defer n.expect().Stop()
	var public, admin, url string
	if _, err := fmt.Fscanln(out, &public, &admin, &url); err != nil {
		t.Fatalf("a node does not start: %v; it said:\n%s", err, n.said)
	}
	n.running = &running{Server: &Server{addr: public}, t: t}
	n.admin, n.nats = admin, url
}

// expect has the process show its goroutines, and end, if it takes for ever to
// start or to stop.
func (n *node) expect() *time.Timer {
	p := n.cmd.Process
	return time.AfterFunc(stall, func() { p.Signal(syscall.SIGQUIT) })
}

// end ends the process: with SIGKILL at once, with SIGTERM as its operator would.
func (n *node) end(t testing.TB, sig syscall.Signal) {
	t.Helper()
	if n.cmd == nil {
		return
	}
	n.cmd.Process.Signal(sig)
	defer n.expect().Stop()
	<-n.said.ended
	err := n.cmd.Wait()
	n.cmd = nil
	if text := n.said.String(); sig == syscall.SIGTERM && err != nil || strings.Contains(text, "DATA RACE") || strings.Contains(text, "panic:") {
		t.Errorf("a node ended with %v; it said:\n%s", err, text)
	}
}
