package auth

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testTimeout bounds whatever a test waits for. It is no expectation.
const testTimeout = 30 * time.Second

func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	t.Cleanup(cancel)
	return ctx
}

const testSecret = "0123456789abcdef0123456789abcdef"

// issuer has a private key for each algorithm.
type issuer struct {
	rsa     *rsa.PrivateKey
	ec      *ecdsa.PrivateKey
	ed25519 ed25519.PrivateKey
}

// keysOf makes the keys of an issuer once for all tests: RSA takes long.
var keysOf = sync.OnceValue(newIssuer)

func newIssuer() *issuer {
	var i issuer
	var err error
	if i.rsa, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		panic(err)
	}
	if i.ec, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		panic(err)
	}
	if _, i.ed25519, err = ed25519.GenerateKey(rand.Reader); err != nil {
		panic(err)
	}
	return &i
}

func (i *issuer) private(algorithm string) any {
	switch algorithm {
	case "RS256", "RS384", "PS256":
		return i.rsa
	case "ES256":
		return i.ec
	case "EdDSA":
		return i.ed25519
	}
	return []byte(testSecret)
}

// publicPEM returns the public half of a private key.
func publicPEM(t testing.TB, private any) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(private.(crypto.Signer).Public())
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// claimMap are the claims of a good token, with changes; a nil removes one.
func claimMap(changes map[string]any) jwt.MapClaims {
	claims := jwt.MapClaims{
		"sub": "alice", "exp": time.Now().Add(time.Hour).Unix(),
		"pushd": map[string]any{"subscribe": []string{"stocks.>"}, "publish": []string{"chat.alice.*"}},
	}
	for name, value := range changes {
		if claims[name] = value; value == nil {
			delete(claims, name)
		}
	}
	return claims
}

// sign makes a token with headers of any kind.
func (i *issuer) sign(t testing.TB, algorithm string, claims jwt.Claims, header map[string]any) string {
	t.Helper()
	token := jwt.NewWithClaims(jwt.GetSigningMethod(algorithm), claims)
	for name, value := range header {
		token.Header[name] = value
	}
	text, err := token.SignedString(i.private(algorithm))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// writeFile returns the path of a file with the text.
func writeFile(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func openService(t testing.TB, c Config) *Service {
	t.Helper()
	s, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// openAll is a service for tokens of each algorithm of the issuer.
func (i *issuer) openAll(t testing.TB, c Config) *Service {
	t.Helper()
	c.Secret = testSecret
	c.KeyFiles = append(c.KeyFiles, writeFile(t, publicPEM(t, i.rsa)), writeFile(t, publicPEM(t, i.ec)+publicPEM(t, i.ed25519)))
	return openService(t, c)
}

// reasonOf returns why a bearer is refused, "" where it is not.
func reasonOf(t testing.TB, s *Service, bearer string) Reason {
	t.Helper()
	_, err := s.Authenticate(context.Background(), Credentials{Bearer: bearer})
	if err == nil {
		return ""
	}
	var refused *Error
	if !errors.As(err, &refused) {
		t.Fatalf("%T is no *Error: %v", err, err)
	}
	if refused.Detail == "" || strings.Contains(refused.Detail, testSecret) || strings.Contains(refused.Detail, "BEGIN") {
		t.Errorf("the detail says nothing, or too much: %q", refused.Detail)
	}
	return refused.Reason
}
