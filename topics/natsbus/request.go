package natsbus

import (
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// ErrNoAnswer means that nobody answered a request in time, or that nobody
// listens at its subject.
var ErrNoAnswer = errors.New("no answer over NATS")

// maxRequests bounds the requests that are under way at a time.
const maxRequests = 4096

// requester asks whoever listens at one subject, and waits for one answer each.
// Like the publisher it sends from a goroutine of its own, since nats.go may
// block while NATS is away, and shares its connection.
type requester struct {
	// Static after listen.
	link    *link
	subject string
	inbox   string        // its dot included
	wake    chan struct{} // holds one: something waits, or closed

	// Guarded by mu.
	mu     sync.Mutex
	queue  []*question
	asked  map[uint64]*question // those in queue too
	lastID uint64
	closed bool
}

// question is one request.
type question struct {
	id    uint64
	data  []byte
	done  func(answer []byte, err error)
	timer *time.Timer
}

func newRequester(subject string, l *link) *requester {
	return &requester{link: l, subject: subject, wake: make(chan struct{}, 1), asked: make(map[uint64]*question)}
}

// listen subscribes to the answers. The link is up.
func (r *requester) listen() error {
	inbox, err := subscribeInbox(r.link, r.handle)
	r.inbox = inbox
	return err
}

func (r *requester) request(data []byte, within time.Duration, done func([]byte, error)) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || len(r.asked) >= maxRequests {
		return false
	}
	r.lastID++
	id := r.lastID
	q := &question{id: id, data: data, done: done}
	q.timer = time.AfterFunc(within, func() {
		r.finish(id, nil, fmt.Errorf("%w: none came in %v", ErrNoAnswer, within))
	})
	r.asked[id] = q
	r.queue = append(r.queue, q)
	r.kick()
	return true
}

func (r *requester) kick() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// run sends what waits until close.
func (r *requester) run() {
	for range r.wake {
		r.mu.Lock()
		queue, closed := r.queue, r.closed
		r.queue = nil
		r.mu.Unlock()
		if closed {
			return // close has answered them
		}
		for _, q := range queue {
			if err := r.send(q); err != nil {
				r.finish(q.id, nil, fmt.Errorf("%w: %v", ErrAway, err))
			}
		}
	}
}

func (r *requester) send(q *question) error {
	if !r.link.up() {
		return errors.New("the connection is lost")
	}
	return r.link.nc.PublishRequest(r.subject, r.inbox+strconv.FormatUint(q.id, 36), q.data)
}

// handle takes one answer.
func (r *requester) handle(m *nats.Msg) {
	id, err := strconv.ParseUint(m.Subject[len(r.inbox):], 36, 64)
	if err != nil {
		return
	}
	if len(m.Data) == 0 && m.Header.Get("Status") == "503" { // what the server says where nobody listens
		r.finish(id, nil, fmt.Errorf("%w: nobody listens at %s", ErrNoAnswer, r.subject))
		return
	}
	r.finish(id, m.Data, nil)
}

// finish ends a request; only the first call counts.
func (r *requester) finish(id uint64, answer []byte, err error) {
	r.mu.Lock()
	q := r.asked[id]
	delete(r.asked, id)
	r.mu.Unlock()
	if q != nil {
		q.timer.Stop()
		q.done(answer, err)
	}
}

// refused is called when the server's permissions denied a subject.
func (r *requester) refused(subject string) (known bool) {
	if subject != r.subject {
		return false
	}
	r.failAll(fmt.Errorf("%w: %s", ErrDenied, subject))
	return true
}

// close fails what has no answer, and lets run end.
func (r *requester) close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.failAll(ErrClosed)
	r.kick()
}

func (r *requester) failAll(err error) {
	r.mu.Lock()
	asked := r.asked
	r.asked, r.queue = make(map[uint64]*question), nil
	r.mu.Unlock()
	for _, q := range asked {
		q.timer.Stop()
		q.done(nil, err)
	}
}
