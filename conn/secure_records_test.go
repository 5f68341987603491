package conn

import (
	"bytes"
	"crypto/tls"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"golang.org/x/sys/unix"

	"github.com/pushd/pushd/poller"
)

// Records may be cut at any byte, in both directions and from the first of the
// handshake on.
func TestSecureCutAnywhere(t *testing.T) {
	a := newAuthority(t)
	bothVersions(t, func(t *testing.T, version func(*tls.Config)) {
		sh := startShard(t, &script{}, a.withTLS)
		seed := uint64(time.Now().UnixNano())
		t.Logf("seed %d", seed)
		c := sh.secureOver(sh.throughCutter(seed), a.trust(version))
		c.send(plainRequest)
		c.wantSwitch()
		for _, size := range []int{0, 5, 300, 700, 20_000} {
			c.send(maskedText(pattern(size)), maskedText("behind"))
			c.wantText(pattern(size), "behind")
		}
		c.send(maskedClose(1000, ""))
		c.wantClose(1000)
	})
}

// throughCutter connects through a proxy that passes everything on in pieces of 1 to 700 bytes.
func (sh *shard) throughCutter(seed uint64) *client {
	sh.t.Helper()
	proxy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		sh.t.Fatal(err)
	}
	go func() {
		defer proxy.Close()
		near, err := proxy.Accept()
		if err != nil {
			return
		}
		far, err := connectTo(sh.addr)
		if err != nil {
			near.Close()
			return
		}
		pass := func(to, from net.Conn, random *rand.Rand) {
			buf := make([]byte, 700)
			for {
				n, err := from.Read(buf[:1+random.IntN(len(buf))])
				if _, writeErr := to.Write(buf[:n]); err != nil || writeErr != nil {
					to.(*net.TCPConn).CloseWrite()
					return
				}
			}
		}
		done := make(chan struct{})
		go func() { defer close(done); pass(far, near, rand.New(rand.NewPCG(seed, 1))) }()
		pass(near, far, rand.New(rand.NewPCG(seed, 2)))
		<-done
		near.Close()
		far.Close()
	}()
	c, err := connectTo(proxy.Addr().String())
	if err != nil {
		sh.t.Fatal(err)
	}
	sh.t.Cleanup(func() { c.Close() })
	return &client{TCPConn: c, t: sh.t}
}

// What a client that does not read will miss is never encrypted: its socket
// holds whole records, and the next that it gets can be read.
func TestSecureBlocked(t *testing.T) {
	a := newAuthority(t)
	onBothLanes(t, func(t *testing.T, lane func(*Config)) {
		sh := startShard(t, &script{}, a.withTLS, smallBuffers, func(s *settings) { lane(&s.Config) })
		c := sh.openTLS(a.trust(nil))
		slot := look(sh, func() uint32 { return sh.script.newID.Slot() })
		frame := AppendFrame(nil, ws.OpText, []byte(pattern(50_000)))
		sent := 0
		for blocked := false; !blocked; {
			sh.do(func() {
				switch sh.Send(slot, frame) {
				case Sent:
					sent++
				case Blocked:
					blocked = true
				case Gone:
					t.Fatal("gone")
				}
			})
		}
		if n := look(sh, func() int { return sh.unsent(sh.slab.at(slot)) }); n == 0 || n > len(frame)+1000 {
			t.Errorf("%d bytes wait, want some of one frame of %d", n, len(frame))
		}
		for range sent {
			c.wantText(pattern(50_000))
		}
		until(t, "it drains", func() bool { return sh.script.drains.Load() == 1 })
		sh.do(func() { sh.Send(slot, AppendFrame(nil, ws.OpText, []byte("the next"))) })
		c.wantText("the next")
		if n := look(sh, sh.sidesInUse); n != 0 {
			t.Errorf("%d side records are left", n)
		}
	})
}

// A 101 that is held leaves encrypted when it is released, and so does a refusal.
func TestSecureHeld(t *testing.T) {
	a := newAuthority(t)
	s := &script{}
	held := make(chan struct{}, 1)
	s.upgrade = func(id poller.Token, _ *Request) *Refusal {
		s.table.Hold(id)
		s.table.Reply(id, AppendFrame(nil, ws.OpText, []byte("welcome")))
		held <- struct{}{}
		return nil
	}
	sh := startShard(t, s, a.withTLS)
	c := sh.connectTLS(a.trust(nil))
	c.send(plainRequest, maskedText("early"))
	<-held
	sh.do(func() { sh.Release(s.newID) })
	c.wantSwitch()
	c.wantText("welcome", "early")

	refused := sh.connectTLS(a.trust(nil))
	refused.send(plainRequest)
	<-held
	sh.do(func() { sh.Refuse(s.newID, &Refusal{Status: 403, Code: "forbidden", Message: "no"}) })
	if body := refused.wantStatus(403); !strings.Contains(body, "forbidden") {
		t.Error(body)
	}
	refused.wantEnd()
}

