package conn

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"golang.org/x/sys/unix"

	"github.com/pushd/pushd/internal/gate"
	"github.com/pushd/pushd/internal/via"
	"github.com/pushd/pushd/poller"
)

// connectFrom opens a socket from an address of loopback, each of which is another's.
func (sh *shard) connectFrom(source string) *client {
	sh.t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}, Deadline: time.Now().Add(patience)}
	c, err := d.Dial("tcp", sh.addr)
	if err != nil {
		sh.t.Fatal(err)
	}
	sh.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return &client{TCPConn: c.(*net.TCPConn), t: sh.t, r: bufio.NewReader(c)}
}

// networksOf are networks of a test.
func networksOf(list ...string) (n via.Networks) {
	for _, text := range list {
		n = append(n, netip.MustParsePrefix(text))
	}
	return n
}

// gated has a gate with limits, which must be empty at the end.
func gated(t *testing.T, l gate.Limits) (change func(*settings), g *gate.Gate) {
	g = gate.New(l)
	t.Cleanup(func() { // after the shard's end, since it was made before
		until(t, "the gate is empty", func() bool { g.Sweep(); return g.Addresses() == 0 })
	})
	return func(s *settings) { s.Gate = g }, g
}

// turnedAway reads a refusal with its Retry-After, and the end.
func (c *client) turnedAway(status int, code string) string {
	c.t.Helper()
	r, err := http.ReadResponse(c.r, nil)
	if err != nil {
		c.t.Fatalf("instead of a response: %v", err)
	}
	body := make([]byte, 1000)
	n, _ := r.Body.Read(body)
	if r.StatusCode != status || r.Header.Get("Retry-After") == "" || !strings.Contains(string(body[:n]), `"code":"`+code+`"`) {
		c.t.Fatalf("status %d, Retry-After %q, %s; want %d, %s", r.StatusCode, r.Header.Get("Retry-After"), body[:n], status, code)
	}
	return string(body[:n])
}

func TestConnectionsOfAnAddress(t *testing.T) {
	onBothBackends(t, func(t *testing.T, backend string) {
		change, _ := gated(t, gate.Limits{Connections: 2, Unlimited: networksOf("127.0.0.9/32")})
		sh := startShard(t, &script{}, withBackend(backend), quickly, change)
		open := func(source string) *client {
			c := sh.connectFrom(source)
			c.send(plainRequest)
			c.wantSwitch()
			return c
		}
		first := open("127.0.0.2")
		sh.connectFrom("127.0.0.2") // silent, and counted all the same
		until(t, "both are accepted", func() bool { return sh.Counts().Accepted == 2 })
		body := sh.connectFrom("127.0.0.2").turnedAway(429, "rate_limited")
		if !strings.Contains(body, "at most 2 (--max-connections-per-address)") {
			t.Errorf("told %s", body)
		}
		open("127.0.0.3").wantNothing()
		for range 4 {
			open("127.0.0.9").wantNothing()
		}
		first.Close()
		until(t, "there is room again", func() bool {
			c := sh.connectFrom("127.0.0.2")
			defer c.Close()
			return c.tryUpgrade() == 101
		})
		if n := sh.Counts().Refused[ReasonAddressFull]; n == 0 {
			t.Error("the refusal is not counted")
		}
	})
}

func TestConnectionRateOfAnAddress(t *testing.T) {
	limits := gate.Limits{ConnectionRate: 1}
	sh := startShard(t, &script{}, func(s *settings) { s.Gate = gate.New(limits) })
	admitted := 0
	until(t, "the address is refused", func() bool {
		switch status := sh.connectFrom("127.0.0.2").tryUpgrade(); status {
		case 101:
			admitted++
			return false
		case 429:
			return true
		default:
			t.Fatalf("status %d", status)
			return false
		}
	})
	if n := sh.Counts().Refused[ReasonAddressRate]; admitted < 10 || n != 1 {
		t.Errorf("%d were admitted, want a burst of 10 at least; %d refusals are counted, want 1", admitted, n)
	}
	if status := sh.connectFrom("127.0.0.3").tryUpgrade(); status != 101 {
		t.Errorf("another address: status %d", status)
	}
}

