package server

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/sys/unix"

	"github.com/pushd/pushd/internal/config"
	"github.com/pushd/pushd/internal/handover"
	"github.com/pushd/pushd/internal/natstest"
	"github.com/pushd/pushd/poller"
)

// successor is a new process that does what it should up to a step.
type successor struct {
	link  *handover.Link
	files []int // sockets that it has been given
}

// steps are what a new process does, each after the one before.
var steps = []struct {
	name string
	do   func(*successor) error
}{
	{"starts", func(*successor) error { return nil }},
	{"says its version", func(n *successor) error {
		hello := handover.Hello{Version: handover.Version}
		return n.link.Send(handover.KindHello, hello.Append(nil))
	}},
	{"hears the offer", func(n *successor) error { return n.receive(handover.KindOffer) }},
	{"has opened NATS", func(n *successor) error { return n.link.Send(handover.KindOpen, nil) }},
	{"hears of the sockets", func(n *successor) error { return n.receive(handover.KindAhead) }},
	{"has the sockets", func(n *successor) error { return n.link.Send(handover.KindBorrowed, nil) }},
	{"hears of the interests", func(n *successor) error { return n.receive(handover.KindInterests) }},
	{"has subscribed", func(n *successor) error { return n.link.Send(handover.KindCollecting, nil) }},
	{"has the clients", func(n *successor) error { return n.receive(handover.KindEnd) }},
}

// receive takes what comes up to a message.
func (n *successor) receive(until handover.Kind) error {
	for {
		k, payload, fds, err := n.link.Receive()
		if err != nil || k == handover.KindFailed {
			return fmt.Errorf("%s: %w", payload, err)
		}
		n.files = append(n.files, fds...)
		if k == until {
			return nil
		}
	}
}

func (n *successor) end() {
	for _, fd := range n.files {
		unix.Close(fd)
	}
	n.link.Close()
}

