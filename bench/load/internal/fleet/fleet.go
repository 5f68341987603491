// Package fleet runs the worker processes of a run and speaks with them.
package fleet

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"

	"github.com/pushd/pushd/bench/load/internal/control"
)

// endTime is how long workers have to close their sockets and exit.
const endTime = 10 * time.Second

// Config says which workers to start.
type Config struct {
	Path     string   // of the executable
	Env      []string // beside this process's own
	Workers  int
	Complete func(numbers []uint32) // called for Event.Complete, by a goroutine of each worker; the slice is the callee's
}

// Fleet is workers that run. Its methods belong to one goroutine.
type Fleet struct{ workers []*worker }

// worker is one process.
type worker struct {
	// Static.
	index    int
	command  *exec.Cmd
	stdin    io.WriteCloser
	stdout   io.ReadCloser
	answers  chan control.Event // closed by run, when stdout has ended
	complete func([]uint32)
	ended    chan struct{} // closed by run, at its end

	// Of run, until ended is closed.
	err error

	stderr tail
	sent   int // ID of the last request; of the fleet's goroutine
}

// Start starts the workers. They end with Close, or when this process does.
func Start(c Config) (*Fleet, error) {
	f := &Fleet{}
	for i := range c.Workers {
		w := &worker{index: i, answers: make(chan control.Event, 1), complete: c.Complete, ended: make(chan struct{})}
		if err := w.start(c); err != nil {
			f.kill()
			return nil, fmt.Errorf("start worker %d: %w", i, err)
		}
		f.workers = append(f.workers, w)
	}
	return f, nil
}

func (w *worker) start(c Config) (err error) {
	w.command = exec.Command(c.Path)
	w.command.Env = append(os.Environ(), c.Env...)
	w.command.Stderr = &w.stderr
	if w.stdin, err = w.command.StdinPipe(); err != nil {
		return err
	}
	if w.stdout, err = w.command.StdoutPipe(); err != nil {
		return err
	}
	if err := w.command.Start(); err != nil {
		return err
	}
	go w.run()
	return nil
}

// run reads what the worker says until it ends.
func (w *worker) run() {
	defer close(w.ended)
	err := w.read()
	if err != nil {
		_ = w.command.Process.Kill() // it is of no use any more; fails where it has ended
	}
	close(w.answers)
	if ended := w.command.Wait(); err == nil {
		err = ended
	}
	if err != nil {
		w.err = fmt.Errorf("worker %d: %w%s", w.index, err, w.stderr.text())
	}
}

func (w *worker) read() error {
	events := json.NewDecoder(w.stdout)
	for {
		var event control.Event
		switch err := events.Decode(&event); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("read its events: %w", err)
		case event.ID > 0:
			w.answers <- event
		case event.Complete != nil:
			w.complete(event.Complete)
		}
	}
}

// Each sends each worker a request and returns the answers, in the order of
// workers. An answer that is an error is the error of all.
func (f *Fleet) Each(ctx context.Context, request func(worker int) control.Request) ([]control.Event, error) {
	for i, w := range f.workers {
		if err := w.send(request(i)); err != nil {
			return nil, err
		}
	}
	answers := make([]control.Event, len(f.workers))
	for i, w := range f.workers {
		var err error
		if answers[i], err = w.answer(ctx); err != nil {
			return nil, err
		}
	}
	return answers, nil
}

// answer waits for the answer to the last request.
func (w *worker) answer(ctx context.Context) (control.Event, error) {
	for {
		select {
		case answer, ok := <-w.answers:
			switch {
			case !ok:
				return control.Event{}, w.death()
			case answer.ID < w.sent:
				continue // to a request that was given up
			case answer.Error != "":
				return control.Event{}, fmt.Errorf("worker %d: %s", w.index, answer.Error)
			}
			return answer, nil
		case <-ctx.Done():
			return control.Event{}, ctx.Err()
		}
	}
}

// All is Each with the same request for all.
func (f *Fleet) All(ctx context.Context, request control.Request) ([]control.Event, error) {
	return f.Each(ctx, func(int) control.Request { return request })
}

func (w *worker) send(r control.Request) error {
	w.sent++
	r.ID = w.sent
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if _, err := w.stdin.Write(append(line, '\n')); err != nil {
		return w.death()
	}
	return nil
}

// death is why a worker that should run does not.
func (w *worker) death() error {
	<-w.ended
	if w.err != nil {
		return w.err
	}
	return fmt.Errorf("worker %d ended by itself%s", w.index, w.stderr.text())
}

// PIDs returns the processes.
func (f *Fleet) PIDs() []int {
	var pids []int
	for _, w := range f.workers {
		pids = append(pids, w.command.Process.Pid)
	}
	return pids
}

// Close ends the workers and waits for them; those that do not end are killed.
func (f *Fleet) Close() error {
	var errs []error
	for _, w := range f.workers {
		_ = w.send(control.Request{Verb: control.End}) // to one that has ended it says nothing, and w.err why
	}
	for _, w := range f.workers {
		killer := time.AfterFunc(endTime, func() { _ = w.command.Process.Kill() })
		for range w.answers { // nobody wants them, and run must not wait
		}
		<-w.ended
		if !killer.Stop() {
			errs = append(errs, fmt.Errorf("worker %d did not end within %v", w.index, endTime))
		} else if w.err != nil {
			errs = append(errs, w.err)
		}
	}
	return errors.Join(errs...)
}

// kill ends the workers at once.
func (f *Fleet) kill() {
	for _, w := range f.workers {
		_ = w.command.Process.Kill() // fails where it has ended
		<-w.ended
	}
}

// tail keeps the end of what is written to it.
type tail struct {
	mu  sync.Mutex
	end []byte
}

const tailSize = 4 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.end = append(t.end, p...)
	t.end = t.end[max(0, len(t.end)-tailSize):]
	return len(p), nil
}

// text is what was written, in a line of its own.
func (t *tail) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if text := bytes.TrimSpace(t.end); len(text) > 0 {
		return "\n" + string(text)
	}
	return ""
}
