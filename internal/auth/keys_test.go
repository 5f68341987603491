package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"os"
	"strings"
	"testing"
	"time"
)

func pemOf(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// selfSigned returns a certificate with the key.
func selfSigned(t testing.TB, key crypto.Signer, change func(c *x509.Certificate)) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), Subject: pkix.Name{CommonName: "common"}}
	change(template)
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestKeyFiles(t *testing.T) {
	i := keysOf()
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(i.ec)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, file string
		algorithms string // of the keys
		err        string // part of it
	}{
		{"RSA", publicPEM(t, i.rsa), "RS256", ""},
		{"RSA, PKCS1", pemOf("RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(&i.rsa.PublicKey)), "RS256", ""},
		{"EC", publicPEM(t, i.ec), "ES256", ""},
		{"Ed25519", publicPEM(t, i.ed25519), "EdDSA", ""},
		{"certificate", pemOf("CERTIFICATE", selfSigned(t, i.ec, func(*x509.Certificate) {}).Raw), "ES256", ""},
		{"several, with text between", "a\n" + publicPEM(t, i.rsa) + "b\n" + publicPEM(t, i.ed25519), "RS256 EdDSA", ""},
		{"JWK set", "\n" + setOf(t, setKey(i.ec, "1"), setKey(i.rsa, "2")), "ES256 RS256", ""},

		{"empty", "", "", "has neither PEM"},
		{"a secret", testSecret, "", "--token-secret-file"},
		{"small RSA", publicPEM(t, small), "", "has an RSA key of 1024 bits, but must have 2048 to 8192"},
		{"another curve", publicPEM(t, p384), "", "has a key on curve P-384, but ES256 needs P-256"},
		{"private", pemOf("PRIVATE KEY", private), "", "belongs to the issuer of tokens alone"},
		{"something else", pemOf("X509 CRL", nil), "", `has a block "X509 CRL"`},
		{"broken", pemOf("PUBLIC KEY", []byte("x")), "", "asn1"},
		{"one of two broken", publicPEM(t, i.ec) + pemOf("CERTIFICATE", []byte("x")), "", "x509"},
		{"no set", "{}", "", "is a JWK set without keys"},
		{"broken set", "{", "", "is no JWK set"},
		{"a set of secrets", `{"keys":[{"kty":"oct","k":"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY"}]}`, "", "has no key for [HS256 RS256 ES256 EdDSA]"},
		{"many", strings.Repeat(publicPEM(t, i.ec), 5), "", "more than 4 keys for ES256 have no ID"},
		{"huge", strings.Repeat("a", maxKeyFile+1), "", "of at most 1048576"},
	} {
		keys, err := readKeys("", "", []string{writeFile(t, test.file)}, readKeyFile)
		if test.err != "" {
			if err == nil || !strings.HasPrefix(err.Error(), "--token-key") || !strings.Contains(err.Error(), test.err) {
				t.Errorf("%s: %v, want %s", test.name, err, test.err)
			}
			continue
		}
		var got []string
		for _, k := range keys {
			got = append(got, k.algorithm)
		}
		if err != nil || strings.Join(got, " ") != test.algorithms {
			t.Errorf("%s: %v, %v; want %s", test.name, got, err, test.algorithms)
		}
	}
	if _, err := readKeys("", "", []string{"/none"}, readKeyFile); err == nil || err.Error() != "--token-key: stat /none: no such file or directory" {
		t.Error(err)
	}
}

func TestSecrets(t *testing.T) {
	i := keysOf()
	for _, test := range []struct{ secret, file, err string }{
		{testSecret, "", ""},
		{"", testSecret, ""},
		{"", testSecret + "\r\n", ""}, // an editor's
		{testSecret[1:], "", "PUSHD_TOKEN_SECRET: has 31 bytes"},
		{"", testSecret[1:] + "\n", "has 31 bytes, but a secret for HS256 must have at least 32"},
		{"", publicPEM(t, i.rsa), "is PEM, and a public key is no secret"},
	} {
		c := Config{Secret: test.secret}
		if test.file != "" {
			c.SecretFile = writeFile(t, test.file)
		}
		s, err := Open(c)
		switch {
		case test.err != "":
			if err == nil || !strings.Contains(err.Error(), test.err) || strings.Contains(err.Error(), testSecret[1:]) {
				t.Errorf("%q, %q: %v", test.secret, test.file, err)
			}
		case err != nil:
			t.Error(err)
		default:
			if got := reasonOf(t, s, i.sign(t, "HS256", claimMap(nil), nil)); got != "" {
				t.Errorf("%q, %q: %s", test.secret, test.file, got)
			}
			s.Close()
		}
	}
	if _, err := Open(Config{SecretFile: "/none"}); err == nil || err.Error() != "--token-secret-file: stat /none: no such file or directory" {
		t.Error(err)
	}
}

// Reload takes new keys, and nothing where one file is broken.
func TestReload(t *testing.T) {
	old, next := keysOf(), newIssuer()
	one, two := writeFile(t, publicPEM(t, old.ec)), writeFile(t, publicPEM(t, old.ed25519))
	s := openService(t, Config{KeyFiles: []string{one, two}})
	replace := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	accepts := func(i *issuer, algorithm string, want Reason) {
		t.Helper()
		if got := reasonOf(t, s, i.sign(t, algorithm, claimMap(nil), nil)); got != want {
			t.Errorf("%s: %q, want %q", algorithm, got, want)
		}
	}
	replace(one, publicPEM(t, next.ec))
	replace(two, "broken")
	if err := s.Reload(); err == nil || !strings.Contains(err.Error(), two) {
		t.Errorf("a broken file is not told: %v", err)
	}
	accepts(old, "ES256", "")
	accepts(next, "ES256", BadSignature)
	replace(two, publicPEM(t, old.ed25519))
	if err := s.Reload(); err != nil {
		t.Fatal(err)
	}
	accepts(old, "ES256", BadSignature)
	accepts(next, "ES256", "")
	accepts(old, "EdDSA", "")
	if got := s.Stats(); got.Keys != 2 {
		t.Errorf("%+v", got)
	}
}

// setKey returns the JWK of a private key's public half.
func setKey(private any, id string) map[string]any {
	encode := base64.RawURLEncoding.EncodeToString
	switch k := private.(type) {
	case *rsa.PrivateKey:
		return map[string]any{"kty": "RSA", "kid": id, "n": encode(k.N.Bytes()), "e": "AQAB"}
	case *ecdsa.PrivateKey:
		point, err := k.PublicKey.Bytes()
		if err != nil {
			panic(err)
		}
		return map[string]any{"kty": "EC", "crv": "P-256", "kid": id, "x": encode(point[1:33]), "y": encode(point[33:])}
	}
	return map[string]any{"kty": "OKP", "crv": "Ed25519", "kid": id, "x": encode(keysOf().ed25519[32:])}
}

// with returns a JWK with a change.
func with(k map[string]any, name string, value any) map[string]any {
	k[name] = value
	return k
}

func setOf(t testing.TB, keys ...map[string]any) string {
	t.Helper()
	text, err := json.Marshal(map[string]any{"keys": keys})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// What a set has that is of no use is left out, and the rest is taken.
func TestKeySet(t *testing.T) {
	i := keysOf()
	for name, k := range map[string]map[string]any{
		"secret":              {"kty": "oct", "kid": "x", "k": part(testSecret)},
		"to encrypt":          with(setKey(i.rsa, "x"), "use", "enc"),
		"operations":          with(setKey(i.rsa, "x"), "key_ops", []string{"encrypt"}),
		"other algorithm":     with(setKey(i.rsa, "x"), "alg", "PS256"),
		"HS256":               with(setKey(i.rsa, "x"), "alg", "HS256"),
		"other curve":         with(setKey(i.ec, "x"), "crv", "P-384"),
		"off the curve":       with(setKey(i.ec, "x"), "y", part("01234567890123456789012345678901")),
		"no kind":             {"kid": "x"},
		"small modulus":       with(setKey(i.rsa, "x"), "n", part(strings.Repeat("a", 128))),
		"huge modulus":        with(setKey(i.rsa, "x"), "n", part(strings.Repeat("a", 1025))),
		"even modulus":        with(setKey(i.rsa, "x"), "n", part(strings.Repeat("b", 256))),
		"exponent 1":          with(setKey(i.rsa, "x"), "e", "AQ"),
		"exponent 4":          with(setKey(i.rsa, "x"), "e", part("\x04")),
		"exponent of 33 bits": with(setKey(i.rsa, "x"), "e", part("\x01\x00\x00\x00\x01")),
		"exponent of 64 bits": with(setKey(i.rsa, "x"), "e", part("\xff\xff\xff\xff\xff\xff\xff\xff")),
		"not base64":          with(setKey(i.ec, "x"), "x", "!"),
		"Ed25519 of 31 bytes": with(setKey(i.ed25519, "x"), "x", part(strings.Repeat("a", 31))),
		"X25519":              with(setKey(i.ed25519, "x"), "crv", "X25519"),
	} {
		keys, err := parseKeySet([]byte(setOf(t, k, setKey(i.ed25519, "good"))))
		if err != nil || len(keys) != 1 || keys[0].id != "good" {
			t.Errorf("%s: %v, %v", name, keys, err)
		}
		if _, err := parseKeySet([]byte(setOf(t, k))); err == nil {
			t.Errorf("%s alone is a set", name)
		}
	}
	keys, err := parseKeySet([]byte(setOf(t,
		with(with(setKey(i.rsa, "a"), "use", "sig"), "alg", "RS256"),
		with(with(setKey(i.ec, "b"), "key_ops", []string{"verify"}), "x5u", "http://127.0.0.1:1/"),
		with(setKey(i.ed25519, "c"), "d", "private"))))
	if err != nil || len(keys) != 3 {
		t.Fatalf("%v, %v", keys, err)
	}
	if _, err := parseKeySet([]byte(setOf(t, make([]map[string]any, maxSetKeys+1)...))); err == nil || err.Error() != "has 257 keys, of at most 256" {
		t.Error(err)
	}
}

// A token's kid picks its key; without one, few keys are tried.
func TestKeyIDs(t *testing.T) {
	i, other := keysOf(), newIssuer()
	s := openService(t, Config{KeyFiles: []string{writeFile(t, setOf(t, setKey(i.ec, "a"), setKey(other.ec, "b"), setKey(i.rsa, "a")))}})
	f := func(i *issuer, algorithm string, header map[string]any, want Reason) {
		t.Helper()
		if got := reasonOf(t, s, i.sign(t, algorithm, claimMap(nil), header)); got != want {
			t.Errorf("%s %v: %q, want %q", algorithm, header, got, want)
		}
	}
	f(i, "ES256", map[string]any{"kid": "a"}, "")
	f(i, "RS256", map[string]any{"kid": "a"}, "")
	f(i, "ES256", map[string]any{"kid": "b"}, BadSignature)
	f(i, "ES256", map[string]any{"kid": "c"}, UnknownKey)
	f(i, "RS256", map[string]any{"kid": "b"}, UnknownKey)
	f(i, "EdDSA", map[string]any{"kid": "a"}, BadAlgorithm)
	f(i, "ES256", nil, "")
	f(other, "ES256", nil, "")

	var many []map[string]any
	for _, id := range []string{"a", "b", "c", "d", "e"} {
		many = append(many, setKey(i.ec, id))
	}
	s = openService(t, Config{KeyFiles: []string{writeFile(t, setOf(t, many...))}})
	f(i, "ES256", nil, UnknownKey)
	f(i, "ES256", map[string]any{"kid": "e"}, "")
}
