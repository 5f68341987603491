package conn

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/pushd/pushd/internal/gate"
)

// helloOf is a ClientHello as a client would send it.
func helloOf(t testing.TB, c *tls.Config) []byte {
	t.Helper()
	near, far := net.Pipe()
	defer near.Close()
	go tls.Client(far, c).Handshake()
	buf := make([]byte, 16<<10)
	n, err := near.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return buf[:n]
}

func TestScanHello(t *testing.T) {
	whole := helloOf(t, &tls.Config{ServerName: "localhost"})
	f := func(p []byte, want helloVerdict) {
		t.Helper()
		if got := scanHello(p); got != want {
			t.Errorf("%d of %.20x: %d, want %d", len(p), p, got, want)
		}
	}
	for n := range whole {
		f(whole[:n], helloNeedMore)
	}
	f(whole, helloComplete)
	f(append(whole[:len(whole):len(whole)], 22, 3), helloComplete)

	var cut []byte // a record for each byte
	for i, b := range whole[5:] {
		cut = append(cut, 22, 3, 1, 0, 1, b)
		if len(cut) < maxHello && i < len(whole)-6 {
			f(cut, helloNeedMore)
		}
	}
	f(cut[:min(len(cut), maxHello)], map[bool]helloVerdict{true: helloComplete, false: helloTooLarge}[len(cut) < maxHello])

	f([]byte("GET / HTTP/1.1"), helloNotTLS)
	f([]byte{22, 2}, helloNotTLS)
	f([]byte{22, 3, 1, 0, 0}, helloNotTLS)               // an empty record
	f([]byte{22, 3, 1, 0x40, 1}, helloNotTLS)            // too long a record
	f([]byte{22, 3, 1, 0, 4, 2}, helloNotTLS)            // a ServerHello
	f([]byte{22, 3, 1, 0, 4, 1, 0, 0, 0}, helloComplete) // for crypto/tls to refuse
	f([]byte{22, 3, 1, 0, 4, 1, 1, 0, 0}, helloTooLarge)
	f([]byte{22, 3, 1, 0, 1, 1, 21, 3, 1, 0, 1}, helloNotTLS)
}

// A handshake that its client does not go on with holds a place until its
// time is over, and nothing else: who is connected is served all the same,
// others wait in order, and one that is incomplete has no place at all.
func TestSecureHalfOpen(t *testing.T) {
	a := newAuthority(t)
	const places = 4
	sh := startShard(t, &script{}, a.withTLS, quickly, func(s *settings) {
		s.Handshakes = NewHandshakes(places)
		s.HandshakeTimeout = 3 * time.Second
	})
	gate := sh.cfg.Handshakes
	served := sh.openTLS(a.trust(nil))
	hello := helloOf(t, a.trust(nil))

	drip := sh.connect()
	drip.send(hello[:len(hello)-1])
	var stuck []*client
	for range places {
		c := sh.connect()
		c.send(hello)
		stuck = append(stuck, c)
	}
	until(t, "all places are taken", func() bool { active, _ := gate.Counts(); return active == places })
	late := make(chan *secureClient)
	go func() { late <- sh.openTLS(a.trust(nil)) }()
	until(t, "one waits", func() bool { _, waiting := gate.Counts(); return waiting == 1 })
	served.wantNothing()
	stuck[0].reset() // its place is free at once
	(<-late).wantNothing()
	served.wantNothing()

	for _, c := range append(stuck[1:], drip) {
		if _, err := io.Copy(io.Discard, c.TCPConn); err != nil {
			t.Errorf("%v, want the end of the stream", err)
		}
	}
	sh.wantRefused(ReasonHandshakeTimeout, places)
	if c := sh.Counts(); c.Unsecured[ReasonHandshakeTimeout] != places || c.Unsecured[ReasonClientGone] != 1 {
		t.Errorf("counted %v, want %d that took too long and one that left", c.Unsecured, places)
	}
	served.wantNothing()
}

// A handshake that does not go on gives its place up to those who wait long
// before its time is over, and keeps it where nobody does.
func TestSecureStalledGiveWay(t *testing.T) {
	a := newAuthority(t)
	const places = 4
	sh := startShard(t, &script{}, a.withTLS, func(s *settings) {
		s.Handshakes, s.HandshakeTimeout = NewHandshakes(places), time.Hour
	})
	hello := helloOf(t, a.trust(nil))
	for range places {
		sh.connect().send(hello)
	}
	until(t, "all places are taken", func() bool { active, _ := sh.cfg.Handshakes.Counts(); return active == places })
	time.Sleep(clientPatience + 2*lookAround)
	if active, _ := sh.cfg.Handshakes.Counts(); active != places {
		t.Errorf("%d are under way while nobody waits, want %d", active, places)
	}
	sh.openTLS(a.trust(nil)).wantNothing()
	sh.wantRefused(ReasonHandshakeTimeout, 1)
}

