// Command echo sends each message back as it came: the connections of pushd
// and nothing else. Conformance suites are run against it, and it is what
// other WebSocket servers are compared with.
//
//	go run ./bench/echo -listen 127.0.0.1:9001
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"syscall"

	"github.com/alecthomas/units"

	"github.com/pushd/pushd/poller"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// options is the command line.
type options struct {
	listen     string
	maxMessage units.Base2Bytes
	shards     int
	poller     string
	deflate    bool
}

func parse(args []string, stderr io.Writer) (o options, err error) {
	o.maxMessage = 16 * units.MiB
	f := flag.NewFlagSet("echo", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&o.listen, "listen", "127.0.0.1:9001", "listen at this `address`; port 0 takes a free one")
	f.Func("max-message", "refuse messages larger than this `size` (default 16MiB)", func(s string) error {
		n, err := units.ParseBase2Bytes(s)
		if err == nil && n <= 0 {
			err = errors.New("it must be more than nothing")
		}
		o.maxMessage = n
		return err
	})
	f.IntVar(&o.shards, "shards", runtime.GOMAXPROCS(0), "run this `number` of event loops")
	f.StringVar(&o.poller, "poller", "epoll", "wait for sockets with this `backend`: epoll or easygo")
	f.BoolVar(&o.deflate, "deflate", false, "accept permessage-deflate, and compress for those who offer it")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 {
		fmt.Fprintf(stderr, "echo takes no arguments, only flags: %q\n", f.Args())
		return o, flag.ErrHelp
	}
	return o, nil
}

// run serves until ctx is done, and returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	if err != nil {
		return 2
	}
	if err := serve(ctx, o, stdout, slog.New(slog.NewTextHandler(stderr, nil))); err != nil {
		fmt.Fprintln(stderr, err)
		return 1
	}
	return 0
}

// serve runs the shards, and prints the address once they can be reached.
func serve(ctx context.Context, o options, stdout io.Writer, log *slog.Logger) error {
	listeners, err := poller.ListenGroup(o.listen, o.shards, poller.ListenOptions{NoDelay: true})
	if err != nil {
		return err
	}
	shards := make([]*shard, 0, len(listeners))
	for i, l := range listeners {
		sh, err := newShard(l, o, log)
		if err != nil {
			for _, l := range listeners[i:] {
				err = errors.Join(err, l.Close())
			}
			for _, sh := range shards {
				sh.drop()
			}
			return err
		}
		shards = append(shards, sh)
	}
	fmt.Fprintf(stdout, "echoing on ws://%v/\n", listeners[0].Addr())

	ctx, failed := context.WithCancelCause(ctx) // one shard that fails ends all
	defer failed(nil)
	var all sync.WaitGroup
	for _, sh := range shards {
		all.Go(func() {
			if err := sh.run(); err != nil {
				failed(err)
			}
		})
	}
	<-ctx.Done()
	for _, sh := range shards {
		sh.stop()
	}
	all.Wait()
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}
