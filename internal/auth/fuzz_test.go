package auth

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"
)

// signed verifies a signature with nothing but the standard library, and
// another way round: it asks which of the issuer's keys has made it.
func (i *issuer) signed(token string) (algorithm string) {
	at := strings.LastIndexByte(token, '.')
	signature, err := base64.RawURLEncoding.DecodeString(token[at+1:])
	if err != nil {
		return ""
	}
	text := token[:at]
	digest := sha256.Sum256([]byte(text))
	mac := hmac.New(sha256.New, []byte(testSecret))
	mac.Write([]byte(text))
	switch {
	case hmac.Equal(mac.Sum(nil), signature):
		return "HS256"
	case rsa.VerifyPKCS1v15(&i.rsa.PublicKey, crypto.SHA256, digest[:], signature) == nil:
		return "RS256"
	case len(signature) == 64 && ecdsa.Verify(&i.ec.PublicKey, digest[:], new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])):
		return "ES256"
	case len(signature) == ed25519.SignatureSize && ed25519.Verify(i.ed25519.Public().(ed25519.PublicKey), []byte(text), signature):
		return "EdDSA"
	}
	return ""
}

// checkGrant looks at what a bearer was granted, or why it was not.
func checkGrant(t *testing.T, grant Grant, err error) {
	t.Helper()
	var refused *Error
	switch {
	case err == nil:
		if CheckIdentity(grant.Identity) != nil || grant.Rights == nil || !grant.Expires.After(time.Now().Add(-time.Minute)) {
			t.Errorf("%+v", grant)
		}
	case !errors.As(err, &refused) || refused.Reason == "" || refused.Detail == "":
		t.Errorf("%#v", err)
	case grant != Grant{}:
		t.Errorf("refused, and yet %+v", grant)
	}
}

// Whatever is shown, there is no grant without a signature by the very key
// that the algorithm in the header is for.
func FuzzToken(f *testing.F) {
	i := keysOf()
	s := i.openAll(f, Config{})
	for _, algorithm := range algorithms {
		f.Add(i.sign(f, algorithm, claimMap(nil), nil))
	}
	for _, seed := range []string{"", ".", "..", "a.b.c", part(`{"alg":"none"}`) + "." + part(`{"sub":"a","exp":99999999999}`) + ".", "pushd_x", signedBy(testSecret, `{"alg":"HS256","crit":[]}`, `{}`)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, token string) {
		grant, err := s.Authenticate(context.Background(), Credentials{Bearer: token})
		checkGrant(t, grant, err)
		if err != nil {
			return
		}
		header, _, _ := strings.Cut(token, ".")
		text, err := base64.RawURLEncoding.DecodeString(header)
		if err != nil {
			t.Fatal(err)
		}
		var fields map[string]any
		if err := json.Unmarshal(text, &fields); err != nil {
			t.Fatal(err)
		}
		if algorithm := i.signed(token); algorithm == "" || algorithm != fields["alg"] {
			t.Errorf("granted %+v to %q, signed by %q", grant, token, algorithm)
		}
	})
}

// Claims that are signed can still be anything.
func FuzzClaims(f *testing.F) {
	s := openService(f, Config{Secret: testSecret, Leeway: time.Second})
	for _, seed := range []string{
		`{"sub":"a","exp":99999999999,"pushd":{"subscribe":["a.>"]}}`, `{"sub":"a","exp":1e99}`, `{"sub":"a","sub":null}`,
		`{"exp":-1}`, `[]`, `null`, `{"sub":"a","exp":99999999999,"pushd":[[[[]]]]}`, `{"aud":[1],"nbf":"x"}`,
	} {
		f.Add(`{"alg":"HS256"}`, seed)
	}
	f.Add(`{"alg":"HS256","kid":"a","crit":null}`, `{}`)
	f.Fuzz(func(t *testing.T, header, claims string) {
		grant, err := s.Authenticate(context.Background(), Credentials{Bearer: signedBy(testSecret, header, claims)})
		checkGrant(t, grant, err)
		if err != nil {
			return
		}
		var exact map[string]any
		if err := json.Unmarshal([]byte(claims), &exact); err != nil || exact["sub"] != grant.Identity {
			t.Errorf("granted %+v for %s: %v", grant, claims, err)
		}
	})
}
