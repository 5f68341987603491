package natsbus

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pushd/pushd/topics"
)

// ackTimeout is how long a stream may take to say that it has a message.
const ackTimeout = 5 * time.Second

// acks holds the publications whose stream has not answered yet. Answers come
// to one subscription, nearly in the order of sending, so they wait in a row
// whose head is cut off as far as it is answered.
type acks struct {
	// Static after start.
	inbox   string         // its dot included
	drained func()         // called whenever none is left; must not block
	nobody  func(*history) // called when nobody answers for a stream; must not block

	// Guarded by mu.
	mu    sync.Mutex
	row   []unacked
	first uint64 // number of row[0]

	// Atomic.
	left      atomic.Int64 // in row, without answer
	bytes     atomic.Int64 // of their data
	confirmed atomic.Uint64
}

type unacked struct {
	Publication
	history  *history
	sent     time.Time
	answered bool
}

// add returns the reply subject that belongs to a publication.
func (a *acks) add(p Publication, h *history, now time.Time) (number uint64, reply string) {
	a.mu.Lock()
	number = a.first + uint64(len(a.row))
	a.row = append(a.row, unacked{Publication: p, history: h, sent: now})
	a.mu.Unlock()
	a.left.Add(1)
	a.bytes.Add(int64(len(p.Data)))
	return number, a.inbox + strconv.FormatUint(number, 36)
}

// handle takes an answer.
func (a *acks) handle(m *nats.Msg) {
	number, err := strconv.ParseUint(m.Subject[len(a.inbox):], 36, 64)
	if err != nil {
		return
	}
	p, known := a.take(number)
	if !known {
		return // too late: it has failed already
	}
	var ack struct {
		Stream string              `json:"stream"`
		Seq    uint64              `json:"seq"`
		Error  *jetstream.APIError `json:"error"`
	}
	switch {
	case header(m, "Status") == "503":
		a.nobody(p.history)
		a.end(p, 0, fmt.Errorf("%w: nobody answers for the stream", ErrAway))
	case json.Unmarshal(m.Data, &ack) != nil:
		a.end(p, 0, fmt.Errorf("%w: the stream answers what cannot be read", ErrAway))
	case ack.Error != nil:
		a.end(p, 0, explainAck(ack.Error))
	case ack.Stream != p.history.config.Name:
		a.end(p, 0, fmt.Errorf("stored in stream %s instead of %s", ack.Stream, p.history.config.Name))
	default:
		a.end(p, ack.Seq, nil)
	}
}

// explainAck makes our errors of those of a stream.
func explainAck(api *jetstream.APIError) error {
	switch {
	case api.Code == 429:
		return fmt.Errorf("%w: %s", ErrBusy, api.Description)
	case api.ErrorCode == codeTooLarge:
		return fmt.Errorf("%w: %s", ErrTooLarge, api.Description)
	case api.Code == 503, api.ErrorCode == codeIDInProcess: // one with this ID came before a change of leaders, and may be stored or not
		return fmt.Errorf("%w: %s", ErrAway, api.Description)
	default:
		return fmt.Errorf("the stream refused it: %s", api.Description)
	}
}

// end calls Done of what take returned.
func (a *acks) end(p unacked, seq uint64, err error) {
	var at topics.Cursor
	if err == nil {
		a.confirmed.Add(1)
		at = topics.Cursor{Epoch: p.history.epoch.Load(), Seq: seq}
	}
	if p.Done != nil {
		p.Done(at, err)
	}
	a.bytes.Add(-int64(len(p.Data)))
	if a.left.Add(-1) == 0 {
		a.drained()
	}
}

// take removes a publication from the row.
func (a *acks) take(number uint64) (p unacked, known bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	i := number - a.first
	if number < a.first || i >= uint64(len(a.row)) || a.row[i].answered {
		return p, false
	}
	p = a.row[i]
	a.row[i] = unacked{answered: true} // it must not keep data and callbacks alive
	cut := 0
	for cut < len(a.row) && a.row[cut].answered {
		cut++
	}
	a.row = a.row[cut:]
	a.first += uint64(cut)
	return p, true
}

// failOld fails what was sent too long ago.
func (a *acks) failOld(now time.Time) {
	a.fail(fmt.Errorf("%w: no answer of the stream in %v", ErrAway, ackTimeout), func(p *unacked) bool {
		return now.Sub(p.sent) >= ackTimeout
	})
}

func (a *acks) failAll() {
	a.fail(fmt.Errorf("%w: connection lost before it confirmed", ErrAway), func(*unacked) bool { return true })
}

// refused fails the publications to a subject that the server's permissions denied.
func (a *acks) refused(subject string) {
	a.fail(fmt.Errorf("%w: %s", ErrDenied, subject), func(p *unacked) bool {
		rest, below := strings.CutPrefix(subject, p.history.config.Subject)
		return below && rest == p.Topic[len(p.history.namespace):]
	})
}

func (a *acks) fail(err error, match func(*unacked) bool) {
	a.mu.Lock()
	var failed []uint64
	for i := range a.row {
		if !a.row[i].answered && match(&a.row[i]) {
			failed = append(failed, a.first+uint64(i))
		}
	}
	a.mu.Unlock()
	for _, number := range failed {
		if p, known := a.take(number); known {
			a.end(p, 0, err)
		}
	}
}
