package server

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pushd/pushd/internal/config"
)

const adminSecret = "0123456789abcdef0123456789abcdef"

func writeToken(t *testing.T, text string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestAdminToken tries everything at a listener that has a token.
func TestAdminToken(t *testing.T) {
	file := writeToken(t, adminSecret+"\n")
	r := start(t, func(c *config.Config) { c.AdminTokenFile = file })
	s := r.subscribed()
	f := func(status int, method, path string, headers ...string) {
		t.Helper()
		got, header, body := r.request(method, "http://"+r.AdminAddr()+path, "", "", headers...)
		if got != status {
			t.Errorf("%s %s with %q: %d %s, want %d", method, path, headers, got, body, status)
		}
		if (status == 401) != (header.Get("WWW-Authenticate") != "") {
			t.Errorf("%s %s: %d with WWW-Authenticate %q", method, path, got, header.Get("WWW-Authenticate"))
		}
		if strings.Contains(body, adminSecret) {
			t.Error("an answer holds the token")
		}
	}
	for _, path := range []string{"/metrics", "/connections", "/drain", "/debug/topics", "/debug/pprof/", "/debug/pprof/cmdline", "/nothing", "/statistics", "/ws", "/connections/x"} {
		f(401, "GET", path)
	}
	f(401, "POST", "/drain")
	f(401, "DELETE", "/drain")
	f(401, "POST", "/identities/alice/disconnect")
	f(401, "GET", "/metrics", "Authorization", "Bearer ")
	f(401, "GET", "/metrics", "Authorization", "Bearer "+adminSecret[1:])
	f(401, "GET", "/metrics", "Authorization", "Bearer "+adminSecret+"x")
	f(401, "GET", "/metrics", "Authorization", "Basic "+adminSecret)
	f(401, "GET", "/metrics", "Authorization", adminSecret)
	f(401, "GET", "/metrics?token="+adminSecret)
	f(200, "GET", "/metrics", "Authorization", "Bearer "+adminSecret)
	f(200, "GET", "/metrics", "Authorization", "bearer "+adminSecret, "Host", "x", "Origin", "https://grafana.example.com")
	f(404, "GET", "/nothing", "Authorization", "Bearer "+adminSecret)
	f(405, "POST", "/metrics", "Authorization", "Bearer "+adminSecret)
	f(200, "GET", "/healthz")
	f(200, "GET", "/readyz")
	if got := r.quota.Open(); got != 1 {
		t.Errorf("%d connections, of 1", got)
	}
	s.send(`{"type":"ping"}`)
	s.want("pong")

	// A new token holds at once, and what is no token lets nobody in.
	other := strings.Repeat("n", 40)
	if err := os.WriteFile(file, []byte(other), 0o600); err != nil {
		t.Fatal(err)
	}
	f(401, "GET", "/metrics", "Authorization", "Bearer "+adminSecret)
	f(200, "GET", "/metrics", "Authorization", "Bearer "+other)
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f(500, "GET", "/metrics", "Authorization", "Bearer ")
	f(500, "GET", "/metrics")
	f(200, "GET", "/healthz")
}

// TestAdminTokenUnfit does not start with a token that is none.
func TestAdminTokenUnfit(t *testing.T) {
	f := func(file, want string) {
		t.Helper()
		cfg := config.Default()
		cfg.Listen, cfg.Admin, cfg.NATSListen, cfg.Store = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", "memory"
		cfg.AdminTokenFile = file
		s, err := New(cfg, slog.New(slog.DiscardHandler))
		if s != nil || err == nil || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
	missing := filepath.Join(t.TempDir(), "missing")
	f(missing, "cannot read the admin token in "+missing+": no such file or directory: correct --admin-token-file")
	short := writeToken(t, " 0123456789abcdef0123456789abcde \n")
	f(short, "the admin token in "+short+" has 31 characters, but must have at least 32: openssl rand -hex 32 makes a good one")
}

// TestAdminBrowser is what pages in a browser of the same machine can send to a
// listener without a token, one that rebinds its name included.
func TestAdminBrowser(t *testing.T) {
	r := start(t)
	f := func(status int, method, host string, headers ...string) {
		t.Helper()
		req := httptest.NewRequest(method, "http://127.0.0.1/drain", nil)
		req.Host = host
		for i := 0; i < len(headers); i += 2 {
			req.Header.Set(headers[i], headers[i+1])
		}
		w := httptest.NewRecorder()
		r.admin.Handler.ServeHTTP(w, req)
		if w.Code != status {
			t.Errorf("%s with Host %q and %q: %d %s, want %d", method, host, headers, w.Code, w.Body, status)
		}
	}
	f(200, "GET", "127.0.0.1:8081")
	f(200, "GET", "[::1]:8081")
	f(200, "GET", "::1")
	f(200, "GET", "LocalHost:8081")
	f(200, "GET", "localhost", "Sec-Fetch-Site", "none") // typed into the address bar
	f(200, "GET", "localhost", "Sec-Fetch-Site", "same-origin")
	for _, host := range []string{"evil.example", "evil.example:8081", "127.0.0.1.evil.example", "localhost.evil.example", "", ":8081", "127.0.0.1@evil.example", "0x7f.1"} {
		f(403, "GET", host)
		f(403, "POST", host)
	}
	for _, method := range []string{"GET", "POST", "DELETE", "OPTIONS"} {
		f(403, method, "127.0.0.1:8081", "Origin", "https://evil.example")
		f(403, method, "127.0.0.1:8081", "Origin", "null")
		f(403, method, "127.0.0.1:8081", "Sec-Fetch-Site", "cross-site")
		f(403, method, "127.0.0.1:8081", "Sec-Fetch-Site", "same-site")
	}
	if r.draining.ordered() {
		t.Error("a page has begun a drain")
	}
	text := r.adminGet("/metrics")
	for _, line := range []string{`pushd_admin_refused_total{reason="bad_host"} 16`, `pushd_admin_refused_total{reason="cross_site"} 16`, `pushd_admin_refused_total{reason="unauthorized"} 0`} {
		if !strings.Contains(text, "\n"+line+"\n") {
			t.Errorf("/metrics lacks %s", line)
		}
	}
	_, header, _ := r.request("GET", "http://"+r.AdminAddr()+"/debug/pprof/", "", "")
	for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
		"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"} {
		if got := header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// TestAdminNamed lets through the name that --admin itself has.
func TestAdminNamed(t *testing.T) {
	g := &adminGuard{host: "Pushd.Internal"}
	for host, allowed := range map[string]bool{"pushd.internal:8081": true, "other.internal:8081": false} {
		req := httptest.NewRequest(http.MethodGet, "/", nil)
		req.Host = host
		if reason, refused := g.checkBrowser(req); (refused == nil) != allowed {
			t.Errorf("%s: %s", host, reason)
		}
	}
}
