package main

import (
	"context"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pushd/pushd/internal/certstest"
)

// The commands talk to a server behind TLS if they are told whom to trust, and
// not otherwise; SIGHUP has it read its certificate again.
func TestSecureServer(t *testing.T) {
	ctx, stop := context.WithCancel(testContext(t))
	defer stop()
	a := certstest.New(t)
	dir := t.TempDir()
	a.Write(dir, a.Server())
	var stdout, stderr output
	p := program{path: "./bin/pushd", stdin: strings.NewReader(""), stdout: &stdout, stderr: &stderr}
	code := make(chan int, 1)
	go func() {
		code <- p.run(ctx, []string{"--demo", "--listen=127.0.0.1:0", "--admin=127.0.0.1:0", "--nats-listen=127.0.0.1:0", "--store=memory",
			"--tls-cert", filepath.Join(dir, "tls.crt"), "--tls-key", filepath.Join(dir, "tls.key")})
	}()
	until := func(what string, ok func() bool) {
		t.Helper()
		for end := time.Now().Add(testTimeout); !ok(); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("gave up waiting: %s; the server said %s", what, &stderr)
			}
		}
	}
	until("the invitation", func() bool { return strings.Count(stdout.String(), "\n") == 3 })
	_, rest, _ := strings.Cut(stdout.String(), "https://")
	address, _, _ := strings.Cut(rest, "/")

	got := runWith(ctx, "", "publish", "--server", "https://"+address, "--ca", a.File(), "-v", "host.a", "1")
	if want := (result{0, "", "pushd: published to host.a\n"}); got != want {
		t.Errorf("publish: %+v", got)
	}
	got = runWith(ctx, "", "publish", "--server", "https://"+address, "host.a", "1")
	if got.code != 1 || !strings.Contains(got.stderr, "certificate signed by unknown authority") {
		t.Errorf("without --ca: %+v", got)
	}
	for _, args := range []string{"--server=wss://", "--transport=sse --server=wss://", "--transport=poll --server=https://", "--server=https://"} {
		command := append([]string{"subscribe", "--ca", a.File(), "--count=1"}, strings.Fields(args+address+" host.>")...)
		got = runWith(ctx, "", command...)
		if got.code != 0 || !strings.Contains(got.stdout, " host.") {
			t.Errorf("subscribe %s: %+v", args, got)
		}
	}
	got = runWith(ctx, `{"n":1}`+"\n", "feed", "--server", "https://"+address, "--ca", a.File(), "--topic", "host.b", "-")
	if got.code != 0 || !strings.Contains(got.stderr, "1 records published") {
		t.Errorf("feed: %+v", got)
	}
	got = runWith(ctx, "", "publish", "--server", "https://"+address, "--ca", filepath.Join(dir, "tls.key"), "host.a", "1")
	if got.code != 1 || !strings.Contains(got.stderr, "no certificate in PEM") {
		t.Errorf("with a file that has none: %+v", got)
	}

	a.Write(dir, a.Server("renewed.example.com"))
	if err := syscall.Kill(syscall.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	until("the new certificate", func() bool { return strings.Contains(stderr.String(), "name=renewed.example.com") })
	stop()
	if c := <-code; c != 0 {
		t.Errorf("code %d after it was stopped: %s", c, &stderr)
	}
}
