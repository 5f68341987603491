// Package natstest runs a real nats-server for tests, in a process of its own,
// so that a test can kill it as a crash would.
//
// The process is the test binary itself, started again. A package that uses
// this must call [Main] first in its TestMain:
//
//	func TestMain(m *testing.M) {
//		natstest.Main()
//		goleak.VerifyTestMain(m)
//	}
package natstest

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"golang.org/x/sys/unix"
)

// envSettings holds a child's settings as JSON; where it is set, the process is one.
const envSettings = "PUSHD_NATSTEST"

// ready is what a child writes to stdout, as a line, once it accepts.
const ready = "ready"

// startTime is how long a server may take to accept connections. A busy
// machine with the race detector on needs seconds.
const startTime = 30 * time.Second

// settings is what a child is told.
type settings struct {
	Port   int
	Store  string
	Config string

	// Of a server of a cluster.
	Name   string
	Routed int   // port for the other servers
	Routes []int // ports of them
}

// Option changes how Start runs its server.
type Option func(*settings)

// Port makes the server listen on a port of 127.0.0.1. Default: a free one.
func Port(port int) Option { return func(s *settings) { s.Port = port } }

// Store turns JetStream on, with its streams in dir.
func Store(dir string) Option { return func(s *settings) { s.Store = dir } }

// Config adds settings in nats-server's own configuration language, for users,
// permissions, limits or TLS.
func Config(text string) Option { return func(s *settings) { s.Config = text } }

// Main runs a nats-server and never returns where Start made this process for
// it, and returns at once in all others.
func Main() {
	raw, child := os.LookupEnv(envSettings)
	if !child {
		return
	}
	var s settings
	err := json.Unmarshal([]byte(raw), &s)
	if err == nil {
		err = serve(s)
	}
	if err == nil {
		os.Exit(0)
	}
	fmt.Fprintln(os.Stderr, "natstest:", err)
	os.Exit(1)
}

// serve returns where the server does not start, and after SIGTERM.
func serve(s settings) error {
	opts := &server.Options{}
	if s.Config != "" {
		if err := opts.ProcessConfigString(s.Config); err != nil {
			return err
		}
	}
	opts.Host, opts.Port = "127.0.0.1", s.Port
	opts.NoSigs = true
	opts.JetStream, opts.StoreDir = s.Store != "", s.Store
	s.joinCluster(opts)
	srv, err := server.NewServer(opts)
	if err != nil {
		return err
	}
	srv.Start()
	if srv.Addr() == nil {
		return fmt.Errorf("cannot listen on port %d", s.Port)
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	go func() {
		<-stop
		srv.Shutdown()
	}()
	fmt.Println(ready)
	srv.WaitForShutdown()
	return nil
}

// Process is a nats-server that can be killed and restarted. Its methods
// belong to the test's goroutine.
type Process struct {
	tb       testing.TB
	settings settings
	running  *child // nil: killed
}

// Start runs a server, and returns once it accepts connections. It is killed
// when the test ends, or when the test's process does.
func Start(tb testing.TB, options ...Option) *Process {
	tb.Helper()
	p := &Process{tb: tb}
	for _, option := range options {
		option(&p.settings)
	}
	if p.settings.Port == 0 {
		p.settings.Port = freePort(tb)
	}
	tb.Cleanup(p.Kill)
	p.Restart()
	return p
}

// URL is where clients connect; a restart does not change it.
func (p *Process) URL() string { return "nats://" + p.Addr() }

// Addr is URL's host and port.
func (p *Process) Addr() string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(p.settings.Port))
}

// Kill ends the server with SIGKILL and waits until it is gone. It may be
// called when it is.
func (p *Process) Kill() {
	if p.running != nil {
		p.running.kill()
		p.running = nil
	}
}

// Stop ends the server as its operator would, with SIGTERM, and waits until it
// is gone. It may be called when it is.
func (p *Process) Stop() {
	p.tb.Helper()
	if p.running == nil {
		return
	}
	p.signal(unix.SIGTERM)
	select {
	case <-p.running.gone:
	case <-time.After(startTime):
		p.Kill()
		p.tb.Fatalf("nats-server on %s does not stop", p.Addr())
	}
	p.running = nil
}

