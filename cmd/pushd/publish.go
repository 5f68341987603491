package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	pushd "github.com/pushd/pushd/clients/go"
	"github.com/pushd/pushd/internal/wire"
	"github.com/pushd/pushd/topics"
)

type publishCommand struct {
	serverFlag
	Verbose bool    `short:"v" help:"Say so when it worked, with the cursor where the message is stored."`
	ID      string  `name:"id" placeholder:"KEY" help:"Publish only if no message with this key was published to the topic within two minutes. It needs a namespace with history. By default each message has a key of its own, so that trying again does no harm."`
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
	client, err := c.client(0) // each request has its own time
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	key := c.ID
	if key == "" {
		key = rand.Text()
	} else if err := wire.CheckKey(key); err != nil {
		return fmt.Errorf("--id: %s", err.Message)
	}
	var data []byte
	if c.Data != nil {
		data = []byte(*c.Data)
	} else {
		input := p.input(ctx)
		defer input.Close()
		if data, err = io.ReadAll(input); err != nil {
			return fmt.Errorf("standard input: %w", err)
		}
	}
	one := singlePoster{
		url: url.String(), key: key, client: client, token: c.tokenFlags, notef: p.notef,
		giveUp:  15 * time.Second,
		backoff: pushd.Backoff{Min: 200 * time.Millisecond, Max: 5 * time.Second},
	}
	stored, err := one.publish(ctx, data)
	if err != nil {
		return c.explain(err)
	}
	switch {
	case !c.Verbose:
	case stored == "":
		p.notef("published to %s", c.Topic)
	default:
		p.notef("published to %s, stored at %s", c.Topic, stored)
	}
	return nil
}

// singlePoster publishes one message, with a key by which the server knows it again.
type singlePoster struct {
	url, key string
	client   *http.Client
	token    tokenFlags
	notef    func(format string, args ...any)
	giveUp   time.Duration // how long it may fail
	backoff  pushd.Backoff
}

// publish tries until the message is published, or refused for good. It
// returns the cursor where it is stored, "" where nobody keeps it.
func (p *singlePoster) publish(ctx context.Context, data []byte) (stored string, err error) {
	for started := time.Now(); ; {
		stored, err = p.post(ctx, data)
		var no *pushd.Error
		if err == nil || !errors.As(err, &no) || !no.Temporary() {
			return stored, err
		}
		wait := max(p.backoff.Next(), no.RetryAfter)
		if time.Since(started)+wait > p.giveUp {
			return "", err
		}
		p.notef("%v; trying again in %v", err, wait.Round(time.Millisecond))
		if sleep(ctx, wait) != nil {
			return "", err
		}
	}
}

func (p *singlePoster) post(ctx context.Context, data []byte) (stored string, err error) {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url, bytes.NewReader(data)) // of known length, so that the server can refuse it by its size
	if err != nil {
		return "", err
	}
	request.Header.Set("Content-Type", "application/octet-stream")
	request.Header.Set("Idempotency-Key", p.key)
	if err := p.token.authorize(request.Header); err != nil {
		return "", err
	}
	response, err := p.client.Do(request)
	if err != nil {
		return "", unreachable(err)
	}
	defer response.Body.Close()
	if response.StatusCode >= http.StatusMultipleChoices {
		return "", pushd.ResponseError(response)
	}
	var result struct{ Cursor string }
	if json.NewDecoder(response.Body).Decode(&result) != nil {
		return "", nil // what counts is the status
	}
	return result.Cursor, nil
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
