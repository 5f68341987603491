package auth

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"
)

const (
	maxToken    = 8 << 10 // bytes, as much as a header may have
	maxIdentity = 256     // bytes
)

// tokens verifies JWTs (RFC 7519) in the compact form of JWS (RFC 7515). What
// the header says of keys (jwk, jku, x5c, x5u) is not looked at.
type tokens struct {
	// Static.
	parser   *jwt.Parser
	claims   *jwt.Validator
	issuer   string // "": any
	leeway   time.Duration
	keysFor  func(ctx context.Context, algorithm, id string) ([]key, *Error)
	interned *interner
}

func newTokens(c Config, keysFor func(context.Context, string, string) ([]key, *Error), interned *interner) *tokens {
	claims := []jwt.ParserOption{jwt.WithExpirationRequired(), jwt.WithIssuedAt(), jwt.WithLeeway(c.Leeway)}
	if c.Issuer != "" {
		claims = append(claims, jwt.WithIssuer(c.Issuer))
	}
	if c.Audience != "" {
		claims = append(claims, jwt.WithAudience(c.Audience))
	}
	return &tokens{
		parser:   jwt.NewParser(jwt.WithValidMethods(algorithms), jwt.WithStrictDecoding(), jwt.WithoutClaimsValidation()),
		claims:   jwt.NewValidator(claims...),
		issuer:   c.Issuer,
		leeway:   c.Leeway,
		keysFor:  keysFor,
		interned: interned,
	}
}

func refuse(reason Reason, format string, args ...any) *Error {
	return &Error{Reason: reason, Detail: fmt.Sprintf(format, args...)}
}

// authenticate checks the signature before it looks at any claim.
func (t *tokens) authenticate(ctx context.Context, text string) (Grant, *Error) {
	if err := checkShape(text); err != nil {
		return Grant{}, err
	}
	var raw rawClaims
	token, err := t.parser.ParseWithClaims(text, &raw, func(token *jwt.Token) (any, error) {
		keys, err := t.candidates(ctx, token)
		if err != nil {
			return nil, err
		}
		return keys, nil
	})
	if err != nil {
		return Grant{}, explainSignature(token, err)
	}
	c, refused := raw.read()
	if refused != nil {
		return Grant{}, refused
	}
	if err := t.claims.Validate(c); err != nil {
		return Grant{}, t.explainClaims(c, err)
	}
	rights, err := t.interned.rights(c.subscribe, c.publish)
	if err != nil {
		return Grant{}, refuse(BadClaims, "claim %s: %v", claimRights, err)
	}
	return Grant{Identity: c.subject, Expires: c.expires.Add(t.leeway), Rights: rights}, nil
}

// checkShape refuses what is no compact JWS before anything is decoded. The
// decoder of base64 would pass over line ends, so that one token had many forms.
func checkShape(text string) *Error {
	if len(text) > maxToken {
		return refuse(TooLarge, "the token has %d bytes, of at most %d", len(text), maxToken)
	}
	dots := 0
	for i := range len(text) {
		switch c := text[i]; {
		case c == '.':
			dots++
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
		default:
			return refuse(Malformed, "byte %d of the token is none of A-Z a-z 0-9 - _ and dot", i)
		}
	}
	if dots != 2 {
		return refuse(Malformed, "the token has %d parts, but a signed one (JWT) has 3; an API key starts with %s", dots+1, apiKeyPrefix)
	}
	return nil
}

// candidates returns the keys to try.
func (t *tokens) candidates(ctx context.Context, token *jwt.Token) (jwt.VerificationKeySet, error) {
	var set jwt.VerificationKeySet
	if _, critical := token.Header["crit"]; critical { // RFC 7515 section 4.1.11
		return set, refuse(Malformed, "the header has crit, and no extension is known here")
	}
	id, ok := token.Header["kid"].(string)
	if _, has := token.Header["kid"]; has && !ok {
		return set, refuse(Malformed, "the header's kid must be a string")
	}
	keys, refused := t.keysFor(ctx, token.Method.Alg(), id)
	if refused != nil {
		return set, refused
	}
	for _, k := range keys {
		set.Keys = append(set.Keys, k.value)
	}
	return set, nil
}

// explainSignature says why a token was refused before its claims were read.
func explainSignature(token *jwt.Token, err error) *Error {
	var refused *Error
	switch {
	case errors.As(err, &refused):
		return refused
	case errors.Is(err, jwt.ErrTokenMalformed):
		return refuse(Malformed, "the token's parts must be base64url of a JSON object, of a JSON object, and of a signature")
	case token.Method == nil, !slices.Contains(algorithms, token.Method.Alg()):
		return refuse(BadAlgorithm, "the header's alg must be %s", strings.Join(algorithms, ", "))
	}
	return refuse(BadSignature, "the signature is not by a key that is known here")
}

// explainClaims says why a token that was once good is refused.
func (t *tokens) explainClaims(c *claims, err error) *Error {
	missing := errors.Is(err, jwt.ErrTokenRequiredClaimMissing) // iss or aud: exp is there
	switch {
	case errors.Is(err, jwt.ErrTokenExpired):
		return refuse(Expired, "the token has expired (claim exp): get a new one")
	case errors.Is(err, jwt.ErrTokenNotValidYet), errors.Is(err, jwt.ErrTokenUsedBeforeIssued):
		return refuse(NotYetValid, "the token is not valid yet (claims nbf and iat): are the clocks right?")
	case errors.Is(err, jwt.ErrTokenInvalidIssuer), missing && t.issuer != "" && c.issuer == "":
		return refuse(BadIssuer, "the token is by another issuer (claim iss) than the one that is trusted here")
	}
	return refuse(BadAudience, "the token is for others (claim aud) than this server")
}

// CheckIdentity reports whether a client may be called identity, which goes
// into logs and messages: 1 to 256 bytes of UTF-8 without control characters.
func CheckIdentity(identity string) error {
	switch {
	case identity == "":
		return errors.New("is empty")
	case len(identity) > maxIdentity:
		return fmt.Errorf("has %d bytes, of at most %d", len(identity), maxIdentity)
	case !utf8.ValidString(identity):
		return errors.New("is not UTF-8")
	case strings.ContainsFunc(identity, unicode.IsControl):
		return errors.New("has control characters")
	}
	return nil
}
