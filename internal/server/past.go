package server

import (
	"context"

	"github.com/pushd/pushd/topics"
)

// past reads what is kept of one topic, within bounds.
type past struct {
	history topics.History
	topic   string
	limit   int // messages of an excerpt, at most
	bytes   int // of their data, at most; but one message at least
}

// excerpt is a piece of a topic's past.
type excerpt struct {
	messages []topics.Message // oldest first
	end      topics.Cursor    // what comes after this has not been looked at
	resumed  topics.Resumption
	why      topics.LossReason // of NotRecovered
	more     bool              // there is some behind end
}

// windowFactor is by how much the first window that is searched for the newest
// messages exceeds their number, and each the one before it.
const windowFactor = 8

// newest finds the newest messages of a topic. Streams are read forwards alone,
// so it goes back in windows that grow until one has too many to read through:
// then it gropes for where these end.
func (p *past) newest(ctx context.Context) (excerpt, error) {
	st, err := p.stream(ctx)
	if err != nil {
		return excerpt{}, err
	}
	page, err := p.read(ctx, topics.Query{Pattern: p.topic, Newest: true})
	if err != nil {
		return excerpt{}, err
	}
	if len(page.Messages) == 0 {
		return excerpt{end: beginning(st)}, nil
	}
	last := page.Messages[len(page.Messages)-1]
	found := window{limit: p.limit, bytes: p.bytes}
	found.add(last)
	rest := last.Cursor.Seq // what lies below has not been searched
	growth := uint64(windowFactor)
	for span := growth * uint64(p.limit); rest > st.First && st.PerTopic != 1 && !found.full; {
		from := max(st.First, rest-min(span, rest))
		earlier, whole, err := p.window(ctx, from, rest, found.room())
		if err != nil {
			return excerpt{}, err
		}
		if !whole {
			span, growth = (rest-from)/2, 2
			continue
		}
		found.prepend(earlier)
		rest = from
		span *= growth
	}
	return excerpt{messages: found.messages, end: readUpTo(st, page.Next, last.Cursor)}, nil
}

// window finds the newest messages of the topic among those numbered from up
// to below to, as far as w has room for them. It reports false where there
// are many more than that.
func (p *past) window(ctx context.Context, from, to uint64, w window) (found window, whole bool, err error) {
	for most := 2*w.limit + pageMessages; from < to; {
		page, err := p.read(ctx, topics.Query{Pattern: p.topic, From: from, Messages: int(min(to-from, pageMessages))})
		if err != nil {
			return w, false, err
		}
		for _, m := range page.Messages {
			if m.Cursor.Seq < to {
				w.add(m)
				most--
			}
		}
		if page.End || page.Next <= from {
			break
		}
		if from = page.Next; most < 0 && from < to {
			return w, false, nil
		}
	}
	return w, true, nil
}

// pageMessages is how many messages are read at a time.
const pageMessages = 500

// window keeps the newest messages of those that are added, within bounds.
type window struct {
	limit, bytes int
	messages     []topics.Message
	size         int  // bytes of data
	full         bool // something had to be left out, or nothing more has room
}

func (w *window) add(m topics.Message) {
	w.messages = append(w.messages, m)
	w.size += len(m.Data)
	for len(w.messages) > w.limit || w.size > w.bytes && len(w.messages) > 1 {
		w.size -= len(w.messages[0].Data)
		w.messages[0] = topics.Message{} // it must not keep the payload alive
		w.messages = w.messages[1:]
		w.full = true
	}
	w.full = w.full || len(w.messages) == w.limit
}

// room is a window for what may still stand in front of this one.
func (w *window) room() window {
	return window{limit: w.limit - len(w.messages), bytes: w.bytes - w.size}
}

// prepend puts what room was made for in front. A single message is taken by
// its window whatever it weighs, but not by this one.
func (w *window) prepend(earlier window) {
	if w.size+earlier.size > w.bytes {
		w.full = true
		return
	}
	w.messages = append(earlier.messages, w.messages...)
	w.size += earlier.size
	w.full = earlier.full || len(w.messages) >= w.limit
}

