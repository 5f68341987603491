package main

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	pushd "github.com/pushd/pushd/clients/go"
)

// serveAt runs the server until it is stopped, and waits until it answers.
func serveAt(t *testing.T, address string) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(testContext(t))
	ended := make(chan result, 1)
	go func() {
		ended <- runWith(ctx, "", "serve", "--config=pushd.yaml", "--listen", address, "--admin=127.0.0.1:0", "--nats-listen=127.0.0.1:0", "--store=data")
	}()
	stopped := false
	stop = func() {
		cancel()
		if stopped {
			return
		}
		stopped = true
		if got := <-ended; got.code != 0 {
			t.Errorf("serve: %+v", got)
		}
	}
	t.Cleanup(stop)
	await(t, "the server answers", func() bool {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	return stop
}

func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(testTimeout); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("still waiting: %s", what)
		}
	}
}

// A subscriber sees each message once, in order, while the server is stopped
// and started, and also what comes before it is back.
func TestSubscribeOverRestarts(t *testing.T) {
	t.Chdir(t.TempDir())
	writeFile(t, "pushd.yaml", "namespaces: {orders: {delivery: all, history: {age: 1h}}}\n")
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	free.Close()
	url := "http://" + address
	stop := serveAt(t, address)

	s, stdout, stderr := fastSubscriber(url, 9)
	s.topics = positions([]string{"orders.>"}, nil)
	s.options.Backoff = pushd.Backoff{Min: 20 * time.Millisecond, Max: 20 * time.Millisecond}
	ended := make(chan error, 1)
	go func() { ended <- s.run(testContext(t)) }()

	next := 0
	publish := func() {
		t.Helper()
		if got := runWith(testContext(t), "", "publish", "-v", "--server", url, "orders.eu", fmt.Sprint(next)); got.code != 0 || !strings.Contains(got.stderr, ", stored at ") {
			t.Fatalf("publish %d: %+v", next, got)
		}
		next++
	}
	publish() // perhaps before the subscriber is there, which is told nothing of it then
	await(t, "the subscriber is there", func() bool {
		if strings.Count(stdout.String(), "\n") == 0 {
			publish()
		}
		return strings.Count(stdout.String(), "\n") > 0
	})
	for range 2 {
		stop()
		stop = serveAt(t, address)
		for range 4 {
			publish() // some before it is back
		}
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(stdout.String(), "\n"), "\n")
	first := 0
	fmt.Sscan(lines[0][strings.LastIndexByte(lines[0], ' ')+1:], &first)
	for i, line := range lines {
		if want := fmt.Sprintf(" orders.eu %d", first+i); !strings.HasSuffix(line, want) {
			t.Errorf("line %d is %s, want it to end in %q:\n%s\n%s", i, line, want, stdout, stderr)
		}
	}
	if strings.Contains(stderr.String(), "lost") {
		t.Errorf("told of a loss: %s", stderr)
	}
}