// startUpgrading runs a server on an external NATS whose next process is the
// test's, and says what became of the upgrade.
func startUpgrading(t *testing.T) (r *running, publisher *nats.Conn) {
	bus := natstest.Start(t, natstest.Store(t.TempDir()))
	r = start(t, func(c *config.Config) { c.NATS, c.NATSListen = []string{bus.URL()}, "" })
	r.next.prepare, r.next.collect, r.next.carry = 300*time.Millisecond, 300*time.Millisecond, 300*time.Millisecond
	publisher, err := nats.Connect(bus.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(publisher.Close)
	return r, publisher
}

// A new process that dies, hangs or gives up at any step leaves the old one and
// its clients as they were.
func TestHotUpgradeFails(t *testing.T) {
	r, publisher := startUpgrading(t)
	c, late := r.subscribed("chat.x"), r.dial("topic=chat.x")
	late.want("welcome")
	late.want("subscribed")
	number, files := 0, openFiles(t, os.Getpid())
	for upTo := range steps {
		for _, how := range []string{"dies", "hangs", "gives up"} {
			t.Run(steps[upTo].name+" and "+how, func(t *testing.T) {
				stepped, ended, told := make(chan error, 1), make(chan struct{}), make(chan error, 1)
				alive := make(chan bool, len(r.shards)) // whether the new process was, when a loop went on
				r.next.start = func(theirs *os.File) (*os.Process, error) {
					fd, err := unix.Dup(int(theirs.Fd()))
					if err != nil {
						return nil, err
					}
					n := &successor{}
					if n.link, err = handover.Join(uintptr(fd)); err != nil {
						return nil, err
					}
					cmd := exec.Command("sleep", "1000") // what is killed in its place
					if err := cmd.Start(); err != nil {
						return nil, err
					}
					go func() {
						stepped <- func() error {
							for _, step := range steps[:upTo+1] {
								if err := step.do(n); err != nil {
									return fmt.Errorf("%s: %w", step.name, err)
								}
							}
							return nil
						}()
						if upTo == len(steps)-1 { // loops are held up by now
							for _, sh := range r.shards {
								sh.loop.Post(poller.Func(func() { alive <- runs(cmd.Process.Pid) }))
							}
						}
						switch how {
						case "hangs":
							<-ended
							n.link.SetDeadline(time.Now().Add(patience))
							for {
								_, err := n.link.Expect(handover.KindCommit)
								if said := (*handover.Failure)(nil); errors.As(err, &said) || errors.Is(err, io.EOF) {
									told <- err
									break
								}
							}
						case "gives up":
							_ = n.link.Send(handover.KindFailed, []byte("out of luck"))
							<-ended
						}
						n.end()
					}()
					return cmd.Process, nil
				}
				_, err := r.Upgrade()
				close(ended)
				if err == nil {
					t.Fatal("it was taken for done")
				}
				if how == "gives up" && !strings.Contains(err.Error(), "out of luck") {
					t.Errorf("the error is %v", err)
				}
				if err := <-stepped; err != nil {
					t.Errorf("the new process: %v", err)
				}
				if upTo == len(steps)-1 {
					for range r.shards {
						if <-alive {
							t.Error("a loop went on while the new process was alive")
						}
					}
				}
				if how == "hangs" {
					if err := <-told; errors.Is(err, io.EOF) {
						t.Error("the new process was told nothing, and would take the clients for its own")
					}
				}
				for range 3 {
					number++
					if err := publisher.Publish("push.chat.x", fmt.Append(nil, number)); err != nil {
						t.Fatal(err)
					}
					c.wantData("chat.x", fmt.Sprint(number))
					late.wantData("chat.x", fmt.Sprint(number))
				}
				c.send(`{"type":"ping"}`)
				c.want("pong")
				other := r.dial("topic=chat.y")
				other.want("welcome")
				other.conn.Close()
				r.do(200, "GET", "/connections", &struct{}{}) // operators are let in again
				eventually(t, "as many files are open as before", func() bool { return openFiles(t, os.Getpid()) <= files })
			})
		}
	}
}

// The binary that is there by now does not start, speaks another version, or
// cannot have NATS: the answer says so, and the next attempt is a new one.
func TestHotUpgradeOfAnotherBinary(t *testing.T) {
	t.Parallel()
	bus := natstest.Start(t, natstest.Store(t.TempDir()))
	u := startUpgradable(t, bus.URL())
	c := u.subscribed("chat.x")
	good := u.path + ".good"
	if err := os.Rename(u.path, good); err != nil {
		t.Fatal(err)
	}
	files := u.openFiles()
	for _, tc := range []struct{ script, want string }{
		{"", "starting the new binary"},
		{"not executable", "permission denied"},
		{"no program", "exec format error"},
		{"#!/bin/sh\nkill -SEGV $$\n", "EOF"},
		{"#!/bin/sh\nexec " + good + " serve --heartbeat=nonsense\n", "exit status 80"},
		{"#!/bin/sh\nexec " + good + " serve --listen=127.0.0.1:0 --admin=127.0.0.1:0 --heartbeat=1ns --nats=" + bus.URL() + "\n", "exit status 1"},
		{"#!/bin/sh\nexit 3\n", "exit status 3"},
		{"#!/bin/sh\nprintf 'push\\001\\000\\000\\000\\000\\000\\000\\003\\001\\001\\143' >&3\nexec sleep 100\n", "in version 99, and this one in 1"},
		{"#!/bin/sh\nexec " + good + " serve --listen=127.0.0.1:0 --admin=127.0.0.1:0 --nats=nats://127.0.0.1:1\n", "127.0.0.1:1"},
		{"#!/bin/sh\nexec " + good + " serve --listen=127.0.0.1:9 --admin=127.0.0.1:0 --nats=" + bus.URL() + "\n", "--listen was 127.0.0.1:0 and is 127.0.0.1:9"},
		{"#!/bin/sh\nexec " + good + " serve --listen=127.0.0.1:0 --admin=127.0.0.1:0\n", "the embedded NATS is now another, or none"},
	} {
		if tc.script != "" {
			next := filepath.Join(t.TempDir(), "next")
			mode := os.FileMode(0o755)
			if tc.script == "not executable" {
				mode = 0o644
			}
			if err := os.WriteFile(next, []byte(tc.script), mode); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(next, u.path); err != nil {
				t.Fatal(err)
			}
		}
		status, body, _ := u.upgrade()
		if status != http.StatusConflict || !strings.Contains(body, tc.want) {
			t.Errorf("%q: %d %s, want %q", tc.script, status, body, tc.want)
		}
		c.send(`{"type":"ping"}`)
		c.want("pong")
	}
	eventually(t, "as many files are open as before", func() bool { return u.openFiles() <= files })
	if err := os.Rename(good, u.path); err != nil {
		t.Fatal(err)
	}
	if status, body, _ := u.upgrade(); status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}
	c.send(`{"type":"ping"}`)
	c.want("pong")
}

// A service manager hears that the server is ready, and which process is the
// main one by now.
func TestHotUpgradeNotifies(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	u := startUpgradable(t, natstest.Start(t, natstest.Store(t.TempDir())).URL())
	if status, body, _ := u.upgrade(); status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}
	var said []string
	want := []string{"READY=1", fmt.Sprintf("MAINPID=%d", u.pid)}
	before := u.pid
	if status, body, _ := u.upgrade(); status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}
	u.wantEnd(before)
	want = append(want, fmt.Sprintf("MAINPID=%d", u.pid)) // of the second, which is the main process by then
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	for len(said) < len(want) {
		var text [100]byte
		n, err := c.Read(text[:])
		if err != nil {
			t.Fatalf("after %v: %v", said, err)
		}
		said = append(said, string(text[:n]))
	}
	if !slices.Equal(said, want) {
		t.Errorf("it said %q, want %q", said, want)
	}
	if err := c.SetDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(make([]byte, 100)); err == nil {
		t.Errorf("it said %d bytes more", n)
	}
}
