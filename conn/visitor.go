package conn

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/pushd/pushd/internal/gate"
	"github.com/pushd/pushd/internal/via"
	"github.com/pushd/pushd/poller"
)

// A client's address is learnt in up to three steps. The socket has one. If that
// is a proxy of Config.ProxyProtocol, the first bytes say whose connection it is.
// If the address by then is one of Config.TrustForwarded, the request says whom
// it was made for. The gate is asked once, as soon as nothing can follow that
// says otherwise, so that what is too much costs as little as possible.

// admit gives a new socket a record, unless its address has too many.
func (t *Table) admit(fd int, from netip.Addr) {
	begins, v, f, why := t.knock(from)
	if why != ReasonNone {
		t.stats.refused[why].Add(1)
		t.dismiss(fd, t.cannedAnswer(why, from))
		return
	}
	if !t.cfg.Quota.take() {
		t.cfg.Gate.Leave(v)
		t.turnAway(fd, overloaded)
		return
	}
	if _, r := t.adopt(fd, f); r != nil {
		r.state, r.visit = begins, v
	} else {
		t.cfg.Gate.Leave(v)
	}
}

// knock asks the gate about a new socket, if its address is the client's, and says
// what is read of it first.
func (t *Table) knock(from netip.Addr) (state, gate.Visit, flags, Reason) {
	switch {
	case t.cfg.ProxyProtocol.Contains(from):
		return stateArriving, 0, 0, ReasonNone
	case t.cfg.TrustForwarded.Contains(from):
		return stateHandshake, 0, 0, ReasonNone
	case t.cfg.Gate.Unlimited(from, false):
		return stateHandshake, 0, flagUnlimited, ReasonNone
	}
	v, verdict := t.cfg.Gate.Enter(from, true)
	return stateHandshake, v, 0, reasonOfVerdict(verdict)
}

func reasonOfVerdict(v gate.Verdict) Reason {
	switch v {
	case gate.TooMany:
		return ReasonAddressFull
	case gate.TooFast:
		return ReasonAddressRate
	}
	return ReasonNone
}

// enter has the gate count a connection for the client that it is found to be
// made for. Whose it is by what a proxy says is counted also if it is not
// limited, to be shown. claim is what its request says of it: who is only not
// believed has the proxy's address, and not what the proxy may.
func (t *Table) enter(r *record, client netip.Addr, proxied bool, claim via.Claim, again bool) Reason {
	if proxied = proxied || claim == via.Named; proxied {
		r.flags |= flagProxied
	}
	unlimited := claim != via.Unbelieved && t.cfg.Gate.Unlimited(client, proxied)
	if unlimited {
		r.flags |= flagUnlimited
	}
	if unlimited && !proxied {
		return ReasonNone
	}
	enter := t.cfg.Gate.Enter
	if again {
		enter = t.cfg.Gate.Return
	}
	v, verdict := enter(client, !unlimited)
	r.visit = v
	return reasonOfVerdict(verdict)
}

// leaveForNow has the gate not count a proxy's connection while it waits for
// another request, which may be somebody else's.
func (t *Table) leaveForNow(slot uint32, r *record) {
	delete(t.served, slot)
	if r.visit == 0 {
		return
	}
	t.rememberServed(slot, t.cfg.Gate.Network(r.visit))
	t.cfg.Gate.Leave(r.visit)
	r.visit = 0
}

func (t *Table) rememberServed(slot uint32, client netip.Prefix) {
	if t.served == nil {
		t.served = make(map[uint32]netip.Prefix)
	}
	t.served[slot] = client
}

// servedBefore reports whether a proxy's connection was last used for the same
// client: then it is no new connection of it.
func (t *Table) servedBefore(slot uint32, client netip.Addr) bool {
	last, ok := t.served[slot]
	delete(t.served, slot)
	return ok && last.Contains(client.Unmap().WithZone(""))
}

// arrive is for a connection whose client is known before its request has been
// read; not valid: it is the socket's own. It answers false where the connection
// was refused.
func (t *Table) arrive(id poller.Token, r *record, client netip.Addr) bool {
	proxied := client.IsValid()
	if proxied {
		t.sideOf(r).client = client
	} else {
		client = addressOf(int(r.fd))
	}
	if t.cfg.TrustForwarded.Contains(client) {
		return true // the request says more
	}
	if why := t.enter(r, client, proxied, via.Silent, false); why != ReasonNone {
		t.refuse(id, r, t.refusalOf(why, client), why)
		return false
	}
	return true
}

// behindProxyHeader returns what came behind the PROXY header that a connection
// has to begin with: nothing where it is not complete, or was refused.
func (t *Table) behindProxyHeader(id poller.Token, r *record, p []byte) (rest []byte) {
	cut := r.side != 0 && t.sides.all[r.side].head != nil
	if cut {
		b := t.sides.all[r.side].head
		b.Write(p)
		p = b.B
	}
	client, size, err := via.ReadProxy(p)
	switch {
	case err != nil && isToken[p[0]]: // an HTTP request, most likely
		t.refuse(id, r, badRequest(err.Error()+" (--proxy-protocol)"), ReasonProxyHeader)
		return nil
	case err != nil:
		t.doom(id, r, ReasonProxyHeader)
		return nil
	case size == 0:
		if !cut {
			s := t.sideOf(r)
			s.head = getBuffer(len(p))
			s.head.Write(p)
		}
		return nil
	}
	r.state = stateHandshake
	rest = p[size:]
	if cut { // no longer than a read, so it fits where reads go to
		rest = t.buf[:copy(t.buf, rest)]
		t.sides.all[r.side].dropHead()
	}
	if !t.arrive(id, r, client) {
		return nil
	}
	return rest
}

