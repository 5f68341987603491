// Command pushbench puts load on a WebSocket server that pushes messages, and
// prints what came out. `pushbench --help` lists the scenarios, each with the
// question that it answers.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/pushd/pushd/bench/load"
	"github.com/pushd/pushd/bench/load/chart"
)

func main() {
	load.WorkerMain()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args, os.Stdout, os.Stderr))
}

// run is main with everything that a test wants to choose. It returns the exit code: 0, 1 for a run that failed,
// 2 for one that lost messages or connections, 80 for arguments that make no sense.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var f flags
	exited, code := false, 0
	parser := kong.Must(&f,
		kong.Name("pushbench"), kong.Description(description()),
		kong.Writers(stdout, stderr),
		kong.Exit(func(c int) { exited, code = true, c }), // kong goes on, and its caller returns
	)
	_, err := parser.Parse(args[1:])
	if !exited {
		parser.FatalIfErrorf(err)
	}
	if exited {
		return code
	}
	spec := f.spec()
	spec.Command, spec.Progress = args, stderr
	result, err := load.Run(ctx, spec)
	if err == nil {
		err = f.write(&result, stdout)
	}
	if err != nil {
		fmt.Fprintln(stderr, "pushbench:", err)
		return 1
	}
	if lossy(&result) && !f.Lossy {
		fmt.Fprintln(stderr, "pushbench: messages or connections were lost; with --lossy that is no failure")
		return 2
	}
	return 0
}

func description() string {
	var b strings.Builder
	b.WriteString("Puts load on a WebSocket server that pushes messages. The scenarios:\n")
	for _, s := range load.Scenarios() {
		fmt.Fprintf(&b, "\n  %s: %s\n", s.Name, s.Question)
	}
	return b.String()
}

// write hands over a result in all the ways that were asked for.
func (f *flags) write(r *load.Result, stdout io.Writer) error {
	if _, err := io.WriteString(stdout, r.Markdown()); err != nil {
		return err
	}
	if f.JSON != "" {
		text, err := json.MarshalIndent(r, "", "  ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(f.JSON, append(text, '\n'), 0o644); err != nil {
			return fmt.Errorf("--json: %w", err)
		}
	}
	if f.Plot != "" {
		paths, err := chart.Result(f.Plot, r)
		if err != nil {
			return fmt.Errorf("--plot: %w", err)
		}
		for _, path := range paths {
			if _, err := fmt.Fprintln(stdout, "-", path); err != nil {
				return err
			}
		}
	}
	return nil
}

// lossy says whether what should have arrived did not, or not once and in
// order. Clients that stall or churn have no such right.
func lossy(r *load.Result) bool {
	for _, w := range r.Windows {
		if s := w.Steady; s.Missing+s.Duplicate+s.OutOfOrder > 0 || w.Lost > 0 {
			return true
		}
	}
	return r.Connections.Failed > 0
}
