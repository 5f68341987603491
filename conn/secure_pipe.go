package conn

import (
	"net"
	"time"
)

// pipe is the net.Conn below a tls.Conn. Who is at its other end changes: the
// goroutine of the handshake takes what the loop feeds it; then it is the loop
// itself, which decrypts what it has just read; and then perhaps net/http, with a
// net.Conn of the socket.
type pipe struct {
	table   *Table   // of the loop that has the connection
	shaking *shaking // not nil: the handshake is under way
	under   net.Conn // not nil: net/http has the connection
}

// wouldBlock is what a read of the loop ends with. crypto/tls keeps the record
// that has come in part, and goes on with it at the next Read, after an error
// that is temporary, as it does after a deadline.
type wouldBlock struct{}

func (wouldBlock) Error() string   { return "nothing more has come" }
func (wouldBlock) Timeout() bool   { return true }
func (wouldBlock) Temporary() bool { return true }

var errWouldBlock error = wouldBlock{}

func (p *pipe) Read(b []byte) (int, error) {
	switch {
	case p.shaking != nil:
		return p.shaking.read(b)
	case p.under != nil:
		return p.under.Read(b)
	}
	if len(p.table.arrived) == 0 {
		return 0, errWouldBlock
	}
	n := copy(b, p.table.arrived)
	p.table.arrived = p.table.arrived[n:]
	return n, nil
}

// Write never fails where the loop has the connection: crypto/tls would take
// any error for the end.
func (p *pipe) Write(b []byte) (int, error) {
	switch {
	case p.shaking != nil:
		p.shaking.write(b)
	case p.under != nil:
		return p.under.Write(b)
	default:
		p.table.sealed = append(p.table.sealed, b...)
	}
	return len(b), nil
}

func (p *pipe) Close() error {
	if p.under != nil {
		return p.under.Close()
	}
	return nil // the socket is the table's
}

func (p *pipe) LocalAddr() net.Addr {
	if p.under != nil {
		return p.under.LocalAddr()
	}
	return noAddr{}
}

func (p *pipe) RemoteAddr() net.Addr {
	if p.under != nil {
		return p.under.RemoteAddr()
	}
	return noAddr{}
}

func (p *pipe) SetDeadline(at time.Time) error {
	if p.under != nil {
		return p.under.SetDeadline(at)
	}
	return nil // the loop never waits
}

func (p *pipe) SetReadDeadline(at time.Time) error {
	if p.under != nil {
		return p.under.SetReadDeadline(at)
	}
	return nil
}

func (p *pipe) SetWriteDeadline(at time.Time) error {
	if p.under != nil {
		return p.under.SetWriteDeadline(at)
	}
	return nil
}

// noAddr is for callbacks of tls.Config that ask while the loop has the socket.
type noAddr struct{}

func (noAddr) Network() string { return "tcp" }
func (noAddr) String() string  { return "" }
