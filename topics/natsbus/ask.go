package natsbus

import (
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pushd/pushd/topics"
)

const (
	// maxGets is how many direct gets of one stream are under way at most. More
	// gain nothing, since one goroutine of the server answers them all, and
	// delay what is live, since it is the same.
	maxGets = 3

	// maxOutstanding bounds the replies that may be on their way, in bytes: a
	// server cuts a connection off for which more than 64 MiB wait.
	maxOutstanding = 16 << 20

	// headroom is what a reply weighs beside its data, in bytes: the headers
	// that the server adds.
	headroom = 300

	// A request fails after silentTicks without a reply.
	tickPeriod  = time.Second
	silentTicks = 5
)

// asker sends requests to JetStream and takes their replies, on a link of its
// own: a server answers direct gets in the goroutine that reads their
// connection, so that a long one delays all else there.
//
// Direct gets of a stream wait for each other, the most urgent first. All
// replies come to one subscription and are told apart by their last token.
type asker struct {
	// Static after start.
	link  *link
	inbox string        // its dot included
	lanes []*lane       // of the streams, and at last that of the API
	api   *lane         // for what is no direct get
	wake  chan struct{} // holds one: something waits, or closed
	log   *slog.Logger

	// Guarded by mu.
	mu          sync.Mutex
	sent        map[uint64]*request
	lastID      uint64
	outstanding int // bytes of replies, at most
	closed      bool

	operations sync.WaitGroup // goroutines of start

	// Atomic.
	gets  [topics.NumUrgencies]atomic.Uint64
	infos atomic.Uint64
	calls atomic.Uint64 // of the API, others than infos
}

// lane is the requests to one stream. All of it is guarded by asker.mu.
type lane struct {
	waiting [topics.NumUrgencies][]*request
	sent    int
	most    int
}

// request is one message to JetStream, and what becomes of its replies.
type request struct {
	// Static.
	lane    *lane
	subject string
	body    []byte
	urgency topics.Urgency
	cost    int // of all replies in bytes, about
	counter *atomic.Uint64

	// take is called for each reply, by one goroutine, until it says that this
	// was the last. Then, or when the request failed, done is called once; it
	// must not block.
	take func(*nats.Msg) (end bool, err error)
	done func(error)

	// Guarded by asker.mu.
	id     uint64 // in the order of arrival
	silent int    // ticks since the last reply
}

func newAsker(l *link, histories map[string]*history, log *slog.Logger) *asker {
	a := &asker{
		log:  log,
		link: l,
		api:  &lane{most: maxQueued},
		wake: make(chan struct{}, 1),
		sent: make(map[uint64]*request),
	}
	for _, h := range histories {
		h.lane = &lane{most: maxGets}
		a.lanes = append(a.lanes, h.lane)
	}
	a.lanes = append(a.lanes, a.api)
	l.lost = func() { a.failAll(ErrAway) }
	l.refusal = a.refused
	return a
}

// listen subscribes to the replies. The link is up.
func (a *asker) listen() error {
	inbox, err := subscribeInbox(a.link, a.handle)
	a.inbox = inbox
	return err
}

// subscribeInbox has handle called for all messages below the inbox returned,
// whose dot is included.
func subscribeInbox(l *link, handle nats.MsgHandler) (string, error) {
	inbox := l.nc.NewInbox() + "."
	sub, err := l.nc.Subscribe(inbox+"*", handle)
	if err == nil {
		err = sub.SetPendingLimits(-1, -1) // what may come is bounded by what was asked
	}
	if err == nil {
		err = l.flush()
	}
	if err != nil {
		return "", fmt.Errorf("cannot subscribe to replies of NATS: %w", err)
	}
	for _, subject := range l.refused() {
		if subject == sub.Subject {
			return "", fmt.Errorf("cannot subscribe to replies of NATS: %w: %s: allow this account to subscribe to %s", ErrDenied, subject, inbox[:strings.Index(inbox, ".")]+".>")
		}
	}
	return inbox, nil
}

// run sends what may be sent until close.
func (a *asker) run() {
	ticker := time.NewTicker(tickPeriod)
	defer ticker.Stop()
	for {
		var tick <-chan time.Time // nil: nothing is under way
		if a.busy() {
			tick = ticker.C
		}
		select {
		case <-a.wake:
		case <-tick:
			a.failSilent()
		}
		if !a.sendAll() {
			return
		}
	}
}

func (a *asker) busy() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.sent) > 0
}

