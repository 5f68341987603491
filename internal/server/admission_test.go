package server

import (
	"bufio"
	"context"
	"fmt"
	"io"

	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"github.com/pushd/pushd/internal/config"
)

// dialFrom opens a WebSocket from an address of loopback, with further headers,
// and returns the status where there is none.
func (r *running) dialFrom(source, first string, headers http.Header) (*socket, int) {
	r.t.Helper()
	status := 0
	d := ws.Dialer{
		Timeout: patience,
		Header:  ws.HandshakeHeaderHTTP(headers),
		NetDial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}}
			c, err := d.DialContext(ctx, network, addr)
			if err == nil {
				_, err = io.WriteString(c, first)
			}
			return c, err
		},
		OnStatusError: func(code int, _ []byte, _ io.Reader) { status = code },
	}
	c, buffered, _, err := d.Dial(context.Background(), "ws://"+r.Addr()+"/ws")
	if status != 0 {
		return nil, status
	}
	if err != nil {
		r.t.Fatalf("dial from %s: %v", source, err)
	}
	r.t.Cleanup(func() { c.Close() })
	s := &socket{t: r.t, conn: c, read: c}
	if buffered != nil {
		s.read = io.MultiReader(io.LimitReader(buffered, int64(buffered.Buffered())), c)
	}
	return s, http.StatusSwitchingProtocols
}

// A service is told the same address of a client, whichever way that comes.
func TestAuthorizeByAddress(t *testing.T) {
	addresses := make(chan string, 10)
	r, _ := authorizing(t, func(q asked) string {
		addresses <- q.Address
		return `{"allow":true}`
	}, func(c *config.Config) { c.ProxyProtocol = []string{"127.0.0.2"} })
	bearer := http.Header{"Authorization": {"Bearer " + tokenFor(t, "alice", may{}, time.Hour)}}
	for i, tc := range []struct{ told, want string }{
		{"PROXY TCP6 2001:db8:1:2::7 2001:db8::1 1 2\r\n", "2001:db8:1:2::/64"},
		{"PROXY TCP6 ::ffff:203.0.113.7 2001:db8::1 1 2\r\n", "203.0.113.7"},
		{"PROXY TCP4 203.0.113.8 192.0.2.1 1 2\r\n", "203.0.113.8"},
	} {
		s, _ := r.dialFrom("127.0.0.2", tc.told, bearer)
		s.want("welcome")
		s.subscribe(fmt.Sprintf("a.%d", i))
		c, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}).Dial("tcp", r.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprintf(c, "%sPOST /publish/b.%d HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\nContent-Length: 1\r\n\r\n1", tc.told, i, bearer.Get("Authorization"))
		if resp, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || resp.StatusCode != 202 {
			t.Fatalf("POST: %+v, %v", resp, err)
		}
		for _, way := range []string{"WebSocket", "HTTP"} {
			if got := <-addresses; got != tc.want {
				t.Errorf("over %s of %q it is told %s, want %s", way, tc.told, got, tc.want)
			}
		}
	}
}

// One address cannot have all the room, and what it holds over HTTP counts.
func TestConnectionsPerAddress(t *testing.T) {
	r := start(t, limited, func(c *config.Config) { c.MaxConnectionsPerAddress = 2 })
	if _, status := r.dialFrom("127.0.0.2", "", nil); status != 101 {
		t.Fatalf("the first: %d", status)
	}
	kept, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}).Dial("tcp", r.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer kept.Close()
	io.WriteString(kept, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
	if resp, err := http.ReadResponse(bufio.NewReader(kept), nil); err != nil || resp.StatusCode != 200 {
		t.Fatalf("HTTP: %v", err)
	}
	if _, status := r.dialFrom("127.0.0.2", "", nil); status != 429 {
		t.Errorf("beyond the limit: %d", status)
	}
	if _, status := r.dialFrom("127.0.0.3", "", nil); status != 101 {
		t.Errorf("another address: %d", status)
	}
	if text := r.adminGet("/metrics"); !strings.Contains(text, `pushd_handshakes_total{result="address_full"} 1`) || !strings.Contains(text, "pushd_addresses 2\n") {
		t.Errorf("the metrics do not show it: %s", text)
	}
	kept.Close()
	eventually(t, "there is room again", func() bool { _, status := r.dialFrom("127.0.0.2", "", nil); return status == 101 })
}

// One address cannot have all the room that HTTP has either.
func TestHTTPConnectionsPerAddress(t *testing.T) {
	r := start(t, limited)
	ask := func(source, request string) (net.Conn, *http.Response) {
		t.Helper()
		c := r.sayFrom(source, r.Addr(), request)
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatalf("from %s: %v", source, err)
		}
		return c, resp
	}
	const probe, publish = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", "POST /publish/a.b HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n1"
	var kept net.Conn
	for i := range maxPlainConnsOfAddress {
		var resp *http.Response
		if kept, resp = ask("127.0.0.2", probe); resp.StatusCode != 200 {
			t.Fatalf("number %d: %d", i+1, resp.StatusCode)
		}
	}
	if _, resp := ask("127.0.0.2", publish); resp.StatusCode != 429 || resp.Header.Get("Retry-After") == "" {
		t.Errorf("beyond the limit: %d, %v", resp.StatusCode, resp.Header)
	}
	if _, resp := ask("127.0.0.2", probe); resp.StatusCode != 200 {
		t.Errorf("a probe beyond the limit: %d", resp.StatusCode)
	}
	if _, resp := ask("127.0.0.3", publish); resp.StatusCode != 202 {
		t.Errorf("another address: %d", resp.StatusCode)
	}
	kept.Close()
	eventually(t, "there is room again", func() bool {
		c, resp := ask("127.0.0.2", publish)
		c.Close()
		return resp.StatusCode == 202
	})
}

