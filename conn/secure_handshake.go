package conn

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"time"

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
	turn     bool          // it may compute
	patience time.Duration // for how long it may yet wait for its client, where others wait for a place

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

const (
	// clientPatience is how long a handshake waits for its client, all in all,
	// while others wait for its place.
	clientPatience = time.Second

	// lookAround is how often one that has waited longer looks whether others wait.
	lookAround = 100 * time.Millisecond
)

var errSlowHandshake = errors.New("the client did not go on with its handshake while others waited")

func newShaking(t *Table, id poller.Token) *shaking {
	return &shaking{table: t, id: id, more: make(chan struct{}, 1), closed: make(chan struct{}), patience: clientPatience}
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
		// A handshake costs more than what follows it, so the gate is asked before.
		// Of what a trusted proxy brings it is asked with the request, as ever.
		if s.asked = t.isLimited(r); s.asked && t.cfg.Gate.Handshake() > 0 {
			t.doom(id, r, ReasonHandshakeRate)
			return
		}
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

// isLimited reports whether limits are known to concern a connection of which
// no request has been read.
func (t *Table) isLimited(r *record) bool {
	if r.flags&flagUnlimited != 0 || len(t.cfg.TrustForwarded) == 0 {
		return r.flags&flagUnlimited == 0
	}
	client, _ := t.clientOf(r)
	return !t.cfg.TrustForwarded.Contains(client)
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
		if err := h.await(); err != nil {
			return 0, err
		}
		if !h.takeTurn() {
			return 0, net.ErrClosed
		}
	}
}

// await waits until something has come.
func (h *shaking) await() error {
	select { // mostly it is there by now
	case <-h.more:
		return nil
	default:
	}
	began := time.Now()
	defer func() { h.patience -= time.Since(began) }()
	look := time.NewTimer(max(h.patience, lookAround))
	defer look.Stop()
	for {
		select {
		case <-h.more:
			return nil
		case <-h.closed:
			return net.ErrClosed
		case <-look.C:
			if _, waiting := h.table.cfg.Handshakes.Counts(); waiting > 0 {
				return errSlowHandshake
			}
			look.Reset(lookAround)
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
		if errors.Is(err, errSlowHandshake) {
			why = ReasonHandshakeTimeout
		}
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
