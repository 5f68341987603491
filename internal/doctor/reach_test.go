package doctor

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/pushd/pushd/internal/certstest"
	"github.com/pushd/pushd/internal/config"
	"github.com/pushd/pushd/internal/server"
)

// said returns what the doctor says of one thing, a line each.
func said(findings []Finding, subject string) string {
	var lines []string
	for _, f := range findings {
		if strings.HasPrefix(f.Subject, subject) {
			lines = append(lines, fmt.Sprintf("%s %s: %s -> %s", f.Level, f.Subject, f.Text, f.Cure))
		}
	}
	return strings.Join(lines, "\n")
}

// serve runs a pushd until the test ends.
func serve(t *testing.T, change func(*config.Config)) *server.Server {
	t.Helper()
	cfg := config.Default()
	cfg.Listen, cfg.Admin, cfg.NATSListen, cfg.Store = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", "memory"
	change(&cfg)
	s, err := server.New(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return s
}

func TestListeners(t *testing.T) {
	authority := certstest.New(t)
	cert, key := authority.Files(authority.Server("localhost"))
	plain := serve(t, func(*config.Config) {})
	secure := serve(t, func(c *config.Config) { c.TLSCert, c.TLSKey = []string{cert}, []string{key} })
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	taken := other.Addr().String()
	defer other.Close()
	go func() { // says something else
		for {
			c, err := other.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "220 mail.example.com\r\n")
			c.Close()
		}
	}()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free.Close()
	nats := strings.TrimPrefix(plain.NATSURL(), "nats://")

	for _, test := range []struct {
		name, subject string
		change        func(*config.Config)
		want          string
	}{
		{"free", "--listen", func(c *config.Config) { c.Listen = free.Addr().String() }, "ok --listen: " + free.Addr().String() + " is free -> "},
		{"any", "--admin", func(c *config.Config) { c.Admin = "127.0.0.1:0" }, "ok --admin: 127.0.0.1:0: any port that is free -> "},
		{"taken", "--listen", func(c *config.Config) { c.Listen = taken }, "failure --listen: " + taken + " is in use, and not by a pushd -> stop it (ss -ltnp names it), or another --listen"},
		{"a pushd", "--listen", func(c *config.Config) { c.Listen = plain.Addr() }, "ok --listen: " + plain.Addr() + " is in use by a pushd that runs; a second one needs another address -> "},
		{"a pushd's operators", "--admin", func(c *config.Config) { c.Admin = plain.AdminAddr() }, "ok --admin: " + plain.AdminAddr() + " is in use by a pushd that runs; a second one needs another address -> "},
		{"a pushd with TLS", "--listen", func(c *config.Config) { c.Listen, c.TLSCert, c.TLSKey = secure.Addr(), []string{cert}, []string{key} },
			"ok --listen: " + secure.Addr() + " is in use by a pushd that runs; a second one needs another address -> "},
		{"a pushd's NATS", "--nats-listen", func(c *config.Config) { c.NATSListen = nats }, "ok --nats-listen: " + nats + " is in use by a pushd that runs; a second one needs another address -> "},
		{"no NATS", "--nats-listen", func(c *config.Config) { c.NATSListen = taken }, "failure --nats-listen: " + taken + " is in use, and not by a pushd -> stop it (ss -ltnp names it), or another --nats-listen"},
		{"NATS elsewhere", "--nats-listen", func(c *config.Config) { c.NATSListen, c.NATS = taken, []string{plain.NATSURL()} }, ""},
		{"not here", "--listen", func(c *config.Config) { c.Listen = "192.0.2.1:8080" }, "failure --listen: 192.0.2.1:8080: this machine does not have that address -> an address of this machine (ip addr), or 0.0.0.0 or [::] for all"},
	} {
		t.Run(test.name, func(t *testing.T) {
			cfg := config.Default()
			cfg.Listen, cfg.Admin, cfg.NATSListen, cfg.Store = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", "memory"
			test.change(&cfg)
			m := machine(t, nil)
			m.Listen = tryListen
			if got := said(Examine(context.Background(), m, &cfg), test.subject); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

func TestKeySet(t *testing.T) {
	const key = `{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","kid":"a","alg":"EdDSA"}`
	now := time.Now()
	answer := func(text string, headers ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Date", now.UTC().Format(http.TimeFormat))
			for i := 0; i < len(headers); i += 2 {
				w.Header().Set(headers[i], headers[i+1])
			}
			_, _ = io.WriteString(w, text)
		}
	}
	for _, test := range []struct {
		name   string
		answer http.HandlerFunc // nil: nobody is there
		want   string           // URL is that of the set
	}{
		{"well", answer(`{"keys":[` + key + `]}`), "ok --jwks-url: URL has 1 keys -> "},
		{"a cache", answer(`{"keys":[`+key+`]}`, "Age", "300"), "ok --jwks-url: URL has 1 keys -> "},
		{"an old cache", answer(`{"keys":[`+key+`]}`, "Age", "7200", "Date", now.Add(-2*time.Hour).UTC().Format(http.TimeFormat)),
			"warning --jwks-url: URL has 1 keys, of 2h0m0s ago: a cache on the way keeps them, and a new key is known that late -> "},
		{"another clock", answer(`{"keys":[`+key+`]}`, "Date", now.Add(time.Hour).UTC().Format(http.TimeFormat)), "warning --jwks-url clock: differs from that of this machine by "},
		{"nobody", nil, "failure --jwks-url: URL: dial tcp "},
		{"no keys", answer(`{"keys":[]}`), "failure --jwks-url: URL"},
		{"a page", answer(`<html>`), "failure --jwks-url: URL: "},
		{"away", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }, "failure --jwks-url: URL: status 502 Bad Gateway; until it answers"},
	} {
		t.Run(test.name, func(t *testing.T) {
			issuer := httptest.NewServer(test.answer)
			defer issuer.Close()
			if test.answer == nil {
				issuer.Close()
			}
			cfg := config.Default()
			cfg.Store, cfg.JWKSURL = "memory", issuer.URL+"/keys?secret=s"
			got := said(Examine(context.Background(), machine(t, nil), &cfg), "--jwks-url")
			if want := strings.ReplaceAll(test.want, "URL", issuer.URL+"/keys"); !strings.Contains(got, want) || strings.Contains(got, "secret=") {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}

	// One whose certificate this machine does not trust.
	untrusted := httptest.NewUnstartedServer(answer(`{"keys":[` + key + `]}`))
	untrusted.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	untrusted.StartTLS()
	defer untrusted.Close()
	cfg := config.Default()
	cfg.Store, cfg.JWKSURL = "memory", untrusted.URL
	if got := said(Examine(context.Background(), machine(t, nil), &cfg), "--jwks-url"); !strings.HasPrefix(got, "failure ") || !strings.Contains(got, "certificate") {
		t.Errorf("got %s", got)
	}
}