// A few addresses that take what they may leave places to others.
func TestHTTPPlacesAreShared(t *testing.T) {
	r := start(t, limited)
	const addresses = 12
	for i := range addresses * maxPlainConnsOfAddress { // more than all places
		r.sayFrom(fmt.Sprint("127.0.0.", 2+i%addresses), r.Addr(), "POST /publish/a.b HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\nx")
	}
	eventually(t, "each is let in or refused", func() bool {
		return r.metric("pushd_handshakes_total{result=\"handed_over\"}") == fmt.Sprint(addresses*maxPlainConnsOfAddress)
	})
	held := r.plain.open.Load()
	if held < maxPlainConns/2 || held > maxPlainConns*addresses/(addresses+1)+addresses {
		t.Errorf("%d of %d places are taken", held, maxPlainConns)
	}
	for i := range 20 {
		c := r.sayFrom(fmt.Sprint("127.0.0.", 200+i), r.Addr(), "POST /publish/a.b HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n1")
		if resp, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || resp.StatusCode != 202 {
			t.Fatalf("client %d, of another address: %v, %v", i, resp, err)
		}
	}
}

func TestConnectionsPerAddressByDefault(t *testing.T) {
	for _, tc := range []struct{ set, most, want int }{{0, 1_000_000, 100_000}, {0, 1000, 256}, {-1, 1000, 0}, {7, 1000, 7}} {
		c := config.Default()
		c.MaxConnectionsPerAddress = tc.set
		if got := c.ConnectionsPerAddress(tc.most); got != tc.want {
			t.Errorf("%d of %d connections: %d, want %d", tc.set, tc.most, got, tc.want)
		}
	}
}

// Behind proxies everything is by the address that they tell: what is shown,
// what is limited, over WebSockets and over HTTP, and on a connection that
// turns from one into the other.
func TestAddressBehindProxies(t *testing.T) {
	r := start(t, func(c *config.Config) {
		c.ProxyProtocol, c.TrustForwarded = []string{"127.0.0.2"}, []string{"127.0.0.3"}
		c.MaxConnectionsPerAddress, c.MaxPublishRate = 1, 1
	})
	shown := func(address string) bool {
		return strings.Contains(r.adminGet("/connections"), fmt.Sprintf(`"address": %q`, address))
	}
	const header = "PROXY TCP6 2001:db8:1:2::7 2001:db8::1 1 2\r\n"
	c, status := r.dialFrom("127.0.0.2", header, nil)
	if status != 101 || !shown("2001:db8:1:2::/64") {
		t.Errorf("status %d, %s", status, r.adminGet("/connections"))
	}
	if _, status := r.dialFrom("127.0.0.2", header, nil); status != 429 {
		t.Errorf("the second of that address: %d", status)
	}
	c.conn.Close()
	if _, status = r.dialFrom("127.0.0.3", "", http.Header{"X-Forwarded-For": {"127.0.0.1, 203.0.113.7"}}); status != 101 || !shown("203.0.113.7") {
		t.Errorf("status %d, %s", status, r.adminGet("/connections"))
	}

	// HTTP, and then a WebSocket on the same connection.
	eventually(t, "the first has left", func() bool { return !shown("2001:db8:1:2::/64") })
	kept, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}).Dial("tcp", r.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer kept.Close()
	in := bufio.NewReader(kept)
	kept.SetDeadline(time.Now().Add(patience))
	io.WriteString(kept, header)
	statuses := map[int]int{}
	for range 30 {
		io.WriteString(kept, "POST /publish/a.b HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n1")
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		statuses[resp.StatusCode]++
	}
	if statuses[202] < 10 || statuses[429] == 0 || len(statuses) != 2 {
		t.Errorf("statuses %v, want a burst of 10, and 429", statuses)
	}
	io.WriteString(kept, "GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")
	if resp, err := http.ReadResponse(in, nil); err != nil || resp.StatusCode != 101 {
		t.Fatalf("upgrade: %v", err)
	}
	if !shown("2001:db8:1:2::/64") {
		t.Error("the address was lost on the way from HTTP to the WebSocket")
	}

	// Over HTTP each request has its own.
	publish := func(source, forwarded string, rfc7239 ...string) int {
		client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true, DialContext: (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}}).DialContext}}
		req, _ := http.NewRequest("POST", "http://"+r.Addr()+"/publish/a.b", strings.NewReader("1"))
		req.Header.Set("X-Forwarded-For", forwarded)
		req.Header["Forwarded"] = rfc7239
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	for range 30 {
		if publish("127.0.0.3", "192.0.2.1") == 429 {
			break
		}
	}
	if a, b := publish("127.0.0.3", "192.0.2.1"), publish("127.0.0.3", "192.0.2.2"); a != 429 || b != 202 {
		t.Errorf("who has published too much: %d; another: %d", a, b)
	}
	for range 30 {
		if publish("127.0.0.3", "127.0.0.1") == 429 {
			break
		}
	}
	if status := publish("127.0.0.3", "127.0.0.1"); status != 429 {
		t.Errorf("who is said to be on loopback: %d", status)
	}
	for range 30 {
		if publish("127.0.0.3", "192.0.2.3", "for=1.2.3.4") == 429 {
			break
		}
	}
	if status := publish("127.0.0.3", "192.0.2.3", "for=1.2.3.4"); status != 429 {
		t.Errorf("who makes up a second header: %d", status)
	}
	if status := publish("127.0.0.4", "192.0.2.1"); status != 202 { // unlimited, and not believed
		t.Errorf("an untrusted forwarder: %d", status)
	}
}
