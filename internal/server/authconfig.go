package server

import (
	"log/slog"

	"github.com/pushd/pushd/internal/auth"
	"github.com/pushd/pushd/internal/config"
)

// authConfig says what credentials are checked against. [auth.Open] returns
// no service for it where nothing is configured.
func authConfig(c *config.Config, log *slog.Logger) auth.Config {
	a := auth.Config{
		Secret: string(c.TokenSecret), SecretFile: c.TokenSecretFile, KeyFiles: c.TokenKeys, JWKSURL: c.JWKSURL,
		Issuer: c.TokenIssuer, Audience: c.TokenAudience, Leeway: c.TokenLeeway,
		Log: log,
	}
	for _, k := range c.APIKeys {
		a.APIKeys = append(a.APIKeys, auth.APIKey{
			Name: k.Name, Hash: k.Hash, Permissions: auth.Permissions{Subscribe: k.Subscribe, Publish: k.Publish},
		})
	}
	if c.TLSClientCA != "" {
		a.Certificates = &auth.Permissions{} // who has one is somebody, and may do nothing yet
	}
	if p := c.ClientCertificates; p != nil {
		a.Certificates = &auth.Permissions{Subscribe: p.Subscribe, Publish: p.Publish}
	}
	return a
}
