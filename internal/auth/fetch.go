package auth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// When a key set is fetched: at the start, then every refreshEvery, and at
// once where a token names a key that it does not have, which is how issuers
// change keys; but never sooner than leastPause after the last time, since
// anybody can make up key IDs. Failures are repeated after retryFirst, then
// after twice as long each time, up to refreshEvery.
const (
	refreshEvery = 5 * time.Minute
	leastPause   = 10 * time.Second
	retryFirst   = time.Second
	fetchTimeout = 10 * time.Second
	longestWait  = 2 * time.Second // of a client, for a fetch that is under way
	maxRedirects = 3
)

// keySet is the JWK set of a URL. The keys of the last fetch that brought some
// hold until the next that does.
type keySet struct {
	// Static.
	url    string
	client *http.Client
	log    *slog.Logger
	pause  time.Duration      // leastPause, but for tests
	cancel context.CancelFunc // ends run
	ended  chan struct{}      // closed by run
	wanted chan struct{}      // asks run for a fetch

	// Atomic.
	current         atomic.Pointer[[]key] // nil: nothing was fetched yet
	fetched, failed atomic.Uint64

	mu      sync.Mutex
	last    time.Time     // end of the last fetch
	wrong   bool          // it brought nothing
	flight  chan struct{} // closed when the next fetch is over
	waiting bool          // somebody waits for that, which is enough
	slow    bool          // somebody has, for as long as one may
}

// openKeySet begins to fetch.
func openKeySet(address string, log *slog.Logger) (*keySet, error) {
	if err := CheckKeySetURL(address); err != nil {
		return nil, fmt.Errorf("--jwks-url %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &keySet{
		url: address, log: log, pause: leastPause, cancel: cancel, ended: make(chan struct{}), wanted: make(chan struct{}, 1), flight: make(chan struct{}),
		client: newFetcher(),
	}
	go s.run(ctx)
	return s, nil
}

// newFetcher returns what key sets are fetched with.
func newFetcher() *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DisableKeepAlives = true // one request in minutes
	transport.MaxResponseHeaderBytes = 64 << 10
	return &http.Client{Transport: transport, Timeout: fetchTimeout, CheckRedirect: func(r *http.Request, via []*http.Request) error {
		if len(via) > maxRedirects {
			return fmt.Errorf("more than %d redirects", maxRedirects)
		}
		if !safe(r.URL) {
			return errors.New("redirected to a URL that is not https://")
		}
		return nil
	}}
}

// CheckKeySetURL reports whether a key set may be fetched from address, where
// nobody on the way can put keys of his own in the place of the issuer's.
func CheckKeySetURL(address string) error {
	u, err := url.Parse(address)
	if err != nil || !safe(u) || u.User != nil {
		return errors.New("must be an https:// URL, or http:// on this machine (127.0.0.1), without a password: whoever can change what comes from there can make tokens")
	}
	return nil
}

func safe(u *url.URL) bool {
	host := u.Hostname()
	ip := net.ParseIP(host)
	local := strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback()
	return host != "" && (u.Scheme == "https" || u.Scheme == "http" && local)
}

func (s *keySet) close() {
	s.cancel()
	<-s.ended
}

func (s *keySet) keys() []key {
	if keys := s.current.Load(); keys != nil {
		return *keys
	}
	return nil
}

// lookup returns the keys, fetched anew where none of them has the ID of a
// token, unless it is known elsewhere. The error says that what is missing may be
// there once the set has been fetched.
func (s *keySet) lookup(ctx context.Context, id string, known bool) ([]key, *Error) {
	if s.has(id, known) {
		return s.keys(), nil
	}
	tried := s.refresh(ctx)
	if s.has(id, known) {
		return s.keys(), nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !tried || s.wrong || s.current.Load() == nil {
		return s.keys(), refuse(KeysAway, "the keys to verify tokens with cannot be fetched: try again later")
	}
	return s.keys(), nil
}

func (s *keySet) has(id string, known bool) bool {
	keys := s.current.Load()
	if known || keys == nil || id == "" {
		return known || keys != nil
	}
	for _, k := range *keys {
		if k.id == id {
			return true
		}
	}
	return false
}

// refresh has the set fetched where that is due, and waits for it, but never
// two at a time, nor for what somebody has waited for in vain: whoever waits
// holds a worker up, and anybody can make up key IDs. It reports whether the
// keys that are held now are those of a fetch of late.
func (s *keySet) refresh(ctx context.Context) (tried bool) {
	s.mu.Lock()
	if !s.last.IsZero() && time.Since(s.last) < s.pause {
		s.mu.Unlock()
		return true
	}
	select {
	case s.wanted <- struct{}{}:
	default: // somebody has asked already
	}
	if s.waiting || s.slow || s.wrong && s.current.Load() != nil {
		s.mu.Unlock()
		return false
	}
	s.waiting = true
	flight := s.flight
	s.mu.Unlock()

	wait := time.NewTimer(longestWait)
	defer wait.Stop()
	late := false
	select {
	case <-flight:
		tried = true
	case <-wait.C:
		late = true
	case <-ctx.Done():
	case <-s.ended:
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting = false
	s.slow = s.slow || late && s.flight == flight
	return tried
}

func (s *keySet) run(ctx context.Context) {
	defer close(s.ended)
	retry := retryFirst
	for {
		err := s.fetch(ctx)
		if ctx.Err() != nil {
			return
		}
		next := refreshEvery
		if err != nil {
			next = retry
			retry = min(2*retry, refreshEvery)
			s.failed.Add(1)
			s.log.Warn("cannot fetch the keys of tokens", "url", s.shown(), "error", err, "keys_held", len(s.keys()), "retry_in", next)
		} else {
			retry = retryFirst
			s.fetched.Add(1)
		}
		s.landed(err)

		due := time.NewTimer(next)
		select {
		case <-ctx.Done():
		case <-due.C:
		case <-s.wanted:
		}
		due.Stop()
		if ctx.Err() != nil {
			return
		}
	}
}

// landed tells those who wait that a fetch is over.
func (s *keySet) landed(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.wanted: // asked while this one was under way, which has answered it
	default:
	}
	s.last, s.wrong, s.slow = time.Now(), err != nil, false
	close(s.flight)
	s.flight = make(chan struct{})
}

func (s *keySet) fetch(ctx context.Context) error {
	keys, _, err := fetchKeys(ctx, s.client, s.url)
	if err == nil {
		s.current.Store(&keys)
	}
	return err
}

// fetchKeys returns the answer too, whose body is read.
func fetchKeys(ctx context.Context, client *http.Client, address string) ([]key, *http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, nil, err
	}
	request.Header.Set("Accept", "application/jwk-set+json, application/json")
	response, err := client.Do(request)
	if err != nil {
		var failure *url.Error
		if errors.As(err, &failure) {
			err = failure.Err // without the URL, which may have a secret in it
		}
		return nil, nil, err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return nil, response, fmt.Errorf("status %s", response.Status)
	}
	text, err := io.ReadAll(io.LimitReader(response.Body, maxKeyFile+1))
	if err != nil {
		return nil, response, err
	}
	if len(text) > maxKeyFile {
		return nil, response, fmt.Errorf("the answer has more than %d bytes", maxKeyFile)
	}
	keys, err := parseKeySet(text)
	return keys, response, err
}

func (s *keySet) shown() string { return ShownURL(s.url) }

// ShownURL is a URL for people: without password and query.
func ShownURL(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	u.RawQuery, u.Fragment = "", ""
	return u.Redacted()
}
