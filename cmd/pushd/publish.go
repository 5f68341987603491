package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/pushd/pushd/topics"
)

type publishCommand struct {
	serverFlag
	Verbose bool    `short:"v" help:"Say so when it worked."`
	Topic   string  `arg:"" help:"Publish to this topic."`
	Data    *string `arg:"" optional:"" help:"The message, as it is. Without it, what comes on standard input."`
}

// publishTimeout bounds one request, from connecting to the last byte of the answer.
const publishTimeout = 30 * time.Second

// Run publishes one message.
func (c *publishCommand) Run(ctx context.Context, p program) error {
	if err := topics.CheckTopic(c.Topic); err != nil {
		return err
	}
	url, err := c.endpoint("publish", c.Topic)
	if err != nil {
		return err
	}
	var body io.Reader
	if c.Data != nil {
		body = strings.NewReader(*c.Data)
	} else {
		input := p.input(ctx)
		defer input.Close()
		data, err := io.ReadAll(input)
		if err != nil {
			return fmt.Errorf("standard input: %w", err)
		}
		body = bytes.NewReader(data) // of known length, so that the server can refuse it by its size
	}
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url.String(), body)
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/octet-stream")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return unreachable(err)
	}
	defer response.Body.Close()
	if response.StatusCode >= http.StatusMultipleChoices {
		return refused(response)
	}
	if c.Verbose {
		p.notef("published to %s", c.Topic)
	}
	return nil
}

// input is standard input, of which a Read ends when ctx does. Nothing can
// interrupt the read of a terminal itself: the goroutine that waits for one
// ends with the process.
func (p program) input(ctx context.Context) io.ReadCloser {
	r, w := io.Pipe()
	context.AfterFunc(ctx, func() { w.CloseWithError(context.Cause(ctx)) })
	go func() {
		_, err := io.Copy(w, p.stdin)
		w.CloseWithError(err)
	}()
	return r
}

// notef prints a line for a person, apart from what a command prints.
func (p program) notef(format string, args ...any) {
	fmt.Fprintf(p.stderr, "pushd: "+format+"\n", args...)
}
