package pushd

import (
	"net"
	"sync"
	"time"

	"github.com/gobwas/ws"
)

// outboxRoom, in bytes, is beyond what a publisher adds to. What the client
// itself has to say is bounded by its subscriptions, and always fits.
const outboxRoom = 1 << 20

// outbox collects frames, which a goroutine of its own writes: whoever sends
// does not wait for the socket, and what comes together leaves together.
type outbox struct {
	// Static.
	conn     net.Conn
	patience time.Duration // for a write

	wake chan struct{} // holds one: there is something to do

	// Guarded by mu.
	mu      sync.Mutex
	waiting []byte
	closed  bool
	drained chan struct{} // closed when what waits has been taken to be written
	err     error         // of a write
}

func newOutbox(conn net.Conn, patience time.Duration) *outbox {
	return &outbox{conn: conn, patience: patience, wake: make(chan struct{}, 1), drained: make(chan struct{})}
}

// send sends a frame. What comes after close is dropped.
func (o *outbox) send(op ws.OpCode, payload []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.appendLocked(op, payload)
}

// trySend sends a frame where there is room, else it returns what is closed when there may be.
func (o *outbox) trySend(op ws.OpCode, payload []byte) (full <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.waiting) >= outboxRoom {
		return o.drained
	}
	o.appendLocked(op, payload)
	return nil
}

func (o *outbox) appendLocked(op ws.OpCode, payload []byte) {
	if o.closed {
		return
	}
	o.waiting = appendFrame(o.waiting, op, payload)
	o.wakeUp()
}

// close sends a close frame behind what waits, and ends run.
func (o *outbox) close(code int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.closed {
		o.waiting, o.closed = appendClose(o.waiting, code), true
	}
	o.wakeUp()
}

func (o *outbox) wakeUp() {
	select {
	case o.wake <- struct{}{}:
	default: // it has not looked yet
	}
}

// failure is why a write failed, nil where none did.
func (o *outbox) failure() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}

// run writes until close, or until a write fails: then it closes the connection,
// by which the reader hears of it.
func (o *outbox) run() {
	var spare []byte
	for range o.wake {
		o.mu.Lock()
		bytes, last := o.waiting, o.closed
		o.waiting = spare[:0]
		close(o.drained)
		o.drained = make(chan struct{})
		o.mu.Unlock()
		patience := o.patience
		if last {
			patience = min(patience, time.Second) // a farewell is not worth more
		}
		err := o.conn.SetWriteDeadline(time.Now().Add(patience))
		if err == nil && len(bytes) > 0 {
			_, err = o.conn.Write(bytes)
		}
		if err != nil {
			o.mu.Lock()
			o.err, o.closed, o.waiting = err, true, nil
			o.mu.Unlock()
			o.conn.Close()
			return
		}
		if last {
			return
		}
		if spare = bytes; cap(spare) > outboxRoom {
			spare = nil
		}
	}
}
