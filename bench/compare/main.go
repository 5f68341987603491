// Compare measures pushd beside its peers and the floor, in turn and several
// times over, and writes bench/RESULTS.md with its drawings. It is what
// `make bench` runs.
//
// On a machine that others use too, a figure alone says little. So each round
// runs every server, the floor among them, and what counts is the ratio to the
// floor of the same round; medians over the rounds are shown, with their spread.
//
//	go run ./bench/compare                               # all of it
//	go run ./bench/compare -quick                        # whether everything runs, in three minutes
//	go run ./bench/compare -measures many -only floor,pushd-uring -out bin/bench/many/RESULTS.md
//
// It exits with 1 where pushd or the floor did not do what is measured, such as
// to deliver every message once. The result, which says so, is written all the same.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
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
	c := comparison{
		command: append([]string{"go", "run", "./bench/compare"}, os.Args[1:]...), progress: os.Stderr,
		dir: filepath.Join("bin", "bench"), ports: ports{nats: 14222, clients: 18080, admin: 18081, gc: 18082}, shrink: 1,
	}
	quick := flag.Bool("quick", false, "see whether everything runs: one round of short windows with a tenth of the clients, into bin/bench/quick/RESULTS.md")
	flag.IntVar(&c.rounds, "rounds", 3, "how often everything is measured")
	flag.DurationVar(&c.duration, "duration", 4*time.Second, "of each measured window")
	flag.StringVar(&c.only, "only", "", "servers to measure, separated by commas; default: all")
	flag.StringVar(&c.measures, "measures", "", "what to measure, separated by commas; default: all")
	flag.StringVar(&c.out, "out", filepath.Join("bench", "RESULTS.md"), "where the result goes; drawings go to the folder plots beside it")
	port := flag.Int("port", c.ports.clients, "the first of three ports in a row for the servers, on loopback; NATS has the one that is 3858 below")
	flag.Parse()
	c.ports = ports{nats: *port - 3858, clients: *port, admin: *port + 1, gc: *port + 2}
	if *quick {
		c.hurry()
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := compile(ctx, c.dir)
	if err == nil {
		err = c.run(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(1)
	}
}

// comparison is one run of the program.
type comparison struct {
	// What is wanted.
	command  []string // that the result shows
	rounds   int
	duration time.Duration
	settle   time.Duration // rest before each window; 0: what bench/load has
	shrink   int           // divides all numbers of clients and topics; goals are judged at 1 alone
	only     string
	measures string
	out      string
	dir      string // of the binaries
	ports    ports
	progress io.Writer

	// What is known from the binaries.
	servers  []server
	versions []version

	// What runs meanwhile.
	nats int // process

	// What was found.
	began, ended time.Time
	machine      load.Machine
	outcomes     map[outcomeKey]map[int]*outcome // by round
}

// hurry takes what -quick stands for, but for what other flags say.
func (c *comparison) hurry() {
	said := map[string]bool{}
	flag.Visit(func(f *flag.Flag) { said[f.Name] = true })
	c.shrink, c.settle = 10, 200*time.Millisecond
	if !said["rounds"] {
		c.rounds = 1
	}
	if !said["duration"] {
		c.duration = time.Second
	}
	if !said["out"] {
		c.out = filepath.Join(c.dir, "quick", "RESULTS.md")
	}
}

// run measures everything with what compile has built, and writes the result. The error says too
// what pushd and the floor did wrong.
func (c *comparison) run(ctx context.Context) error {
	if err := c.check(); err != nil {
		return err
	}
	c.began = time.Now()
	if err := c.list(ctx); err != nil {
		return err
	}
	if err := c.checkServers(); err != nil {
		return err
	}
	nats, err := startNATS(ctx, filepath.Join(c.dir, "nats-server"), c.ports.nats)
	if err != nil {
		return err
	}
	c.nats = nats.command.Process.Pid
	err = c.measureAll(ctx)
	if err := errors.Join(err, nats.stop()); err != nil {
		return err
	}
	c.ended = time.Now()
	if err := c.write(); err != nil {
		return err
	}
	return c.verdict()
}

// check says what flags make no sense.
func (c *comparison) check() error {
	if c.rounds < 1 || c.duration <= 0 || c.shrink < 1 {
		return fmt.Errorf("-rounds is %d and -duration %v, but both must be above 0", c.rounds, c.duration)
	}
	var names []string
	for _, m := range measures() {
		names = append(names, m.name)
	}
	return known("-measures", c.measures, names)
}

func (c *comparison) checkServers() error {
	names := []string{simulation}
	for _, s := range c.servers {
		names = append(names, s.name)
	}
	return known("-only", c.only, names)
}

// known says which name of a list does not exist.
func known(flag, list string, names []string) error {
	if list == "" {
		return nil
	}
	for name := range strings.SplitSeq(list, ",") {
		if !slices.Contains(names, name) {
			return fmt.Errorf("%s: there is no %q, but %s", flag, name, strings.Join(names, ", "))
		}
	}
	return nil
}

func chosen(list, name string) bool {
	return list == "" || slices.Contains(strings.Split(list, ","), name)
}

// measureAll lets all servers have their turn at everything, round by round.
// Who comes first differs, since what one leaves behind (sockets in TIME_WAIT,
// a warm processor) is there for the next.
func (c *comparison) measureAll(ctx context.Context) error {
	c.outcomes = make(map[outcomeKey]map[int]*outcome)
	for round := range c.rounds {
		for _, m := range measures() {
			if !chosen(c.measures, m.name) || m.once && round > 0 {
				continue
			}
			servers := c.serversOf(m)
			for i := range servers {
				s := servers[(i+round*len(servers)/c.rounds)%len(servers)]
				if m.refusal(s) != "" {
					continue
				}
				fmt.Fprintf(c.progress, "%s, round %d of %d: %s, %s\n", time.Since(c.began).Round(time.Second), round+1, c.rounds, m.name, s.name)
				o := c.measure(ctx, m, s)
				if ctx.Err() != nil {
					return ctx.Err()
				}
				for _, fault := range o.faults {
					fmt.Fprintf(c.progress, "\t%s\n", fault)
				}
				c.record(m, s, round, o)
			}
		}
	}
	return nil
}

// serversOf is who is to be measured; also those who cannot do it, which the result says.
func (c *comparison) serversOf(m measure) (list []server) {
	all := c.servers
	if m.name == scaleMeasure {
		all = []server{{name: simulation}}
	}
	for _, s := range all {
		if chosen(c.only, s.name) {
			list = append(list, s)
		}
	}
	return list
}

// measure runs one scenario against one server.
func (c *comparison) measure(ctx context.Context, m measure, s server) *outcome {
	if m.name == scaleMeasure {
		result, err := c.simulate(ctx)
		return newOutcome(m, result, err)
	}
	result, err := load.Run(ctx, c.spec(m, s))
	if err == nil {
		c.machine = result.Machine
	}
	return newOutcome(m, result, err)
}

// spec is what a measure is for a server, at the size that is wanted.
func (c *comparison) spec(m measure, s server) load.Spec {
	spec := m.spec
	spec.Name, spec.Target = s.name, s.target
	spec.Server = load.Server{Start: s.start, GCURL: s.gcURL}
	if m.history != noHistory {
		spec.Server.Start += s.history
		if s.broker {
			spec.Server.BrokerPID = c.nats
		}
	}
	if m.events && s.events.URL != "" {
		spec.Target = s.events
	}
	if spec.Deflate = spec.Deflate && s.compresses; spec.Deflate {
		spec.Server.Start += s.compression
	}
	if c.shrink > 1 {
		spec.Clients = max(leastClients, spec.Clients/c.shrink)
		if spec.Topics > 0 {
			spec.Topics = max(leastTopics, spec.TopicsPerClient, spec.Topics/c.shrink)
		}
		spec.Duration = min(spec.Duration, c.duration)
	}
	if spec.Duration == 0 && spec.Messages == 0 {
		spec.Duration = c.duration
	}
	if c.settle > 0 {
		spec.Settle = c.settle
	}
	return spec
}