// after reads what came behind a cursor, and says whether that is all of it.
func (p *past) after(ctx context.Context, c topics.Cursor) (excerpt, error) {
	st, err := p.stream(ctx)
	if err != nil {
		return excerpt{}, err
	}
	e := excerpt{end: c}
	if e.resumed, e.why, err = p.check(ctx, st, c); err != nil {
		return excerpt{}, err
	}
	if first := beginning(st); c.Seq < first.Seq || e.resumed == topics.NotRecovered && e.why == topics.LossRestarted {
		e.end = first
	}
	from := e.end.Seq + 1
	size := 0
	for {
		page, err := p.read(ctx, topics.Query{Pattern: p.topic, From: from, Messages: min(p.limit+1, pageMessages)})
		if err != nil {
			return excerpt{}, err
		}
		for _, m := range page.Messages {
			if len(e.messages) == p.limit || len(e.messages) > 0 && size+len(m.Data) > p.bytes {
				e.more = true
				return e, nil
			}
			e.messages = append(e.messages, m)
			e.end = m.Cursor
			size += len(m.Data)
		}
		if page.End || page.Next <= from {
			err = p.settle(ctx, st, &e)
			return e, err
		}
		from = page.Next
	}
}

// settle moves the end of an excerpt behind which there is nothing to the
// stream's own.
func (p *past) settle(ctx context.Context, st topics.Stream, e *excerpt) error {
	if e.end.Seq >= st.Last {
		return nil
	}
	page, err := p.read(ctx, topics.Query{Pattern: p.topic, Newest: true})
	if err != nil || len(page.Messages) == 0 {
		return err
	}
	if page.Messages[0].Cursor.Seq > e.end.Seq {
		e.more = true // it has come meanwhile
		return nil
	}
	e.end = readUpTo(st, page.Next, e.end)
	return nil
}

// beginning is the place before all that is kept.
func beginning(st topics.Stream) topics.Cursor {
	return topics.Cursor{Epoch: st.Epoch, Seq: max(st.First, 1) - 1}
}

// check says whether all that came behind a cursor is still there.
func (p *past) check(ctx context.Context, st topics.Stream, c topics.Cursor) (topics.Resumption, topics.LossReason, error) {
	if c.Epoch != st.Epoch {
		return topics.NotRecovered, topics.LossRestarted, nil
	}
	if c.Seq > 0 {
		page, err := p.read(ctx, topics.Query{From: c.Seq, Messages: 1}) // the cursor's own message
		if err != nil {
			return 0, 0, err
		}
		there := len(page.Messages) > 0 && page.Messages[0].Cursor.Seq == c.Seq
		if there && c.Stamp != 0 && page.Messages[0].Cursor.Stamp != c.Stamp || !there && c.Seq > st.Last {
			return topics.NotRecovered, topics.LossRestarted, nil // the numbers began again
		}
	}
	intact, err := await(ctx, func(done func(bool, error)) {
		p.history.Intact(topics.Namespace(p.topic), p.topic, c.Seq, done)
	})
	if err != nil {
		return 0, 0, err
	}
	if !intact {
		return topics.NotRecovered, topics.LossExpired, nil
	}
	return topics.Recovered, 0, nil
}

// readUpTo returns the place up to which a topic was read: that of its last
// message, or the stream's end where next, from the same answer, says that all
// up to there has been read. The message itself goes one day, and to go on from
// there would look like a loss. Why not the end always: the replica
// that answered may lag behind the stream.
func readUpTo(st topics.Stream, next uint64, last topics.Cursor) topics.Cursor {
	if next > st.Last && st.Last > last.Seq {
		return topics.Cursor{Epoch: st.Epoch, Seq: st.Last, Stamp: st.Stamp}
	}
	return last
}

func (p *past) stream(ctx context.Context) (topics.Stream, error) {
	return await(ctx, func(done func(topics.Stream, error)) { p.history.Stream(topics.Namespace(p.topic), done) })
}

func (p *past) read(ctx context.Context, q topics.Query) (topics.Page, error) {
	q.Namespace, q.Urgency = topics.Namespace(p.topic), topics.UrgentAsked
	return await(ctx, func(done func(topics.Page, error)) { p.history.Read(q, done) })
}

// await makes one call of a callback.
func await[T any](ctx context.Context, ask func(done func(T, error))) (T, error) {
	type answer struct {
		value T
		err   error
	}
	answers := make(chan answer, 1)
	ask(func(value T, err error) { answers <- answer{value, err} })
	select {
	case a := <-answers:
		return a.value, a.err
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}
