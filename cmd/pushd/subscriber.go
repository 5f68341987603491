package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	pushd "github.com/pushd/pushd/clients/go"
)

// subscriber prints what a client gets.
type subscriber struct {
	url     string
	options pushd.Options // but for Token and Events
	token   tokenFlags
	topics  []pushd.Position
	wants   pushd.SubscribeOptions
	out     *messagePrinter
	limit   int                              // messages to print; 0: no limit
	notef   func(format string, args ...any) // tells a person what is no message
}

// positions takes a cursor for each topic, or none at all. A topic that is
// named again is meant once.
func positions(topics, cursors []string) (at []pushd.Position) {
	for n, topic := range topics {
		p := pushd.Position{Topic: topic}
		if len(cursors) > 0 {
			p.Cursor = cursors[n]
		}
		if !slices.Contains(at, p) {
			at = append(at, p)
		}
	}
	return at
}

// run returns nil where the messages wanted have come, ctx is done or the
// server ended the connection normally.
func (s *subscriber) run(ctx context.Context) error {
	s.options.Token = func(context.Context) (string, error) { return s.token.read() }
	s.options.Events = s.note
	client, err := pushd.New(s.url, s.options)
	if err != nil {
		return err
	}
	defer client.Close()
	sub, err := client.SubscribeAll(ctx, s.topics, s.wants)
	if err != nil {
		return s.verdict(ctx, err)
	}
	printed := 0
	for m, err := range sub.Messages(ctx) {
		var gap *pushd.Gap
		switch {
		case errors.As(err, &gap): // was told when it came
		case err != nil:
			return errors.Join(s.out.flush(), s.verdict(ctx, err))
		default:
			if err := s.out.print(&m); err != nil {
				return err
			}
			printed++
		}
		if printed == s.limit && s.limit > 0 {
			break
		}
		if sub.Buffered() > 0 {
			continue // one write for what came together
		}
		if err := s.out.flush(); err != nil {
			return err
		}
	}
	return s.out.flush()
}

// verdict is what the end of a subscription means to whoever started the program.
func (s *subscriber) verdict(ctx context.Context, err error) error {
	var closed *pushd.CloseError
	switch {
	case ctx.Err() != nil:
		return nil
	case !errors.As(err, &closed):
		return s.token.explain(err)
	case closed.Code == 1000:
		return nil
	case closed.Code == 4001:
		return fmt.Errorf("%w: %s", err, s.token.hint())
	}
	return err
}

// note tells what is no message.
func (s *subscriber) note(e pushd.Event) {
	switch e := e.(type) {
	case *pushd.StateChange:
		if e.State == pushd.Waiting || e.State == pushd.Connecting && e.Err != nil {
			s.notef("%v", e)
		}
	case *pushd.TokenExpires:
		if e.Err == nil {
			s.notef("the token ends in %v: %s", e.After.Round(time.Second), s.token.hint())
			return
		}
		s.notef("%v", e)
	case *pushd.Paused: // whoever reads the output is slow, and knows it
	default:
		s.notef("%v", e)
	}
}

// explain adds what to do to an answer that wants another token.
func (f tokenFlags) explain(err error) error {
	var no *pushd.Error
	if errors.As(err, &no) && no.Status == http.StatusUnauthorized {
		return fmt.Errorf("%w: %s", err, f.hint())
	}
	return err
}