// Those of one address who come too fast are told different times.
func TestAddressQueue(t *testing.T) {
	sh := startShard(t, &script{}, func(s *settings) { s.Gate = gate.New(gate.Limits{ConnectionRate: 1}) })
	last := 0
	until(t, "one is to wait for ten others", func() bool {
		c := sh.connectFrom("127.0.0.2")
		defer c.Close()
		c.Write([]byte(plainRequest))
		r, err := http.ReadResponse(c.r, nil)
		if err != nil || r.StatusCode != 429 {
			return false
		}
		if last, err = strconv.Atoi(r.Header.Get("Retry-After")); err != nil || last < 1 || last > 30 {
			t.Fatalf("Retry-After: %q", r.Header.Get("Retry-After"))
		}
		return last > 10
	})
}

func TestHandshakeRate(t *testing.T) {
	change, _ := gated(t, gate.Limits{HandshakeRate: 1, Unlimited: networksOf("127.0.0.9/32")})
	sh := startShard(t, &script{}, change)
	until(t, "handshakes are refused", func() bool {
		c := sh.connectFrom("127.0.0.2")
		defer c.Close()
		return c.tryUpgrade() == 503
	})
	for range 5 {
		if status := sh.connectFrom("127.0.0.9").tryUpgrade(); status != 101 {
			t.Errorf("who is unlimited: status %d", status)
		}
	}
	if sh.Counts().Refused[ReasonHandshakeRate] == 0 {
		t.Error("it is not counted")
	}
}

// Who is refused as it comes costs a read, a write and a close, and no memory.
func TestAllocsOfRefusal(t *testing.T) {
	g := gate.New(gate.Limits{Connections: 1})
	full := netip.MustParseAddr("192.0.2.1")
	v, _ := g.Enter(full, true)
	defer g.Leave(v)
	table, _ := newManual(t, &script{}, func(c *Config) { c.Gate = g })
	const runs = 200
	var ours, theirs []int
	for range runs + 1 {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		ours, theirs = append(ours, fds[0]), append(theirs, fds[1])
	}
	i := 0
	if n := testing.AllocsPerRun(runs, func() { table.admit(ours[i], full); i++ }); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
	buf := make([]byte, 1000)
	for _, fd := range theirs {
		n, err := unix.Read(fd, buf)
		if err != nil || !strings.HasPrefix(string(buf[:n]), "HTTP/1.1 429 ") {
			t.Fatalf("read %q, %v", buf[:max(n, 0)], err)
		}
		if n, err := unix.Read(fd, buf); n != 0 || err != nil {
			t.Fatalf("behind it %d bytes, %v; want the end", n, err)
		}
		unix.Close(fd)
	}
	if n := table.Counts().Refused[ReasonAddressFull]; n != runs+1 {
		t.Errorf("%d are counted, want %d", n, runs+1)
	}
}

const (
	proxyV1Header = "PROXY TCP4 203.0.113.7 192.0.2.1 4711 80\r\n"
	proxyV2Local  = "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"
	proxyV2Header = "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xcb\x00\x71\x07\xc0\x00\x02\x01\x10\x92\x00\x50"
)

// tellingWho is a script that tells each client its address.
func tellingWho() *script {
	s := &script{}
	s.upgrade = func(id poller.Token, r *Request) *Refusal {
		s.table.Reply(id, AppendFrame(nil, ws.OpText, fmt.Appendf(nil, "%v %v", r.Address, r.Unlimited)))
		return nil
	}
	return s
}

