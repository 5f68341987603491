package main

import (
	"context"
	"errors"
	"os"
	"syscall"
)

// errTerminated is why a context ends that SIGTERM ended: a server is drained then.
var errTerminated = errors.New("terminated")

// untilSignal returns a context that ends with the first signal, and one that ends
// when somebody insists: with SIGINT, or a second signal of either kind. Whoever
// sends another after that does not want to wait for anything, and has exit called.
func untilSignal(signals <-chan os.Signal, exit func()) (ctx, insisted context.Context) {
	ctx, end := context.WithCancelCause(context.Background())
	insisted, insist := context.WithCancel(context.Background())
	go func() { // lasts as long as the process
		if s := <-signals; s == syscall.SIGTERM {
			end(errTerminated)
			<-signals
		}
		insist()
		end(nil)
		<-signals
		exit()
	}()
	return ctx, insisted
}
