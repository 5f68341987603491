package natsbus

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/pushd/pushd/topics"
)

const (
	// newestBytes bounds the replies to one request for newest messages.
	newestBytes = 2 << 20

	// newestTopics is how many topics a request names at most. The server
	// answers for 1,024.
	newestTopics = 1000
)

// errLagging ends a reading that replicas answered of which one has less than
// another; it may be tried again.
var errLagging = fmt.Errorf("%w: a replica of the stream lags", ErrAway)

// newest collects the newest message of each topic.
type newest struct {
	asker  *asker
	h      *history
	q      topics.Query
	topics map[string]topics.Message
	upTo   uint64 // all newest messages up to this number are there
}

// newest reads the newest message of each topic of a pattern, or of those named.
func (a *asker) newest(h *history, q topics.Query) (topics.Page, error) {
	n := &newest{asker: a, h: h, q: q, topics: make(map[string]topics.Message)}
	var err error
	if len(q.Topics) > 0 {
		err = n.those()
	} else {
		err = n.every()
	}
	if err != nil {
		return topics.Page{}, err
	}
	page := topics.Page{
		Messages: slices.SortedFunc(maps.Values(n.topics), func(a, b topics.Message) int {
			return cmp.Compare(a.Cursor.Seq, b.Cursor.Seq)
		}),
		Next: max(q.From, n.upTo+1),
		End:  true,
	}
	return page, nil
}

// every reads in one request where the topics are few. Of more, the server
// gives none: then they are read in passing over the whole stream, if that
// keeps one of each, or are listed first.
func (n *newest) every() error {
	_, err := n.last(n.h.subjects(n.q.Pattern))
	switch {
	case !errors.Is(err, errTooMany):
		return err
	case n.h.perTopic.Load() == 1:
		return n.walk()
	}
	return n.list()
}

// those is of the topics named. A reply with nothing does not say how far its
// replica has come: so that is asked again beside a topic that has something.
func (n *newest) those() error {
	var silent [][]string
	for some := range slices.Chunk(n.q.Topics, newestTopics-1) {
		subjects := make([]string, 0, len(some)+1)
		for _, topic := range some {
			subjects = append(subjects, n.h.subject(topic))
		}
		found, err := n.last(subjects)
		if err != nil {
			return err
		}
		if !found {
			silent = append(silent, subjects)
		}
	}
	if len(silent) > 0 && len(n.topics) == 0 {
		n.upTo = 0 // not known
		return nil
	}
	for topic := range n.topics {
		for _, subjects := range silent {
			found, err := n.last(append(subjects, n.h.subject(topic)))
			if err != nil {
				return err
			}
			if !found {
				return errLagging
			}
		}
		break
	}
	return nil
}

// keep is of batch. A topic may come again with a newer message.
func (n *newest) keep(m topics.Message) bool {
	if m.Cursor.Seq > n.topics[m.Topic].Cursor.Seq {
		n.topics[m.Topic] = m
	}
	return true
}

// last asks for the newest messages of some subjects, in several requests where
// one would be too large. It does not fix the stream's end in between, since
// what is replaced after it would be missing altogether: so topics may come twice.
func (n *newest) last(subjects []string) (found bool, err error) {
	from := max(n.q.From, 1)
	for ; ; found = true {
		b := &batch{h: n.h, from: from, more: n.keep}
		r := n.asker.get(n.h, n.q.Urgency, getRequest{Seq: from, MultiLast: subjects, MaxBytes: newestBytes}, newestBytes+1024*headroom)
		r.take = b.take
		err := n.asker.ask(r)
		switch {
		case errors.Is(err, errNothing) && found:
			return false, errLagging // another replica had more
		case errors.Is(err, errNothing):
			return false, nil
		case err != nil:
			return false, err
		}
		if n.upTo == 0 || b.upTo < n.upTo {
			n.upTo = b.upTo
		}
		if !b.left {
			return true, nil
		}
		from = b.last + 1
	}
}

// walk reads all there is.
func (n *newest) walk() error {
	q := n.q
	q.Newest, q.Messages, q.Bytes = false, 1000, newestBytes
	for {
		type result struct {
			page topics.Page
			err  error
		}
		done := make(chan result, 1)
		n.asker.read(n.h, q, func(page topics.Page, err error) { done <- result{page, err} })
		r := <-done
		if r.err != nil {
			return r.err
		}
		for _, m := range r.page.Messages {
			n.keep(m)
		}
		q.From = r.page.Next
		n.upTo = q.From - 1
		if r.page.End {
			return nil
		}
	}
}

// list asks the leader for the names of all topics, and then for their messages.
func (n *newest) list() error {
	filter := wildcardRest
	if n.q.Pattern != "" {
		filter = n.h.subject(n.q.Pattern)
	}
	var subjects []string
	upTo := uint64(0)
	for {
		reply, err := n.asker.info(n.h, infoRequest{SubjectsFilter: filter, Offset: len(subjects)})
		if err != nil {
			return err
		}
		if upTo == 0 {
			upTo = reply.State.LastSeq
		}
		subjects = slices.AppendSeq(subjects, maps.Keys(reply.State.Subjects))
		if len(reply.State.Subjects) == 0 || len(subjects) >= reply.Total {
			break
		}
	}
	for some := range slices.Chunk(subjects, newestTopics) {
		if _, err := n.last(some); err != nil {
			return err
		}
	}
	n.upTo = min(cmp.Or(n.upTo, upTo), upTo)
	return nil
}
