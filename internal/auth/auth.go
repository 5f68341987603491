// Package auth says who a client is and what it may do: tokens, API keys,
// certificates, and the permissions that go with them. It knows no socket and
// no NATS.
package auth

import (
	"crypto/x509"
	"time"
)

// Grant is what valid credentials say of a client.
type Grant struct {
	Identity string    // claim "sub", name of the API key, or subject of the certificate
	Expires  time.Time // from when on it does not hold any more; zero: never
	Rights   *Rights   // never nil
}

// Rights is what a client may do. It is immutable, and shared by all that have
// the same: a million clients of one kind have one.
type Rights struct {
	subscribe, publish []string // patterns
}

// Credentials are what a client has shown: nothing at all is the zero value.
type Credentials struct {
	Bearer      string            // a JWT or an API key
	Certificate *x509.Certificate // already verified by TLS
}

// Reason is why credentials were refused: log word and metric label.
type Reason string

// Why credentials are refused.
const (
	Missing      Reason = "missing"       // there are none
	Malformed    Reason = "malformed"     // no JWT and no API key
	TooLarge     Reason = "too_large"     // longer than a header may be
	BadAlgorithm Reason = "bad_algorithm" // none, or one that no key here is for
	BadSignature Reason = "bad_signature" // of no key that is known here
	UnknownKey   Reason = "unknown_key"   // an API key, or a key ID, that nobody knows
	Expired      Reason = "expired"       // claim exp
	NotYetValid  Reason = "not_yet_valid" // claims nbf and iat
	BadIssuer    Reason = "bad_issuer"    // claim iss
	BadAudience  Reason = "bad_audience"  // claim aud
	BadClaims    Reason = "bad_claims"    // a claim is of a wrong kind, or no sub, or no exp
	KeysAway     Reason = "keys_away"     // the key set cannot be fetched: try again
)

// Error is why credentials were refused.
type Error struct {
	Reason Reason
	Detail string // for the client: what was wrong; never a secret
}

func (e *Error) Error() string { return string(e.Reason) + ": " + e.Detail }
