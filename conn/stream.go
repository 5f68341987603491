package conn

import (
	"bytes"

	"github.com/pushd/pushd/poller"
)

// A GET of a path that Config.Claims is served here too, without net/http and
// without a goroutine. It becomes a stream, whose response ends with the
// connection: what is sent goes out as it is, a heartbeat is Config.Beat, and of
// its end Config.LastWords tells. Or it is answered: now, or after it was held
// and awaited for as long as the handler likes; and then the connection may go on
// with another request, of any kind. To the handler each request is a connection
// of its own, with its own Closed.

// maxBehind bounds what may follow a request that is no upgrade: of an answered one
// it is the next request, of a stream it is ignored.
const maxBehind = 4 << 10

// claims reports whether a complete head is a GET of a path that is for Handler.Get.
func (t *Table) claims(head []byte) bool {
	if t.cfg.Claims == nil {
		return false
	}
	line, _, _ := bytes.Cut(head, []byte{'\n'})
	target, ok := bytes.CutPrefix(line, []byte("GET "))
	if !ok {
		return false
	}
	target, _, _ = bytes.Cut(bytes.TrimSuffix(target, []byte{'\r'}), []byte{' '})
	path, _, _, ok := splitTarget(target)
	return ok && t.cfg.Claims(view(path))
}

// get asks the handler about a GET. rest came behind it.
func (t *Table) get(id poller.Token, r *record, head, rest []byte) {
	request, refused := t.shaker.get(head)
	if refused != nil {
		t.refuse(id, r, refused, ReasonHandshakeRefused)
		return
	}
	if refused, why := t.vetGet(id, r, head, rest, request); refused != nil {
		t.refuse(id, r, t.forPages(refused, request), why)
		return
	}
	r.flags |= flagStream
	r.heard = uint32(len(rest))
	t.cork(id)
	if refused = t.handler.Get(id, request); refused != nil {
		t.dropCork()
		t.refuse(id, r, refused, ReasonHandshakeRefused)
		return
	}
	if r.state == stateHeld && t.cfg.RefusalHeader != nil {
		if t.pages == nil {
			t.pages = make(map[uint32]string)
		}
		t.pages[id.Slot()] = t.cfg.RefusalHeader(request.Origin, request.Host)
	}
	t.accepted(id, r, rest)
}

// vetGet refuses a valid GET that is one too many, or that too much follows.
func (t *Table) vetGet(id poller.Token, r *record, head, rest []byte, q *Request) (*Refusal, Reason) {
	switch {
	case !t.cfg.Quota.admits():
		return overloaded, ReasonOverloaded
	case len(rest) > maxBehind:
		return badRequest("too much follows this request"), ReasonHandshakeRefused
	}
	if s := t.secureOf(id.Slot()); s != nil {
		q.Certificate = s.certificate()
	}
	return t.vet(id, r, head, q)
}

// forPages lets the page that made a request see its refusal, which others share.
func (t *Table) forPages(refused *Refusal, q *Request) *Refusal {
	if t.cfg.RefusalHeader == nil {
		return refused
	}
	own := *refused
	own.Header = t.cfg.RefusalHeader(q.Origin, q.Host)
	return &own
}

// forHeldPages is forPages for a request that is held, whose head is gone.
func (t *Table) forHeldPages(refused *Refusal, id poller.Token) *Refusal {
	own := *refused
	own.Header = t.pages[id.Slot()]
	return &own
}

// lastWords is what a stream is sent before it is closed.
func (t *Table) lastWords(why Reason) []byte {
	if t.cfg.LastWords == nil {
		return nil
	}
	return t.cfg.LastWords(nil, why)
}

// Await has a request of Handler.Get wait for Answer, or Refuse, as long as that
// may take: unlike Hold it has no deadline. It is called by Get, or after Hold. A
// client that leaves meanwhile is Closed.
func (t *Table) Await(id poller.Token) {
	r := t.live(id)
	if r != nil && r.flags&flagStream != 0 && (r.state == stateHandshake || r.state == stateHeld) {
		r.state = stateAwaiting
	}
}

