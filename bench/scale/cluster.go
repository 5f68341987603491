package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"time"

	"github.com/pushd/pushd/bench/load"
)

// programs are the binaries, in a folder of their own.
type programs struct{ dir, pushd, nats string }

// build makes them; the folder is to be removed.
func build(ctx context.Context) (programs, error) {
	dir, err := os.MkdirTemp("", "pushd-scale-")
	if err != nil {
		return programs{}, err
	}
	p := programs{dir, filepath.Join(dir, "pushd"), filepath.Join(dir, "nats-server")}
	for path, pkg := range map[string]string{p.pushd: "github.com/pushd/pushd/cmd/pushd", p.nats: "github.com/nats-io/nats-server/v2"} {
		if out, err := exec.CommandContext(ctx, "go", "build", "-o", path, pkg).CombinedOutput(); err != nil {
			return programs{}, errors.Join(fmt.Errorf("go build %s: %w: run this in the project's folder\n%s", pkg, err, out), p.remove())
		}
	}
	return p, nil
}

func (p programs) remove() error { return os.RemoveAll(p.dir) }

// What the programs print when they serve, with where.
var (
	natsServes  = regexp.MustCompile(`Listening for client connections on (\S+)\n`)
	pushdServes = regexp.MustCompile(`"msg":"serving","listen":"([^"]+)","admin":"([^"]+)"`)
)

// cluster is a NATS and the pushd processes that listen to it.
type cluster struct {
	nats  *process
	pushd []*process
}

func startCluster(ctx context.Context, p programs, processes int, heartbeat time.Duration) (_ *cluster, err error) {
	c := &cluster{}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.stop())
		}
	}()
	if c.nats, err = startProcess(ctx, natsServes, p.nats, "-a", "127.0.0.1", "-p", "-1"); err != nil {
		return nil, err
	}
	for range processes {
		node, err := startProcess(ctx, pushdServes, p.pushd, "serve", "--drain-window=0s", "--listen=127.0.0.1:0", "--admin=127.0.0.1:0",
			"--nats=nats://"+c.nats.found[0], "--heartbeat="+heartbeat.String(), "--log-format=json")
		if err != nil {
			return nil, err
		}
		c.pushd = append(c.pushd, node)
	}
	return c, nil
}

// aim has a spec load this cluster.
func (c *cluster) aim(spec *load.Spec) {
	var nodes []load.Node
	for _, p := range c.pushd {
		nodes = append(nodes, load.Node{
			URL: "ws://" + p.found[0] + "/ws", PID: p.pid, GCURL: "http://" + p.found[1] + "/debug/pprof/heap?gc=1",
		})
	}
	first := nodes[0]
	spec.Target = load.Pushd(first.URL, "nats://"+c.nats.found[0]+"/push.{topic}")
	spec.Server = load.Server{PID: first.PID, GCURL: first.GCURL, BrokerPID: c.nats.pid}
	spec.Nodes = nodes[1:]
}

// alive says which processes have ended.
func (c *cluster) alive() error {
	var errs []error
	for _, p := range c.processes() {
		errs = append(errs, p.alive())
	}
	return errors.Join(errs...)
}

// processes are all that run, in the order in which they end.
func (c *cluster) processes() []*process {
	if c.nats == nil {
		return nil
	}
	return append(c.pushd[:len(c.pushd):len(c.pushd)], c.nats)
}

func (c *cluster) pids() (pids []int) {
	for _, p := range c.processes() {
		pids = append(pids, p.pid)
	}
	return pids
}

// stop ends all, and returns when they are gone.
func (c *cluster) stop() error {
	var errs []error
	for _, p := range c.processes() {
		errs = append(errs, p.stop())
	}
	return errors.Join(errs...)
}
