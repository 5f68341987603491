package natsbus

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go"

	"github.com/pushd/pushd/topics"
)

// Of a Query, where it does not say.
const (
	pageMessages = 500
	pageBytes    = 256 << 10
)

// getRequest is the body of a direct get.
type getRequest struct {
	Seq       uint64   `json:"seq,omitempty"`
	Next      string   `json:"next_by_subj,omitempty"`
	Batch     int      `json:"batch,omitempty"`
	MaxBytes  int      `json:"max_bytes,omitempty"`
	MultiLast []string `json:"multi_last,omitempty"`
}

// What a direct get ends with; test with errors.Is.
var (
	errNothing = errors.New("no message found")
	errTooMany = errors.New("too many topics for one request")
)

// verdict is what a reply says that is no stored message: nil is the end of a
// batch. A publisher may have sent a Status of its own, so a message is first
// known by its number, which only the stream puts there last.
func verdict(m *nats.Msg) (isVerdict bool, err error) {
	if header(m, nats.JSSequence) != "" {
		return false, nil
	}
	switch status := header(m, "Status"); status {
	case "204":
		return true, nil
	case "404":
		return true, errNothing
	case "413":
		return true, errTooMany
	case "503":
		return true, fmt.Errorf("%w: nobody answers for the stream", ErrAway)
	default:
		return true, fmt.Errorf("%w: the stream answers %s %s", ErrAway, status, header(m, "Description"))
	}
}

// get makes the request for a direct get; take and done are left to the caller.
func (a *asker) get(h *history, urgency topics.Urgency, body getRequest, cost int) *request {
	raw, err := json.Marshal(body)
	if err != nil {
		panic(err) // numbers and strings alone
	}
	return &request{
		lane:    h.lane,
		subject: "$JS.API.DIRECT.GET." + h.config.Name,
		body:    raw,
		urgency: min(urgency, topics.NumUrgencies-1),
		cost:    cost,
		counter: &a.gets[min(urgency, topics.NumUrgencies-1)],
	}
}

// batch collects the replies to one direct get.
type batch struct {
	h    *history
	more func(topics.Message) bool // false: enough
	last uint64                    // number of the newest reply
	from uint64                    // the first may not be below
	lone bool                      // one message is the whole reply
	full bool                      // more said so
	left bool                      // there is more in the stream
	upTo uint64                    // of a multi_last: what the stream had
	out  []topics.Cursor           // of topics.Page: left out
}

// take is of request. What is lost of a batch on the way is seen by the
// numbers that each reply gives of the one before it.
func (b *batch) take(m *nats.Msg) (end bool, err error) {
	isVerdict, err := verdict(m)
	if err != nil {
		return true, err
	}
	if isVerdict {
		last, errLast := strconv.ParseUint(header(m, nats.JSLastSequence), 10, 64)
		if errLast != nil || last != b.last {
			return true, fmt.Errorf("%w: replies of the stream were lost on the way", ErrAway)
		}
		b.left = header(m, "Nats-Num-Pending") != "0"
		b.upTo, _ = strconv.ParseUint(header(m, "Nats-UpTo-Sequence"), 10, 64)
		return true, nil
	}
	msg, prev, err := b.h.decode(m)
	if errors.Is(err, errNotStored) {
		return true, fmt.Errorf("%w: a reply that cannot be read", ErrAway)
	}
	seq := msg.Cursor.Seq
	if seq < b.from || seq <= b.last || !b.lone && prev != b.last {
		return true, fmt.Errorf("%w: replies of the stream were lost on the way", ErrAway)
	}
	// Neither is delivered when it is live: it was counted then.
	passes := err == nil && (b.h.maxData == 0 || len(msg.Data) <= b.h.maxData)
	switch {
	case b.full:
	case passes:
		b.full = !b.more(msg)
	default:
		b.out = append(b.out, msg.Cursor)
	}
	b.last = seq
	return b.lone, nil
}

// read reads one page.
func (a *asker) read(h *history, q topics.Query, done func(topics.Page, error)) {
	from := max(q.From, 1)
	most, bytes := q.Messages, q.Bytes
	if most <= 0 {
		most = pageMessages
	}
	if bytes <= 0 {
		bytes = pageBytes
	}
	body := getRequest{Seq: from}
	if q.Pattern != "" {
		body.Next = h.subject(q.Pattern)
	}
	lone := most == 1
	if lone {
		// Not as a batch: for that the server first counts all that match.
		if body.Next == "" {
			body.Next = wildcardRest
		}
	} else {
		body.Batch, body.MaxBytes = most, bytes
	}

	page := topics.Page{Next: from}
	size := 0
	b := &batch{h: h, from: from, lone: lone, more: func(m topics.Message) bool {
		size += len(m.Topic) + len(m.Data)
		if size > bytes && len(page.Messages) > 0 {
			page.Next = m.Cursor.Seq // the server counts otherwise
			return false
		}
		page.Messages = append(page.Messages, m)
		return true
	}}
	r := a.get(h, q.Urgency, body, bytes+most*headroom)
	r.take = b.take
	r.done = func(err error) {
		switch {
		case errors.Is(err, errNothing):
			page.End = true
		case err != nil:
			done(topics.Page{}, err)
			return
		case !b.full:
			page.Next = b.last + 1
			page.End = !lone && !b.left
		}
		page.LeftOut = b.out
		done(page, nil)
	}
	a.enqueue(r)
}
