package server

import (
	"crypto/ed25519"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/pushd/pushd/internal/config"
)

// TestKeysHang has an issuer that takes a request and never answers, and
// clients whose tokens name keys that nobody has: those with a good token do not
// wait for them.
func TestKeysHang(t *testing.T) {
	t.Parallel()
	end := make(chan struct{})
	issuer := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-end }))
	t.Cleanup(issuer.Close)
	t.Cleanup(func() { close(end) })
	r := secure(t, func(c *config.Config) { c.JWKSURL, c.Workers = issuer.URL, 1 })

	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	forged := jwt.NewWithClaims(jwt.SigningMethodEdDSA, jwt.MapClaims{"sub": "eve", "exp": time.Now().Add(time.Hour).Unix()})
	forged.Header["kid"] = "made up"
	bad, err := forged.SignedString(private)
	if err != nil {
		t.Fatal(err)
	}
	good := tokenFor(t, "alice", may{subscribe: "a.b"}, time.Hour)
	eves := make([]*socket, 32)
	for i := range eves {
		eves[i] = r.dial("")
		eves[i].want("welcome")
		eves[i].send(`{"type":"auth","token":"` + bad + `"}`)
	}
	if a := r.upgrade("token=" + good); a.status != 101 {
		t.Errorf("a good token behind them: %d %s", a.status, a.body)
	}
	for _, eve := range eves {
		eve.wantError("unavailable")
	}
}
