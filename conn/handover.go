package conn

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/gobwas/ws"
	"github.com/valyala/bytebufferpool"

	"github.com/pushd/pushd/poller"
)

// A connection can be given to another process, which has a duplicate of its
// socket. What a table knows of it leaves as a Carried, which has no pointer into
// the table but the bytes that wait, and another table makes the connection of
// it in the same slot and generation, by which its client is called.
//
// Export changes nothing, so that a table whose connections nobody took goes on
// as if it had not been asked. Abandon is what gives a connection up.

// Stage is how far a connection that is carried has come.
type Stage uint8

const (
	StageArriving Stage = iota // its PROXY header is being read
	StageIdle                  // a request was answered, and the next is awaited
	StageRequest               // the head of a request is being read
	StageOpen                  // a WebSocket or a stream
	numStages
)

var stateOf = [numStages]state{StageArriving: stateArriving, StageIdle: stateIdle, StageRequest: stateHandshake, StageOpen: stateOpen}

// stage is how far a connection has come. Without ok it cannot be carried now.
func (s state) stage() (Stage, bool) {
	at := slices.Index(stateOf[:], s)
	return Stage(max(at, 0)), at >= 0
}

// Carried is one connection without its socket. Byte slices are views of the
// table that exported it, valid until its loop goes on. Durations are times that
// have passed.
type Carried struct {
	ID        poller.Token
	Stage     Stage
	Stream    bool // a GET and no WebSocket
	Deflates  bool // permessage-deflate was negotiated
	Adopted   bool // it came by Adopt
	Proxied   bool // its socket is a proxy's
	Unlimited bool // limits do not concern its address
	Ended     bool // the other side has said its last
	Paced     bool // nothing but pings and pongs went over it since the last ping

	Again   bool         // it has had an answer, and what is read is another request
	Served  netip.Prefix // of a proxy's, between requests: whom the last was made for; not valid: nobody
	Client  netip.Addr   // while requests are read: whose connection it is, where that is not the socket's address
	Network netip.Prefix // as which the gate counts it; not valid: it is not counted
	Heard   uint32       // bytes and frames that Config.ByteRate has not forgiven

	SinceReceived time.Duration
	SinceSent     time.Duration
	Pinged        bool // no sign of life has followed

	Unsent       []byte // what the socket did not take
	Waits        bool   // room in the socket is waited for
	SinceStalled time.Duration
	Blocked      bool // the handler is owed a Drained

	Head      []byte // what has come of a request, or with Backlog, frames that wait
	Backlog   bool
	Throttled bool
	Partial   Partial
}

// Partial is a message of which a part has come. The zero value is none.
type Partial struct {
	Header   []byte // of a frame, cut
	InFrame  bool
	Frame    ws.Header // with InFrame
	Missing  int       // bytes of its payload still to come
	Control  []byte    // payload so far of a control frame
	Op       ws.OpCode // of the data message under way; 0: none
	Deflated bool
	Body     []byte // payload so far of the data message
	Valid    int    // bytes of Body that are known to be UTF-8
}

// Freeze has the table read and accept no more until Thaw: what comes waits in
// the kernel, and what Adopt is given in the table. What is due to clients is sent,
// and who is late with what it sends is not late until Thaw. The poller tells
// of what waits again and again, so this is for the moment before Export.
func (t *Table) Freeze() {
	if !t.frozen {
		t.frozen, t.frozenAt = true, t.loop.Now()
	}
}

// Frozen says for how many ticks the table has been frozen, if it is.
func (t *Table) Frozen() (ticks uint32, frozen bool) {
	if !t.frozen {
		return 0, false
	}
	return t.loop.Now() - t.frozenAt, true
}

// Thaw undoes Freeze and Lend.
func (t *Table) Thaw() {
	ticks, _ := t.Frozen()
	for _, l := range []*dueList{&t.deadlines.handshake, &t.deadlines.idle, &t.deadlines.lingering} {
		l.postpone(ticks)
	}
	t.frozen, t.lending = false, false
	t.resumeParked()
	for slot := range t.slab.next {
		if r := t.slab.at(slot); r.state == stateOpen && r.pinged != 0 {
			r.pinged = max(t.loop.Now(), 1) // the pong may wait in the kernel
		}
	}
	t.goOnInLine()
}

