package natsbus

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pushd/pushd/topics"
)

// maxBatch is how many messages go to the sink at once: enough that what a
// batch costs does not count, and few enough that none waits long for the last.
const maxBatch = 256

// reader hands what arrives to the sink, and tells it of losses when the
// messages that came before them have been delivered.
type reader struct {
	// Static after Start.
	arrived chan *nats.Msg
	prefix  string              // its dot included
	streams map[string]*history // by stream
	maxData int                 // of a message, in bytes; 0: no limit
	sink    topics.Sink
	wake    chan struct{} // holds one: losses wait to be told
	fences  chan chan struct{}
	stop    chan struct{}

	// tooLarge is called once for each batch that lacks messages which were too
	// large, and must not block. The reader does not know what interests their
	// subscriptions stand for; whoever does calls tell.
	tooLarge func(map[*nats.Subscription]struct{})

	// follow is Config.Follow.
	follow func(topic string, size int, traceparent string) *topics.Trail

	// unread is called by run for each message that is dropped for what it is.
	unread func(why Drop, subject string)

	// wentBack is called when a stream's numbers go back, since it must have
	// been made anew, and must not block.
	wentBack func(*history)

	// Only run touches these.
	batch     []topics.Message
	oversized map[*nats.Subscription]struct{} // those of the batch that tooLarge must hear of

	// Atomic.
	taken   atomic.Uint64 // messages, all that left the channel
	invalid atomic.Uint64
	strange atomic.Uint64 // not from the stream
	large   atomic.Uint64
	wasFull atomic.Bool // the channel may have been full; whoever acts on it clears it

	// Guarded by mu. A loss is due when taken has reached its mark.
	mu      sync.Mutex
	lost    map[topics.Interest]uint64
	lostAll bool
	allMark uint64
}

func newReader(arrived chan *nats.Msg, prefix string, histories map[string]*history, maxData int) *reader {
	streams := make(map[string]*history, len(histories))
	for _, h := range histories {
		streams[h.config.Name] = h
	}
	return &reader{
		arrived:   arrived,
		prefix:    prefix + ".",
		streams:   streams,
		maxData:   maxData,
		unread:    func(Drop, string) {},
		wake:      make(chan struct{}, 1),
		fences:    make(chan chan struct{}),
		stop:      make(chan struct{}),
		batch:     make([]topics.Message, 0, maxBatch),
		oversized: make(map[*nats.Subscription]struct{}),
		lost:      make(map[topics.Interest]uint64),
	}
}

// run ends after stop is closed, with what had arrived by then.
func (r *reader) run() {
	for {
		select {
		case m := <-r.arrived:
			r.deliver(m)
			r.tellDue()
		case <-r.wake:
			r.tellDue()
		case passed := <-r.fences:
			for until := r.taken.Load() + uint64(len(r.arrived)); r.taken.Load() < until; {
				r.deliver(<-r.arrived)
			}
			close(passed)
		case <-r.stop:
			for len(r.arrived) > 0 {
				r.deliver(<-r.arrived)
			}
			r.tellDue()
			return
		}
	}
}

// deliver hands over first and what waits behind it.
func (r *reader) deliver(first *nats.Msg) {
	now := time.Now().UnixMilli()
	r.add(first, now)
	n := 1
collect:
	for n < maxBatch {
		select {
		case m := <-r.arrived:
			r.add(m, now)
			n++
		default:
			break collect
		}
	}
	// Only this goroutine takes messages out, and n of them since it last was
	// here: had the channel been full in between, it would hold this much now.
	if len(r.arrived)+n >= cap(r.arrived) {
		r.wasFull.Store(true)
	}
	r.taken.Add(uint64(n))
	if len(r.batch) > 0 {
		r.sink.Deliver(r.batch)
	}
	clear(r.batch) // it must not keep payloads alive
	r.batch = r.batch[:0]
	if len(r.oversized) > 0 {
		r.tooLarge(r.oversized)
		clear(r.oversized)
	}
}

// add appends m to the batch.
func (r *reader) add(m *nats.Msg, now int64) {
	msg, ok := r.read(m, now)
	if !ok {
		return
	}
	if r.maxData > 0 && len(m.Data) > r.maxData {
		r.large.Add(1)
		r.unread(DropTooLarge, m.Subject)
		r.oversized[m.Sub] = struct{}{}
		return
	}
	if r.follow != nil {
		msg.Trail = r.follow(msg.Topic, len(m.Data), traceparentOf(m))
	}
	r.batch = append(r.batch, msg)
}

// read makes our message of one of nats.go, or counts why not. The topic is a
// piece of the subject, and the data m's own: nats.go copies both out of its
// read buffer for each message (processMsg in nats.go) and never writes to
// them again.
func (r *reader) read(m *nats.Msg, now int64) (topics.Message, bool) {
	if topic, plain := strings.CutPrefix(m.Subject, r.prefix); plain {
		if topics.CheckTopic(topic) != nil {
			return r.drop(&r.invalid, DropInvalidTopic, m)
		}
		return topics.Message{Topic: topic, Data: m.Data, Time: now}, true
	}
	h := r.streams[header(m, nats.JSStream)]
	if h == nil {
		return r.drop(&r.strange, DropNotFromStream, m)
	}
	msg, prev, err := h.decode(m)
	switch {
	case errors.Is(err, errNotStored):
		return r.drop(&r.strange, DropNotFromStream, m)
	case err != nil:
		return r.drop(&r.invalid, DropInvalidTopic, m)
	}
	msg.Prev = prev
	if msg.Cursor.Seq <= h.newest {
		r.wentBack(h)
	}
	h.newest = msg.Cursor.Seq
	h.last.Store(msg.Cursor.Seq)
	return msg, true
}

// drop counts a message that read makes nothing of.
func (r *reader) drop(count *atomic.Uint64, why Drop, m *nats.Msg) (topics.Message, bool) {
	count.Add(1)
	r.unread(why, m.Subject)
	return topics.Message{}, false
}

// tell lets the sink know that messages of an interest were lost, once those
// that wait now have been delivered.
func (r *reader) tell(in topics.Interest) {
	mark := r.mark()
	r.mu.Lock()
	r.lost[in] = mark
	r.mu.Unlock()
	r.kick()
}

// tellAll does so for all interests.
func (r *reader) tellAll() {
	mark := r.mark()
	r.mu.Lock()
	r.lostAll, r.allMark = true, mark
	r.mu.Unlock()
	r.kick()
}

// mark is what taken will be, at the latest, when all that waits now has been
// taken. The batch being collected is in neither number, hence maxBatch.
func (r *reader) mark() uint64 {
	waiting := uint64(len(r.arrived)) // first: a message must be in one number at least
	return waiting + r.taken.Load() + maxBatch
}

func (r *reader) kick() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// tellDue calls the sink for losses whose mark is reached, or for all of them
// where nothing waits: then all that came before them is delivered.
func (r *reader) tellDue() {
	r.mu.Lock()
	if !r.lostAll && len(r.lost) == 0 {
		r.mu.Unlock()
		return
	}
	taken, idle := r.taken.Load(), len(r.arrived) == 0
	all := r.lostAll && (idle || r.allMark <= taken)
	if all {
		r.lostAll = false
	}
	var due []topics.Interest
	for in, mark := range r.lost {
		if idle || mark <= taken {
			due = append(due, in)
			delete(r.lost, in)
		}
	}
	r.mu.Unlock()

	for _, in := range due {
		r.sink.Lost(in)
	}
	if all {
		r.sink.LostAll()
	}
}
