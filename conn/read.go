package conn

import (
	"fmt"
	"net/netip"

	"github.com/gobwas/ws"
	"github.com/valyala/bytebufferpool"
	"golang.org/x/sys/unix"

	"github.com/pushd/pushd/poller"
)

// readable reads once what a socket has; the poller tells again if there is more.
func (t *Table) readable(id poller.Token, r *record, e poller.Events) {
	if r.state == stateAnswered && r.flags&flagReadPaused == 0 {
		return // its next request is read after this turn
	}
	if r.flags&flagReadPaused != 0 {
		if e&poller.HangUp != 0 {
			t.doom(id, r, ReasonClientGone)
		}
		return
	}
	n, errno := rawRead(int(r.fd), t.buf)
	switch {
	case errno == unix.EAGAIN:
		return
	case errno != 0:
		t.doom(id, r, reasonOfErrno(errno))
		return
	case n == 0:
		t.theirEnd(id, r)
		return
	}
	if e&poller.HangUp != 0 && n < len(t.buf) {
		r.flags |= flagEnded // all it sent was there before the read, which has not filled the buffer
	}
	t.tally.bytesIn += uint64(n)
	if r.flags&flagStream == 0 {
		t.forgive(r)
	} else if r.heard += uint32(n); r.state == stateOpen && r.heard > maxBehind {
		t.Close(id, ReasonUnsupportedData)
		return
	}
	r.received, r.pinged = t.loop.Now(), 0
	p := t.buf[:n]
	if r.state == stateArriving {
		if p = t.behindProxyHeader(id, r, p); len(p) == 0 {
			return
		}
	}
	switch {
	case t.secures != nil && r.state < stateClosing:
		t.ciphertext(id, r, p)
	case r.state == stateIdle || r.state == stateHandshake:
		t.request(id, r, p)
	case r.state == stateOpen:
		t.inbound(id, r, p)
	}
}

// theirEnd is for a client that has said its last. It may still read ours.
func (t *Table) theirEnd(id poller.Token, r *record) {
	if r.state == stateClosing && t.unsent(r) > 0 {
		r.flags |= flagEnded
		t.watch(id, r, false, true)
		return
	}
	t.doom(id, r, ReasonClientGone)
}

// shake goes on with a request's head; p is what came now.
func (t *Table) shake(id poller.Token, r *record, p []byte) {
	from := 0
	if r.side != 0 && t.sides.all[r.side].head != nil {
		b := t.sides.all[r.side].head
		from = len(b.B)
		b.Write(p)
		p = b.B
	}
	end, verdict := scanHead(p, from)
	switch verdict {
	case headNeedMore:
		if s := t.sideOf(r); s.head == nil {
			s.head = getBuffer(len(p))
			s.head.Write(p)
		}
	case headTooLarge:
		t.refuse(id, r, refuseHeadTooLarge(), ReasonHeadTooLarge)
	case headNotHTTP:
		t.refuse(id, r, badRequest("this is not an HTTP request"), ReasonNotHTTP)
	case headComplete:
		switch {
		case WantsUpgrade(p[:end]):
			t.upgrade(id, r, p[:end], p[end:])
		case t.claims(p[:end]):
			t.get(id, r, p[:end], p[end:])
		case r.flags&flagAdopted != 0:
			t.refuse(id, r, badRequest("this is not a request for an upgrade"), ReasonHandshakeRefused)
		default:
			t.handOver(id, r, p)
		}
	}
}

// upgrade answers an upgrade request. rest came behind it: frames already.
func (t *Table) upgrade(id poller.Token, r *record, head, rest []byte) {
	if r.flags&flagOperator == 0 && !t.cfg.Quota.admits() {
		t.refuse(id, r, overloaded, ReasonOverloaded)
		return
	}
	t.cork(id)
	t.out = getBuffer(len(head))
	response, request, refused := t.shaker.upgrade(head, t.out.B)
	why := ReasonHandshakeRefused
	if refused == nil {
		if s := t.secureOf(id.Slot()); s != nil {
			request.Certificate = s.certificate()
		}
		refused, why = t.vet(id, r, head, request)
	}
	if refused == nil {
		t.out.B, why = response, ReasonHandshakeRefused
		refused = t.handler.Upgrade(id, request)
	}
	if refused != nil {
		t.dropCork()
		t.refuse(id, r, refused, why)
		return
	}
	if request.Deflate {
		r.flags |= flagDeflates
	}
	t.accepted(id, r, rest)
}

// accepted goes on with a request that the handler has taken.
func (t *Table) accepted(id poller.Token, r *record, rest []byte) {
	if r.flags&flagOperator == 0 {
		t.cfg.Quota.opened()
		t.tally.open++
	}
	t.stats.upgraded.Add(1)
	r.flags |= flagUpgraded
	switch r.state {
	case stateHeld, stateAwaiting:
		t.keepHeld(id, r, rest)
	case stateAnswered:
		t.uncork(id, r)
		if !t.keepBehind(r, rest) {
			t.doom(id, r, ReasonReceiveFull)
			return
		}
		t.answered(id, r)
	case stateHandshake:
		r.state = stateOpen
		t.uncork(id, r)
		t.goOn(id, r, rest)
	case stateDead: // the handler has closed it
		t.dropCork()
	default: // it was answered, and that was all
		t.uncork(id, r)
		t.trimHead(r)
	}
}

