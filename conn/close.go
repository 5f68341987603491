package conn

import (
	"github.com/gobwas/ws"

	"github.com/pushd/pushd/poller"
)

// Close ends a connection with the close frame of a reason, or what
// Config.LastWords has for it, behind what waits for its socket already, and waits
// a bounded time for the other side's end. A reason that is told to nobody, and a
// connection that is not open yet, end without a word.
func (t *Table) Close(id poller.Token, why Reason) {
	r := t.live(id)
	if r == nil || r.state >= stateClosing {
		return
	}
	if r.state == stateAnswered {
		t.beginClosing(id, r, why) // behind the answer
		return
	}
	code := why.Code()
	if code == 0 || r.state != stateOpen {
		t.doom(id, r, why)
		return
	}
	if r.flags&flagStream != 0 {
		t.startClosing(id, r, why, t.lastWords(why))
		return
	}
	var frame [ws.MaxControlFramePayloadSize + 2]byte
	t.startClosing(id, r, why, AppendClose(frame[:0], code, why.String()))
}

// CloseAll closes every connection for one reason.
func (t *Table) CloseAll(why Reason) {
	for slot := range t.slab.next {
		if r := t.slab.at(slot); r.state != stateFree {
			t.Close(poller.NewToken(slot, r.generation), why)
		}
	}
}

// startClosing sends the last that this connection will get.
// RFC 6455 5.5.1: nothing is sent after a close frame.
func (t *Table) startClosing(id poller.Token, r *record, why Reason, last []byte) {
	if len(last) > 0 {
		r.flags |= flagLast
		if t.push(id, r, last); r.state == stateDead {
			return
		}
	}
	t.beginClosing(id, r, why)
}

// beginClosing is for a connection that has been given the last of what it will get.
func (t *Table) beginClosing(id poller.Token, r *record, why Reason) {
	r.state, r.why = stateClosing, why
	t.dying = append(t.dying, dying{id, why})
	if id.Slot() != t.corked { // else uncork goes on
		t.closeOurSide(id, r)
	}
}

// closeOurSide shuts down our half once the last byte has been taken.
// RFC 6455 7.1.1: the server closes first, and reads on for a while, because a
// plain close with unread input would send a reset that destroys what is in flight.
// Where the other side has said its last, there is nothing to wait for.
func (t *Table) closeOurSide(id poller.Token, r *record) {
	if r.state != stateClosing {
		return
	}
	if t.sealEnd(id, r); r.state == stateDead {
		return
	}
	if t.unsent(r) > 0 {
		t.deadlines.flushing.add(id, t.loop.Now()+t.ticks.closing)
		if r.why == ReasonAnswered {
			t.keepAnswer(id, r)
		}
		return
	}
	if r.flags&flagEnded != 0 {
		t.doom(id, r, r.why)
		return
	}
	r.state = stateLingering
	halfClose(int(r.fd))
	t.deadlines.lingering.add(id, t.loop.Now()+t.ticks.linger)
}

// refuse answers a request with HTTP and ends the connection. Before there is
// TLS where it is wanted, no answer could be read.
func (t *Table) refuse(id poller.Token, r *record, refused *Refusal, why Reason) {
	if !t.isSecured(id.Slot()) {
		t.doom(id, r, why)
		return
	}
	t.startClosing(id, r, why, appendRefusal(nil, refused))
	t.trimHead(r)
}

// closedByClient answers a close frame with its own code (RFC 6455 5.5.1).
func (t *Table) closedByClient(id poller.Token, r *record, code ws.StatusCode) {
	var frame [4]byte
	if code == ws.StatusNoStatusRcvd {
		t.startClosing(id, r, ReasonClientClosed, AppendFrame(frame[:0], ws.OpClose, nil))
		return
	}
	t.startClosing(id, r, ReasonClientClosed, AppendClose(frame[:0], code, ""))
}