// Export says what is to be known of a connection to go on with it elsewhere,
// and its socket, which stays the table's. Without ok it has to stay: it is
// ending, its response is still to come, or it has TLS.
func (t *Table) Export(id poller.Token) (c Carried, fd int, ok bool) {
	r := t.live(id)
	if r == nil || t.secures != nil {
		return c, -1, false
	}
	t.settle(r)
	stage, ok := r.state.stage()
	if !ok || id.Slot() == t.corked {
		return c, -1, false
	}
	now := t.loop.Now()
	since := func(tick uint32) time.Duration { return time.Duration(now-tick) * t.loop.TickLength() }
	has := func(f flags) bool { return r.flags&f != 0 }
	c = Carried{
		ID: id, Stage: stage, Stream: has(flagStream), Deflates: has(flagDeflates), Adopted: has(flagAdopted), Proxied: has(flagProxied),
		Unlimited: has(flagUnlimited), Ended: has(flagEnded), Paced: has(flagPaced), Heard: r.heard,
		SinceReceived: since(r.received), SinceSent: since(r.sent), Pinged: r.pinged != 0,
		Waits: has(flagWriteWatch), Blocked: has(flagBlocked), Backlog: has(flagBacklog), Throttled: has(flagThrottled),
		Again: has(flagAgain), Served: t.served[id.Slot()],
	}
	if r.visit != 0 {
		c.Network = t.cfg.Gate.Network(r.visit)
	}
	if r.side == 0 {
		return c, int(r.fd), true
	}
	s := t.sides.all[r.side]
	c.Client, c.Partial = s.client, s.decoder.carry()
	if c.Waits {
		c.SinceStalled = since(s.stalled)
	}
	if s.head != nil {
		c.Head = s.head.B
	}
	c.Unsent = s.shared
	if s.own != nil {
		c.Unsent = append(c.Unsent[:len(c.Unsent):len(c.Unsent)], s.own.B[s.ownSent:]...)
	}
	return c, int(r.fd), true
}

// Abandon forgets a connection that another process goes on with. Its socket is
// closed here and nowhere else, and the handler is told nothing.
func (t *Table) Abandon(id poller.Token) {
	r := t.live(id)
	if r == nil {
		return
	}
	t.forget(r)
	if r.flags&flagUpgraded != 0 {
		t.tally.open--
		t.cfg.Quota.closed()
	}
	t.answerLeft(id.Slot())
	t.dropSide(r)
	t.cfg.Gate.Leave(r.visit)
	delete(t.served, id.Slot())
	t.loop.CloseFD(int(r.fd))
	t.slab.free(id.Slot())
	t.cfg.Quota.release()
}

// Generation is the highest that a slot of the table has had.
func (t *Table) Generation() (most uint32) {
	for slot := range t.slab.next {
		most = max(most, t.slab.at(slot).generation)
	}
	return most
}

// Reserve is to be called before Import, of a table that has had no connection,
// and Settle after the last.
// What was exported is in slots below that number, and in generations of no more
// than that, or one more where an answer has left since: whoever comes later is
// called by other names.
func (t *Table) Reserve(slots, generation uint32) {
	generation = generation%lastGeneration + 1
	for s := &t.slab; s.next < slots; s.next++ {
		if s.next>>pageBits == uint32(len(s.pages)) {
			s.pages = append(s.pages, new([pageSize]record))
		}
		s.pages[s.next>>pageBits][s.next%pageSize] = record{fd: -1, generation: generation}
	}
}

// ErrCarried refuses a Carried that no table exports.
var ErrCarried = errors.New("conn: a connection that was handed over makes no sense")

// Borrowed stands for the socket that Borrow has.
const Borrowed = -1

// Import has the table go on with a connection. The socket is the table's from
// here on, an error included. The handler is not asked, and has to know of the
// connection already; it is told of what follows.
func (t *Table) Import(c *Carried, fd int) error {
	borrowed := fd == Borrowed
	if borrowed {
		var ok bool
		if fd, ok = t.borrowed[c.ID]; !ok {
			return fmt.Errorf("%w: its socket was not lent", ErrCarried)
		}
	}
	if err := t.install(c, fd); err != nil {
		if !borrowed { // else it is given back with the others
			closeFD(fd)
		}
		return err
	}
	return t.watchCarried(c, fd, borrowed)
}

