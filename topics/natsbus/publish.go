package natsbus

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pushd/pushd/topics"
)

// Bounds of what may wait to be published.
const (
	maxQueued      = 16384    // publications
	maxQueuedBytes = 64 << 20 // of their data; a single one may be larger
)

// Publication is one message to be published.
type Publication struct {
	Topic string // valid, without the prefix
	Data  []byte // not changed until Done

	// ID makes a repetition harmless: of publications to a namespace with
	// history that have the same ID within two minutes, one is kept. Optional.
	ID string

	// Traceparent goes with it in the header of that name, where there is room
	// and the server takes headers. Optional.
	Traceparent string

	// Done is called once, from a goroutine of the Bus, so it must not block:
	// nil means that the NATS server has the message, and where its namespace
	// keeps history that it is stored, at that cursor, which has no stamp. Else
	// ErrAway, ErrBusy, ErrTooLarge, ErrDenied or ErrClosed say why not, or the
	// stream's own words. Optional.
	Done func(topics.Cursor, error)
}

// publisher sends what is queued in batches: one round trip confirms all
// that waited, but for what a stream acknowledges.
type publisher struct {
	// Static.
	prefix    string
	link      *link
	histories map[string]*history // by namespace
	acks      *acks
	wake      chan struct{} // holds one: something waits, closed, or no answer is due any more

	// Only run touches these.
	batch    []Publication
	outcomes []error // of batch, by index

	// Guarded by mu.
	mu     sync.Mutex
	queue  []Publication
	bytes  int // of data in queue
	closed bool

	// Atomic.
	confirmed atomic.Uint64
}

func newPublisher(prefix string, l *link, histories map[string]*history, nobody func(*history)) *publisher {
	p := &publisher{prefix: prefix + ".", link: l, histories: histories, wake: make(chan struct{}, 1)}
	p.acks = &acks{drained: p.kick, nobody: nobody}
	if len(histories) > 0 {
		l.lost = p.acks.failAll
		l.refusal = p.refused
	}
	return p
}

// listen subscribes to the streams' answers. The link is up.
func (p *publisher) listen() error {
	inbox, err := subscribeInbox(p.link, p.acks.handle)
	p.acks.inbox = inbox
	return err
}

func (p *publisher) publish(m Publication) bool {
	p.mu.Lock()
	waiting := len(p.queue) + int(p.acks.left.Load())
	bytes := p.bytes + int(p.acks.bytes.Load())
	full := waiting >= maxQueued || waiting > 0 && bytes+len(m.Data) > maxQueuedBytes
	if full || p.closed {
		p.mu.Unlock()
		return false
	}
	p.queue = append(p.queue, m)
	p.bytes += len(m.Data)
	p.mu.Unlock()
	p.kick()
	return true
}

func (p *publisher) kick() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// close lets run end once the queue is empty.
func (p *publisher) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.kick()
}

// run ends after close, when the queue is empty and all is answered.
func (p *publisher) run() {
	ticker := time.NewTicker(tickPeriod)
	defer ticker.Stop()
	for {
		var tick <-chan time.Time // nil: no answer is due
		if p.acks.left.Load() > 0 {
			tick = ticker.C
		}
		select {
		case <-p.wake:
		case now := <-tick:
			p.acks.failOld(now)
		}
		closed := p.take()
		if len(p.batch) > 0 {
			p.send()
		}
		if closed && p.acks.left.Load() == 0 {
			return // nothing was queued since take
		}
	}
}

// take moves the queue into batch, and leaves batch's memory to the queue.
func (p *publisher) take() (closed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.batch, p.queue = p.queue, p.batch[:0]
	p.bytes = 0
	return p.closed
}

// send publishes the batch, and calls every Done but of what a stream is yet
// to acknowledge.
func (p *publisher) send() {
	p.outcomes = p.outcomes[:0]
	if !p.link.up() {
		p.finish(ErrAway)
		return
	}
	before, now := p.link.nc.Stats().Reconnects, time.Now()
	plain := p.batch[:0]
	for _, m := range p.batch {
		if h := p.histories[topics.Namespace(m.Topic)]; h != nil {
			p.sendStored(m, h, now)
			continue
		}
		err := p.sendPlain(m)
		p.outcomes = append(p.outcomes, p.explain(err, m))
		plain = append(plain, m)
	}
	clear(p.batch[len(plain):])
	p.batch = plain
	if len(plain) == 0 {
		return
	}
	err := p.link.flush()
	// A flush that began on one connection may be answered on the next, which
	// knows nothing of what was sent on the first.
	if err == nil && p.link.nc.Stats().Reconnects != before {
		err = fmt.Errorf("%w: connection lost before it confirmed", ErrAway)
	}
	p.markDenied(p.link.refused())
	p.finish(err)
}

// sendPlain publishes to a namespace without history.
func (p *publisher) sendPlain(m Publication) error {
	if m.Traceparent == "" {
		return p.link.nc.Publish(p.prefix+m.Topic, m.Data)
	}
	msg := nats.Msg{Subject: p.prefix + m.Topic, Data: m.Data}
	p.addTraceparent(&msg, m)
	return p.link.nc.PublishMsg(&msg)
}

// sendStored publishes to a namespace with history.
func (p *publisher) sendStored(m Publication, h *history, now time.Time) {
	number, reply := p.acks.add(m, h, now)
	msg := nats.Msg{Subject: h.subject(m.Topic), Reply: reply, Data: m.Data}
	if m.ID != "" {
		msg.Header = nats.Header{nats.MsgIdHdr: {m.ID}}
	}
	if m.Traceparent != "" {
		p.addTraceparent(&msg, m)
	}
	err := p.explain(p.link.nc.PublishMsg(&msg), m)
	if err == nil {
		return
	}
	if unsent, known := p.acks.take(number); known {
		p.acks.end(unsent, 0, err)
	}
}

// refused is of link: the server's permissions denied a subject.
func (p *publisher) refused(subject string) (known bool) {
	for _, h := range p.histories {
		if h.covers(subject) {
			p.acks.refused(subject)
			return true
		}
	}
	return false
}

// explain makes our errors of those of nats.go.
func (p *publisher) explain(err error, m Publication) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, nats.ErrMaxPayload):
		return fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, len(m.Data), p.link.state().maxPayload)
	case errors.Is(err, nats.ErrBadSubject):
		return fmt.Errorf("publish to %q: %w", m.Topic, err)
	default:
		return fmt.Errorf("%w: %v", ErrAway, err)
	}
}

// markDenied fails the publications to subjects that the server denied.
func (p *publisher) markDenied(subjects []string) {
	if len(subjects) == 0 {
		return
	}
	denied := make(map[string]bool, len(subjects))
	for _, s := range subjects {
		denied[s] = true
	}
	for i, m := range p.batch {
		if subject := p.prefix + m.Topic; p.outcomes[i] == nil && denied[subject] {
			p.outcomes[i] = fmt.Errorf("%w: %s", ErrDenied, subject)
		}
	}
}

// finish calls every Done: with its own error, else with that of the batch.
func (p *publisher) finish(batchErr error) {
	for i, m := range p.batch {
		err := batchErr
		if i < len(p.outcomes) && p.outcomes[i] != nil {
			err = p.outcomes[i]
		}
		if err == nil {
			p.confirmed.Add(1)
		}
		if m.Done != nil {
			m.Done(topics.Cursor{}, err)
		}
	}
	clear(p.batch) // it must not keep data and callbacks alive
	clear(p.outcomes)
}