// goOn reads what came right behind a request.
func (t *Table) goOn(id poller.Token, r *record, rest []byte) {
	if len(rest) > 0 && r.state == stateOpen {
		// Out of the head's buffer: what is kept of a message has its own.
		t.inbound(id, r, rest)
	}
	if r.flags&flagBacklog == 0 {
		t.trimHead(r)
	}
}

// inbound takes what came of an open connection. A stream expects nothing.
func (t *Table) inbound(id poller.Token, r *record, p []byte) {
	if r.flags&flagStream == 0 {
		t.frames(id, r, p)
	}
}

// Hold is called by Handler.Upgrade, or Get, when it cannot say yet all that
// belongs into the write with the head of the response. Release ends the wait, and
// so does Refuse. Until then nothing is read of the client and nothing leaves. A
// handshake that is not released in time is refused with 503.
func (t *Table) Hold(id poller.Token) {
	if r := t.live(id); r != nil && r.state == stateHandshake {
		r.state = stateHeld
	}
}

// keepHeld puts by the response with what follows it, and what came behind the request.
func (t *Table) keepHeld(id poller.Token, r *record, rest []byte) {
	if t.unsent(r) > 0 { // it has asked, and does not even take what TLS had to say before
		t.dropCork()
		t.doom(id, r, ReasonTooSlow)
		return
	}
	s := t.sideOf(r)
	s.own, s.ownSent = t.out, 0
	t.out, t.corked = nil, noSlot
	if !t.keepBehind(r, rest) {
		t.refuseHeld(id, r, t.forHeldPages(receivingFull, id), ReasonReceiveFull)
		return
	}
	t.watch(id, r, false, false)
}

// keepBehind keeps what came behind a request, in place of its head, if there is room.
func (t *Table) keepBehind(r *record, rest []byte) bool {
	if len(rest) == 0 && r.side == 0 {
		return true
	}
	var b *bytebufferpool.ByteBuffer
	if len(rest) > 0 {
		b = getBuffer(len(rest))
		b.Write(rest)
	}
	s := t.sideOf(r)
	s.dropHead()
	if b != nil && !t.mayKeep(r, cap(b.B)) {
		putBuffer(b)
		return false
	}
	s.head = b
	t.countReceived(r)
	t.trimSide(r)
	return true
}

// Release lets go what Hold held back.
func (t *Table) Release(id poller.Token) {
	if t.corked != noSlot {
		// The frames that wait would be read within Upgrade or Message of
		// another connection, or of this one.
		t.loop.Post(poller.Func(func() { t.Release(id) }))
		return
	}
	r := t.live(id)
	if r == nil || r.state != stateHeld {
		return
	}
	r.state = stateOpen
	delete(t.pages, id.Slot())
	if t.sealHeld(id, r); r.state == stateDead {
		return
	}
	t.writable(id, r)
	if r.state == stateOpen && t.unsent(r) > 0 {
		t.watch(id, r, true, false)
		t.watchWritable(id, r)
	}
	if r.state == stateDead || r.side == 0 {
		return
	}
	var rest []byte
	if head := t.sides.all[r.side].head; head != nil {
		rest = head.B
	}
	t.goOn(id, r, rest)
}

// dropCork forgets what was gathered.
func (t *Table) dropCork() {
	putBuffer(t.out)
	t.out, t.corked = nil, noSlot
}

func (t *Table) trimHead(r *record) {
	if r.side != 0 {
		s := t.sides.all[r.side]
		s.dropHead()
		s.client = netip.Addr{}
		t.countReceived(r)
		t.trimSide(r)
	}
}

// handOver gives the socket of an ordinary HTTP request to the handler.
func (t *Table) handOver(id poller.Token, r *record, read []byte) {
	if t.unsent(r) > 0 { // as in keepHeld
		t.doom(id, r, ReasonTooSlow)
		return
	}
	fd := int(r.fd)
	if err := t.loop.Remove(fd); err != nil {
		t.cfg.Log.Error("poller refused to forget a socket", "fd", fd, "err", err)
	}
	t.stats.refused[ReasonHandedOver].Add(1)
	r.state = stateDead // to whatever the handler may call
	t.handler.NotUpgrade(fd, read, t.handedOf(id, r))
	t.dropSide(r)
	delete(t.served, id.Slot())
	t.slab.free(id.Slot())
	t.cfg.Quota.release()
}

