package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"time"
)

type subscribeCommand struct {
	serverFlag
	Format  string   `enum:"text,json,raw" default:"text" help:"Print each message as text (time, topic, data), json (the line as the server sent it) or raw (its data alone)."`
	Count   int      `placeholder:"N" help:"Exit after this many messages. 0 goes on until interrupted."`
	Cursor  []string `sep:"none" placeholder:"CURSOR" help:"Begin after this cursor, which a message or a former run told (--format json). Once for each topic, in the same order."`
	Mode    string   `enum:",all,latest,live" default:"" help:"Get every message (all), the newest value of each topic (latest), or what comes while this keeps up (live), where the namespace allows it."`
	MaxRate float64  `placeholder:"N" help:"With --mode latest, at most this many values a second of each topic. 0 is no limit."`
	Topics  []string `arg:"" name:"topic" help:"Subscribe to these topics. * stands for one token and a last > for one or more: quote them from the shell."`
}

// Run prints messages until there were enough, ctx is done, or the server says
// that there is no use in coming back.
func (c *subscribeCommand) Run(ctx context.Context, p program) error {
	url, err := c.endpoint("ws")
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
	url.Scheme = map[string]string{"http": "ws", "https": "wss"}[url.Scheme]
	s := subscriber{
		url:      url.String(),
		trust:    trust,
		token:    c.tokenFlags,
		wants:    wants{mode: c.Mode, maxRate: c.MaxRate},
		subs:     newSubscriptions(c.Topics, c.Cursor),
		out:      &messagePrinter{w: bufio.NewWriter(p.stdout), format: c.Format},
		limit:    c.Count,
		notef:    p.notef,
		patience: 10 * time.Second,
		backoff:  backoff{first: 500 * time.Millisecond, most: 30 * time.Second},
	}
	return s.run(ctx)
}

// message is what the server sends, of whatever type: see docs/PROTOCOL.md.
type message struct {
	Type     string          `json:"type"`
	ID       json.RawMessage `json:"id"`
	Topic    string          `json:"topic"`
	Time     int64           `json:"time"` // in ms since the epoch
	Data     json.RawMessage `json:"data"`
	Encoding string          `json:"encoding"`
	Cursor   string          `json:"cursor"` // of messages and subscribed

	Recovered *bool  `json:"recovered"` // subscribed
	Heartbeat int64  `json:"heartbeat"` // welcome: in ms
	Reason    string `json:"reason"`    // subscribed, gap, unsubscribed, reconnect
	Count     int    `json:"count"`     // skipped
	After     int64  `json:"after"`     // reconnect, token_expires: in ms
	Code      string `json:"code"`      // error
	Message   string `json:"message"`   // error
}

// messagePrinter writes messages in the format that was asked for.
type messagePrinter struct {
	w      *bufio.Writer
	format string
}

func (p *messagePrinter) print(m *message, line []byte) error {
	switch p.format {
	case "json":
		p.w.Write(line)
	case "raw":
		data, err := m.payload()
		if err != nil {
			return err
		}
		p.w.Write(data)
	default:
		at := time.UnixMilli(m.Time).UTC().Format("2006-01-02T15:04:05.000Z")
		fmt.Fprintf(p.w, "%s %s %s", at, m.Topic, m.Data)
	}
	return p.w.WriteByte('\n') // also says what went wrong before
}

// payload returns the bytes that were published, as far as JSON can tell: a
// payload that was a JSON string comes without its quotes, like any other text.
func (m *message) payload() ([]byte, error) {
	if len(m.Data) == 0 || m.Data[0] != '"' {
		return m.Data, nil
	}
	var text string
	if err := json.Unmarshal(m.Data, &text); err != nil {
		return nil, err
	}
	if m.Encoding == "base64" {
		return base64.StdEncoding.DecodeString(text)
	}
	return []byte(text), nil
}

func (p *messagePrinter) flush() error { return p.w.Flush() }
