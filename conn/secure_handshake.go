package conn

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"

	"github.com/pushd/pushd/poller"
)

// crypto/tls cannot leave a handshake and come back to it, so each has a
// goroutine while it lasts. It never touches the socket: the loop feeds it what
// has come, and is told what to send. It starts when the ClientHello is complete,
// for until then nothing can be computed.

// shaking is what a connection has only until its handshake is done.
type shaking struct {
	// Static.
	table  *Table
	id     poller.Token
	more   chan struct{} // something has come
	closed chan struct{} // the connection has ended; the loop closes it

	// Of the goroutine.
	turn bool // it may compute

	// Guarded by mu.
	mu     sync.Mutex
	in     []byte // has come and is not read
	out    []byte // to be sent
	paused bool   // in is full: the loop reads no more
}

// maxShakingInput is how much may have come of a client and not be read by its
// handshake before nothing more is read of its socket. One that waits for its
// handshake is cut off beyond it: it has nothing to say yet, and there are many.
const maxShakingInput = 16 << 10

func newShaking(t *Table, id poller.Token) *shaking {
	return &shaking{table: t, id: id, more: make(chan struct{}, 1), closed: make(chan struct{})}
}

// hello gathers the ClientHello.
func (t *Table) hello(id poller.Token, r *record, s *secure, p []byte) {
	h := s.pipe.shaking
	h.in = append(h.in, p...)
	switch scanHello(h.in) {
	case helloNotTLS:
		var answer []byte
		if isToken[h.in[0]] { // it may be HTTP
			answer = appendRefusal(nil, badRequest("this port speaks TLS: the URL begins with https:// or wss://"))
		}
		t.abort(id, r, answer, ReasonNotTLS)
	case helloTooLarge:
		t.abort(id, r, nil, ReasonHeadTooLarge)
	case helloComplete:
		switch t.cfg.Handshakes.enter(waiter{t, id}) {
		case admitted:
			t.startHandshake(id, s)
		case admitLater:
			s.stage = stageWaiting
			if len(h.in) > maxShakingInput {
				t.doom(id, r, ReasonHeadTooLarge)
			}
		case admitNobody:
			t.doom(id, r, ReasonTLSBusy)
		}
	}
}

// startWaiting gives a place to one that waited, if it is still there.
func (t *Table) startWaiting(id poller.Token) {
	s := t.secureOf(id.Slot())
	if t.live(id) == nil || s == nil || s.stage != stageWaiting {
		t.cfg.Handshakes.leave()
		return
	}
	t.cfg.Handshakes.giveUp() // the wait, not the place
	t.startHandshake(id, s)
}

func (t *Table) startHandshake(id poller.Token, s *secure) {
	s.stage = stageShaking
	s.tls = tls.Server(&s.pipe, t.cfg.TLS)
	h := s.pipe.shaking
	t.shakers.Go(func() { h.run(s) })
}

// run is the goroutine.
func (h *shaking) run(s *secure) {
	defer h.table.cfg.Handshakes.leave()
	err := net.ErrClosed
	if h.takeTurn() {
		err = s.tls.HandshakeContext(context.Background())
		h.endTurn()
	}
	h.table.loop.Post(poller.Func(func() { h.table.handshaken(h.id, s, err) }))
}

// takeTurn waits until this handshake may compute. It answers false when the
// connection has ended.
func (h *shaking) takeTurn() bool {
	select {
	case <-h.closed:
		return false
	case h.table.cfg.Handshakes.turns <- struct{}{}:
		h.turn = true
		return true
	}
}

func (h *shaking) endTurn() {
	if h.turn {
		<-h.table.cfg.Handshakes.turns
		h.turn = false
	}
}

// read is pipe.Read of the goroutine. While it waits others compute.
func (h *shaking) read(b []byte) (int, error) {
	for {
		if n := h.take(b); n > 0 {
			return n, nil
		}
		h.endTurn()
		select {
		case <-h.more:
		case <-h.closed:
			return 0, net.ErrClosed
		}
		if !h.takeTurn() {
			return 0, net.ErrClosed
		}
	}
}

// take reads what has come. Where there is nothing, what was written leaves,
// for it may be what the client waits for.
func (h *shaking) take(b []byte) int {
	h.mu.Lock()
	n := copy(b, h.in)
	h.in = h.in[n:]
	tell := n == 0 && (len(h.out) > 0 || h.paused)
	h.mu.Unlock()
	if tell {
		h.table.loop.Post(poller.Func(func() { h.table.progress(h) }))
	}
	return n
}

func (h *shaking) write(b []byte) {
	h.mu.Lock()
	h.out = append(h.out, b...)
	h.mu.Unlock()
}

// feedHandshake hands what has come to the goroutine, or to the one to be.
func (t *Table) feedHandshake(id poller.Token, r *record, s *secure, p []byte) {
	h := s.pipe.shaking
	if s.stage == stageWaiting && len(h.in)+len(p) > maxShakingInput {
		t.doom(id, r, ReasonHeadTooLarge)
		return
	}
	h.mu.Lock()
	h.in = append(h.in, p...)
	h.paused = len(h.in) > maxShakingInput
	paused := h.paused
	h.mu.Unlock()
	select {
	case h.more <- struct{}{}:
	default:
	}
	if paused {
		t.watch(id, r, false, r.flags&flagWriteWatch != 0)
	}
}

// progress sends what a handshake has written, and reads on where it was paused.
func (t *Table) progress(h *shaking) {
	r := t.live(h.id)
	if r == nil || r.state != stateHandshake {
		return
	}
	h.mu.Lock()
	out := h.out
	h.out, h.paused = nil, false
	h.mu.Unlock()
	if len(out) > 0 {
		t.pushRaw(h.id, r, out)
	}
	if r.state != stateDead {
		t.watch(h.id, r, true, r.flags&flagWriteWatch != 0)
	}
}

// handshaken goes on with a connection whose handshake is over.
func (t *Table) handshaken(id poller.Token, s *secure, err error) {
	r := t.live(id)
	if r == nil || t.secureOf(id.Slot()) != s {
		return // it has ended meanwhile
	}
	h := s.pipe.shaking // the goroutine has ended
	s.pipe.shaking = nil
	if err != nil {
		s.stage = stageHello // it never came to more
		s.ended = true
		t.cfg.Log.Debug("TLS handshake failed", "err", err)
		why := ReasonTLSFailed
		if failed := (*tls.CertificateVerificationError)(nil); errors.As(err, &failed) {
			why = ReasonBadCertificate
		}
		t.abort(id, r, h.out, why)
		return
	}
	s.stage = stageReady
	t.stats.secured(s.tls.ConnectionState())
	if len(h.out) > 0 {
		t.pushRaw(id, r, h.out)
	}
	if r.state == stateDead {
		return
	}
	t.watch(id, r, true, r.flags&flagWriteWatch != 0)
	t.records(id, r, s, h.in) // what came behind, or just gives back buffers
}
