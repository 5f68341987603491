package pushd

import (
	"context"
	"errors"
	"net"
	"os"
	"time"
)

// liveReader reads from a connection and notices when nobody is there any
// more: after it was quiet for long it asks for a sign of life, as the
// protocol's section on the heartbeat has it. It works below the frames, so
// that one of which half has come is waited for like any other.
type liveReader struct {
	// Static.
	ctx      context.Context
	conn     net.Conn
	patience time.Duration // for the answer to ping
	ping     func()

	quiet     time.Duration // how long silence is no cause for concern
	welcomeBy time.Time     // when the welcome is overdue; zero: it has come
	leaveAt   time.Time     // when the server wants the client gone; zero: it does not
}

// Read returns what came, or why nothing more will: ErrDead, errSilent,
// errAdvised, the end of ctx, or the connection's own error.
func (r *liveReader) Read(p []byte) (int, error) {
	patience, pinged := r.quiet, false
	for {
		deadline := time.Now().Add(patience)
		if !r.leaveAt.IsZero() && r.leaveAt.Before(deadline) {
			deadline = r.leaveAt
		}
		if !r.welcomeBy.IsZero() {
			deadline = r.welcomeBy
		}
		if err := r.conn.SetReadDeadline(deadline); err != nil {
			return 0, err
		}
		if err := r.ctx.Err(); err != nil {
			return 0, err // interrupt may have come before the deadline was set
		}
		n, err := r.conn.Read(p)
		switch {
		case n > 0 || !errors.Is(err, os.ErrDeadlineExceeded):
			return n, err
		case r.ctx.Err() != nil:
			return 0, r.ctx.Err()
		case !r.leaveAt.IsZero() && !time.Now().Before(r.leaveAt):
			return 0, errAdvised
		case !r.welcomeBy.IsZero():
			return 0, errSilent
		case pinged:
			return 0, ErrDead
		}
		r.ping()
		patience, pinged = r.patience, true
	}
}

// interrupt ends a Read that waits. It is called when ctx is done, from
// another goroutine.
func (r *liveReader) interrupt() { _ = r.conn.SetReadDeadline(time.Unix(1, 0)) }