func TestProxyProtocol(t *testing.T) {
	onBothBackends(t, func(t *testing.T, backend string) {
		change, g := gated(t, gate.Limits{Connections: 100, Unlimited: networksOf("127.0.0.0/8", "198.51.100.0/24")})
		sh := startShard(t, tellingWho(), withBackend(backend), quickly, change, func(s *settings) {
			s.ProxyProtocol = networksOf("127.0.0.2/32")
		})
		for _, tc := range []struct{ header, want string }{
			{proxyV1Header, "203.0.113.7 false"},
			{proxyV2Header, "203.0.113.7 false"},
			{proxyV2Local, "127.0.0.2 true"},
			{"PROXY UNKNOWN\r\n", "127.0.0.2 true"},
			{"PROXY TCP6 2001:db8::7 2001:db8::1 1 2\r\n", "2001:db8::7 false"},
			{"PROXY TCP4 198.51.100.3 192.0.2.1 1 2\r\n", "198.51.100.3 true"},
			{"PROXY TCP4 127.0.0.1 192.0.2.1 1 2\r\n", "127.0.0.1 false"}, // nobody is on loopback by hearsay
		} {
			c := sh.connectFrom("127.0.0.2")
			c.send(tc.header, plainRequest)
			c.wantSwitch()
			c.wantText(tc.want)
			c.Close()

			c = sh.connectFrom("127.0.0.2")
			whole := tc.header + plainRequest
			for i := range len(tc.header) + 5 { // in pieces as small as can be
				c.send(whole[i : i+1])
				sh.wantRead(int(sh.Counts().BytesIn))
			}
			c.send(whole[len(tc.header)+5:], maskedText("behind"))
			c.wantSwitch()
			c.wantText(tc.want, "behind")
			c.Close()
		}
		sh.wantEmpty()

		// The one that the header names is shown, and counted.
		c := sh.connectFrom("127.0.0.2")
		c.send(proxyV1Header, plainRequest)
		c.wantSwitch()
		c.wantText("203.0.113.7 false")
		var info Info
		sh.do(func() { sh.Each(0, func(i Info) bool { info = i; return true }) })
		if info.Client.String() != "203.0.113.7/32" || info.Peer.Addr().String() != "127.0.0.2" || g.Addresses() != 1 {
			t.Errorf("shown as %+v, of %d addresses", info, g.Addresses())
		}

		// Without a header from there, and with one from elsewhere.
		c = sh.connectFrom("127.0.0.2")
		c.send(plainRequest)
		if body := c.wantStatus(400); !strings.Contains(body, "--proxy-protocol") {
			t.Errorf("told %s", body)
		}
		sh.connectFrom("127.0.0.2").send("\x16\x03\x01")
		sh.wantRefused(ReasonProxyHeader, 2)
		c = sh.connectFrom("127.0.0.3")
		c.send(proxyV1Header, plainRequest)
		sh.wantRefused(ReasonHandedOver, 1) // to net/http it is a method that nobody knows
		c = sh.connectFrom("127.0.0.3")
		c.send(proxyV2Header)
		c.wantStatus(400)
	})
}

// Where a header is cut anywhere, what comes behind its rest in one read is all there: what is
// answered while that is read does not overwrite it.
func TestCutProxyHeader(t *testing.T) {
	s := &script{}
	s.upgrade = func(id poller.Token, r *Request) *Refusal {
		s.table.Reply(id, AppendFrame(nil, ws.OpText, fmt.Appendf(nil, "%v asks for %s", r.Address, r.Query)))
		return nil
	}
	sh := startShard(t, s, quickly, func(s *settings) { s.ProxyProtocol = networksOf("127.0.0.2/32") })
	query := pattern(300)
	request := strings.Replace(plainRequest, "GET /ws ", "GET /ws?"+query+" ", 1)
	for _, header := range []string{proxyV1Header, proxyV2Header} {
		for cut := 1; cut < len(header); cut++ {
			c := sh.connectFrom("127.0.0.2")
			read := sh.Counts().BytesIn
			c.send(header[:cut])
			sh.wantRead(int(read) + cut)
			c.send(header[cut:], request, maskedText(pattern(500)))
			c.wantSwitch()
			c.wantText("203.0.113.7 asks for "+query, pattern(500))
			c.Close()
		}
	}
}

// A proxy's connections are limited by the addresses that it names.
func TestLimitsBehindProxies(t *testing.T) {
	change, _ := gated(t, gate.Limits{Connections: 1})
	sh := startShard(t, tellingWho(), quickly, change, func(s *settings) {
		s.ProxyProtocol = networksOf("127.0.0.2/32")
		s.TrustForwarded = networksOf("127.0.0.3/32", "203.0.113.0/24")
	})
	through := func(source, first, headers string) *client {
		c := sh.connectFrom(source)
		c.send(first, strings.Replace(plainRequest, "Host: a\r\n", "Host: a\r\n"+headers, 1))
		return c
	}
	const one, other = "PROXY TCP4 192.0.2.1 127.0.0.1 1 2\r\n", "PROXY TCP4 192.0.2.2 127.0.0.1 1 2\r\n"
	c := through("127.0.0.2", one, "")
	c.wantSwitch()
	c.wantText("192.0.2.1 false")
	through("127.0.0.2", other, "").wantSwitch()
	if body := through("127.0.0.2", one, "").turnedAway(429, "rate_limited"); !strings.Contains(body, "from 192.0.2.1: at most 1 ") {
		t.Errorf("told %s", body)
	}
	if body := through("127.0.0.3", "", "X-Forwarded-For: 127.0.0.1, 192.0.2.1\r\n").turnedAway(429, "rate_limited"); !strings.Contains(body, "from 192.0.2.1: at most 1 ") {
		t.Errorf("told %s", body)
	}
	through("127.0.0.3", "", "X-Forwarded-For: 192.0.2.3\r\n").wantSwitch()
	through("127.0.0.3", "", "Forwarded: for=192.0.2.4;proto=https\r\n").wantSwitch()
	c = through("127.0.0.2", proxyV1Header, "X-Forwarded-For: 192.0.2.5\r\n") // a proxy behind a proxy
	c.wantSwitch()
	c.wantText("192.0.2.5 false")
	c = through("127.0.0.3", "", "X-Forwarded-For: unknown\r\n")
	c.wantSwitch()
	c.wantText("127.0.0.3 false")
	through("127.0.0.3", "", "").turnedAway(429, "rate_limited") // it is the proxy's own, like the one before
	c = through("127.0.0.4", "", "X-Forwarded-For: 192.0.2.9\r\n")
	c.wantSwitch()
	c.wantText("127.0.0.4 false") // who is not trusted is not believed
}