// Whoever ends a connection, both are told by close_notify, and a fault by an alert.
func TestSecureEnds(t *testing.T) {
	a := newAuthority(t)
	sh := startShard(t, &script{}, a.withTLS, quickly)

	c := sh.openTLS(a.trust(nil))
	sh.do(func() { sh.Close(sh.script.newID, ReasonDraining) })
	c.wantClose(1012)

	c = sh.openTLS(a.trust(nil)) // theirs ends it
	if err := c.tls.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	c.wantEnd()
	sh.wantClosed(ReasonClientGone, 1)

	c = sh.openTLS(a.trust(nil)) // a record that nobody sealed
	c.TCPConn.Write(append([]byte{23, 3, 3, 0, 32}, pattern(32)...))
	if _, err := io.ReadAll(c.r); err == nil || !strings.Contains(err.Error(), "bad record MAC") {
		t.Errorf("%v, want an alert", err)
	}
	sh.wantClosed(ReasonTLSFailed, 1)

	plain := sh.connect() // who does not know
	plain.send(plainRequest)
	if body := plain.wantStatus(400); !strings.Contains(body, "wss://") {
		t.Error(body)
	}
	sh.wantRefused(ReasonNotTLS, 1)
	garbage := sh.connect()
	garbage.send([]byte{0, 1, 2})
	garbage.wantEnd()
	sh.wantRefused(ReasonNotTLS, 2)
	sh.wantEmpty()
	if n := sh.Counts().Unsecured[ReasonNotTLS]; n != 2 {
		t.Errorf("%d handshakes counted as no TLS, want 2", n)
	}
}

// A request that is no upgrade goes on over a net.Conn, and an upgrade may
// come back from there, with frames behind it.
func TestSecureHandOver(t *testing.T) {
	a := newAuthority(t)
	s := &script{}
	s.notUpgrade = func(fd int, read []byte, h Handed) {
		read = bytes.Clone(read)
		go func() {
			if !strings.HasPrefix(string(read), "GET /page HTTP/1.1\r\n") {
				t.Errorf("read %q", read)
			}
			under := fileConn(t, fd)
			c := h.TLS.Over(under)
			io.WriteString(c, "first")
			buf := make([]byte, 4)
			if _, err := io.ReadFull(c, buf); err != nil || string(buf) != "more" {
				t.Errorf("%q, %v", buf, err)
			}
			io.WriteString(c, "second")
			upgrade := make([]byte, len(plainRequest))
			if _, err := io.ReadFull(c, upgrade); err != nil {
				t.Error(err)
			}
			fd := dupConn(t, under)
			under.Close()
			s.table.loop.Post(poller.Func(func() { s.table.Adopt(fd, upgrade, Handed{TLS: h.TLS}) }))
		}()
	}
	sh := startShard(t, s, a.withTLS)
	c := sh.connectTLS(a.trust(nil))
	c.send("GET /page HTTP/1.1\r\nHost: a\r\n\r\n")
	buf := make([]byte, 6)
	for _, step := range []struct{ want, send string }{{"first", "more"}, {"second", ""}} {
		if _, err := io.ReadFull(c.r, buf[:len(step.want)]); err != nil || string(buf[:len(step.want)]) != step.want {
			t.Fatalf("%q, %v", buf, err)
		}
		c.send(step.send)
	}
	c.send(plainRequest, maskedText("already there")) // one record: net/http's side decrypts what is not its
	c.wantSwitch()
	c.wantText("already there")
	c.wantNothing()
	c.send(maskedClose(1000, ""))
	c.wantClose(1000)
}

// A handler may answer at once where a request is handed over, and a table that
// stops answers who comes back: both encrypted, and ended as is due.
func TestSecureLast(t *testing.T) {
	a := newAuthority(t)
	s := &script{}
	stopped := false // loop-only
	s.notUpgrade = func(fd int, _ []byte, h Handed) {
		if !stopped {
			rawWrite(fd, h.TLS.Last([]byte("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy")))
			closeFD(fd)
			return
		}
		s.table.loop.Post(poller.Func(func() {
			s.table.StopAccepting()
			s.table.Adopt(fd, []byte(plainRequest), Handed{TLS: h.TLS})
		}))
	}
	sh := startShard(t, s, a.withTLS)
	for _, want := range []string{"busy", "shutting down"} {
		c := sh.connectTLS(a.trust(nil))
		c.send("GET /page HTTP/1.1\r\nHost: a\r\n\r\n")
		if body := c.wantStatus(503); !strings.Contains(body, want) {
			t.Errorf("answered %q, want %q", body, want)
		}
		c.wantEnd()
		sh.do(func() { stopped = true })
	}
}

func fileConn(t *testing.T, fd int) *net.TCPConn {
	f := os.NewFile(uintptr(fd), "client")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		t.Error(err)
	}
	return c.(*net.TCPConn)
}

func dupConn(t *testing.T, c *net.TCPConn) (fd int) {
	raw, err := c.SyscallConn()
	if err != nil {
		t.Error(err)
	}
	if err := raw.Control(func(old uintptr) { fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) }); err != nil {
		t.Error(err)
	}
	return fd
}