// clientOf is whose a connection is before its request has been read. proxied:
// a PROXY header has said so, else it is the socket's own.
func (t *Table) clientOf(r *record) (client netip.Addr, proxied bool) {
	if r.side != 0 {
		if client = t.sides.all[r.side].client; client.IsValid() {
			return client, true
		}
	}
	return addressOf(int(r.fd)), false
}

// vet says of a valid request for an upgrade who makes it, and refuses it where
// that is one too many.
func (t *Table) vet(id poller.Token, r *record, head []byte, q *Request) (*Refusal, Reason) {
	client, proxied := t.clientOf(r)
	if q.Operator = r.flags&flagOperator != 0; q.Operator {
		q.Address, q.Unlimited = client, true
		return nil, ReasonNone
	}
	q.Again = r.flags&flagAgain != 0
	if t.cfg.TrustForwarded.Contains(client) {
		var claim via.Claim
		client, claim = forwardedOf(head).Client(client, t.cfg.TrustForwarded)
		q.Again = t.servedBefore(id.Slot(), client)
		if why := t.enter(r, client, proxied, claim, q.Again); why != ReasonNone {
			return t.refusalOf(why, client), why
		}
	}
	q.Address, q.Unlimited = client, r.flags&flagUnlimited != 0
	s := t.secureOf(id.Slot())
	asked := s != nil && s.asked
	if !q.Unlimited && !asked {
		if wait := t.cfg.Gate.Handshake(); wait > 0 {
			return t.refusalOfRate(wait), ReasonHandshakeRate
		}
	}
	return nil, ReasonNone
}

// forwardedOf finds the lines of a complete head that say whom a request was
// made for. They are views of it.
func forwardedOf(head []byte) (h via.Headers) {
	lines := headLines{rest: head}
	lines.next()
	for {
		line, ok := lines.next()
		if !ok {
			return h
		}
		name, value, _ := splitField(line)
		switch {
		case equalFold(name, "x-forwarded-for"):
			h.ForwardedFor = append(h.ForwardedFor, view(value))
		case equalFold(name, "forwarded"):
			h.Forwarded = append(h.Forwarded, view(value))
		}
	}
}

// retryAddressFull is when to try again where an address has all that it may have.
const retryAddressFull = 10 * time.Second

// refusalOfRate is what a client is told beyond --handshake-rate: such are many, and
// come back at the time they are told, so the gate has another for each.
func (t *Table) refusalOfRate(wait time.Duration) *Refusal {
	return &Refusal{Status: 503, Code: "unavailable", RetryAfter: wait,
		Message: fmt.Sprintf("too many new connections: at most %d a second are taken (--handshake-rate)", t.cfg.Gate.Limits().HandshakeRate)}
}

// refusalOf is what a client is told whose address has too much.
func (t *Table) refusalOf(why Reason, client netip.Addr) *Refusal {
	if why == ReasonAddressFull {
		return t.refusalOfAddress(why, client, retryAddressFull)
	}
	return t.refusalOfAddress(why, client, t.cfg.Gate.Again(client))
}

// refusalOfAddress is for anybody where client is not valid.
func (t *Table) refusalOfAddress(why Reason, client netip.Addr, wait time.Duration) *Refusal {
	whose, limits := "this address", t.cfg.Gate.Limits()
	if client.IsValid() {
		whose = client.String()
	}
	message := fmt.Sprintf("too many new connections from %s: at most %d a second (--connection-rate-per-address)", whose, limits.ConnectionRate)
	if why == ReasonAddressFull {
		message = fmt.Sprintf("too many connections from %s: at most %d (--max-connections-per-address)", whose, limits.Connections)
	}
	return &Refusal{Status: 429, Code: "rate_limited", RetryAfter: wait, Message: message}
}

// canned is an answer that is sent very often, and made once a second, for its Date.
type canned struct {
	bytes  []byte
	second uint32
}

// cannedAnswer is the response for a socket that is refused as it comes.
func (t *Table) cannedAnswer(why Reason, client netip.Addr) []byte {
	c, wait := &t.full, retryAddressFull
	if why == ReasonAddressRate {
		wait = t.cfg.Gate.Again(client)
		c = &t.tooFast[(wait+time.Second-1)/time.Second]
	}
	if second := uint32(time.Duration(t.loop.Now()) * t.loop.TickLength() / time.Second); c.bytes == nil || c.second != second {
		c.bytes, c.second = appendRefusal(c.bytes[:0], t.refusalOfAddress(why, netip.Addr{}, wait)), second
	}
	return c.bytes
}

// Handed is what belongs to a socket that leaves by Handler.NotUpgrade, and may
// come back by Adopt.
type Handed struct {
	Client    netip.Addr // whose it is by a PROXY header, else the socket's own address
	Visit     gate.Visit // what the gate counts it as; the handler has it leave. 0: it is not counted
	Unlimited bool       // limits do not concern Client
	TLS       *Secured   // nil: none
	Operator  bool       // it is of who runs the server, and neither the quota nor the gate concern it; it has no TLS
}

func (t *Table) handedOf(id poller.Token, r *record) Handed {
	h := Handed{Visit: r.visit, Unlimited: r.flags&flagUnlimited != 0, TLS: t.detach(id.Slot())}
	h.Client, _ = t.clientOf(r)
	return h
}

// networkOf is whose a proxied connection is, as far as that is kept.
func (t *Table) networkOf(r *record) netip.Prefix {
	if r.flags&flagProxied == 0 || r.visit == 0 {
		return netip.Prefix{}
	}
	return t.cfg.Gate.Network(r.visit)
}
