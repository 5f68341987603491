// Package hub is what the peers have in common and what is not measured in them: the command line, the port on which
// publications come in, the table of topics, and the two commands of a client. What is left to a peer is what differs: how
// it accepts, upgrades, reads and writes.
package hub

import (
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"
)

// Publish brings one payload to all subscribers of a topic. Each publisher calls it for one publication after the other, and several
// publishers call it at once. The payload is the callee's to keep, and nobody changes it.
type Publish func(topic string, payload []byte)

// Main is the main function of a peer. It parses the flags, -listen, -publish and -gc and those that the peer defined
// before, opens the ports and lets start serve WebSocket clients in the background on the first. Then it prints
//
//	listening ws=127.0.0.1:41234 publish=127.0.0.1:41235
//
// and returns at SIGTERM or SIGINT. Connections are not closed in order: the end of the process ends them.
func Main(start func(clients net.Listener) (Publish, error)) {
	listen := flag.String("listen", "127.0.0.1:0", "`address` for WebSocket clients; port 0 takes a free one")
	publications := flag.String("publish", "127.0.0.1:0", "`address` for publishers; port 0 takes a free one")
	gc := flag.String("gc", "", "`address` where a GET collects garbage and gives free memory back, so that memory can be compared; empty for none")
	flag.Parse()

	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	if err := run(*listen, *publications, *gc, start); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	<-stop
}

func run(listen, publications, gc string, start func(net.Listener) (Publish, error)) error {
	clients, err := net.Listen("tcp", listen)
	if err != nil {
		return fmt.Errorf("-listen: %w", err)
	}
	publishers, err := net.Listen("tcp", publications)
	if err != nil {
		return fmt.Errorf("-publish: %w", err)
	}
	publish, err := start(clients)
	if err != nil {
		return err
	}
	go acceptPublishers(publishers, publish)
	if gc != "" {
		collector, err := net.Listen("tcp", gc)
		if err != nil {
			return fmt.Errorf("-gc: %w", err)
		}
		go http.Serve(collector, http.HandlerFunc(collect))
	}
	fmt.Printf("listening ws=%s publish=%s\n", clients.Addr(), publishers.Addr())
	return nil
}

// collect brings the process to where it gets by itself when it idles for long, since the runtime collects every two minutes. A stack
// that has become too large is halved in each collection, so it takes some.
func collect(http.ResponseWriter, *http.Request) {
	for range 4 {
		runtime.GC()
	}
	debug.FreeOSMemory()
}
