package server

import (
	"context"
	"log/slog"
	"testing"

	"github.com/pushd/pushd/internal/auth"
	"github.com/pushd/pushd/internal/config"
)

// Each setting by itself turns authentication on, and none leaves it off.
func TestAuthConfig(t *testing.T) {
	plain, hash := auth.NewAPIKey()
	open := func(change func(c *config.Config)) *auth.Service {
		t.Helper()
		c := config.Default()
		change(&c)
		service, err := auth.Open(authConfig(&c, slog.New(slog.DiscardHandler)))
		if err != nil {
			t.Fatal(err)
		}
		if (service != nil) != c.Authenticates() {
			t.Errorf("a service: %v, but Authenticates is %v", service != nil, c.Authenticates())
		}
		if service != nil {
			t.Cleanup(service.Close)
		}
		return service
	}
	open(func(*config.Config) {})
	open(func(c *config.Config) { c.TokenIssuer, c.TokenAudience = "a", "b" })
	open(func(c *config.Config) { c.TokenSecret = "0123456789abcdef0123456789abcdef" })
	open(func(c *config.Config) { c.JWKSURL = "http://127.0.0.1:1/" })
	open(func(c *config.Config) { c.ClientCertificates = &config.Permissions{Subscribe: []string{">"}} })
	service := open(func(c *config.Config) {
		c.APIKeys = []config.APIKey{{Name: "billing", Hash: hash, Subscribe: []string{"a.>"}, Publish: []string{"b"}}}
	})
	grant, err := service.Authenticate(context.Background(), auth.Credentials{Bearer: plain})
	if err != nil || grant.Identity != "billing" || !grant.Expires.IsZero() {
		t.Fatalf("%+v, %v", grant, err)
	}
	if r := grant.Rights; !r.MaySubscribe("a.b") || r.MaySubscribe("b") || !r.MayPublish("b") || r.MayPublish("a.b") {
		t.Errorf("the key may something else than what is configured: %+v", r)
	}
}
