package binary

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"syscall"
)

// Process is a pushd that serves.
type Process struct {
	Listen string // its address for clients
	Admin  string // and for operators

	command *exec.Cmd
	logged  chan struct{} // closed at the end of its log
}

// Start runs a program on ports that are free, with flags beside, until Stop.
func Start(program string, flags ...string) (*Process, error) {
	command := exec.Command(program, append([]string{"--store=memory"}, flags...)...)
	command.Env = []string{}
	return StartCommand(command)
}

// StartCommand runs a command to which flags of serve can be added.
func StartCommand(command *exec.Cmd) (*Process, error) {
	command.Args = append(command.Args, "--listen=127.0.0.1:0", "--admin=127.0.0.1:0", "--nats-listen=127.0.0.1:0", "--log-format=json")
	p := &Process{command: command, logged: make(chan struct{})}
	log, err := p.command.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := p.command.Start(); err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(log)
	said := ""
	for lines.Scan() {
		var line struct{ Msg, Listen, Admin string }
		if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "serving" {
			p.Listen, p.Admin = line.Listen, line.Admin
			break
		}
		said += lines.Text() + "\n"
	}
	go func() {
		defer close(p.logged)
		for lines.Scan() { // else it would wait for somebody to read
		}
	}()
	if p.Admin == "" {
		p.Stop()
		return nil, fmt.Errorf("pushd does not serve: %s", said)
	}
	return p, nil
}

// PID is the process's number.
func (p *Process) PID() int { return p.command.Process.Pid }

// Signal sends it a signal.
func (p *Process) Signal(signal syscall.Signal) error { return p.command.Process.Signal(signal) }

// Wait waits for its end, and returns an error where it has failed.
func (p *Process) Wait() error {
	<-p.logged
	return p.command.Wait()
}

// Stop ends it, without a drain.
func (p *Process) Stop() {
	_ = p.command.Process.Signal(syscall.SIGINT) // it may have ended by itself
	<-p.logged
	_ = p.command.Wait()
}

// Get asks its admin listener.
func (p *Process) Get(path string) (*http.Response, error) {
	response, err := http.Get("http://" + p.Admin + path)
	if err == nil && response.StatusCode != http.StatusOK {
		response.Body.Close()
		return nil, fmt.Errorf("%s: %s", path, response.Status)
	}
	return response, err
}
