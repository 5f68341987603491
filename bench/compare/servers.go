package main

import (
	"context"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/pushd/pushd/bench/load"
)

// server is one that is measured.
type server struct {
	name    string
	library string // that it stands on; "" for pushd and the floor
	target  load.Target
	start   string      // shell command
	history string      // what start needs more to keep history; "" where it cannot
	events  load.Target // for Server-Sent Events; without a URL where it has none

	compresses  bool   // messages, where clients offer it
	compression string // what start needs more for that
	broker      bool   // it gets its messages from NATS
	gcURL       string
}

// ports of what is started here, on loopback.
type ports struct{ nats, clients, admin, gc int }

// version is what was measured, of whom.
type version struct{ name, text string }

// compile makes all binaries, in a folder of their own.
func compile(ctx context.Context, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, b := range []struct{ name, pkg string }{
		{"pushd", "./cmd/pushd"}, {"scale", "./bench/scale"}, {"nats-server", "github.com/nats-io/nats-server/v2"},
	} {
		if _, err := output(ctx, "go", "build", "-o", filepath.Join(dir, b.name), b.pkg); err != nil {
			return err
		}
	}
	floor, err := output(ctx, "sh", filepath.Join("bench", "peers", "build.sh"), dir)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, historyConfig), []byte(historySettings), 0o644); err != nil {
		return err
	}
	// It may be in C or in Go, which only the build knows.
	return os.WriteFile(filepath.Join(dir, floorVersion), []byte(strings.TrimPrefix(floor, "floor: ")), 0o644)
}

// historyConfig is the file with which pushd keeps history. Like the peers' it is in memory, that of
// NATS, so that no disk is measured.
const (
	historyConfig   = "history.yaml"
	historySettings = "namespaces: {bench: {delivery: all, history: {messages: 10000, storage: memory}}}\n"
)

// floorVersion is the file beside the floor that says what it is.
const floorVersion = "floor.version"

// list finds the servers and the versions among what compile has made.
func (c *comparison) list(ctx context.Context) error {
	floor, err := os.ReadFile(filepath.Join(c.dir, floorVersion))
	if err != nil {
		return err
	}
	c.versions = []version{{"pushd", commit(ctx)}}
	if err := c.addVersion("NATS", "nats-server", ""); err != nil {
		return err
	}
	c.versions = append(c.versions, version{"floor", string(floor)})
	return c.addPeers()
}

// addPeers lists the servers: the floor, both lanes of pushd, and the peers.
func (c *comparison) addPeers() error {
	text, err := os.ReadFile(filepath.Join("bench", "peers", "peers.json"))
	if err != nil {
		return err
	}
	var peers []struct {
		Name     string
		Library  string
		Command  []string
		Target   load.Target
		Events   load.Target
		History  []string
		Compress []string
		GC       bool
	}
	if err := json.Unmarshal(text, &peers); err != nil {
		return fmt.Errorf("bench/peers/peers.json: %w", err)
	}
	for _, p := range peers {
		s := server{name: p.Name, library: p.Library, target: p.Target, events: p.Events, compresses: len(p.Compress) > 0}
		s.start = "exec " + strings.ReplaceAll(strings.Join(p.Command, " "), "{bin}", c.dir) + " -listen 127.0.0.1:0 -publish 127.0.0.1:0"
		if len(p.History) > 0 {
			s.history = " " + strings.Join(p.History, " ")
		}
		if s.compresses {
			s.compression = " " + strings.Join(p.Compress, " ")
		}
		if p.GC {
			s.start += fmt.Sprintf(" -gc 127.0.0.1:%d", c.ports.gc)
			s.gcURL = fmt.Sprintf("http://127.0.0.1:%d/", c.ports.gc)
		}
		c.servers = append(c.servers, s)
		if p.Library != "" {
			if err := c.addVersion(p.Name, filepath.Base(p.Command[0]), p.Library); err != nil {
				return err
			}
		}
	}
	for _, lane := range []string{"uring", "write"} { // in front, behind the floor
		publish := fmt.Sprintf("nats://127.0.0.1:%d/push.{topic}", c.ports.nats)
		c.servers = slices.Insert(c.servers, 1, server{
			name:       "pushd-" + lane,
			target:     load.Pushd(fmt.Sprintf("ws://127.0.0.1:%d/ws", c.ports.clients), publish),
			events:     load.Pushd(fmt.Sprintf("http://127.0.0.1:%d/sse?topic={topic}", c.ports.clients), publish),
			compresses: true,
			start: fmt.Sprintf("exec %s/pushd serve --listen 127.0.0.1:%d --drain-window 0s --admin 127.0.0.1:%d --nats nats://127.0.0.1:%d --send %s --log-level warn",
				c.dir, c.ports.clients, c.ports.admin, c.ports.nats, lane),
			history: " --config " + filepath.Join(c.dir, historyConfig), broker: true,
			gcURL: fmt.Sprintf("http://127.0.0.1:%d/debug/pprof/heap?gc=1", c.ports.admin),
		})
	}
	return nil
}