// Refuse answers a request that Hold holds back, after all. What was replied with
// before is forgotten.
func (t *Table) Refuse(id poller.Token, refused *Refusal) {
	r := t.live(id)
	switch {
	case r == nil || !r.state.held():
	case id.Slot() == t.corked: // within Upgrade or Get, which still has the request
		t.dropHeld(id, r)
		r.state = stateHandshake
		t.startClosing(id, r, ReasonHandshakeRefused, appendRefusal(nil, refused))
	default:
		t.refuseHeld(id, r, refused, ReasonHandshakeRefused)
	}
}

// dropHeld forgets a response of which nothing has left.
func (t *Table) dropHeld(id poller.Token, r *record) {
	switch {
	case id.Slot() == t.corked:
		putBuffer(t.out)
		t.out = nil
	case r.side != 0:
		t.sides.all[r.side].dropUnsent()
	}
	delete(t.pages, id.Slot())
}

func (t *Table) refuseHeld(id poller.Token, r *record, refused *Refusal, why Reason) {
	t.dropHeld(id, r)
	r.state = stateHandshake
	t.refuse(id, r, refused, why)
	if r.state == stateClosing {
		t.watch(id, r, true, r.flags&flagWriteWatch != 0)
	}
}

// handshakeExpired ends a handshake that took too long. A client that has sent
// nothing is told nothing: it may be a load balancer that opens sockets ahead.
func (t *Table) handshakeExpired(id poller.Token, r *record) {
	switch {
	case !t.isSecured(id.Slot()):
		t.doom(id, r, ReasonHandshakeTimeout)
	case r.state == stateHeld:
		t.refuseHeld(id, r, t.forHeldPages(unavailable, id), ReasonHandshakeTimeout)
	case r.state <= stateHandshake && r.side != 0 && t.sides.all[r.side].head != nil:
		t.refuse(id, r, &Refusal{Status: 408, Code: "bad_request",
			Message: fmt.Sprintf("the request's head was not complete within %v", t.cfg.HandshakeTimeout)}, ReasonHandshakeTimeout)
	case r.state <= stateHandshake:
		t.doom(id, r, ReasonHandshakeTimeout)
	}
}

// frames feeds what came to the connection's decoder. Nearly every connection
// is between two messages and shares one. looked is how many bytes have been
// looked at, and what compressed ones came to. A connection with flagBacklog comes
// here from the line only: nothing is read of it, and of TLS the records of a read
// are one p.
func (t *Table) frames(id poller.Token, r *record, p []byte) (looked int) {
	d, own := &t.fresh, false
	if r.side != 0 && !t.sides.all[r.side].decoder.idle() {
		d, own = &t.sides.all[r.side].decoder, true
	}
	t.cork(id)
	t.in.id, t.in.r = id, r
	var inflater *inflater
	if r.flags&flagDeflates != 0 {
		inflater = &t.inflater
	}
	fail := reasonOf(d.feed(p, t.cfg.MaxMessage, inflater, &t.in))
	if fail == ReasonNone && !t.mayKeep(r, d.size()+d.unread) {
		fail = ReasonReceiveFull
	}
	n := len(p)
	if t.secures != nil {
		n = 0 // records has charged what it came in
	}
	t.charge(id, r, n+d.inflated, int(d.frames))
	rest := p[len(p)-d.unread:]
	looked = len(p) - len(rest) + d.inflated
	d.frames, d.inflated, d.unread = 0, 0, 0
	t.flushCork(id, r)
	if fail != ReasonNone && r.state == stateOpen {
		var frame [ws.MaxControlFramePayloadSize + 2]byte
		t.startClosing(id, r, fail, AppendClose(frame[:0], fail.Code(), fail.String()))
	}
	t.uncork(id, r)
	switch {
	case r.state != stateOpen:
		d.release()
	case own:
		t.trimSide(r)
	case !d.idle():
		t.sideOf(r).decoder = t.fresh
		t.fresh = decoder{}
	}
	if len(rest) > 0 && r.state == stateOpen {
		t.keepRest(id, r, rest)
	}
	t.countReceived(r)
	return looked
}

// inboundTo passes what a decoder found to the handler.
type inboundTo struct {
	t  *Table
	id poller.Token
	r  *record
}

func (in *inboundTo) message(op ws.OpCode, payload []byte) bool {
	in.t.tally.messages++
	in.r.flags &^= flagPaced
	in.t.handler.Message(in.id, op, payload)
	return in.r.state == stateOpen
}

// control answers a ping at once with its own payload (RFC 6455 5.5.2). Any
// frame is a sign of life, a pong nothing more.
func (in *inboundTo) control(op ws.OpCode, payload []byte) bool {
	if op == ws.OpPing {
		var frame [ws.MaxControlFramePayloadSize + 2]byte
		in.t.push(in.id, in.r, AppendFrame(frame[:0], ws.OpPong, payload))
	}
	return in.r.state == stateOpen
}

func (in *inboundTo) closed(code ws.StatusCode, _ []byte) {
	in.t.closedByClient(in.id, in.r, code)
}
