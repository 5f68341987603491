package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	startTime = 30 * time.Second // until a process says that it serves
	stopTime  = 20 * time.Second // from SIGTERM to SIGKILL; pushd takes 10 s at the most
)

// process is a program that was started here. It ends with stop, or with this process.
type process struct {
	// Static after startProcess.
	name    string
	pid     int
	found   []string // what the pattern's groups matched
	command *exec.Cmd
	output  *output
	ended   chan struct{} // closed by run, at its end
}

// startProcess starts a program, and returns when it has printed what the pattern matches.
func startProcess(ctx context.Context, pattern *regexp.Regexp, name string, args ...string) (*process, error) {
	p := &process{name: filepath.Base(name), output: &output{pattern: pattern, found: make(chan []string, 1)}, ended: make(chan struct{})}
	p.command = exec.Command(name, args...)
	p.command.Stdout, p.command.Stderr = p.output, p.output
	p.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go p.run(started)
	if err := <-started; err != nil {
		return nil, err
	}
	late := time.NewTimer(startTime)
	defer late.Stop()
	var err error
	select {
	case p.found = <-p.output.found:
		return p, nil
	case <-p.ended:
		err = errors.New("it ended by itself")
	case <-late.C:
		err = fmt.Errorf("it does not serve after %v", startTime)
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	return nil, errors.Join(fmt.Errorf("start %s: %w%s", name, err, p.output.text()), p.stop())
}

// run starts the process and waits for its end, on one OS thread: the death
// signal comes when the thread that started the child ends, not the process.
func (p *process) run(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(p.ended)
	err := p.command.Start()
	if err == nil {
		p.pid = p.command.Process.Pid
	}
	started <- err
	if err == nil {
		_ = p.command.Wait() // that it ends by a signal is what we want, and whatever else is found elsewhere
	}
}

// alive says what is wrong where the process has ended.
func (p *process) alive() error {
	select {
	case <-p.ended:
		return fmt.Errorf("%s (process %d) has ended%s", p.name, p.pid, p.output.text())
	default:
		return nil
	}
}

// stop ends the process, and returns when it is gone.
func (p *process) stop() error {
	_ = p.command.Process.Signal(syscall.SIGTERM) // fails where it has ended
	select {
	case <-p.ended:
		return nil
	case <-time.After(stopTime):
	}
	_ = p.command.Process.Kill()
	<-p.ended
	return fmt.Errorf("%s (process %d) did not end within %v of SIGTERM", p.name, p.pid, stopTime)
}

// output is the end of what a process printed.
type output struct {
	// Static.
	pattern *regexp.Regexp
	found   chan []string // one value: the groups of the first match

	mu      sync.Mutex
	end     []byte
	matched bool
}

const outputSize = 8 << 10

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.end = append(o.end, p...)
	if !o.matched {
		if groups := o.pattern.FindStringSubmatch(string(o.end)); groups != nil {
			o.matched = true
			o.found <- groups[1:]
		}
	}
	o.end = o.end[max(0, len(o.end)-outputSize):]
	return len(p), nil
}

// text is the last lines, to stand below an error.
func (o *output) text() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	if text := strings.TrimSpace(string(o.end)); text != "" {
		return "\n\t" + strings.ReplaceAll(text, "\n", "\n\t")
	}
	return ""
}