// What is too much of handshakes costs no TLS handshake; what has paid for that
// may upgrade; and who is unlimited, or may turn out to be, is not asked for it.
func TestSecureHandshakeRate(t *testing.T) {
	a := newAuthority(t)
	change, _ := gated(t, gate.Limits{HandshakeRate: 1, Unlimited: networksOf("127.0.0.9/32", "192.0.2.0/24")})
	sh := startShard(t, &script{}, a.withTLS, change, func(s *settings) { s.TrustForwarded = networksOf("127.0.0.3/32") })
	shake := func(source string) (*secureClient, error) {
		raw := sh.connectFrom(source)
		over := tls.Client(raw.TCPConn, a.trust(nil))
		err := over.Handshake()
		return &secureClient{&client{TCPConn: raw.TCPConn, over: over, t: t, r: bufio.NewReader(over)}, over}, err
	}
	for refused := false; !refused; {
		before := sh.Counts()
		c, err := shake("127.0.0.2")
		if refused = err != nil; !refused {
			c.send(plainRequest)
			c.wantSwitch()
			continue
		}
		sh.wantRefused(ReasonHandshakeRate, 1)
		if now := sh.Counts(); now.Unsecured[ReasonHandshakeRate] != 1 || now.Upgraded != before.Upgraded {
			t.Errorf("refused as %v", now.Unsecured)
		}
	}
	for range 5 {
		c, err := shake("127.0.0.9")
		if err != nil {
			t.Fatalf("who is unlimited: %v", err)
		}
		c.send(plainRequest)
		c.wantSwitch()
		if c, err = shake("127.0.0.3"); err != nil {
			t.Fatalf("a trusted proxy: %v", err)
		}
		c.send(strings.Replace(plainRequest, "Host: a\r\n", "Host: a\r\nX-Forwarded-For: 192.0.2.1\r\n", 1))
		c.wantSwitch()
	}
}

// Of too many even the waiting is bounded.
func TestSecureTooManyWait(t *testing.T) {
	a := newAuthority(t)
	sh := startShard(t, &script{}, a.withTLS, quickly, func(s *settings) { s.Handshakes = NewHandshakes(1) })
	hello := helloOf(t, a.trust(nil))
	for range 1 + waitersEach {
		sh.connect().send(hello)
	}
	until(t, "all wait", func() bool { _, waiting := sh.cfg.Handshakes.Counts(); return waiting == waitersEach })
	c := sh.connect()
	c.send(hello)
	c.wantGone()
	sh.wantRefused(ReasonTLSBusy, 1)
	// The rest ends with the shard, which checks that nobody is counted any more.
}

// Who waits for a place keeps no more than a ClientHello takes.
func TestSecureEagerWaiter(t *testing.T) {
	a := newAuthority(t)
	sh := startShard(t, &script{}, a.withTLS, func(s *settings) {
		s.Handshakes, s.HandshakeTimeout = NewHandshakes(1), patience
	})
	hello := helloOf(t, a.trust(nil))
	sh.connect().send(hello)
	until(t, "the place is taken", func() bool { active, _ := sh.cfg.Handshakes.Counts(); return active == 1 })
	much := make([]byte, maxShakingInput)
	refused := uint64(0)
	for _, pieces := range [][][]byte{{append(hello[:len(hello):len(hello)], much...)}, {hello, much}} {
		c := sh.connect()
		for i, p := range pieces {
			c.Write(p) // of which the last may be cut off
			if i < len(pieces)-1 {
				until(t, "it waits", func() bool { _, waiting := sh.cfg.Handshakes.Counts(); return waiting == 1 })
			}
		}
		refused++
		sh.wantRefused(ReasonHeadTooLarge, refused)
		until(t, "nobody waits", func() bool { _, waiting := sh.cfg.Handshakes.Counts(); return waiting == 0 })
	}
	c := sh.connect() // who has only asked, waits on
	c.send(hello)
	until(t, "it waits", func() bool { _, waiting := sh.cfg.Handshakes.Counts(); return waiting == 1 })
}

// A client that sends on and on, while its handshake cannot go on, is not read
// beyond a bound, and served all the same when it can.
func TestSecureEagerClient(t *testing.T) {
	a := newAuthority(t)
	sh := startShard(t, &script{}, a.withTLS, func(s *settings) { s.HandshakeTimeout = patience })
	turns := sh.cfg.Handshakes.turns
	for range cap(turns) {
		turns <- struct{}{} // others compute
	}
	c := sh.connect()
	c.send(helloOf(t, a.trust(nil)))
	until(t, "its goroutine waits", func() bool { active, _ := sh.cfg.Handshakes.Counts(); return active == 1 })
	c.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
	for err := error(nil); err == nil; {
		_, err = c.TCPConn.Write(make([]byte, 1<<20)) // until the kernel takes no more
	}
	if n := sh.Counts().BytesIn; n > maxShakingInput+2*readSize {
		t.Errorf("%d bytes were read of a client in its handshake", n)
	}
	for range cap(turns) {
		<-turns
	}
	sh.wantRefused(ReasonTLSFailed, 1) // what it sent are no records
}
