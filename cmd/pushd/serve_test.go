package main

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pushd/pushd/internal/natstest"
)

// The server runs until it is told to stop, and says what to try.
func TestServe(t *testing.T) {
	ctx, stop := context.WithCancel(testContext(t))
	defer stop()
	var stdout, stderr output
	p := program{path: "./bin/pushd", stdin: strings.NewReader(""), stdout: &stdout, stderr: &stderr}
	code := make(chan int, 1)
	go func() {
		code <- p.run(ctx, []string{"--demo", "--listen=127.0.0.1:0", "--admin=127.0.0.1:0", "--nats-listen=127.0.0.1:0", "--store=memory", "--log-format=json"})
	}()
	invited := regexp.MustCompile(`^open       (http://127\.0\.0\.1:\d+)/demo/
subscribe  \./bin/pushd subscribe --server (\S+) 'host\.>'
publish    curl -d '"hello"' (\S+)/publish/host\.demo\.greeting
$`)
	var found []string
	for found == nil {
		select {
		case c := <-code:
			t.Fatalf("ended with %d: %s", c, &stderr)
		case <-time.After(5 * time.Millisecond):
		}
		found = invited.FindStringSubmatch(stdout.String())
	}
	if found[1] != found[2] || found[1] != found[3] {
		t.Errorf("three addresses: %q", found[1:])
	}
	got := runWith(ctx, "", "publish", "--server", found[1], "-v", "host.demo.greeting", `"hello"`)
	if want := (result{0, "", "pushd: published to host.demo.greeting\n"}); got != want {
		t.Errorf("publishing as invited: %+v", got)
	}
	stop()
	if c := <-code; c != 0 {
		t.Errorf("code %d after it was stopped: %s", c, &stderr)
	}
}

// A port in use is one line that names it, and code 1.
func TestServePortInUse(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	address := taken.Addr().String()
	got := runWith(testContext(t), "", "--listen", address, "--admin=127.0.0.1:0", "--nats-listen=127.0.0.1:0", "--store=memory", "--log-level=error")
	if got.code != 1 || strings.Count(got.stderr, "\n") != 1 || !strings.HasPrefix(got.stderr, "pushd: ") || !strings.Contains(got.stderr, address) {
		t.Errorf("%+v", got)
	}
}

// A hang-up that came before the server was there is obeyed once it is.
func TestReloadOn(t *testing.T) {
	signals := make(chan os.Signal, 1)
	signals <- syscall.SIGHUP
	reloaded := make(chan struct{}, 1)
	stop := reloadOn(signals, func() { reloaded <- struct{}{} })
	<-reloaded
	stop()
}

// A hang-up that comes while NATS is being dialled does not end the server, and is obeyed once it serves.
func TestHangUpWhileDialling(t *testing.T) {
	bus := natstest.Start(t)
	front, err := net.Listen("tcp", "127.0.0.1:0") // of NATS, and slow
	if err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("a secret of 32 bytes or more, so."), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(testContext(t))
	defer stop()
	var stderr output
	p := program{path: "./bin/pushd", stdin: strings.NewReader(""), stdout: &output{}, stderr: &stderr}
	code := make(chan int, 1)
	go func() {
		code <- p.run(ctx, []string{"--listen=127.0.0.1:0", "--admin=127.0.0.1:0", "--nats=nats://" + front.Addr().String(), "--token-secret-file", secret})
	}()
	dialled, err := front.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(syscall.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	var links sync.WaitGroup
	join := func(c net.Conn) {
		links.Go(func() {
			defer c.Close()
			to, err := net.Dial("tcp", bus.Addr())
			if err != nil {
				t.Error(err)
				return
			}
			defer to.Close()
			links.Go(func() { io.Copy(to, c); to.Close() })
			io.Copy(c, to)
		})
	}
	join(dialled)
	links.Go(func() {
		for {
			c, err := front.Accept()
			if err != nil {
				return
			}
			join(c)
		}
	})
	for !strings.Contains(stderr.String(), "read the keys of tokens again") {
		select {
		case c := <-code:
			t.Fatalf("ended with %d: %s", c, &stderr)
		case <-time.After(5 * time.Millisecond):
		}
	}
	stop()
	if c := <-code; c != 0 {
		t.Errorf("code %d after it was stopped: %s", c, &stderr)
	}
	front.Close()
	links.Wait()
}

// What is to be tried has the token and the authority of the environment, as
// the client commands do, where those are needed.
func TestInvitationCredentials(t *testing.T) {
	f := func(url string, authenticates bool, want string) {
		t.Helper()
		if got := strings.Split(invitation("p", url, authenticates), "\n")[2]; got != want {
			t.Errorf("got  %q\nwant %q", got, want)
		}
	}
	f("http://127.0.0.1:9", false, `publish    curl -d '"hello"' http://127.0.0.1:9/publish/host.demo.greeting`)
	f("http://127.0.0.1:9", true, `publish    curl -H "Authorization: Bearer $PUSHD_TOKEN" -d '"hello"' http://127.0.0.1:9/publish/host.demo.greeting`)
	f("https://127.0.0.1:9", true, `publish    curl ${PUSHD_CA:+--cacert "$PUSHD_CA"} -H "Authorization: Bearer $PUSHD_TOKEN" -d '"hello"' https://127.0.0.1:9/publish/host.demo.greeting`)
}

func TestInvitation(t *testing.T) {
	f := func(path, address, want string) {
		t.Helper()
		if got := strings.Split(invitation(path, "http://"+address, false), "\n")[1]; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	f("./bin/pushd", "127.0.0.1:8080", "subscribe  ./bin/pushd subscribe 'host.>'")
	f("./bin/pushd", "127.0.0.1:9", "subscribe  ./bin/pushd subscribe --server http://127.0.0.1:9 'host.>'")
	f("/p", "[::]:9", "subscribe  /p subscribe --server http://127.0.0.1:9 'host.>'")
	f("/p", "0.0.0.0:8080", "subscribe  /p subscribe 'host.>'")
	f("/p", "[::1]:9", "subscribe  /p subscribe --server http://[::1]:9 'host.>'")
}
