package main

import (
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestUntilSignal sends signals in every order.
func TestUntilSignal(t *testing.T) {
	f := func(terminated bool, first, second os.Signal) {
		t.Helper()
		signals, exited := make(chan os.Signal), make(chan struct{})
		ctx, insisted := untilSignal(signals, func() { close(exited) })
		if ctx.Err() != nil || insisted.Err() != nil {
			t.Error("over before it began")
		}
		signals <- first
		<-ctx.Done()
		if terminated {
			if insisted.Err() != nil {
				t.Errorf("%v alone insists", first)
			}
			signals <- second
		}
		<-insisted.Done()
		select {
		case <-exited:
			t.Error("left without being asked")
		default:
		}
		signals <- second
		<-exited
	}
	f(true, syscall.SIGTERM, syscall.SIGTERM)
	f(true, syscall.SIGTERM, os.Interrupt)
	f(false, os.Interrupt, syscall.SIGTERM)
	f(false, os.Interrupt, os.Interrupt)
}

// TestTerminate drains a server by SIGTERM, and one that somebody insists on stopping.
func TestTerminate(t *testing.T) {
	serving := regexp.MustCompile(`msg=serving listen=(\S+) admin=(\S+)`)
	begin := func(args ...string) (s served, signals chan os.Signal, stderr *output, code chan int) {
		t.Helper()
		signals, stderr, code = make(chan os.Signal), &output{}, make(chan int, 1)
		ctx, insisted := untilSignal(signals, func() {})
		t.Cleanup(func() { signals <- os.Interrupt }) // its goroutine waits for one more
		p := program{path: "./bin/pushd", insisted: insisted, stdin: strings.NewReader(""), stdout: &output{}, stderr: stderr}
		go func() {
			code <- p.run(ctx, append([]string{"--listen=127.0.0.1:0", "--admin=127.0.0.1:0", "--nats-listen=127.0.0.1:0", "--store=memory"}, args...))
		}()
		eventually(t, "it serves", func() bool {
			found := serving.FindStringSubmatch(stderr.String())
			if found != nil {
				s = served{found[1], found[2]}
			}
			return found != nil
		})
		return s, signals, stderr, code
	}

	s, signals, stderr, code := begin("--drain-window=200ms")
	c, _ := s.welcomed(t)
	signals <- syscall.SIGTERM
	if before := wantClosed(t, c, 1012); !strings.Contains(before, `"type":"reconnect"`) {
		t.Errorf("before the close: %s", before)
	}
	if got := <-code; got != 0 || !strings.Contains(stderr.String(), "msg=drained connections=0") {
		t.Errorf("ended with %d: %s", got, stderr)
	}
	signals <- syscall.SIGTERM

	s, signals, stderr, code = begin("--drain-grace=1h")
	c, _ = s.welcomed(t)
	signals <- syscall.SIGTERM
	eventually(t, "it drains", func() bool {
		return strings.Contains(stderr.String(), "msg=draining grace=1h0m0s window=30s connections=1")
	})
	signals <- syscall.SIGTERM
	if before := wantClosed(t, c, 1001); strings.Contains(before, "reconnect") {
		t.Errorf("before the close: %s", before)
	}
	if got := <-code; got != 0 || !strings.Contains(stderr.String(), "the drain was cut short") {
		t.Errorf("ended with %d: %s", got, stderr)
	}
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(testTimeout); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("still waiting: %s", what)
		}
	}
}
