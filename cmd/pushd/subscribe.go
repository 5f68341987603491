package main

import (
	"bufio"
	"context"
	"fmt"
	"math"

	pushd "github.com/pushd/pushd/clients/go"
)

type subscribeCommand struct {
	serverFlag
	Format    string   `enum:"text,json,raw" default:"text" help:"Print each message as text (time, topic, data), json (the line as the server sent it) or raw (its data alone)."`
	Count     int      `placeholder:"N" help:"Exit after this many messages. 0 goes on until interrupted."`
	Cursor    []string `sep:"none" placeholder:"CURSOR" help:"Begin after this cursor, which a message or a former run told (--format json). Once for each topic, in the same order."`
	Mode      string   `enum:",all,latest,live" default:"" help:"Get every message (all), the newest value of each topic (latest), or what comes while this keeps up (live), where the namespace allows it."`
	Transport string   `enum:"auto,websocket,sse,poll" default:"auto" help:"Receive by WebSocket, by Server-Sent Events (sse) or by polling (poll) alone, or by the first of them that gets through (auto)."`
	MaxRate   float64  `placeholder:"N" help:"With --mode latest, at most this many values a second of each topic. 0 is no limit."`
	Topics    []string `arg:"" name:"topic" help:"Subscribe to these topics. * stands for one token and a last > for one or more: quote them from the shell."`
}

// Run prints messages until there were enough, ctx is done, or the server says
// that there is no use in coming back.
func (c *subscribeCommand) Run(ctx context.Context, p program) error {
	url, err := c.endpoint()
	if err != nil {
		return err
	}
	if c.Count < 0 {
		return fmt.Errorf("--count is %d, but must be 0 or more", c.Count)
	}
	if c.MaxRate < 0 || math.IsNaN(c.MaxRate) || math.IsInf(c.MaxRate, 0) {
		return fmt.Errorf("--max-rate is %v, but must be 0 or more", c.MaxRate)
	}
	if len(c.Cursor) > 0 && len(c.Cursor) != len(c.Topics) {
		return fmt.Errorf("--cursor is there %d times for %d topics: give one for each, in the same order", len(c.Cursor), len(c.Topics))
	}
	trust, err := c.trust()
	if err != nil {
		return err
	}
	if _, err := c.tokenFlags.read(); err != nil {
		return err // now, and not with each attempt
	}
	s := subscriber{
		url:     url.String(),
		options: pushd.Options{TLS: trust, Transports: transports(c.Transport)},
		token:   c.tokenFlags,
		topics:  positions(c.Topics, c.Cursor),
		wants:   pushd.SubscribeOptions{Mode: pushd.Mode(c.Mode), MaxRate: c.MaxRate},
		out:     &messagePrinter{w: bufio.NewWriter(p.stdout), format: c.Format},
		limit:   c.Count,
		notef:   p.notef,
	}
	return s.run(ctx)
}

// transports are those that a flag names.
func transports(flag string) []pushd.Transport {
	if flag == "auto" {
		return nil // all
	}
	return []pushd.Transport{pushd.Transport(flag)}
}

// messagePrinter writes messages in the format that was asked for.
type messagePrinter struct {
	w      *bufio.Writer
	format string
}

func (p *messagePrinter) print(m *pushd.Message) error {
	switch p.format {
	case "json":
		p.w.Write(m.Raw())
	case "raw":
		data, err := m.Bytes()
		if err != nil {
			return err
		}
		p.w.Write(data)
	default:
		at := m.Time.UTC().Format("2006-01-02T15:04:05.000Z")
		fmt.Fprintf(p.w, "%s %s %s", at, m.Topic, m.Data)
	}
	return p.w.WriteByte('\n') // also says what went wrong before
}

func (p *messagePrinter) flush() error { return p.w.Flush() }