// addVersion takes the version of a library, or of the program, from what was
// linked: what go.mod says would not be a proof.
func (c *comparison) addVersion(name, binary, library string) error {
	info, err := buildinfo.ReadFile(filepath.Join(c.dir, binary))
	if err != nil {
		return err
	}
	module := &info.Main
	if library != "" {
		i := slices.IndexFunc(info.Deps, func(m *debug.Module) bool { return m.Path == library })
		if i < 0 {
			return fmt.Errorf("%s is built without %s, which bench/peers/peers.json says it stands on", binary, library)
		}
		module = info.Deps[i]
	}
	c.versions = append(c.versions, version{name, module.Path + " " + module.Version})
	return nil
}

// commit is the state of the working tree; nothing is said where that is no git.
func commit(ctx context.Context) string {
	text, err := output(ctx, "git", "describe", "--always", "--dirty=, with changes that are not committed")
	if err != nil {
		return "of an unknown commit"
	}
	return "commit " + text
}

// output runs a command and returns what it prints, without white space at the end.
func output(ctx context.Context, command ...string) (string, error) {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	var complaint strings.Builder
	cmd.Stderr = &complaint
	text, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w\n%s", strings.Join(command, " "), err, &complaint)
	}
	return strings.TrimSpace(string(text)), nil
}

// natsStartTime is how long NATS may take to accept.
const natsStartTime = 30 * time.Second

// natsServer is the NATS that pushd listens to, a process of its own: its CPU
// is not pushd's.
type natsServer struct {
	command *exec.Cmd
	store   string        // folder that JetStream wants, though streams are in memory
	ended   chan struct{} // closed by run, at its end
}

func startNATS(ctx context.Context, path string, port int) (*natsServer, error) {
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	taken, err := net.Listen("tcp", address) // else what has it would be taken for ours
	if err != nil {
		return nil, fmt.Errorf("NATS needs a port: %w", err)
	}
	taken.Close()
	store, err := os.MkdirTemp("", "compare")
	if err != nil {
		return nil, err
	}
	n := &natsServer{command: exec.Command(path, "-js", "-sd", store, "-a", "127.0.0.1", "-p", strconv.Itoa(port)), store: store, ended: make(chan struct{})}
	n.command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL} // ^C is for us, and we end it
	if err := n.command.Start(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(store))
	}
	go n.run()
	ctx, cancel := context.WithTimeout(ctx, natsStartTime)
	defer cancel()
	for {
		if conn, err := net.Dial("tcp", address); err == nil {
			conn.Close()
			return n, nil
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-n.ended:
			return nil, fmt.Errorf("%s: %w", path, n.stop())
		case <-ctx.Done():
			return nil, fmt.Errorf("%s does not accept at %s: %w", path, address, errors.Join(ctx.Err(), n.stop()))
		}
	}
}

// run waits for its end.
func (n *natsServer) run() {
	defer close(n.ended)
	_ = n.command.Wait() // ProcessState has it
}

// stop says so where it has ended before.
func (n *natsServer) stop() (err error) {
	select {
	case <-n.ended:
		err = fmt.Errorf("NATS has ended by itself: %v", n.command.ProcessState)
	default:
	}
	_ = n.command.Process.Signal(syscall.SIGTERM) // fails where it has ended
	<-n.ended
	return errors.Join(err, os.RemoveAll(n.store))
}
