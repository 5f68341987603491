package swarm

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"

	"github.com/pushd/pushd/bench/load/internal/control"
)

// lines cuts a stream into lines.
type lines struct{ rest []byte }

// obey reads requests and answers them.
func (s *Swarm) obey() error {
	n, err := unix.Read(s.stdin, s.buffer)
	switch {
	case errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR):
		return nil
	case err != nil:
		return fmt.Errorf("read a request: %w", err)
	case n == 0:
		return fmt.Errorf("the driver is gone: %w", io.ErrUnexpectedEOF)
	}
	s.lines.rest = append(s.lines.rest, s.buffer[:n]...)
	for {
		line, rest, whole := bytes.Cut(s.lines.rest, []byte("\n"))
		if !whole {
			return nil
		}
		if err := s.answer(line); err != nil {
			return err
		}
		s.lines.rest = rest
	}
}

func (s *Swarm) answer(line []byte) error {
	var r control.Request
	if err := json.Unmarshal(line, &r); err != nil {
		return fmt.Errorf("request %q: %w", line, err)
	}
	event := control.Event{ID: r.ID}
	if err := s.perform(&r, &event); err != nil {
		event.Error = err.Error()
	}
	return s.out.Encode(event)
}

// perform does what a request says, and fills the answer.
func (s *Swarm) perform(r *control.Request, answer *control.Event) (err error) {
	if (s.plan == nil) != (r.Verb == control.Prepare) {
		return fmt.Errorf("%s: the first request is prepare, and only the first", r.Verb)
	}
	switch r.Verb {
	case control.Prepare:
		return s.prepare(r.Plan)
	case control.Connect:
		s.connect(*r.Pace)
	case control.Probing:
		s.probing = true
	case control.State:
		if s.probing {
			s.status.Unproven = s.unproven()
		}
		status := s.status
		answer.Status = &status
	case control.Begin:
		s.begin(r.Window)
	case control.Report:
		answer.Counted, err = s.report(r.Last)
	case control.Stall:
		return s.stall(r.On)
	case control.Drop:
		s.drop()
	case control.Churn:
		s.startChurn(r.Rate)
	case control.Cycle:
		s.cycle(r.Clients)
	case control.End:
		s.drop()
		s.ended = true
	default:
		return fmt.Errorf("%q is no request", r.Verb)
	}
	return err
}
