package conn

import (
	"crypto/tls"
	"net"

	"github.com/pushd/pushd/poller"
)

// Secured is the TLS of a connection that has left its table for net/http, and
// may come back by Adopt.
type Secured struct {
	secure *secure
}

// Over has TLS go on over a net.Conn of the socket, for any goroutine. What was
// read before is not repeated.
func (c *Secured) Over(under net.Conn) *tls.Conn {
	c.secure.pipe.under = under
	return c.secure.tls
}

// Last encrypts the last that a client gets, for a handler that answers within
// NotUpgrade. The result is valid during that call.
func (c *Secured) Last(p []byte) []byte {
	s := c.secure
	t := s.pipe.table
	t.sealed = t.sealed[:0]
	if _, err := s.tls.Write(p); err != nil {
		return nil // its end has been sent
	}
	if err := s.tls.CloseWrite(); err != nil {
		return nil
	}
	return t.sealed
}

// detach takes the TLS out of a connection that leaves; nil: it has none.
func (t *Table) detach(slot uint32) *Secured {
	s := t.secureOf(slot)
	if s == nil {
		return nil
	}
	t.secures.set(slot, nil)
	return &Secured{s}
}

// attach takes the TLS of a connection back. What it can decrypt without
// another read of the socket is added to read.
func (t *Table) attach(id poller.Token, r *record, read []byte, over *Secured) []byte {
	if over == nil {
		return read
	}
	s := over.secure
	s.pipe.under, s.pipe.table = nil, t
	t.secures.set(id.Slot(), s)
	plain, err := t.decrypt(s, nil)
	if len(t.sealed) > 0 {
		t.pushRaw(id, r, t.sealed)
	}
	if err != nil { // it has left meanwhile, or worse
		t.doom(id, r, ReasonClientGone)
	}
	return append(read, plain...)
}

// answerAndClose is turnAway for a connection that had TLS elsewhere, or none.
func (t *Table) answerAndClose(fd int, over *Secured, answer *Refusal) {
	if over == nil {
		t.turnAway(fd, answer)
		return
	}
	t.stats.shed.Add(1)
	over.secure.pipe.under, over.secure.pipe.table = nil, t
	rawWrite(fd, over.Last(appendRefusal(nil, answer)))
	closeFD(fd)
}