// install makes the record of an imported connection.
func (t *Table) install(c *Carried, fd int) error {
	d, ok := c.Partial.restore()
	if !ok || c.Stage >= numStages || t.secures != nil || c.Backlog && len(c.Head) == 0 || c.ID.Generation() == 0 || c.ID.Generation() > lastGeneration {
		return ErrCarried
	}
	if !t.slab.takeBack(c.ID, fd) {
		return fmt.Errorf("%w: slot %d is not free", ErrCarried, c.ID.Slot())
	}
	r := t.slab.at(c.ID.Slot())
	now := t.loop.Now()
	before := func(d time.Duration) uint32 { return now - uint32(max(d, 0)/t.loop.TickLength()) }
	r.state = stateOf[c.Stage]
	r.received, r.sent, r.heard = before(c.SinceReceived), before(c.SinceSent), c.Heard
	if c.Pinged {
		r.pinged = max(now, 1) // the pong may wait in the kernel
	}
	for _, f := range [...]struct {
		flag flags
		is   bool
	}{
		{flagStream, c.Stream}, {flagDeflates, c.Deflates}, {flagAdopted, c.Adopted}, {flagProxied, c.Proxied}, {flagUnlimited, c.Unlimited},
		{flagEnded, c.Ended}, {flagPaced, c.Paced}, {flagBlocked, c.Blocked}, {flagBacklog, c.Backlog}, {flagThrottled, c.Throttled}, {flagAgain, c.Again},
	} {
		if f.is {
			r.flags |= f.flag
		}
	}
	if c.Network.IsValid() {
		r.visit, _ = t.cfg.Gate.Enter(c.Network.Addr(), false)
	}
	t.cfg.Quota.sockets.Add(1)
	if c.Served.IsValid() {
		t.rememberServed(c.ID.Slot(), c.Served)
	}
	t.putSide(r, c, d)
	t.listCarried(c, r)
	return nil
}

// watchCarried has an imported connection's socket watched for what it awaits.
func (t *Table) watchCarried(c *Carried, fd int, borrowed bool) error {
	r := t.slab.at(c.ID.Slot())
	watch := poller.IgnoreHalfClose
	if !c.Throttled && !c.Backlog && !c.pipelined() && len(c.Unsent) <= keepReading {
		watch = poller.Readable
	} else {
		r.flags |= flagReadPaused
	}
	if c.Waits || c.Blocked || len(c.Unsent) > 0 {
		watch |= poller.Writable
		r.flags |= flagWriteWatch
		t.sideOf(r).stalled = t.loop.Now() - uint32(max(c.SinceStalled, 0)/t.loop.TickLength())
		t.listStalled(c.ID, r)
	}
	var err error
	switch {
	case !borrowed:
		err = t.loop.Add(fd, c.ID, watch)
	case watch != poller.Readable:
		err = t.loop.Modify(fd, c.ID, watch)
	}
	delete(t.borrowed, c.ID)
	if err != nil {
		t.Abandon(c.ID)
		return fmt.Errorf("conn: taking over a connection: %w", err)
	}
	return nil
}

// putSide gives an imported connection what only few have.
func (t *Table) putSide(r *record, c *Carried, d decoder) {
	if d.idle() && len(c.Head) == 0 && len(c.Unsent) == 0 && !c.Client.IsValid() {
		return
	}
	s := t.sideOf(r)
	s.decoder, s.client = d, c.Client
	if len(c.Head) > 0 {
		s.head = &bytebufferpool.ByteBuffer{B: append([]byte(nil), c.Head...)}
	}
	if len(c.Unsent) > 0 {
		s.appendOwn(c.Unsent)
	}
	t.countReceived(r)
}

