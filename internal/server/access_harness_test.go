package server

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/golang-jwt/jwt/v5"

	"github.com/pushd/pushd/internal/config"
)

const testSecret = "a secret of 32 bytes or more, so."

// secure runs a server that takes tokens signed with testSecret.
func secure(t testing.TB, change ...func(*config.Config)) *running {
	t.Helper()
	return start(t, append([]func(*config.Config){func(c *config.Config) {
		c.TokenSecret = testSecret
		c.TokenLeeway = 0
	}}, change...)...)
}

// may is what a token permits: patterns, with spaces between them.
type may struct{ subscribe, publish string }

// tokenFor makes a token that ends after a while.
func tokenFor(t testing.TB, identity string, may may, life time.Duration) string {
	t.Helper()
	return sign(t, jwt.MapClaims{
		"sub": identity, "exp": time.Now().Add(life).Unix(),
		"pushd": map[string]any{"subscribe": strings.Fields(may.subscribe), "publish": strings.Fields(may.publish)},
	})
}

func sign(t testing.TB, claims jwt.MapClaims) string {
	t.Helper()
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte(testSecret))
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// ed25519Key makes a key pair, the public half in a file.
func ed25519Key(t testing.TB) (file string, private ed25519.PrivateKey) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return file, private
}

// answer is what a request for an upgrade got.
type answer struct {
	status   int
	header   http.Header
	protocol string
	body     string
	socket   *socket // nil where it was refused
}

// upgrade asks for a WebSocket with header lines "Name: value".
func (r *running) upgrade(query string, lines ...string) (a answer) {
	r.t.Helper()
	url := "ws://" + r.Addr() + "/ws"
	if query != "" {
		url += "?" + query
	}
	header := http.Header{}
	dialer := ws.Dialer{Timeout: patience, Header: ws.HandshakeHeaderHTTP(header)}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		if name == "Sec-WebSocket-Protocol" {
			dialer.Protocols = strings.Split(value, ", ")
			continue
		}
		header.Add(name, value)
	}
	a.header = http.Header{}
	dialer.OnHeader = func(name, value []byte) error { a.header.Add(string(name), string(value)); return nil }
	dialer.OnStatusError = func(status int, _ []byte, rest io.Reader) {
		var b bytes.Buffer
		b.ReadFrom(rest)
		a.status = status
		a.body = b.String()
	}
	c, buffered, handshake, err := dialer.Dial(context.Background(), url)
	if err != nil {
		if a.status == 0 {
			r.t.Fatalf("upgrade: %v", err)
		}
		return a
	}
	r.t.Cleanup(func() { c.Close() })
	a.status, a.protocol = 101, handshake.Protocol
	a.socket = &socket{t: r.t, conn: c, read: c}
	if buffered != nil {
		a.socket.read = io.MultiReader(io.LimitReader(buffered, int64(buffered.Buffered())), c)
	}
	return a
}

// signedIn opens a WebSocket with a token and takes the welcome.
func (r *running) signedIn(token string) *socket {
	r.t.Helper()
	a := r.upgrade("", "Authorization: Bearer "+token)
	if a.socket == nil {
		r.t.Fatalf("refused: %d %s", a.status, a.body)
	}
	a.socket.want("welcome")
	return a.socket
}

// wantError reads an error reply with a code.
func (s *socket) wantError(code string) message {
	s.t.Helper()
	m := s.want("error")
	if m.Code != code {
		s.t.Fatalf("error %s (%s), want %s", m.Code, m.Message, code)
	}
	return m
}

// auth sends a token and returns the reply.
func (s *socket) auth(token string) message {
	s.t.Helper()
	quoted, _ := json.Marshal(token)
	s.send(`{"type":"auth","id":"a","token":` + string(quoted) + `}`)
	return s.receive()
}

// wantNothing asks for a pong, which is to be the next that comes.
func (s *socket) wantNothing() {
	s.t.Helper()
	s.send(`{"type":"ping"}`)
	s.want("pong")
}

// metric reads one series of /metrics.
func (r *running) metric(series string) string {
	r.t.Helper()
	_, _, text := r.request("GET", "http://"+r.AdminAddr()+"/metrics", "", "")
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, series+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// logged is a server's log in memory.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *logged) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}
