package auth

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// claimRights is the claim with what a client may do:
//
//	"pushd": {"subscribe": ["stocks.>"], "publish": ["chat.alice.*"]}
const claimRights = "pushd"

// latestDate is the last second of the year 9999. What lies beyond is a
// mistake, such as milliseconds.
const latestDate = 253402300799

// rawClaims are the claims by their exact names, the last where one is there
// twice (RFC 7519 section 4). Their values are read once the signature has been
// verified.
type rawClaims map[string]json.RawMessage

// claims are what this program reads of a token.
type claims struct {
	subject, issuer            string
	audience                   jwt.ClaimStrings
	expires, notBefore, issued *jwt.NumericDate // nil where they are missing
	subscribe, publish         []string
}

// read reads the claims that count here.
func (raw rawClaims) read() (*claims, *Error) {
	c := &claims{}
	for _, claim := range []struct {
		name string
		read func(json.RawMessage) error
	}{
		{"sub", text(&c.subject)},
		{"iss", text(&c.issuer)},
		{"aud", func(value json.RawMessage) error { return readAudience(value, &c.audience) }},
		{"exp", date(&c.expires)},
		{"nbf", date(&c.notBefore)},
		{"iat", date(&c.issued)},
		{claimRights, func(value json.RawMessage) error { return readRights(value, c) }},
	} {
		value, ok := raw[claim.name]
		if !ok {
			continue
		}
		if err := claim.read(value); err != nil {
			return nil, refuse(BadClaims, "claim %s %v", claim.name, err)
		}
	}
	if err := CheckIdentity(c.subject); err != nil {
		return nil, refuse(BadClaims, "claim sub %v: it must say who the client is", err)
	}
	if c.expires == nil {
		return nil, refuse(BadClaims, "claim exp is missing: a token must expire at some time")
	}
	return c, nil
}

// text reads a string, and nothing that is not one: null would be passed over.
func text(into *string) func(json.RawMessage) error {
	return func(value json.RawMessage) error {
		if len(value) == 0 || value[0] != '"' || json.Unmarshal(value, into) != nil {
			return errors.New("must be a string")
		}
		return nil
	}
}

// date reads seconds since 1970 (RFC 7519 section 2, NumericDate). A part of a second is
// cut off.
func date(into **jwt.NumericDate) func(json.RawMessage) error {
	return func(value json.RawMessage) error {
		var seconds float64
		if bytes.Equal(value, []byte("null")) || json.Unmarshal(value, &seconds) != nil || !(seconds >= 0 && seconds <= latestDate) {
			return errors.New("must be a number of seconds since 1970, up to the year 9999")
		}
		*into = &jwt.NumericDate{Time: time.Unix(int64(math.Floor(seconds)), 0)}
		return nil
	}
}

func readAudience(value json.RawMessage, into *jwt.ClaimStrings) error {
	var one string
	if text(&one)(value) == nil {
		*into = jwt.ClaimStrings{one}
		return nil
	}
	many, err := texts(value)
	if err != nil {
		return errors.New("must be a string or an array of strings")
	}
	*into = many
	return nil
}

// readRights takes a name that it does not know for a mistake: what the issuer
// meant to allow or to forbid by it would be lost.
func readRights(value json.RawMessage, c *claims) error {
	const want = `must be an object such as {"subscribe":["stocks.>"],"publish":["chat.alice.*"]}`
	var lists map[string]json.RawMessage
	if json.Unmarshal(value, &lists) != nil || lists == nil {
		return errors.New(want)
	}
	for name, value := range lists {
		patterns, err := texts(value)
		switch {
		case err != nil:
			return errors.New(want)
		case name == string(Subscribe):
			c.subscribe = patterns
		case name == string(Publish):
			c.publish = patterns
		default:
			return errors.New(want)
		}
	}
	return nil
}

// texts reads an array of strings.
func texts(value json.RawMessage) ([]string, error) {
	var many []json.RawMessage
	if err := json.Unmarshal(value, &many); err != nil || many == nil {
		return nil, errors.New("must be an array of strings")
	}
	list := make([]string, len(many))
	for i, element := range many {
		if err := text(&list[i])(element); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// The methods by which the library reads claims.

func (rawClaims) GetExpirationTime() (*jwt.NumericDate, error) { return nil, nil }
func (rawClaims) GetNotBefore() (*jwt.NumericDate, error)      { return nil, nil }
func (rawClaims) GetIssuedAt() (*jwt.NumericDate, error)       { return nil, nil }
func (rawClaims) GetIssuer() (string, error)                   { return "", nil }
func (rawClaims) GetSubject() (string, error)                  { return "", nil }
func (rawClaims) GetAudience() (jwt.ClaimStrings, error)       { return nil, nil }

func (c *claims) GetExpirationTime() (*jwt.NumericDate, error) { return c.expires, nil }
func (c *claims) GetNotBefore() (*jwt.NumericDate, error)      { return c.notBefore, nil }
func (c *claims) GetIssuedAt() (*jwt.NumericDate, error)       { return c.issued, nil }
func (c *claims) GetIssuer() (string, error)                   { return c.issuer, nil }
func (c *claims) GetSubject() (string, error)                  { return c.subject, nil }
func (c *claims) GetAudience() (jwt.ClaimStrings, error)       { return c.audience, nil }