// listCarried has what is due to an imported connection come about.
func (t *Table) listCarried(c *Carried, r *record) {
	now := t.loop.Now()
	switch {
	case c.Stage == StageOpen:
		r.flags |= flagUpgraded
		t.tally.open++
		t.cfg.Quota.opened()
	case c.Stage == StageIdle:
		r.flags |= flagToldClosed
		t.deadlines.idle.add(c.ID, now+t.ticks.idle)
		if id := c.ID; c.pipelined() { // c is the caller's again by then
			t.loop.Post(poller.Func(func() { t.readBehind(id) }))
		}
	default:
		t.deadlines.handshake.add(c.ID, now+t.ticks.handshake)
	}
	if c.Throttled {
		t.deadlines.throttled.add(c.ID, now+1)
	}
	if c.Backlog && !c.Throttled {
		t.lineUp(c.ID)
	}
}

// pipelined reports whether another request came behind one that was answered, and
// has not been looked at.
func (c *Carried) pipelined() bool { return c.Stage == StageIdle && len(c.Head) > 0 }

// takeBack gives out one slot with one generation, if it is free.
func (s *slab) takeBack(id poller.Token, fd int) bool {
	r := s.at(id.Slot())
	if r == nil || r.state != stateFree || r.fd != -1 {
		return false
	}
	*r = record{fd: int32(fd), generation: id.Generation()}
	s.used++
	return true
}

// Settle ends the imports: slots that nobody came back to are for anybody, and
// sockets that nobody came for are closed.
func (t *Table) Settle() {
	t.giveBack()
	t.slab.spare = t.slab.spare[:0]
	for slot := t.slab.next; slot > 0; slot-- {
		if t.slab.at(slot-1).state == stateFree {
			t.slab.spare = append(t.slab.spare, slot-1) // the lowest is given out first
		}
	}
	t.publishStats()
}

// carry returns views of what a decoder keeps.
func (d *decoder) carry() Partial {
	p := Partial{InFrame: d.inFrame, Missing: d.missing, Op: d.op, Deflated: d.deflated, Valid: d.valid}
	if d.headLen > 0 {
		p.Header = d.head[:d.headLen]
	}
	if d.inFrame {
		p.Frame = d.frame
	}
	if d.control != nil {
		p.Control = d.control.B
	}
	if d.body != nil {
		p.Body = d.body.B
	}
	return p
}

// mostPartial is beyond any limit of messages. What the table that exported a
// message allowed of it is good: its client has done nothing wrong.
const mostPartial = 1 << 30

// restore makes a decoder that keeps copies of it, if there can be such a one.
func (p *Partial) restore() (d decoder, ok bool) {
	const most = mostPartial
	so := len(p.Control)
	if !p.Frame.OpCode.IsControl() {
		so = int(p.Frame.Length) - p.Missing
	}
	switch {
	case len(p.Header) >= ws.MaxHeaderSize || len(p.Header) > 0 && p.InFrame,
		p.Missing < 0 || p.Missing > most || !p.InFrame && p.Missing > 0,
		p.InFrame && (p.Frame.Length < 0 || p.Frame.Length > int64(most) || int64(p.Missing) > p.Frame.Length || so+p.Missing != int(p.Frame.Length)),
		p.InFrame && !p.Frame.OpCode.IsControl() && (p.Op == 0 || so > len(p.Body)),
		len(p.Control) > ws.MaxControlFramePayloadSize || len(p.Control) > 0 && !(p.InFrame && p.Frame.OpCode.IsControl()),
		p.Op != 0 && p.Op != ws.OpText && p.Op != ws.OpBinary,
		p.Op == 0 && len(p.Body) > 0,
		len(p.Body)+p.Missing > most && !p.Frame.OpCode.IsControl(),
		p.Valid < 0 || p.Valid > len(p.Body):
		return d, false
	}
	d = decoder{inFrame: p.InFrame, frame: p.Frame, missing: p.Missing, op: p.Op, deflated: p.Deflated, valid: p.Valid}
	d.headLen = copy(d.head[:], p.Header)
	keep := func(b []byte) *bytebufferpool.ByteBuffer {
		if len(b) == 0 {
			return nil
		}
		kept := getBuffer(len(b))
		kept.Write(b)
		return kept
	}
	d.control, d.body = keep(p.Control), keep(p.Body)
	return d, true
}
