package load

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/pushd/pushd/bench/load/internal/proctree"
)

const (
	startTime = 30 * time.Second // until a started server accepts
	stopTime  = 15 * time.Second // from SIGTERM to SIGKILL
	gcTime    = time.Minute      // for GCURL to answer
)

// server is the process under test, or several. Its methods belong to one goroutine.
type server struct {
	// Static.
	pid    int // 0: not known
	gcURL  string
	nodes  []Node // further ones
	broker int    // process, 0: not known

	// Where it was started here.
	command *exec.Cmd
	ended   chan struct{} // closed by run, at its end
	output  *output
}

// startServer starts the server where the spec says how, and fills in the
// addresses that it prints.
func startServer(ctx context.Context, spec *Spec) (*server, error) {
	s := &server{pid: spec.Server.PID, gcURL: spec.Server.GCURL, nodes: spec.Nodes, broker: spec.Server.BrokerPID}
	if spec.Server.Start == "" {
		return s, nil
	}
	if err := vacant(ctx, &spec.Target); err != nil {
		return nil, err
	}
	s.output = &output{listening: make(chan [2]string, 1)}
	// A shell, so that the command may be what a user would type. Go raises its own limit of open files and leaves children
	// the former one.
	s.command = exec.Command("/bin/sh", "-c", `ulimit -n "$(ulimit -Hn)"; `+spec.Server.Start)
	s.command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // to signal the shell and all that it started
	s.command.Stdout, s.command.Stderr = s.output, s.output
	s.command.WaitDelay = stopTime
	if err := s.command.Start(); err != nil {
		return nil, fmt.Errorf("--start: %w", err)
	}
	s.pid, s.ended = s.command.Process.Pid, make(chan struct{})
	go s.run()
	if err := s.await(ctx, &spec.Target); err != nil {
		return nil, errors.Join(fmt.Errorf("--start %s: %w%s", spec.Server.Start, err, s.output.text()), s.stop())
	}
	return s, nil
}

// vacant says so where another server has the address already, which would be
// taken for the one that is started.
func vacant(ctx context.Context, target *Target) error {
	if target.open() {
		return nil // it finds an address of its own
	}
	u, err := url.Parse(target.URL)
	if err != nil {
		return fmt.Errorf("--url: %w", err)
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", u.Host)
	if err != nil {
		return nil
	}
	conn.Close()
	return fmt.Errorf("--start: something listens at %s already; to measure that, use --pid", u.Host)
}

// run waits for the end of the process.
func (s *server) run() {
	defer close(s.ended)
	_ = s.command.Wait() // that it ends by a signal is what we want, and whatever else is found elsewhere
}

// open says whether the server has to print something that is still missing.
func (t *Target) open() bool {
	return strings.Contains(t.URL+t.Publish, "{ws}") || strings.Contains(t.Publish, "{publish}")
}

// await returns once the server accepts connections.
func (s *server) await(ctx context.Context, target *Target) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	if target.open() {
		select {
		case at := <-s.output.listening:
			target.URL = strings.ReplaceAll(target.URL, "{ws}", at[0])
			target.Publish = strings.NewReplacer("{ws}", at[0], "{publish}", at[1]).Replace(target.Publish)
		case <-s.ended:
			return errors.New("it ended by itself")
		case <-ctx.Done():
			return fmt.Errorf("it does not print where it listens: %w", ctx.Err())
		}
	}
	u, err := url.Parse(target.URL)
	if err != nil {
		return fmt.Errorf("--url: %w", err)
	}
	address := u.Host
	for {
		if conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address); err == nil {
			return conn.Close()
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-s.ended:
			return errors.New("it ended by itself")
		case <-ctx.Done():
			return fmt.Errorf("nothing accepts at %s: %w", address, ctx.Err())
		}
	}
}

// stop ends the server where it was started here.
func (s *server) stop() error {
	if s.command == nil {
		return nil
	}
	_ = syscall.Kill(-s.pid, syscall.SIGTERM) // fails where it has ended
	select {
	case <-s.ended:
		return nil
	case <-time.After(stopTime):
	}
	_ = syscall.Kill(-s.pid, syscall.SIGKILL)
	<-s.ended
	return fmt.Errorf("the server did not end within %v of SIGTERM", stopTime)
}

// alive says what is wrong where a server that was started here has ended.
func (s *server) alive() error {
	if s.command == nil {
		return nil
	}
	select {
	case <-s.ended:
		return fmt.Errorf("the server has ended%s", s.output.text())
	default:
		return nil
	}
}

// usage returns what the server has used up to now; nothing where its process
// is not known.
func (s *server) usage() (proctree.Usage, error) {
	if s.pid == 0 {
		return proctree.Usage{}, nil
	}
	sum, err := proctree.Read(s.pid)
	for _, n := range s.nodes {
		var u proctree.Usage
		if err == nil {
			u, err = proctree.Read(n.PID)
		}
		sum.Add(u)
	}
	if err != nil {
		return sum, fmt.Errorf("usage of the server: %w", err)
	}
	return sum, nil
}

// brokerUsage is the CPU time of the broker; nothing where its process is not known.
func (s *server) brokerUsage() (proctree.Usage, error) {
	if s.broker == 0 {
		return proctree.Usage{}, nil
	}
	u, err := proctree.Read(s.broker)
	if err != nil {
		return u, fmt.Errorf("usage of the broker: %w", err)
	}
	return u, nil
}

// collect makes each server give back what it does not need, where it can be asked.
func (s *server) collect(ctx context.Context) error {
	err := collect(ctx, s.gcURL)
	for _, n := range s.nodes {
		err = errors.Join(err, collect(ctx, n.GCURL))
	}
	return err
}

func collect(ctx context.Context, gcURL string) error {
	if gcURL == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, gcTime)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, gcURL, nil)
	if err != nil {
		return fmt.Errorf("--gc-url: %w", err)
	}
	request.Close = true // no connection of ours is to be part of what is measured
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("--gc-url: %w", err)
	}
	defer answer.Body.Close()
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		return fmt.Errorf("--gc-url: %w", err)
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("--gc-url %s: %s", gcURL, answer.Status)
	}
	return nil
}

// output is what a server prints: the line that says where it listens, and the
// end of everything.
type output struct {
	listening chan [2]string // one value

	mu    sync.Mutex
	end   []byte
	found bool
}

const outputSize = 8 << 10

var listeningLine = regexp.MustCompile(`(?m)^listening ws=(\S+) publish=(\S+)\n`)

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.end = append(o.end, p...)
	if !o.found {
		if at := listeningLine.FindSubmatch(o.end); at != nil {
			o.found = true
			o.listening <- [2]string{string(at[1]), string(at[2])}
		}
	}
	o.end = o.end[max(0, len(o.end)-outputSize):]
	return len(p), nil
}

// text is the last lines, to stand below an error.
func (o *output) text() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	var text strings.Builder
	for lines := bufio.NewScanner(bytes.NewReader(o.end)); lines.Scan(); {
		text.WriteString("\n\t" + lines.Text())
	}
	return text.String()
}
