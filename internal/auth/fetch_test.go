package auth

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// publisher serves a key set, or what a test wants instead.
type publisher struct {
	*httptest.Server
	hits   atomic.Int64
	answer atomic.Pointer[http.HandlerFunc]
}

func newPublisher(t *testing.T, answer http.HandlerFunc) *publisher {
	t.Helper()
	p := &publisher{}
	p.answer.Store(&answer)
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.hits.Add(1)
		(*p.answer.Load())(w, r)
	}))
	t.Cleanup(p.Close)
	return p
}

func text200(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) }
}

func fails(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }

func (p *publisher) publish(answer http.HandlerFunc) { p.answer.Store(&answer) }

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(testTimeout); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("never: " + what)
		}
	}
}

// openFetched is a service whose set may be fetched again without a pause.
func openFetched(t *testing.T, c Config, pause time.Duration) *Service {
	t.Helper()
	s := openService(t, c)
	s.keySet.mu.Lock()
	s.keySet.pause = pause
	s.keySet.mu.Unlock()
	return s
}

// Keys are fetched once for any number of tokens, and again for a kid that is
// new; what the next set does not have any more is refused.
func TestKeySetRotates(t *testing.T) {
	i, next := keysOf(), newIssuer()
	p := newPublisher(t, text200(setOf(t, setKey(i.ec, "1"))))
	s := openFetched(t, Config{JWKSURL: p.URL}, 0)
	old := i.sign(t, "ES256", claimMap(nil), map[string]any{"kid": "1"})
	for range 10 {
		if got := reasonOf(t, s, old); got != "" {
			t.Fatal(got)
		}
	}
	if n := p.hits.Load(); n != 1 {
		t.Errorf("%d fetches for one set", n)
	}
	p.publish(text200(setOf(t, setKey(next.ec, "2"))))
	if got := reasonOf(t, s, next.sign(t, "ES256", claimMap(nil), map[string]any{"kid": "2"})); got != "" {
		t.Errorf("a new key: %s", got)
	}
	if got := reasonOf(t, s, old); got != UnknownKey {
		t.Errorf("a key that was taken back: %q", got)
	}
	if got := s.Stats(); got.Keys != 1 || got.Fetches < 2 || got.FailedFetches != 0 {
		t.Errorf("%+v", got)
	}
}

// Anybody can make up key IDs: they cause one fetch in a while.
func TestUnknownKeyIDsAreLimited(t *testing.T) {
	i := keysOf()
	p := newPublisher(t, text200(setOf(t, setKey(i.ec, "1"))))
	s := openFetched(t, Config{JWKSURL: p.URL}, time.Hour)
	eventually(t, "fetched", func() bool { return s.Stats().Fetches == 1 })
	forged := i.sign(t, "ES256", claimMap(nil), map[string]any{"kid": "made up"})
	for range 50 {
		if got := reasonOf(t, s, forged); got != UnknownKey {
			t.Fatal(got)
		}
	}
	if n := p.hits.Load(); n != 1 {
		t.Errorf("%d fetches", n)
	}
}

// A server that starts before its issuer refuses for now, and takes tokens as
// soon as there are keys.
func TestKeySetAwayAtStart(t *testing.T) {
	i := keysOf()
	p := newPublisher(t, fails)
	s := openFetched(t, Config{JWKSURL: p.URL, Secret: testSecret}, 0)
	token := i.sign(t, "EdDSA", claimMap(nil), map[string]any{"kid": "1"})
	if got := reasonOf(t, s, token); got != KeysAway {
		t.Errorf("%q", got)
	}
	if got := reasonOf(t, s, i.sign(t, "HS256", claimMap(nil), map[string]any{"kid": "1"})); got != "" {
		t.Errorf("a token that needs no set: %q", got)
	}
	p.publish(text200(setOf(t, setKey(i.ed25519, "1"))))
	eventually(t, "accepted", func() bool { return reasonOf(t, s, token) == "" })
}

