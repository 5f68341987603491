package natsbus

import (
	"errors"
	"fmt"
	"time"

	"github.com/pushd/pushd/topics"
)

var _ topics.History = (*Bus)(nil)

// Stream is of topics.History. It renews the epoch that messages carry from
// then on. A stream of pushd's own that is gone is made anew.
func (b *Bus) Stream(namespace string, done func(topics.Stream, error)) {
	b.operate(namespace, func(h *history) {
		s, err := b.asker.stream(h)
		done(s, away(err))
	}, func(err error) { done(topics.Stream{}, err) })
}

// Read is of topics.History. Its errors are ErrAway, ErrDenied, ErrClosed and
// ErrNoHistory, or tell of a pattern that is none of the namespace. Messages
// larger than Config.MaxMessage are left out, and those whose topics are not
// valid. Of Newest, every newest message below Page.Next is in the page, and
// there may be some above; what is left out is not named.
func (b *Bus) Read(q topics.Query, done func(topics.Page, error)) {
	fail := func(err error) { done(topics.Page{}, err) }
	if err := validPattern(q.Namespace, q.Pattern); err != nil {
		go fail(err)
		return
	}
	if q.Newest {
		b.operate(q.Namespace, func(h *history) {
			page, err := b.asker.newest(h, q)
			done(page, away(err))
		}, fail)
		return
	}
	h := b.histories[q.Namespace]
	if h == nil {
		go fail(noHistory(q.Namespace))
		return
	}
	b.asker.read(h, q, done)
}

// Next is of topics.History.
func (b *Bus) Next(namespace, pattern string, from uint64, done func(uint64, error)) {
	fail := func(err error) { done(0, err) }
	if err := validPattern(namespace, pattern); err != nil {
		go fail(err)
		return
	}
	b.operate(namespace, func(h *history) {
		number, err := b.asker.next(h, pattern, from)
		done(number, away(err))
	}, fail)
}

// Intact is of topics.History. It asks the stream's leader alone. Of a stream
// with a bound for each topic it does not notice what somebody deleted by hand,
// nor that the owner of an existing stream raised the bound.
func (b *Bus) Intact(namespace, pattern string, after uint64, done func(bool, error)) {
	if err := validPattern(namespace, pattern); err != nil {
		go done(false, err)
		return
	}
	b.operate(namespace, func(h *history) {
		intact, err := b.asker.intact(h, pattern, after)
		done(intact, away(err))
	}, func(err error) { done(false, err) })
}

// operate runs an operation in a goroutine, or one that calls fail.
func (b *Bus) operate(namespace string, operation func(*history), fail func(error)) {
	h := b.histories[namespace]
	switch {
	case h == nil:
		go fail(noHistory(namespace))
	case !b.asker.start(func() { operation(h) }):
		go fail(ErrClosed)
	}
}

func noHistory(namespace string) error { return fmt.Errorf("%w: %s", ErrNoHistory, namespace) }

// stream asks the leader, and a replica for the last message.
func (a *asker) stream(h *history) (topics.Stream, error) {
	reply, err := a.info(h, infoRequest{})
	if isAPIError(err, codeStreamNotFound) && !h.config.Existing {
		if reply, err = a.create(h); err == nil {
			a.log.Warn("stream was gone with its messages, and has been created anew", "stream", h.config.Name, "namespace", h.namespace)
		}
	}
	if err != nil {
		return topics.Stream{}, err
	}
	state := reply.State
	perTopic := int(h.perTopic.Load())
	s := topics.Stream{
		Epoch:    h.epoch.Load(),
		First:    state.FirstSeq,
		Last:     state.LastSeq,
		PerTopic: perTopic,
		Replicas: reply.Config.Replicas,
		Whole:    state.Msgs == 0 || dense(state) || perTopic > 0 && !reply.Config.AllowMsgTTL && !reply.Config.AllowRollup,
	}
	if state.Msgs == 0 {
		s.First = s.Last + 1
		return s, nil
	}
	b := &batch{h: h, lone: true, more: func(m topics.Message) bool {
		s.Stamp = m.Cursor.Stamp
		return true
	}}
	r := a.get(h, topics.UrgentRepair, getRequest{Seq: s.Last}, headroom)
	r.take = b.take
	if err := a.ask(r); err != nil && !errors.Is(err, errNothing) {
		return topics.Stream{}, err
	}
	return s, nil
}

// validPattern of a namespace; "" is all of it.
func validPattern(namespace, pattern string) error {
	if pattern == "" {
		return nil
	}
	if err := topics.CheckPattern(pattern); err != nil {
		return err
	}
	if topics.Namespace(pattern) != namespace {
		return &topics.NameError{Kind: "pattern", Name: pattern, Problem: "is not of namespace " + namespace}
	}
	return nil
}

// renewPeriod is how often a stream is asked for at most because nobody
// answered for it.
const renewPeriod = time.Second

// renew sees to a stream that nobody answers for: it may be gone, and made anew.
// It never blocks.
func (b *Bus) renew(h *history) {
	now := time.Now().UnixMilli()
	last := h.renewed.Load()
	if now-last >= renewPeriod.Milliseconds() && h.renewed.CompareAndSwap(last, now) {
		b.Stream(h.namespace, func(topics.Stream, error) {})
	}
}
