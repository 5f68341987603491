package conn

import (
	"bytes"
	"log/slog"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pushd/pushd/poller"
)

// newManual makes a table whose loop does not run: the test is the loop, and
// nothing happens at the same time. One socket has been adopted already.
func newManual(t testing.TB, s *script, change ...func(*Config)) (*Table, *peer) {
	t.Helper()
	loop, err := poller.New(poller.Config{})
	if err != nil {
		t.Fatal(err)
	}
	s.t, s.alive = t, make(map[poller.Token]bool)
	cfg := Config{Log: slog.New(slog.DiscardHandler)}
	for _, f := range change {
		f(&cfg)
	}
	table, err := NewTable(cfg, loop, nil, s)
	if err != nil {
		t.Fatal(err)
	}
	s.table = table
	t.Cleanup(func() {
		table.Shutdown()
		if err := loop.Close(); err != nil {
			t.Error(err)
		}
		if n := len(s.alive); n != 0 {
			t.Errorf("%d connections were never told closed", n)
		}
	})
	return table, newPeer(t, table)
}

// peer is the client's end of a socket pair.
type peer struct {
	t  testing.TB
	fd int // -1 once closed
	id poller.Token
	// table has the other end.
	table *Table
	buf   []byte
}

func newPeer(t testing.TB, table *Table) *peer {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	p := &peer{t: t, fd: fds[0], table: table, buf: make([]byte, 1<<16)}
	t.Cleanup(func() { p.close() })
	table.Adopt(fds[1], []byte("GET"), Handed{})
	for slot := range table.slab.next {
		if r := table.slab.at(slot); r.state != stateFree && int(r.fd) == fds[1] {
			p.id = table.ID(slot)
		}
	}
	return p
}

func (p *peer) close() {
	if p.fd >= 0 {
		unix.Close(p.fd)
		p.fd = -1
	}
}

func (p *peer) write(b []byte) {
	p.t.Helper()
	if n, err := unix.Write(p.fd, b); err != nil || n != len(b) {
		p.t.Fatalf("client wrote %d of %d bytes: %v", n, len(b), err)
	}
}

// read returns what has come, nil for nothing.
func (p *peer) read() []byte {
	n, err := unix.Read(p.fd, p.buf)
	if err != nil {
		return nil
	}
	return p.buf[:n]
}

// shake makes the handshake.
func (p *peer) shake() {
	p.t.Helper()
	p.write([]byte(plainRequest[len("GET"):]))
	p.table.Ready(p.id, poller.Readable)
	p.table.Turn()
	if got := p.read(); !bytes.HasPrefix(got, []byte("HTTP/1.1 101 ")) {
		p.t.Fatalf("instead of a 101: %q", got)
	}
}
