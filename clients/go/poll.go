package pushd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// longestWait is how long the server waits for a message, in seconds.
const longestWait = 25

// answer is that to a poll.
type answer struct {
	Messages []json.RawMessage `json:"messages"`
	Cursor   string            `json:"cursor"`
}

// poll asks again and again. The first answer comes at once.
func (p *pull) poll(ctx context.Context) error {
	for wait := 0; ; wait = longestWait {
		p.expect(time.Duration(wait)*time.Second + p.client.options.Timeout)
		got, all, err := p.askOnce(ctx, wait)
		if err != nil {
			return err
		}
		p.client.wentWell() // also where the answer is empty
		p.link.welcomed("", p)
		if err := p.take(ctx, got, all); err != nil {
			return err
		}
	}
}

func (p *pull) askOnce(ctx context.Context, wait int) (*answer, []*interest, error) {
	response, all, err := p.get(ctx, "/poll", "&wait="+strconv.Itoa(wait))
	if err != nil {
		return nil, nil, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxIncoming))
	if err != nil {
		return nil, nil, err
	}
	got := &answer{}
	if err := json.Unmarshal(text, got); err != nil {
		return nil, nil, fmt.Errorf("the answer to a poll is none (%w): is it a pushd?", err)
	}
	if n := len(strings.Split(got.Cursor, ",")); n != len(all) {
		return nil, nil, fmt.Errorf("the answer to a poll has %d cursors for %d topics", n, len(all))
	}
	return got, all, nil
}

// take hands out an answer, and keeps where it ends. Nobody moves to another pull
// meanwhile: half of an answer belongs to no place.
func (p *pull) take(ctx context.Context, got *answer, all []*interest) error {
	p.link.answering.Lock()
	defer p.link.answering.Unlock()
	if ctx.Err() != nil {
		return ctx.Err() // it was cut before
	}
	c := p.client
	places := strings.Split(got.Cursor, ",")
	told := make(map[string]bool)
	for _, text := range got.Messages {
		m := &envelope{}
		if bytes.Contains(text, []byte(`"subscribed"`)) && decode(text, m) == nil && m.Type == "subscribed" {
			told[m.Topic] = true
		}
	}
	c.mu.Lock()
	var events []Event
	for n, i := range all {
		if i.on != &p.flow || i.stand != asked || told[i.topic] {
			continue
		}
		m := &envelope{Cursor: i.cursor}
		switch again := true; {
		case i.cursor != "":
			m.Recovered = &again
		case isCursor(places[n]):
			m.Cursor = places[n]
		}
		if i.place != "" && i.cursor == "" {
			i.stand = stands // it goes on where the last poll ended, also without history
			continue
		}
		if gap := p.stoodLocked(i, m); gap != nil {
			events = append(events, gap)
		}
	}
	c.mu.Unlock()
	c.tell(events...)
	var closed *CloseError
	for _, text := range got.Messages {
		if err := p.handle(text); err != nil && !errors.As(err, &closed) {
			return err
		}
	}
	c.mu.Lock()
	for n, i := range all {
		switch {
		case i.on == &p.flow && i.stand == stands:
			i.place = places[n]
		case i.on == &p.flow:
			i.leftLocked(c) // the next request is without it
		}
	}
	c.mu.Unlock()
	if closed != nil {
		return closed
	}
	return nil
}

// isCursor reports whether a place is one in the history too. Others are good
// for polls alone.
func isCursor(place string) bool { return !strings.Contains(place, "_") }