// Who makes a header that is not believed has the address of the proxy that
// passed it on, and not what the proxy may.
func TestUnbelievedIsLimited(t *testing.T) {
	change, _ := gated(t, gate.Limits{Connections: 1, Unlimited: networksOf("127.0.0.0/8", "10.0.0.0/8")})
	sh := startShard(t, tellingWho(), quickly, change, func(s *settings) {
		s.ProxyProtocol = networksOf("127.0.0.2/32")
		s.TrustForwarded = networksOf("127.0.0.3/32", "10.0.0.1/32")
	})
	through := func(source, first, headers, want string) *client {
		c := sh.connectFrom(source)
		c.send(first, strings.Replace(plainRequest, "Host: a\r\n", "Host: a\r\n"+headers, 1))
		if want != "" {
			c.wantSwitch()
			c.wantText(want)
		}
		return c
	}
	const two, hidden = "X-Forwarded-For: 192.0.2.1\r\nForwarded: for=1.2.3.4\r\n", "X-Forwarded-For: unknown\r\n"
	for source, tc := range map[string]struct{ first, own string }{
		"127.0.0.3": {"", "127.0.0.3"},
		"127.0.0.2": {"PROXY TCP4 10.0.0.1 127.0.0.1 1 2\r\n", "10.0.0.1"},
	} {
		c := through(source, tc.first, two, tc.own+" false")
		for _, headers := range []string{two, hidden} {
			through(source, tc.first, headers, "").turnedAway(429, "rate_limited")
		}
		through(source, tc.first, "", tc.own+" true") // the proxy asks of its own
		through(source, tc.first, "", tc.own+" true")
		c.Close()
	}
	through("127.0.0.3", "", "X-Forwarded-For: 127.0.0.3\r\n", "127.0.0.3 false").wantNothing() // nobody is on loopback by hearsay
}

// What is handed over to net/http goes with its address, and is counted until
// whoever took it says that it has ended.
func TestHandedOver(t *testing.T) {
	change, g := gated(t, gate.Limits{Connections: 1})
	var handed atomic.Pointer[Handed]
	s := &script{}
	s.notUpgrade = func(fd int, _ []byte, h Handed) {
		handed.Store(&h)
		unix.Close(fd)
	}
	sh := startShard(t, s, change, func(s *settings) { s.ProxyProtocol = networksOf("127.0.0.2/32") })
	for source, want := range map[string]string{"127.0.0.2": "203.0.113.7", "127.0.0.3": "127.0.0.3"} {
		header := ""
		if source == "127.0.0.2" {
			header = proxyV1Header
		}
		c := sh.connectFrom(source)
		c.send(header, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		until(t, "it is handed over", func() bool { return handed.Load() != nil })
		h := handed.Swap(nil)
		if h.Client.String() != want || h.Visit == 0 {
			t.Errorf("handed over as %+v, want %s", *h, want)
		}
		c = sh.connectFrom(source)
		c.send(header)
		c.turnedAway(429, "rate_limited")
		g.Leave(h.Visit)
	}
}

// What net/http gives back goes on by the address that it had.
func TestAdoptOfProxy(t *testing.T) {
	change, g := gated(t, gate.Limits{Connections: 1})
	sh := startShard(t, tellingWho(), change)
	whose := netip.MustParseAddr("203.0.113.7")
	adopt := func() *client {
		c, fd := sh.accepted()
		sh.do(func() { sh.Adopt(fd, []byte(plainRequest), Handed{Client: whose}) })
		return c
	}
	c := adopt()
	c.wantSwitch()
	c.wantText("203.0.113.7 false")
	if g.Addresses() != 1 {
		t.Errorf("%d addresses are counted", g.Addresses())
	}
	adopt().turnedAway(429, "rate_limited")
}
