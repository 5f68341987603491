package main

import (
	"bufio"
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
)

// poster publishes batches of records over HTTP and counts what became of them.
type poster struct {
	// Static.
	url     string
	run     string // starts the keys of its records
	token   tokenFlags
	client  *http.Client
	notef   func(format string, args ...any)
	giveUp  time.Duration // how long a batch may fail
	backoff pushd.Backoff // of a batch: each starts with a copy

	numbered  int // records that were given a key
	published int
	refused   int
	body      bytes.Buffer // kept for its memory
}

func newPoster(url string, client *http.Client, token tokenFlags, notef func(format string, args ...any)) *poster {
	return &poster{
		url:     url,
		token:   token,
		run:     rand.Text(),
		client:  client,
		notef:   notef,
		giveUp:  90 * time.Second, // with the last wait and request, about the two minutes for which keys are remembered
		backoff: pushd.Backoff{Min: 200 * time.Millisecond, Max: 10 * time.Second},
	}
}

// publish posts a batch until each of its records is published or refused. A
// batch whose answer was lost is posted again, with the same keys: none of it
// is left out, nor published twice where its namespace keeps history.
func (p *poster) publish(ctx context.Context, batch []record) error {
	for i := range batch {
		p.numbered++
		batch[i].key = fmt.Sprintf("%s-%d", p.run, p.numbered)
	}
	retry, started := p.backoff, time.Now()
	for len(batch) > 0 {
		left, err := p.post(ctx, batch)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		var no *pushd.Error
		if fatal := (*fatalError)(nil); errors.As(err, &fatal) {
			return err
		}
		wait := retry.Next()
		if errors.As(err, &no) {
			if !no.Temporary() {
				return p.token.explain(err)
			}
			wait = max(wait, no.RetryAfter)
		}
		if err != nil {
			if time.Since(started) > p.giveUp {
				return err
			}
			p.notef("%v; trying again in %v", err, wait.Round(time.Millisecond))
			if sleep(ctx, wait) != nil {
				return ctx.Err()
			}
		}
		batch = left
	}
	return nil
}

// post makes one attempt. It returns the records that are still to be
// published, and where there are any, why.
func (p *poster) post(ctx context.Context, batch []record) (left []record, err error) {
	p.body.Reset()
	for _, r := range batch {
		// A topic that was checked needs no escapes, nor does a key.
		fmt.Fprintf(&p.body, `{"topic":"%s","data":%s,"idempotency_key":"%s"}`+"\n", r.topic, r.data, r.key)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url, bytes.NewReader(p.body.Bytes()))
	if err != nil {
		return batch, err
	}
	request.Header.Set("Content-Type", "application/x-ndjson")
	if err := p.token.authorize(request.Header); err != nil {
		return batch, &fatalError{err}
	}
	response, err := p.client.Do(request)
	if err != nil {
		return batch, unreachable(err)
	}
	defer response.Body.Close()
	if response.StatusCode >= http.StatusMultipleChoices {
		return batch, pushd.ResponseError(response)
	}
	return p.results(batch, response.Body)
}

// results reads what became of each record: one line each, in order, which has
// a code where the record was refused.
func (p *poster) results(batch []record, body io.Reader) (left []record, err error) {
	lines := bufio.NewReader(body)
	for i, r := range batch {
		line, readErr := lines.ReadBytes('\n')
		var result pushd.Error
		if readErr != nil && (len(line) == 0 || !errors.Is(readErr, io.EOF)) {
			return append(left, batch[i:]...), fmt.Errorf("the answer ends after %d of %d results: %w", i, len(batch), readErr)
		}
		if err := json.Unmarshal(line, &result); err != nil {
			return append(left, batch[i:]...), fmt.Errorf("result %d of the answer is no JSON: %w", i+1, err)
		}
		switch {
		case result.Code == "":
			p.published++
		case result.Temporary():
			left, err = append(left, r), &result
		default:
			p.refuse(r, &result)
		}
	}
	return left, err
}

// refuse tells of the first few records that are refused: more would hide
// whatever else there is to see.
func (p *poster) refuse(r record, why *pushd.Error) {
	const told = 10
	p.refused++
	if p.refused <= told {
		p.notef("record %d (%s) refused: %v", r.number, r.topic, why)
	}
	if p.refused == told {
		p.notef("further refusals are counted, but not told")
	}
}

// fatalError is one that another attempt would meet again.
type fatalError struct{ error }

func (e *fatalError) Unwrap() error { return e.error }

func (p *poster) summary(took time.Duration) {
	perSecond := float64(p.published) / max(took.Seconds(), 1e-3)
	p.notef("%d records published in %v (%.0f/s), %d refused", p.published, took.Round(time.Millisecond), perSecond, p.refused)
}
