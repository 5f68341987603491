package auth

import (
	"context"
	"crypto/sha256"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Config is what credentials are checked against. The zero Config checks none.
type Config struct {
	Secret     string   // for HS256, itself; "" for none
	SecretFile string   // that has it, or ""
	KeyFiles   []string // with public keys: PEM, or a JWK set
	JWKSURL    string   // of a JWK set, or ""

	Issuer   string        // that a token has to name as iss; "" for any
	Audience string        // that a token has to name in aud; "" for any
	Leeway   time.Duration // by which clocks may differ

	APIKeys      []APIKey
	Certificates *Permissions // what those with a client certificate may do; nil: certificates are no credentials

	Log *slog.Logger // nil: none
}

// Permissions are patterns, see [NewRights].
type Permissions struct{ Subscribe, Publish []string }

// Stats are counts since the start, and what is in use.
type Stats struct {
	Keys          int    // to verify tokens with
	Fetches       uint64 // of the key set, that brought one
	FailedFetches uint64
}

// Service checks credentials. Safe for use by several goroutines.
type Service struct {
	// Static.
	config   Config
	tokens   *tokens
	apiKeys  apiKeys
	certs    *Rights // nil: certificates are no credentials
	keySet   *keySet // nil: there is no URL
	interned *interner

	// Atomic.
	files atomic.Pointer[[]key] // of the files, and the secret; replaced as a whole

	// Guarded by mu.
	mu    sync.Mutex
	seen  [sha256.Size]byte // digest of the files as they were last read
	tried [sha256.Size]byte // the same, when that was last put in force, or found to be broken
}

// Open reads all keys but those of the URL, which are fetched from now on
// whenever that answers. It returns nil where c has no source of credentials.
// Close what it returns.
func Open(c Config) (*Service, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Secret == "" && c.SecretFile == "" && len(c.KeyFiles) == 0 && c.JWKSURL == "" && len(c.APIKeys) == 0 && c.Certificates == nil {
		return nil, nil
	}
	s := &Service{config: c, interned: &interner{}}
	var err error
	if s.apiKeys, err = newAPIKeys(c.APIKeys, s.interned); err != nil {
		return nil, err
	}
	if c.Certificates != nil {
		if s.certs, err = s.interned.rights(c.Certificates.Subscribe, c.Certificates.Publish); err != nil {
			return nil, describe("client_certificates", err)
		}
	}
	if err := s.Reload(); err != nil {
		return nil, err
	}
	if c.JWKSURL != "" {
		if s.keySet, err = openKeySet(c.JWKSURL, c.Log); err != nil {
			return nil, err
		}
	}
	s.tokens = newTokens(c, s.keysFor, s.interned)
	return s, nil
}

// Close ends what is under way. Nothing may be asked any more.
func (s *Service) Close() {
	if s.keySet != nil {
		s.keySet.close()
	}
}

// Stats returns counts for metrics.
func (s *Service) Stats() Stats {
	stats := Stats{Keys: len(*s.files.Load())}
	if s.keySet != nil {
		stats.Keys += len(s.keySet.keys())
		stats.Fetches, stats.FailedFetches = s.keySet.fetched.Load(), s.keySet.failed.Load()
	}
	return stats
}

// Authenticate checks the bearer, or the certificate where there is none: who
// shows a bearer that is refused is refused, whatever else he shows. It may wait for
// keys to be fetched: it is not for an event loop. The error is an *[Error].
func (s *Service) Authenticate(ctx context.Context, c Credentials) (Grant, error) {
	grant, err := s.authenticate(ctx, c)
	if err != nil {
		return Grant{}, err
	}
	return grant, nil
}

func (s *Service) authenticate(ctx context.Context, c Credentials) (Grant, *Error) {
	switch {
	case strings.HasPrefix(c.Bearer, apiKeyPrefix):
		return s.apiKeys.authenticate(c.Bearer)
	case c.Bearer != "":
		return s.tokens.authenticate(ctx, c.Bearer)
	case c.Certificate != nil && s.certs != nil:
		return authenticateCertificate(c.Certificate, s.certs)
	}
	return Grant{}, refuse(Missing, "show a token or an API key: Authorization: Bearer …")
}

// keysFor returns the keys that can have signed a token: those of its
// algorithm and key ID or, where none has that ID, those of the algorithm that
// have none, as those of PEM files. A token without an ID can be by any key.
func (s *Service) keysFor(ctx context.Context, algorithm, id string) ([]key, *Error) {
	all := *s.files.Load()
	var away *Error
	if s.keySet != nil && algorithm != algorithmHS256 { // which no published key is for
		var fetched []key
		fetched, away = s.keySet.lookup(ctx, id, slices.ContainsFunc(all, named(id)))
		all = slices.Concat(all, fetched)
	}
	all = slices.DeleteFunc(slices.Clone(all), func(k key) bool { return k.algorithm != algorithm })
	found := all
	if id != "" {
		found = slices.DeleteFunc(slices.Clone(all), func(k key) bool { return k.id != id })
		if len(found) == 0 {
			found = slices.DeleteFunc(slices.Clone(all), func(k key) bool { return k.id != "" })
		}
	}
	switch {
	case len(found) > maxTried:
		return nil, refuse(UnknownKey, "there are %d keys for %s: a token must name its own (kid)", len(found), algorithm)
	case len(found) > 0:
		return found, nil
	case away != nil:
		return nil, away
	case len(all) == 0:
		return nil, refuse(BadAlgorithm, "no key here is for %s", algorithm)
	}
	return nil, refuse(UnknownKey, "no key here has the ID (kid) that the token names")
}