// What was fetched holds through an outage of any kind.
func TestKeySetOutage(t *testing.T) {
	i := keysOf()
	for name, broken := range map[string]http.HandlerFunc{
		"503":       fails,
		"no JSON":   text200("<html>"),
		"no keys":   text200(`{"keys":[]}`),
		"too large": text200(strings.Repeat(" ", maxKeyFile) + setOf(t, setKey(i.rsa, "2"))),
		"cut": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			_, _ = io.WriteString(w, `{"keys":[`)
		},
		"redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://pushd.invalid/", http.StatusFound)
		},
		"redirects": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/"+r.URL.Path, http.StatusFound) },
	} {
		p := newPublisher(t, text200(setOf(t, setKey(i.ec, "1"))))
		log := &lockedText{}
		s := openFetched(t, Config{JWKSURL: p.URL, Log: slog.New(slog.NewTextHandler(log, nil))}, 0)
		eventually(t, "fetched", func() bool { return s.Stats().Fetches == 1 })
		p.publish(broken)
		if got := reasonOf(t, s, i.sign(t, "ES256", claimMap(nil), map[string]any{"kid": "new"})); got != KeysAway {
			t.Errorf("%s: %q for a key that may be there once the set is back", name, got)
		}
		if name == "redirect" && !strings.Contains(log.String(), "redirected to a URL that is not https://") {
			t.Errorf("followed to where anybody can answer: %s", log)
		}
		if got := s.Stats(); got.FailedFetches == 0 || got.Keys != 1 {
			t.Errorf("%s: %+v", name, got)
		}
		if got := reasonOf(t, s, i.sign(t, "ES256", claimMap(nil), map[string]any{"kid": "1"})); got != "" {
			t.Errorf("%s: %q for a key that was there", name, got)
		}
	}
}

// A fetch that hangs holds up one who waits for it, once: all others are told at
// once to try again, so that made up key IDs do not take the time of everybody.
func TestKeySetHangs(t *testing.T) {
	i := keysOf()
	reached, end := make(chan struct{}, 8), make(chan struct{})
	p := newPublisher(t, func(http.ResponseWriter, *http.Request) {
		reached <- struct{}{}
		<-end
	})
	s := openFetched(t, Config{JWKSURL: p.URL}, time.Hour)
	t.Cleanup(func() { close(end) }) // before the publisher waits for its requests
	<-reached
	forged := i.sign(t, "ES256", claimMap(nil), map[string]any{"kid": "made up"})
	waits := func() bool {
		s.keySet.mu.Lock()
		defer s.keySet.mu.Unlock()
		return s.keySet.waiting
	}
	first := make(chan Reason, 1)
	go func() { first <- reasonOf(t, s, forged) }()
	eventually(t, "one waits", waits)
	for range 100 { // who waits for any of these waits for the test's end
		if got := reasonOf(t, s, forged); got != KeysAway {
			t.Fatal(got)
		}
	}
	if !waits() {
		t.Error("the first does not wait any more: the others have waited too")
	}
	if got := <-first; got != KeysAway {
		t.Error(got)
	}
	for range 100 {
		if got := reasonOf(t, s, forged); got != KeysAway {
			t.Fatal(got)
		}
		if waits() {
			t.Fatal("one waits again for the same fetch")
		}
	}
}

// Close ends a fetch that is under way, and whoever waits for it.
func TestKeySetClosesWhileFetching(t *testing.T) {
	i := keysOf()
	reached := make(chan struct{}, 1)
	p := newPublisher(t, func(_ http.ResponseWriter, r *http.Request) {
		reached <- struct{}{}
		<-r.Context().Done()
	})
	s, err := Open(Config{JWKSURL: p.URL})
	if err != nil {
		t.Fatal(err)
	}
	<-reached
	ctx, cancel := context.WithCancel(testContext(t))
	cancel()
	if _, err := s.Authenticate(ctx, Credentials{Bearer: i.sign(t, "ES256", claimMap(nil), nil)}); err == nil || err.(*Error).Reason != KeysAway {
		t.Errorf("a client that has gone: %v", err)
	}
	answered := make(chan Reason)
	token := i.sign(t, "ES256", claimMap(nil), nil)
	go func() { answered <- reasonOf(t, s, token) }()
	s.Close()
	if got := <-answered; got != KeysAway {
		t.Errorf("%q", got)
	}
}

// The log of a failure has no part of the URL that may be secret.
func TestKeySetLog(t *testing.T) {
	p := newPublisher(t, fails)
	log := &lockedText{}
	s := openService(t, Config{JWKSURL: p.URL + "/keys?code=secret", Log: slog.New(slog.NewTextHandler(log, nil))})
	eventually(t, "failed", func() bool { return s.Stats().FailedFetches > 0 })
	eventually(t, "logged", func() bool { return log.String() != "" })
	if text := log.String(); strings.Contains(text, "secret") || !strings.Contains(text, "/keys") || !strings.Contains(text, "503") {
		t.Error(text)
	}
	for _, url := range []string{"http://issuer.example/keys", "https://user:secret@issuer.example/", "issuer"} {
		if _, err := Open(Config{JWKSURL: url}); err == nil || !strings.HasPrefix(err.Error(), "--jwks-url must be an https:// URL") || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", url, err)
		}
	}
}

type lockedText struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lockedText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lockedText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
