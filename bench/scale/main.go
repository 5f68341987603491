// Scale answers: what do very many connections cost?
//
// By itself it asks what a million, or ten million, cost pushd itself, where no
// machine at hand has the sockets for them. It runs the real code of one process
// (slab, members, feeds, heartbeat sweep, shards) over connections that have no
// socket: what is sent to them goes into a sink behind the send lane. What the
// kernel and TCP cost is not in these figures; docs/SCALING.md adds it up.
//
// With -real the connections are real ones: over several pushd processes and one
// NATS, from clients on the same machine. It builds both, so it is run in the
// project's folder, and ends whatever it started.
//
//	go run ./bench/scale -n 1000000
//	go run ./bench/scale -real -n 100000
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"github.com/pushd/pushd/bench/load"
)

// Defaults that differ between the two ways.
const (
	simulatedConnections, realConnections = 1_000_000, 100_000
	simulatedTopics, realTopics           = 1, 1_000
)

func main() {
	load.WorkerMain()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "scale:", err)
		os.Exit(1)
	}
}

// run fails where not everything was delivered: its figures would be worth nothing.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("scale", flag.ContinueOnError)
	flags.SetOutput(stderr)
	n := flags.Int("n", 0, fmt.Sprintf("connections (default %d, with -real %d)", simulatedConnections, realConnections))
	topics := flags.Int("topics", 0, fmt.Sprintf("topics that they are spread over, one subscription each (default %d, with -real %d in the run with many)", simulatedTopics, realTopics))
	heartbeat := flags.Duration("heartbeat", 25*time.Second, "heartbeat interval")
	shards := flags.Int("shards", runtime.GOMAXPROCS(0), "simulated: shards that connections are spread over")
	isReal := flags.Bool("real", false, "hold real connections, over several pushd processes")
	e := experiment{settle: 3 * time.Second}
	flags.IntVar(&e.processes, "processes", 0, "real: pushd processes, and as many of clients (default: as the limit of open files demands, at least 2)")
	flags.IntVar(&e.rounds, "rounds", 3, "real: how often messages are sent to newly started processes; medians are shown")
	flags.IntVar(&e.broadcasts, "broadcasts", 10, "real: messages to all in a round, one at a time")
	flags.Float64Var(&e.deliveries, "deliveries", 20_000, "real: deliveries a second where there are many topics")
	flags.DurationVar(&e.duration, "duration", 10*time.Second, "real: how long messages go to many topics, in a round")
	flags.DurationVar(&e.wait, "wait", time.Minute, "real: how long the CPU of heartbeats is measured")
	limit := flags.Duration("limit", 20*time.Minute, "real: give up after this")
	text := flags.Bool("text", false, "print aligned text instead of Markdown")
	asJSON := flags.Bool("json", false, "print JSON instead of Markdown")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("%q is no flag", flags.Arg(0))
	}
	var result report
	var err error
	if *isReal {
		e.connections, e.topics, e.heartbeat = cmp.Or(*n, realConnections), cmp.Or(*topics, realTopics), *heartbeat
		e.progress = stderr
		ctx, cancel := context.WithTimeoutCause(ctx, *limit, fmt.Errorf("not done within -limit %v", *limit))
		defer cancel()
		if result, err = e.run(ctx); err != nil && ctx.Err() != nil {
			err = errors.Join(context.Cause(ctx), err)
		}
	} else {
		result, err = simulate(cmp.Or(*n, simulatedConnections), *shards, cmp.Or(*topics, simulatedTopics), *heartbeat)
	}
	if err != nil {
		return err
	}
	switch {
	case *asJSON:
		return writeJSON(stdout, result)
	case *text:
		return writeText(stdout, result)
	default:
		return writeMarkdown(stdout, result)
	}
}
