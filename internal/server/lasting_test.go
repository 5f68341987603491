package server

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pushd/pushd/internal/config"
)

// dialLines begins a request of NDJSON that does not end, and publishes a line.
func (r *running) dialLines(token string) (net.Conn, *bufio.Reader) {
	r.t.Helper()
	c, err := net.Dial("tcp", r.Addr())
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	const line = `{"topic":"a.b","data":1}` + "\n"
	fmt.Fprintf(c, "POST /publish HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\nAuthorization: Bearer %s\r\n\r\n%x\r\n%s\r\n", token, len(line), line)
	return c, bufio.NewReader(c)
}

// TestDisconnectLines ends the requests of an identity that go on and on, and
// counts them among its connections while they do.
func TestDisconnectLines(t *testing.T) {
	r := secure(t, func(c *config.Config) { c.MaxConnectionsPerIdentity = 1 })
	alice, bob := tokenFor(t, "alice", may{publish: ">"}, time.Hour), tokenFor(t, "bob", may{publish: ">"}, time.Hour)
	_, hers := r.dialLines(alice)
	_, his := r.dialLines(bob)
	for _, in := range []*bufio.Reader{hers, his} {
		wantLine(t, in, `"topic":"a.b"`)
	}
	if n := r.metric("pushd_identities"); n != "2" {
		t.Errorf("%s identities are connected, want 2", n)
	}
	if a := r.upgrade("token=" + alice); a.status != 429 {
		t.Errorf("a second connection of an identity that may have one: %d %s", a.status, a.body)
	}
	_, second := r.dialLines(alice)
	wantLine(t, second, "429 Too Many Requests")

	var did disconnected
	r.do(200, "POST", "/identities/alice/disconnect", &did)
	if did.Disconnected != 1 {
		t.Errorf("%+v", did)
	}
	if _, err := io.Copy(io.Discard, hers); err != nil { // to its end
		t.Error(err)
	}
	eventually(t, "it is not counted any more", func() bool { return r.metric("pushd_identities") == "1" })
	r.do(200, "POST", "/identities/alice/disconnect", &did)
	if did.Disconnected != 0 {
		t.Errorf("again: %+v", did)
	}
	r.do(200, "POST", "/identities/bob/disconnect", &did)
	if did.Disconnected != 1 {
		t.Errorf("%+v", did)
	}
}

// TestListLines lists such requests beside connections, until they end.
func TestListLines(t *testing.T) {
	r := secure(t, func(c *config.Config) { c.TrustForwarded = []string{"127.0.0.1/32"} })
	hers, in := r.dialLines(tokenFor(t, "alice", may{publish: ">"}, time.Hour))
	wantLine(t, in, `"topic":"a.b"`)
	his, in := r.dialLines(tokenFor(t, "bob", may{publish: ">"}, time.Hour) + "\r\nX-Forwarded-For: 203.0.113.7")
	wantLine(t, in, `"topic":"a.b"`)
	alice := requestInfo{Identity: "alice", Peer: hers.LocalAddr().String()}
	bob := requestInfo{Identity: "bob", Peer: his.LocalAddr().String(), Address: "203.0.113.7"}
	f := func(query string, want ...requestInfo) {
		t.Helper()
		got := r.connections(query).Requests
		for i := range got {
			got[i].BegunMS = 0
		}
		slices.SortFunc(got, func(a, b requestInfo) int { return strings.Compare(a.Identity, b.Identity) })
		if !slices.Equal(got, want) {
			t.Errorf("%s: %+v, want %+v", query, got, want)
		}
	}
	f("", alice, bob)
	f("identity=alice", alice)
	f("address=203.0.113.0/24", bob)
	f("topic=a.b") // they get nothing
	f("after=1-0") // they were on the first page
	hers.Close()
	eventually(t, "hers is over", func() bool { return len(r.connections("").Requests) == 1 })
	f("", bob)

	open := start(t) // nobody is known there
	c, in := open.dialLines("")
	wantLine(t, in, `"topic":"a.b"`)
	if got := open.connections("").Requests; len(got) != 1 || got[0].Peer != c.LocalAddr().String() {
		t.Errorf("without authentication: %+v", got)
	}
}

// wantLine reads until a line that has part in it.
func wantLine(t *testing.T, in *bufio.Reader, part string) {
	t.Helper()
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			t.Fatalf("no %q: %v", part, err)
		}
		if strings.Contains(line, part) {
			return
		}
	}
}

// TestDisconnectHeld ends a connection whose 101 waits for a verdict.
func TestDisconnectHeld(t *testing.T) {
	r := secure(t, func(c *config.Config) {
		c.Authorize, c.AuthorizeTimeout, c.HandshakeTimeout = "auth.may", time.Minute, time.Minute
	})
	reached := make(chan struct{}, 1)
	nc := r.backend()
	if _, err := nc.Subscribe("auth.may", func(*nats.Msg) { reached <- struct{}{} }); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", r.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "GET /ws?topic=a.b&token=%s HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
		tokenFor(t, "alice", may{}, time.Hour))
	<-reached
	var did disconnected
	r.do(200, "POST", "/identities/alice/disconnect", &did)
	if did.Disconnected != 1 {
		t.Errorf("%+v", did)
	}
	if text, _ := io.ReadAll(c); strings.Contains(string(text), " 101 ") {
		t.Errorf("it was taken all the same: %s", text)
	}
	eventually(t, "it has gone", func() bool { return r.metric("pushd_identities") == "0" })
}
