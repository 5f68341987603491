package conn

import (
	"crypto/tls"
	"crypto/x509"
	"io"

	"github.com/pushd/pushd/poller"
)

// TLS runs between the socket and the rest of a connection: what a read
// brought is decrypted before it is a request or frames, and what is sent is
// encrypted when it is certain to be sent, for what was encrypted cannot be
// left out any more. So the only bytes that wait for a socket are ciphertext.
// An idle connection has neither a goroutine nor a buffer.

// secureStage is how far the TLS of a connection has come.
type secureStage uint8

const (
	stageHello   secureStage = iota // the ClientHello is being read
	stageWaiting                    // it is complete, and waits for its turn
	stageShaking                    // a goroutine has the handshake
	stageReady                      // records come and go
)

// secure is the TLS of one connection. It belongs to the loop, but for what
// the goroutine of the handshake, or net/http, has at that time.
type secure struct {
	tls   *tls.Conn // nil before stageShaking
	pipe  pipe      // what tls reads and writes
	stage secureStage
	ended bool // our close_notify has been sent
	asked bool // Config.Gate has been, for --handshake-rate
}

// secures has the TLS of each connection, beside the slab.
type secures struct {
	pages []*[pageSize]*secure
}

func (s *secures) at(slot uint32) *secure {
	if int(slot>>pageBits) >= len(s.pages) {
		return nil
	}
	return s.pages[slot>>pageBits][slot%pageSize]
}

func (s *secures) set(slot uint32, v *secure) {
	for int(slot>>pageBits) >= len(s.pages) {
		s.pages = append(s.pages, new([pageSize]*secure))
	}
	s.pages[slot>>pageBits][slot%pageSize] = v
}

// secureOf returns the TLS of a connection; nil where there is none, or not yet.
func (t *Table) secureOf(slot uint32) *secure {
	if t.secures == nil {
		return nil
	}
	return t.secures.at(slot)
}

// certificate is the verified one that the client has shown; nil: none.
func (s *secure) certificate() *x509.Certificate {
	if chains := s.tls.ConnectionState().VerifiedChains; len(chains) > 0 {
		return chains[0][0]
	}
	return nil
}

// ciphertext takes what a socket of a TLS listener brought.
func (t *Table) ciphertext(id poller.Token, r *record, p []byte) {
	s := t.secures.at(id.Slot())
	switch {
	case s == nil:
		s = &secure{pipe: pipe{table: t, shaking: newShaking(t, id)}}
		t.secures.set(id.Slot(), s)
		t.hello(id, r, s, p)
	case s.stage == stageReady:
		t.records(id, r, s, p)
	case s.stage == stageHello:
		t.hello(id, r, s, p)
	default:
		t.feedHandshake(id, r, s, p)
	}
}

// records goes on with a connection whose handshake is done.
func (t *Table) records(id poller.Token, r *record, s *secure, p []byte) {
	if r.state >= stateClosing {
		return // as without TLS: nothing is listened to any more
	}
	if r.state == stateOpen && r.flags&flagStream == 0 {
		t.charge(id, r, len(p), 0)
	}
	plain, err := t.decrypt(s, p)
	if err != nil && err != io.EOF {
		t.cfg.Log.Debug("TLS failed", "err", err)
		t.abort(id, r, t.sealed, ReasonTLSFailed)
		return
	}
	if len(t.sealed) > 0 { // the answer to a KeyUpdate (RFC 8446, 4.6.3)
		t.settle(r)
		t.pushRaw(id, r, t.sealed)
	}
	if len(plain) > 0 {
		switch r.state {
		case stateIdle, stateHandshake:
			t.request(id, r, plain)
		case stateOpen:
			t.inbound(id, r, plain)
		}
	}
	if err == nil || t.live(id) == nil || t.secures.at(id.Slot()) != s {
		return
	}
	// Its close_notify. Ours is due even where nothing else is (RFC 8446, 6.1).
	t.sealEnd(id, r)
	t.theirEnd(id, r)
}