// Answer is the whole response to a request of Handler.Get, from its status line
// to the end of its body. It may be called by Get, and after Hold or Await; what
// was replied with before is forgotten. With keep the connection reads another
// request when the response has left: Closed is told of this one (ReasonAnswered),
// and the next has another id. Else it ends. The bytes are copied.
func (t *Table) Answer(id poller.Token, response []byte, keep bool) {
	r := t.live(id)
	if r == nil || r.flags&flagStream == 0 || r.state != stateHandshake && !r.state.held() {
		return
	}
	within := id.Slot() == t.corked // Get, which goes on with it
	t.dropHeld(id, r)
	r.state = stateHandshake
	if !keep || t.stopped || r.flags&flagEnded != 0 {
		t.startClosing(id, r, ReasonAnswered, response)
		if !within {
			t.trimHead(r)
			if r.state != stateDead {
				t.watch(id, r, true, r.flags&flagWriteWatch != 0)
			}
		}
		return
	}
	r.state = stateAnswered
	if t.push(id, r, response); !within && r.state != stateDead {
		t.answered(id, r)
	}
}

// answered ends a request whose answer has left, or waits until it has.
func (t *Table) answered(id poller.Token, r *record) {
	switch {
	case r.state != stateAnswered:
	case t.unsent(r) > 0:
		t.watch(id, r, false, true)
		t.keepAnswer(id, r)
	default:
		t.dying = append(t.dying, dying{id, ReasonAnswered})
	}
}

// renew has a connection whose request was answered read another. It has another
// id from here on, so that nothing that is still under way for the last one can
// reach the next.
func (t *Table) renew(old poller.Token, r *record) {
	if len(t.cfg.TrustForwarded) > 0 {
		if client, _ := t.clientOf(r); t.cfg.TrustForwarded.Contains(client) { // the next request may be somebody else's
			t.leaveForNow(old.Slot(), r)
			r.flags &^= flagUnlimited | flagProxied
		}
	}
	r.flags &= flagUnlimited | flagProxied
	r.flags |= flagAgain | flagToldClosed // until there is a request there is nothing to tell of
	r.generation = r.nextGeneration()
	r.heard, r.pinged = 0, 0
	id := poller.NewToken(old.Slot(), r.generation)

	watch := poller.Readable
	pipelined := r.side != 0 && t.sides.all[r.side].head != nil
	if r.state = stateIdle; pipelined { // read it first, and not here, where connections end
		watch = poller.IgnoreHalfClose
		r.flags |= flagReadPaused
		t.loop.Post(poller.Func(func() { t.readBehind(id) }))
	}
	t.deadlines.idle.add(id, t.loop.Now()+t.ticks.idle)
	err := t.loop.Remove(int(r.fd))
	if err == nil {
		err = t.loop.Add(int(r.fd), id, watch)
	}
	if err != nil {
		t.cfg.Log.Error("poller refused a socket", "fd", r.fd, "err", err)
		t.doom(id, r, ReasonInternal)
	}
}

// readBehind begins with a request that came right behind another.
func (t *Table) readBehind(id poller.Token) {
	r := t.live(id)
	if r == nil {
		return
	}
	if t.frozen { // its answer, too, would be one more generation
		t.parked = append(t.parked, func() { t.readBehind(id) })
		return
	}
	t.watch(id, r, true, false)
	s := t.sides.all[r.side]
	b := s.head
	s.head = nil // shake keeps what it needs
	t.trimSide(r)
	if r.state != stateDead {
		t.request(id, r, b.B)
	}
	putBuffer(b)
}

// request goes on with the head of a request, or begins with another. A client that
// has begun has to go on, as after its connection was accepted.
func (t *Table) request(id poller.Token, r *record, p []byte) {
	if r.state == stateIdle {
		r.state = stateHandshake
		r.flags &^= flagToldClosed
		t.deadlines.handshake.add(id, t.loop.Now()+t.ticks.handshake)
	}
	t.shake(id, r, p)
}