// sendAll returns false once the asker is closed.
func (a *asker) sendAll() bool {
	if !a.link.up() {
		a.failAll(ErrAway)
	}
	for {
		a.mu.Lock()
		if a.closed {
			a.mu.Unlock()
			return false
		}
		r := a.pickLocked()
		a.mu.Unlock()
		if r == nil {
			return true
		}
		r.counter.Add(1)
		reply := a.inbox + strconv.FormatUint(r.id, 36)
		if err := a.link.nc.PublishRequest(r.subject, reply, r.body); err != nil {
			a.finish(r.id, fmt.Errorf("%w: %v", ErrAway, err))
		}
	}
}

// pickLocked takes the most urgent request, and of these the oldest, whose
// stream has room. It takes none while that one's replies would be too much.
func (a *asker) pickLocked() *request {
	for urgency := range topics.NumUrgencies {
		var first *request
		for _, l := range a.lanes {
			waiting := l.waiting[urgency]
			if len(waiting) > 0 && l.sent < l.most && (first == nil || waiting[0].id < first.id) {
				first = waiting[0]
			}
		}
		if first == nil {
			continue
		}
		if a.outstanding > 0 && a.outstanding+first.cost > maxOutstanding {
			return nil
		}
		waiting := first.lane.waiting[urgency]
		waiting[0] = nil
		first.lane.waiting[urgency] = waiting[1:]
		first.lane.sent++
		a.outstanding += first.cost
		a.sent[first.id] = first
		return first
	}
	return nil
}

// enqueue never blocks, and never calls done itself.
func (a *asker) enqueue(r *request) {
	a.mu.Lock()
	if a.closed {
		a.mu.Unlock()
		go r.done(ErrClosed)
		return
	}
	a.lastID++
	r.id = a.lastID
	r.lane.waiting[r.urgency] = append(r.lane.waiting[r.urgency], r)
	a.mu.Unlock()
	a.kick()
}

// ask is enqueue for goroutines of start, which may wait.
func (a *asker) ask(r *request) error {
	done := make(chan error, 1)
	r.done = func(err error) { done <- err }
	a.enqueue(r)
	return <-done
}

// start runs an operation of several requests, which ends soon after close, or
// says that the asker is closed.
func (a *asker) start(operation func()) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return false
	}
	a.operations.Go(operation)
	return true
}

func (a *asker) kick() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// handle takes one reply.
func (a *asker) handle(m *nats.Msg) {
	id, err := strconv.ParseUint(m.Subject[len(a.inbox):], 36, 64)
	if err != nil {
		return
	}
	a.mu.Lock()
	r := a.sent[id]
	if r != nil {
		r.silent = 0
	}
	a.mu.Unlock()
	if r == nil {
		return // too late: it has failed already
	}
	if end, err := r.take(m); end || err != nil {
		a.finish(id, err)
	}
}

// finish ends a request that was sent; only the first call counts.
func (a *asker) finish(id uint64, err error) {
	a.mu.Lock()
	r := a.sent[id]
	if r == nil {
		a.mu.Unlock()
		return
	}
	delete(a.sent, id)
	r.lane.sent--
	a.outstanding -= r.cost
	a.mu.Unlock()
	a.kick()
	r.done(err)
}

// failSilent fails the requests that nobody answers.
func (a *asker) failSilent() {
	a.failSent(func(r *request) bool {
		r.silent++
		return r.silent > silentTicks
	}, fmt.Errorf("%w: no answer in %v", ErrAway, silentTicks*tickPeriod))
}

// refused is called when the server's permissions denied a subject.
func (a *asker) refused(subject string) (known bool) {
	a.failSent(func(r *request) bool { return r.subject == subject }, fmt.Errorf("%w: %s", ErrDenied, subject))
	return !strings.HasPrefix(subject, "_INBOX") // listen looks for that itself
}

func (a *asker) failSent(match func(*request) bool, err error) {
	var failed []uint64
	a.mu.Lock()
	for id, r := range a.sent {
		if match(r) {
			failed = append(failed, id)
		}
	}
	a.mu.Unlock()
	for _, id := range failed {
		a.finish(id, err)
	}
}

// failAll fails what was sent and what waits.
func (a *asker) failAll(err error) {
	a.failSent(func(*request) bool { return true }, err)
	a.mu.Lock()
	var failed []*request
	for _, l := range a.lanes {
		for urgency, waiting := range l.waiting {
			failed = append(failed, waiting...)
			l.waiting[urgency] = nil
		}
	}
	a.mu.Unlock()
	for _, r := range failed {
		r.done(err)
	}
}

// close fails everything with ErrClosed and waits for operations to end.
func (a *asker) close() {
	a.mu.Lock()
	a.closed = true
	a.mu.Unlock()
	a.failAll(ErrClosed)
	a.operations.Wait()
	a.kick()
}