// decrypt returns what p, the next bytes of a client, and what was left of
// those before come to. It is valid until the next call. An error is io.EOF for
// the client's close_notify, or a fault, of which t.sealed has the alert.
func (t *Table) decrypt(s *secure, p []byte) (plain []byte, err error) {
	t.arrived, t.sealed = p, t.sealed[:0]
	s.lend(t)
	n := 0
	for err == nil {
		if n == len(t.plain) {
			t.plain = append(t.plain, make([]byte, readSize)...)
		}
		var m int
		m, err = s.tls.Read(t.plain[n:])
		n += m
	}
	s.takeBack()
	t.arrived = nil
	if err == errWouldBlock {
		err = nil
	}
	return t.plain[:n], err
}

// seal encrypts p, which is sure to be sent. The result is valid until the next
// call; nil: the connection has ended.
func (t *Table) seal(id poller.Token, r *record, s *secure, p []byte) []byte {
	if cap(t.sealed) > copiesSize {
		t.sealed = nil // one large message need not be remembered for ever
	}
	t.sealed = t.sealed[:0]
	if _, err := s.tls.Write(p); err != nil {
		t.cfg.Log.Error("TLS refused to encrypt", "err", err)
		t.doom(id, r, ReasonInternal)
		return nil
	}
	return t.sealed
}

// sendSealed is the lane's sendCopy through TLS. What the socket does not take
// is kept, all of it if need be, since the next record could not be read without it.
func (t *Table) sendSealed(id poller.Token, r *record, s *secure, frames []byte) Result {
	p := t.seal(id, r, s, frames)
	if p == nil {
		return Gone
	}
	res := t.lane.sendCopy(id, r, p)
	if res == Blocked {
		r.flags &^= flagBlocked
		t.tally.blocked-- // the next will be
		t.sideOf(r).appendOwn(p)
		res = Sent
	}
	return res
}

// sealHeld encrypts what waits behind Hold, which may leave now.
func (t *Table) sealHeld(id poller.Token, r *record) {
	s := t.secureOf(id.Slot())
	if s == nil || t.unsent(r) == 0 {
		return
	}
	own := t.sides.all[r.side].own
	if p := t.seal(id, r, s, own.B); p != nil {
		own.B = append(own.B[:0], p...)
	}
}

// sealEnd sends our close_notify, once, behind all that was sent.
func (t *Table) sealEnd(id poller.Token, r *record) {
	s := t.secureOf(id.Slot())
	if s == nil || s.stage != stageReady || s.ended || r.state.held() {
		return
	}
	s.ended = true
	if t.settle(r); r.state == stateDead {
		return
	}
	t.sealed = t.sealed[:0]
	if err := s.tls.CloseWrite(); err != nil {
		return // a fatal alert has been sent: it stands for this one
	}
	r.flags |= flagLast
	t.pushRaw(id, r, t.sealed)
}

// abort ends a connection with bytes that are no matter of TLS any more, or
// not yet: an alert, say.
func (t *Table) abort(id poller.Token, r *record, last []byte, why Reason) {
	if r.state >= stateClosing {
		t.doom(id, r, why)
		return
	}
	if s := t.secureOf(id.Slot()); s != nil {
		s.ended = true
	}
	t.settle(r)
	if r.state.held() { // what is held cannot leave any more
		r.state = stateHandshake
		t.dropHeld(id, r)
	}
	if r.state != stateDead && len(last) > 0 {
		r.flags |= flagLast
		t.pushRaw(id, r, last)
	}
	if r.state != stateDead {
		t.beginClosing(id, r, why)
		t.trimHead(r)
	}
}

// dropSecure takes back the TLS of a connection that ends.
func (t *Table) dropSecure(slot uint32) {
	s := t.secureOf(slot)
	if s == nil {
		return
	}
	t.secures.set(slot, nil)
	switch s.stage {
	case stageWaiting:
		t.cfg.Handshakes.giveUp()
	case stageShaking:
		close(s.pipe.shaking.closed)
	}
}

// isSecured reports whether there is TLS to talk through, or none is wanted.
func (t *Table) isSecured(slot uint32) bool {
	if t.secures == nil {
		return true
	}
	s := t.secures.at(slot)
	return s != nil && s.stage == stageReady
}
