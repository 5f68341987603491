package server

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pushd/pushd/internal/config"
)

// TestSlowRequests has clients that begin requests over HTTP and do not go on:
// they end by themselves, cost no more than places of their own, and WebSockets
// do not notice.
func TestSlowRequests(t *testing.T) {
	r := start(t, func(c *config.Config) { c.HandshakeTimeout = 300 * time.Millisecond })
	listener := r.subscribed("a.b")
	for name, text := range map[string]string{
		"half a head":                      "GET /healthz HTTP/1.1\r\nHost: x\r\n",
		"half a head on a kept connection": "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /healthz HTTP/1.1\r\nHo",
		"half an upgrade":                  "GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n",
	} {
		c := r.say(r.Addr(), text)
		rest, err := io.ReadAll(c)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s does not end", name)
		}
		if strings.Contains(string(rest), "101 Switching") {
			t.Errorf("%s is answered with %q", name, rest)
		}
	}
	for range maxPlainConns + 20 { // bodies that do not come
		r.say(r.Addr(), "POST /publish/a.b HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\nx")
	}
	eventually(t, "all places of HTTP are taken", func() bool { return r.metric("pushd_http_connections") == fmt.Sprint(maxPlainConns) })
	if status, _, _ := r.http("GET", "/readyz", "", ""); status != 200 {
		t.Errorf("/readyz: %d", status)
	}
	r.subscribed("a.b").send(`{"type":"publish","topic":"a.b","data":1}`)
	listener.wantData("a.b", "1")
	if p := r.plain.http; p.ReadHeaderTimeout <= 0 || p.ReadTimeout <= 0 || p.IdleTimeout <= 0 || p.MaxHeaderBytes > 8<<10 || p.MaxHeaderBytes <= 0 {
		t.Errorf("requests are not bounded: %v, %v, %v, %d", p.ReadHeaderTimeout, p.ReadTimeout, p.IdleTimeout, p.MaxHeaderBytes)
	}
}

// TestAdminSlow has them on the admin listener.
func TestAdminSlow(t *testing.T) {
	r := start(t)
	for i := range 200 {
		r.say(r.AdminAddr(), []string{"", "GET /metrics HTTP/1.1\r\nHo", "POST /drain HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nx"}[i%3])
	}
	if text := r.adminGet("/metrics"); !strings.Contains(text, "pushd_connections") {
		t.Errorf("/metrics: %.200s", text)
	}
	a := r.admin
	if a.ReadHeaderTimeout <= 0 || a.ReadTimeout <= 0 || a.WriteTimeout <= 0 || a.IdleTimeout <= 0 || a.MaxHeaderBytes > 8<<10 || a.MaxHeaderBytes <= 0 {
		t.Errorf("requests are not bounded: %+v", a)
	}
}

// say opens a connection and writes a text.
func (r *running) say(address, text string) net.Conn {
	r.t.Helper()
	return r.sayFrom("127.0.0.1", address, text)
}

// sayFrom does so from an address of loopback, each of which is another's.
func (r *running) sayFrom(source, address, text string) net.Conn {
	r.t.Helper()
	c, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}}).Dial("tcp", address)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, text); err != nil {
		r.t.Fatal(err)
	}
	return c
}
