package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"time"

	"golang.org/x/time/rate"
)

type feedCommand struct {
	serverFlag
	Topic  string  `required:"" placeholder:"TEMPLATE" help:"Publish each record to this topic. A name in braces stands for that field of the record: stocks.{symbol}."`
	Format string  `enum:"auto,csv,ndjson,lines" default:"auto" help:"Take the input for csv (with a header), ndjson (a JSON value on each line) or lines. auto goes by the file's name and first bytes."`
	Rate   float64 `placeholder:"N" help:"Publish at most this many records a second. 0 is as fast as it goes."`
	Loop   bool    `help:"Start again at the end of the file, until interrupted."`
	File   string  `arg:"" help:"Read records from this file, or - for standard input."`
}

// Run publishes every record once, or in a loop until ctx is done.
func (c *feedCommand) Run(ctx context.Context, p program) error {
	url, err := c.endpoint("publish")
	if err != nil {
		return err
	}
	template, err := parseTemplate(c.Topic)
	if err != nil {
		return err
	}
	switch {
	case c.Rate < 0 || math.IsNaN(c.Rate) || math.IsInf(c.Rate, 0):
		return fmt.Errorf("--rate is %v, but must be 0 or more", c.Rate)
	case c.Loop && c.File == stdinName:
		return errors.New("--loop needs a file: standard input cannot be read twice")
	}
	source := &recordSource{name: c.File, format: c.Format, template: template, loop: c.Loop, stdin: func() io.ReadCloser { return p.input(ctx) }}
	size, err := source.size()
	if err != nil {
		return err
	}
	client, err := c.client(publishTimeout)
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	progress := newProgress(p.stderr, size)
	post := newPoster(url.String(), client, c.tokenFlags, func(format string, args ...any) {
		progress.clear() // which is drawn again behind the note
		p.notef(format, args...)
	})
	f := feeder{
		records: make(chan record, 4*maxBatch),
		pace:    newPace(c.Rate),
		post:    post.publish,
		done:    func(last record) { progress.update(post.published, last.end) },
	}
	start := time.Now()
	reading, stopReading := context.WithCancel(ctx)
	defer stopReading()
	sourceErr := make(chan error, 1)
	go func() { sourceErr <- source.run(reading, f.records) }()
	err = f.run(ctx)
	stopReading() // the source may wait for a feeder that gave up
	if readErr := <-sourceErr; err == nil {
		err = readErr
	}
	post.summary(time.Since(start))
	switch {
	case ctx.Err() != nil:
		return nil // interrupted, which is how a loop ends
	case err == nil && post.refused > 0:
		return errors.New("the server refused some records")
	}
	return err
}

// record is a row with its topic.
type record struct {
	number int // in its input, from 1
	topic  string
	data   []byte // JSON on one line
	end    int64  // bytes of input up to its end
	key    string // by which the server knows it again; set by the poster
}

// Bounds of one request: large enough that its cost vanishes, small enough to
// stay far below what a server takes for a body.
const (
	maxBatch      = 500
	maxBatchBytes = 256 << 10
)

// feeder collects records that are due into batches, and posts these one after
// another, which keeps their order.
type feeder struct {
	records chan record
	pace    *rate.Limiter
	post    func(ctx context.Context, batch []record) error
	done    func(last record) // after each batch

	next *record // was taken, but not due or beyond the bounds of the last batch
}

// newPace starts with nothing due but the first record, and later lets at most
// a second's records through that were held up.
func newPace(perSecond float64) *rate.Limiter {
	if perSecond == 0 {
		return rate.NewLimiter(rate.Inf, 0)
	}
	burst := max(1, int(min(perSecond, 1e9)))
	pace := rate.NewLimiter(rate.Limit(perSecond), burst)
	pace.AllowN(time.Now(), burst-1)
	return pace
}

// run returns when the records are at their end, or the first error of post or ctx.
func (f *feeder) run(ctx context.Context) error {
	var batch []record
	for {
		var err error
		if batch, err = f.collect(ctx, batch[:0]); err != nil || len(batch) == 0 {
			return err
		}
		if err := f.post(ctx, batch); err != nil {
			return err
		}
		f.done(batch[len(batch)-1])
	}
}

// collect waits until a record is due, and adds those that are due with it. A
// record never waits for another. It returns none at the end of the records.
func (f *feeder) collect(ctx context.Context, batch []record) ([]record, error) {
	first, ok := f.first(ctx)
	if !ok {
		return nil, ctx.Err()
	}
	if err := f.pace.Wait(ctx); err != nil {
		return nil, err
	}
	batch = append(batch, first)
	for size := len(first.data); len(batch) < maxBatch; {
		select {
		case r, ok := <-f.records:
			if !ok {
				return batch, nil
			}
			if size += len(r.data); size > maxBatchBytes || !f.pace.Allow() {
				f.next = &r
				return batch, nil
			}
			batch = append(batch, r)
		default:
			return batch, nil
		}
	}
	return batch, nil
}

// first returns the next record, or false where there is none or ctx is done.
func (f *feeder) first(ctx context.Context) (record, bool) {
	if r := f.next; r != nil {
		f.next = nil
		return *r, true
	}
	select {
	case r, ok := <-f.records:
		return r, ok
	case <-ctx.Done():
		return record{}, false
	}
}

// stdinName is what stands for standard input in place of a file.
const stdinName = "-"

// recordSource reads the input, once or in a loop.
type recordSource struct {
	name     string
	format   string
	template topicTemplate
	loop     bool
	stdin    func() io.ReadCloser
}

// size returns the bytes of the input, -1 where they are not known or have no
// end, and an error where there is no input.
func (s *recordSource) size() (int64, error) {
	if s.name == stdinName {
		return -1, nil
	}
	info, err := os.Stat(s.name)
	switch {
	case err != nil:
		return 0, err
	case info.IsDir():
		return 0, fmt.Errorf("%s is a directory", s.name)
	case s.loop || !info.Mode().IsRegular():
		return -1, nil
	}
	return info.Size(), nil
}

// run sends every record to out, which it closes.
func (s *recordSource) run(ctx context.Context, out chan<- record) error {
	defer close(out)
	for {
		count, err := s.pass(ctx, out)
		switch {
		case err != nil:
			return err
		case !s.loop:
			return nil
		case count == 0:
			return fmt.Errorf("%s holds no records: there is nothing to loop over", s.name)
		}
	}
}

// pass reads the input once.
func (s *recordSource) pass(ctx context.Context, out chan<- record) (count int, err error) {
	input, err := s.open()
	if err != nil {
		return 0, err
	}
	defer input.Close()
	rows, err := newRowReader(input, s.name, s.format, !s.template.constant())
	if err != nil {
		return 0, fmt.Errorf("%s: %w", s.name, err)
	}
	for {
		r, err := rows.read()
		if errors.Is(err, io.EOF) {
			return count, nil
		}
		count++
		topic := ""
		if err == nil {
			topic, err = s.template.expand(r.text)
		}
		if err != nil {
			return count, fmt.Errorf("%s: record %d: %w", s.name, count, err)
		}
		select {
		case out <- record{number: count, topic: topic, data: r.data, end: r.end}:
		case <-ctx.Done():
			return count, ctx.Err()
		}
	}
}

func (s *recordSource) open() (io.ReadCloser, error) {
	if s.name == stdinName {
		return s.stdin(), nil
	}
	return os.Open(s.name)
}