// Restart kills the server if it runs, and starts it on the same port and
// store. After Stop it was not killed.
func (p *Process) Restart() {
	p.tb.Helper()
	p.Kill()
	c, err := startChild(p.settings)
	if err != nil {
		p.tb.Fatalf("nats-server on %s: %v", p.Addr(), err)
	}
	p.running = c
}

// Freeze stops the server with SIGSTOP: its connections stay, and nothing
// answers on them any more when Freeze returns.
func (p *Process) Freeze() {
	p.tb.Helper()
	p.signal(unix.SIGSTOP)
	// The signal is sent, but the server's threads stop one by one.
	pid := p.running.cmd.Process.Pid
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WSTOPPED, nil)
		if err == nil {
			return
		}
		if !errors.Is(err, unix.EINTR) {
			p.tb.Fatalf("nats-server on %s: waiting for it to stop: %v", p.Addr(), err)
		}
	}
}

// Thaw ends a Freeze.
func (p *Process) Thaw() {
	p.tb.Helper()
	p.signal(unix.SIGCONT)
}

func (p *Process) signal(sig os.Signal) {
	p.tb.Helper()
	if p.running == nil {
		p.tb.Fatalf("nats-server on %s: %v while it is not running", p.Addr(), sig)
	}
	if err := p.running.cmd.Process.Signal(sig); err != nil {
		p.tb.Fatalf("nats-server on %s: %v: %v", p.Addr(), sig, err)
	}
}

// child is one run of the server.
type child struct {
	cmd     *exec.Cmd
	stderr  strings.Builder
	started chan error    // gets one value: the child is ready, or why not
	gone    chan struct{} // closed when the process has been waited for
}

func startChild(s settings) (*child, error) {
	raw, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	binary, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &child{
		cmd:     exec.Command(binary),
		started: make(chan error, 1),
		gone:    make(chan struct{}),
	}
	// With the race detector a process sleeps for a second before it ends, unless told not to.
	c.cmd.Env = append(os.Environ(), envSettings+"="+string(raw), "GORACE="+os.Getenv("GORACE")+" atexit_sleep_ms=0")
	c.cmd.Stderr = &c.stderr
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	go c.run()
	return c, <-c.started
}

// run starts the process and waits for its end, on one OS thread: the death
// signal comes when the thread that started the child ends, not the process.
func (c *child) run() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(c.gone)

	stdout, err := c.cmd.StdoutPipe()
	if err == nil {
		err = c.cmd.Start()
	}
	if err != nil {
		c.started <- err
		return
	}
	tooLate := time.AfterFunc(startTime, func() { _ = c.cmd.Process.Kill() })
	line, err := bufio.NewReader(stdout).ReadString('\n')
	tooLate.Stop()
	if strings.TrimSpace(line) == ready {
		c.started <- nil
		_ = c.cmd.Wait() // an error where the process is killed
		return
	}
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait() // and with it, stderr is complete
	c.started <- fmt.Errorf("not ready: read %q (%v), stderr %q; does TestMain call natstest.Main?", line, err, c.stderr.String())
}

func (c *child) kill() {
	_ = c.cmd.Process.Kill() // fails where it is gone already
	<-c.gone
}

// freePort finds a port below those that the kernel hands to outgoing
// connections: a client that keeps dialling a dead server's port could
// otherwise be given that very port, and be connected to itself.
func freePort(tb testing.TB) int {
	tb.Helper()
	return freePorts(tb, 1)[0]
}

// freePorts finds n different ones.
func freePorts(tb testing.TB, n int) (ports []int) {
	tb.Helper()
	const lowest, highest = 15000, 32000
	for range 1000 {
		port := lowest + rand.IntN(highest-lowest)
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			continue
		}
		defer l.Close() // held until all are found
		if ports = append(ports, port); len(ports) == n {
			return ports
		}
	}
	tb.Fatal("no free port")
	return nil
}
