// Command pushd pushes what is published on NATS subjects to WebSocket clients.
//
// `pushd` by itself runs the server; `pushd --help` lists the other commands.
// A shell has a builtin of the same name, so call the binary by its path.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"
)

func main() {
	signals := make(chan os.Signal, 3)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	ctx, insisted := untilSignal(signals, func() { os.Exit(1) })
	p := program{path: os.Args[0], insisted: insisted, stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr}
	os.Exit(p.run(ctx, os.Args[1:]))
}

// program is pushd as it was started; a test starts it with its own.
type program struct {
	path           string          // as it was called
	insisted       context.Context // of a server that is being drained: ends where that is to end at once; nil: never
	stdin          io.Reader
	stdout, stderr io.Writer
}

// run does what the arguments say until it is done or ctx is, and returns the
// exit code: 0, 1 for what failed, 80 for arguments that make no sense.
func (p program) run(ctx context.Context, args []string) int {
	exited, code := false, 0
	parser := kong.Must(&commands{},
		kong.Name("pushd"),
		kong.Description("Pushes what is published on NATS subjects to WebSocket clients."),
		kong.Writers(p.stdout, p.stderr),
		kong.Exit(func(c int) { exited, code = true, c }), // kong goes on, and its caller returns
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Bind(p),
	)
	parsed, err := parser.Parse(args)
	if !exited {
		parser.FatalIfErrorf(err)
	}
	if exited {
		return code
	}
	return p.report(parsed.Run())
}

// report prints an error, each of its lines as one mistake.
func (p program) report(err error) int {
	if err == nil {
		return 0
	}
	for line := range strings.Lines(err.Error()) {
		p.notef("%s", strings.TrimSuffix(line, "\n"))
	}
	return 1
}

// commands is the command line. Each type stands in the file of its name.
type commands struct {
	Serve      serveCommand      `cmd:"" default:"withargs" help:"Run the server. This is what pushd does when no command is named."`
	Subscribe  subscribeCommand  `cmd:"" help:"Print what is published to topics, until interrupted."`
	Publish    publishCommand    `cmd:"" help:"Publish one message."`
	Feed       feedCommand       `cmd:"" help:"Publish the records of a file."`
	Disconnect disconnectCommand `cmd:"" help:"End connections of clients."`
	Drain      drainCommand      `cmd:"" help:"Empty a server of its clients, a few at a time, before it is stopped."`
	Upgrade    upgradeCommand    `cmd:"" help:"Have a server go on as the binary that is at its path by now, without its clients noticing."`
	Nodes      nodesCommand      `cmd:"" help:"List the nodes of the cluster."`
	Top        topCommand        `cmd:"" help:"Watch the nodes of the cluster: connections, deliveries, lag. q ends it."`
	Config     configCommand     `cmd:"" help:"Print the settings that serve would run with, and where each came from."`
	Doctor     doctorCommand     `cmd:"" help:"Look at the machine, the files and the NATS that serve would run with, and say what to change."`
	Key        keyCommand        `cmd:"" help:"Make an API key, and print it with the lines of the configuration that accept it."`
	Version    versionCommand    `cmd:"" help:"Print the version."`
}
