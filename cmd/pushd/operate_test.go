package main

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
)

// served is a server that runs until the test ends.
type served struct{ listen, admin string }

func serveWith(t *testing.T, args ...string) served {
	t.Helper()
	ctx, stop := context.WithCancel(testContext(t))
	var stderr output
	p := program{path: "./bin/pushd", stdin: strings.NewReader(""), stdout: &output{}, stderr: &stderr}
	code := make(chan int, 1)
	go func() {
		code <- p.run(ctx, append([]string{"--listen=127.0.0.1:0", "--admin=127.0.0.1:0", "--nats-listen=127.0.0.1:0", "--store=memory"}, args...))
	}()
	t.Cleanup(func() {
		stop()
		if c := <-code; c != 0 {
			t.Errorf("the server ended with %d: %s", c, &stderr)
		}
	})
	serving := regexp.MustCompile(`msg=serving listen=(\S+) admin=(\S+)`)
	for {
		if found := serving.FindStringSubmatch(stderr.String()); found != nil {
			return served{found[1], found[2]}
		}
		select {
		case c := <-code:
			code <- c
			t.Fatalf("the server ended with %d: %s", c, &stderr)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// welcomed connects a client, and returns its name.
func (s served) welcomed(t *testing.T) (c net.Conn, name string) {
	t.Helper()
	c, behind, _, err := ws.Dial(testContext(t), "ws://"+s.listen+"/ws")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	var from io.Reader = c
	if behind != nil {
		from = behind
	}
	_, payload := readFrame(t, from)
	var welcome struct{ Client string }
	if err := json.Unmarshal(payload, &welcome); err != nil {
		t.Fatalf("%v: %q", err, payload)
	}
	return c, welcome.Client
}

func readFrame(t *testing.T, from io.Reader) (ws.OpCode, []byte) {
	t.Helper()
	h, err := ws.ReadHeader(from)
	if err != nil {
		t.Fatal(err)
	}
	payload := make([]byte, h.Length)
	if _, err := io.ReadFull(from, payload); err != nil {
		t.Fatal(err)
	}
	return h.OpCode, payload
}

// wantClosed reads up to the close frame, answers it, and returns what came before.
func wantClosed(t *testing.T, c net.Conn, code ws.StatusCode) (before string) {
	t.Helper()
	for {
		op, payload := readFrame(t, c)
		if op != ws.OpClose {
			before += string(payload)
			continue
		}
		if got, _ := ws.ParseCloseFrameData(payload); got != code {
			t.Errorf("closed with %d, want %d", got, code)
		}
		c.Close()
		return before
	}
}

// TestOperate disconnects a client and drains a server that wants a token.
func TestOperate(t *testing.T) {
	secret := strings.Repeat("5e", 16)
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := serveWith(t, "--admin-token-file", file)
	run := func(want result, args ...string) {
		t.Helper()
		if got := runWith(testContext(t), "", append(args, "--admin", s.admin)...); got != want {
			t.Errorf("%q: %+v, want %+v", args, got, want)
		}
	}
	a, name := s.welcomed(t)
	b, _ := s.welcomed(t)
	run(result{1, "", "pushd: unauthorized: send the token of --admin-token-file: Authorization: Bearer TOKEN\n"}, "disconnect", name)
	run(result{1, "", "pushd: unauthorized: send the token of --admin-token-file: Authorization: Bearer TOKEN\n"}, "drain")
	run(result{0, "1\n", ""}, "disconnect", name, "--reason=policy", "--admin-token-file", file)
	wantClosed(t, a, 1008)
	run(result{0, "0\n", ""}, "disconnect", "--identity", "team/alice", "--admin-token-file", file)
	run(result{1, "", "pushd: bad_request: client " + name + " is not connected any more\n"}, "disconnect", name, "--admin-token-file", file)

	t.Setenv("PUSHD_ADMIN_TOKEN", secret)
	run(result{0, "waiting, 1 connections\n", ""}, "drain", "--grace=3600")
	run(result{0, "serving, 1 connections\n", ""}, "drain", "--cancel")
	run(result{0, "drained, 0 connections\n", ""}, "drain", "--window=0", "--wait")
	if before := wantClosed(t, b, 1012); !strings.Contains(before, `"type":"reconnect"`) {
		t.Errorf("before the close: %s", before)
	}
	run(result{1, "", "pushd: bad_request: the grace has passed and clients have been told to leave: let the drain end, and restart pushd\n"}, "drain", "--cancel")
	run(result{80, "", "pushd: error: --reason must be one of \"kicked\",\"token_expired\",\"policy\",\"draining\",\"overloaded\" but got \"x\"\n"}, "disconnect", "--reason=x", name)

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := l.Addr().String()
	l.Close()
	got := runWith(testContext(t), "", "drain", "--admin", nobody)
	if want := "pushd: cannot reach the admin listener at " + nobody + ": dial tcp " + nobody + ": connect: connection refused (is the server running, and is --admin right?)\n"; got.code != 1 || got.stderr != want {
		t.Errorf("%+v", got)
	}
}
