package server

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

// adminListener can stop to accept for a while; who connects waits in the kernel.
// While two processes have it, one of them accepts.
type adminListener struct {
	*net.TCPListener

	mu     sync.Mutex
	change sync.Cond // of what follows, which mu guards

	held   bool
	parked bool // Accept waits until it is not held any more
	closed bool
}

func newAdminListener(l net.Listener) (*adminListener, error) {
	tcp, ok := l.(*net.TCPListener)
	if !ok {
		return nil, errors.Join(errors.New("the admin listener is no TCP socket"), l.Close())
	}
	a := &adminListener{TCPListener: tcp}
	a.change.L = &a.mu
	return a, nil
}

// Accept implements net.Listener.
func (l *adminListener) Accept() (net.Conn, error) {
	for {
		c, err := l.TCPListener.Accept()
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return c, err
		}
		if l.park(); l.isClosed() {
			return nil, net.ErrClosed
		}
	}
}

func (l *adminListener) park() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.parked = true
	l.change.Broadcast()
	for l.held && !l.closed {
		l.change.Wait()
	}
	l.parked = false
}

func (l *adminListener) isClosed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closed
}

// hold returns when nothing is accepted any more, and whoever was is known to the
// http.Server that accepts. To be called while it does: an error is that it has not
// come to that within so much time.
func (l *adminListener) hold(within time.Duration) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	late := false
	timer := time.AfterFunc(within, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		late = true
		l.change.Broadcast()
	})
	defer timer.Stop()
	l.held = true
	_ = l.SetDeadline(time.Unix(1, 0))
	for !l.parked && !l.closed && !late {
		l.change.Wait()
	}
	if !l.parked {
		return errAdminAway
	}
	return nil
}

var errAdminAway = errors.New("nobody accepts on the admin listener any more, which would change hands: this node is ending")

// goOn undoes hold.
func (l *adminListener) goOn() {
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = l.SetDeadline(time.Time{})
	l.held = false
	l.change.Broadcast()
}

// Close implements net.Listener.
func (l *adminListener) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.change.Broadcast()
	return l.TCPListener.Close()
}
