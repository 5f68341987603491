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
	args := []string{"--listen=127.0.0.1:0", "--admin=127.0.0.1:0", "--nats-listen=127.0.0.1:0", "--store=memory", "--log-format=json"}
	p := &Process{command: exec.Command(program, append(args, flags...)...), logged: make(chan struct{})}
	p.command.Env = []string{}
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
