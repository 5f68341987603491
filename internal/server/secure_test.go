package server

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gobwas/ws"

	"github.com/pushd/pushd/internal/browsertest"
	"github.com/pushd/pushd/internal/certstest"
	"github.com/pushd/pushd/internal/config"
)

// secured is a server behind TLS.
type secured struct {
	*running
	authority *certstest.Authority
	dir       string // of the certificate's files
	trust     *tls.Config
}

func startSecured(t testing.TB, change ...func(*config.Config)) *secured {
	t.Helper()
	a := certstest.New(t)
	dir := t.TempDir()
	a.Write(dir, a.Server())
	change = append([]func(*config.Config){func(c *config.Config) {
		c.TLSCert, c.TLSKey = []string{filepath.Join(dir, "tls.crt")}, []string{filepath.Join(dir, "tls.key")}
	}}, change...)
	return &secured{start(t, change...), a, dir, &tls.Config{RootCAs: a.Pool, ServerName: "localhost"}}
}

// connect opens a TLS connection.
func (s *secured) connect() *tls.Conn {
	s.t.Helper()
	c, err := tls.Dial("tcp", s.Addr(), s.trust)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	return c
}

// socket opens a WebSocket on a TLS connection, whatever was asked on it before.
func (s *secured) socket(c *tls.Conn, topic string) *socket {
	s.t.Helper()
	fmt.Fprintf(c, "GET /ws?topic=%s HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", topic)
	r := bufio.NewReader(c)
	answer, err := http.ReadResponse(r, nil)
	if err != nil || answer.StatusCode != 101 {
		s.t.Fatalf("%v, %v", answer, err)
	}
	client := &socket{t: s.t, conn: c, read: r}
	client.want("welcome")
	client.want("subscribed")
	return client
}

// On a port with TLS everything is served over it: WebSockets, the page,
// publishing, and an upgrade on a connection that has carried requests.
func TestSecured(t *testing.T) {
	s := startSecured(t)
	listener := s.socket(s.connect(), "chat.%3E")

	c := s.connect()
	r := bufio.NewReader(c)
	ask := func(request string, status int, answer string) {
		t.Helper()
		io.WriteString(c, request)
		got, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(got.Body)
		if err != nil || got.StatusCode != status || !strings.Contains(string(body), answer) {
			t.Errorf("%q: %d %.60q, %v", request, got.StatusCode, body, err)
		}
	}
	ask("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", 200, "alive")
	ask("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", 200, "<!doctype html>")
	ask("POST /publish/chat.lobby HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\n\"hi\"", 202, "chat.lobby")
	listener.wantData("chat.lobby", `"hi"`)
	large := `"` + strings.Repeat("x", 60_000) + `"`
	ask(fmt.Sprintf("POST /publish/chat.lobby HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s", len(large), large), 202, "chat.lobby")
	listener.wantData("chat.lobby", large)

	kept := s.socket(c, "other")
	kept.send(`{"type":"publish","topic":"chat.lobby","data":"over TLS"}`)
	listener.wantData("chat.lobby", `"over TLS"`)
	kept.want("published")

	for _, line := range []string{
		`pushd_tls_handshakes_total{result="full",version="1.3"} 2`,
		`pushd_tls_handshakes_total{result="tls_failed",version=""} 0`,
		`pushd_tls_handshakes_active 0`,
		`pushd_tls_certificate_expiry_seconds{file="` + filepath.Join(s.dir, "tls.crt") + `",name="localhost"} `,
	} {
		if !strings.Contains(s.adminGet("/metrics"), line) {
			t.Errorf("the metrics lack %s", line)
		}
	}
	if err := s.stop(); err != nil {
		t.Error(err)
	}
	if code := listener.wantClose(); code != ws.StatusGoingAway {
		t.Errorf("closed with %d", code)
	}
	if _, err := io.ReadAll(listener.read); err != nil {
		t.Errorf("%v, want an end with close_notify", err)
	}
}

// New certificates are shown to new clients, and nobody is dropped; what is
// broken is not shown.
func TestSecuredReload(t *testing.T) {
	s := startSecured(t)
	old := s.connect()
	listener := s.socket(old, "a.b")
	shown := func() string { return s.connect().ConnectionState().PeerCertificates[0].DNSNames[0] }
	s.authority.Write(s.dir, s.authority.Server("new.example.com", "localhost"))
	s.Reload()
	if got := shown(); got != "new.example.com" {
		t.Errorf("%s is shown after the reload", got)
	}
	broken := s.authority.Server("broken", "localhost")
	broken.PrivateKey = s.authority.Server().PrivateKey
	s.authority.Write(s.dir, broken)
	s.Reload()
	if got := shown(); got != "new.example.com" {
		t.Errorf("%s is shown after a broken reload", got)
	}
	if !strings.Contains(s.adminGet("/metrics"), `name="new.example.com"`) {
		t.Error("the metrics do not have the new certificate")
	}
	s.ask("POST", "/publish/a.b", `1`)
	listener.wantData("a.b", "1")
}

// ask makes a request over TLS with net/http's own client, which would speak HTTP/2 if it could.
func (s *secured) ask(method, path, body string) {
	s.t.Helper()
	client := http.Client{Timeout: patience, Transport: &http.Transport{TLSClientConfig: s.trust, ForceAttemptHTTP2: true, DisableKeepAlives: true}}
	request, err := http.NewRequest(method, s.URL()+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	answer, err := client.Do(request)
	if err != nil {
		s.t.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode/100 != 2 || answer.ProtoMajor != 1 {
		s.t.Errorf("%s %s: %s by %s", method, path, answer.Status, answer.Proto)
	}
}

// Chromium shows the page over either version of TLS, and its WebSocket runs.
func TestSecuredPage(t *testing.T) {
	s := startSecured(t, func(c *config.Config) { c.Demo = true })
	for _, version := range []string{"1.2", "1.3"} {
		t.Run(version, func(t *testing.T) {
			browser := browsertest.Start(t, "ignore-certificate-errors", "ssl-version-max=tls"+version)
			tab := browser.Open(s.URL() + "/")
			tab.Want(`location.protocol === "https:"`)
			tab.Want(`document.querySelector("#state").textContent.includes("live")`)
			tab.Want(`Number(document.querySelector("#count").textContent) >= 2`)
			browser.WantNoTrouble()
			if zero := `result="full",version="` + version + `"} 0`; strings.Contains(s.adminGet("/metrics"), zero) {
				t.Errorf("no handshake was done with TLS %s", version)
			}
		})
	}
}

// With --tls-client-ca alone whoever shows no certificate may do nothing, and
// who shows one what client_certificates says: over WebSockets and HTTP alike.
func TestSecuredCertificate(t *testing.T) {
	a := certstest.New(t)
	s := startSecured(t, func(c *config.Config) {
		c.TLSClientCA = a.File()
		c.ClientCertificates = &config.Permissions{Subscribe: []string{"a.>"}, Publish: []string{"a.>"}}
	})
	publish := func(want int) {
		t.Helper()
		client := http.Client{Timeout: patience, Transport: &http.Transport{TLSClientConfig: s.trust, DisableKeepAlives: true}}
		answer, err := client.Post(s.URL()+"/publish/a.b", "", strings.NewReader("1"))
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		if answer.StatusCode != want {
			t.Errorf("publishing: %s, want %d", answer.Status, want)
		}
	}
	publish(http.StatusUnauthorized)
	s.trust.Certificates = []tls.Certificate{a.Client("sensor-7")}
	listener := s.socket(s.connect(), "a.b")
	publish(http.StatusAccepted)
	listener.wantData("a.b", "1")
}
