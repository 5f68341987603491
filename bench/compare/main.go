// Compare measures pushd beside its peers and the floor, in turn and several
// times over, and writes bench/RESULTS.md. It is what `make bench` runs.
//
// On a machine that others use too, a figure alone says little. So each round
// runs every server, the floor among them, and what counts is the ratio to the
// floor of the same round; medians over the rounds are shown, with their spread.
//
//	go run ./bench/compare -rounds 3 -duration 5s
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/pushd/pushd/bench/load"
)

func main() {
	load.WorkerMain()
	c := comparison{}
	flag.IntVar(&c.rounds, "rounds", 3, "how often everything is measured")
	flag.DurationVar(&c.duration, "duration", 5*time.Second, "of each measured window")
	flag.StringVar(&c.only, "only", "", "servers to measure, separated by commas; default: all")
	flag.StringVar(&c.measures, "measures", "", "what to measure, separated by commas; default: all")
	flag.StringVar(&c.out, "out", "bench/RESULTS.md", "where the result goes")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := c.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(1)
	}
}

// comparison is one run of the program.
type comparison struct {
	rounds   int
	duration time.Duration
	only     string
	measures string
	out      string

	dir     string // of the binaries
	servers []server
	results map[string]map[string][]load.Result // by measure and server, in the order of the rounds
	failed  []string
	machine load.Machine
}

// server is one that is measured.
type server struct {
	name   string
	target load.Target
	start  string // shell command
	gcURL  string
}

// Ports of what is started here; they are free on a machine made for this.
const (
	natsPort  = "14222"
	wsPort    = "18080"
	adminPort = "18081"
	gcPort    = "18082"
)

func (c *comparison) run(ctx context.Context) error {
	var err error
	if c.dir, err = os.MkdirTemp("", "pushd-bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(c.dir)
	if err := c.build(ctx); err != nil {
		return err
	}
	stopNATS, err := c.startNATS(ctx)
	if err != nil {
		return err
	}
	defer stopNATS()
	c.results = make(map[string]map[string][]load.Result)
	for round := range c.rounds {
		for _, m := range measures {
			if !chosen(c.measures, m.name) || m.once && round > 0 {
				continue
			}
			for _, s := range c.servers {
				if chosen(c.only, s.name) && !m.skip(s.name) {
					if err := c.measure(ctx, round, m, s); err != nil {
						return err
					}
				}
			}
		}
	}
	return os.WriteFile(c.out, []byte(c.markdown()), 0o644)
}

func chosen(list, name string) bool {
	return list == "" || slices.Contains(strings.Split(list, ","), name)
}

// measure runs one scenario against one server. What fails is told in the result.
func (c *comparison) measure(ctx context.Context, round int, m measure, s server) error {
	spec := m.spec
	spec.Name, spec.Target = s.name, s.target
	spec.Server = load.Server{Start: s.start, GCURL: s.gcURL}
	if spec.Duration == 0 {
		spec.Duration = c.duration
	}
	fmt.Fprintf(os.Stderr, "round %d of %d: %s, %s\n", round+1, c.rounds, m.name, s.name)
	result, err := load.Run(ctx, spec)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		c.failed = append(c.failed, fmt.Sprintf("round %d, %s, %s: %v", round+1, m.name, s.name, err))
		return nil
	}
	if last := result.Windows[len(result.Windows)-1]; last.Steady.Missing > 0 {
		c.failed = append(c.failed, fmt.Sprintf("round %d, %s, %s: %d messages were missing", round+1, m.name, s.name, last.Steady.Missing))
	}
	c.machine = result.Machine
	if c.results[m.name] == nil {
		c.results[m.name] = make(map[string][]load.Result)
	}
	c.results[m.name][s.name] = append(c.results[m.name][s.name], result)
	return nil
}

// build makes all binaries, and the list of servers.
func (c *comparison) build(ctx context.Context) error {
	for name, pkg := range map[string]string{"pushd": "./cmd/pushd", "nats-server": "github.com/nats-io/nats-server/v2"} {
		if err := run(ctx, ".", "go", "build", "-o", filepath.Join(c.dir, name), pkg); err != nil {
			return err
		}
	}
	if err := run(ctx, "bench/peers", "sh", "build.sh", c.dir); err != nil {
		return err
	}
	text, err := os.ReadFile("bench/peers/peers.json")
	if err != nil {
		return fmt.Errorf("%w: run this in the project's folder", err)
	}
	var peers []struct {
		Name    string
		Command []string
		Target  load.Target
		GC      bool
	}
	if err := json.Unmarshal(text, &peers); err != nil {
		return fmt.Errorf("bench/peers/peers.json: %w", err)
	}
	for _, p := range peers {
		s := server{name: p.Name, target: p.Target}
		s.start = "exec " + strings.ReplaceAll(strings.Join(p.Command, " "), "{bin}", c.dir) + " -listen 127.0.0.1:0 -publish 127.0.0.1:0"
		if p.GC {
			s.start += " -gc 127.0.0.1:" + gcPort
			s.gcURL = "http://127.0.0.1:" + gcPort + "/"
		}
		c.servers = append(c.servers, s)
	}
	for _, lane := range []string{"uring", "write"} { // in front, behind the floor
		c.servers = slices.Insert(c.servers, 1, server{
			name:   "pushd-" + lane,
			target: load.Pushd("ws://127.0.0.1:"+wsPort+"/ws", "nats://127.0.0.1:"+natsPort+"/push.{topic}"),
			start: fmt.Sprintf("exec %s/pushd serve --listen 127.0.0.1:%s --admin 127.0.0.1:%s --nats nats://127.0.0.1:%s --send %s --log-level warn",
				c.dir, wsPort, adminPort, natsPort, lane),
			gcURL: "http://127.0.0.1:" + adminPort + "/debug/pprof/heap?gc=1",
		})
	}
	return nil
}

func run(ctx context.Context, dir string, command ...string) error {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", strings.Join(command, " "), err)
	}
	return nil
}

// startNATS runs the NATS that pushd listens to, a process of its own: its CPU
// is not pushd's.
func (c *comparison) startNATS(ctx context.Context) (stop func(), err error) {
	cmd := exec.CommandContext(ctx, filepath.Join(c.dir, "nats-server"), "-a", "127.0.0.1", "-p", natsPort)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait() // it was told to end
	}, nil
}
