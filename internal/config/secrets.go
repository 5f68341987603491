package config

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

// These hold secrets. There are no such flags: flags show in the list of processes.
const (
	envAdminToken  = "PUSHD_ADMIN_TOKEN"
	envTokenSecret = "PUSHD_TOKEN_SECRET"
)

// secretVariables are the environment variables that are no flag's.
var secretVariables = []string{envAdminToken, envTokenSecret}

// neverEmpty are the settings that say who may come in. Left out, each is off;
// given without a value, it is a variable or a template that was not filled in,
// and to go on without would let in everybody, or whoever has a token of any
// issuer or for any service.
var neverEmpty = []string{
	"admin-token-file", "token-secret-file", "token-key", "jwks-url", "token-issuer", "token-audience", "tls-cert", "tls-key", "tls-client-ca",
}

// readSecrets takes from the environment what only the environment has.
func (c *Config) readSecrets(sources Sources) error {
	var empty []error
	for _, secret := range []struct {
		name, source string
		into         *Secret
	}{{envAdminToken, "admin-token", &c.AdminToken}, {envTokenSecret, envTokenSecret, &c.TokenSecret}} {
		value, set := os.LookupEnv(secret.name)
		if !set {
			continue
		}
		if secret.name == envAdminToken {
			value = strings.TrimSpace(value) // as in its file
		}
		if value == "" {
			empty = append(empty, fmt.Errorf("environment: %s is set, but empty: give it its secret, or unset it", secret.name))
			continue
		}
		*secret.into = Secret(value)
		sources[secret.source] = "env " + secret.name
	}
	return errors.Join(empty...)
}

// unfilled reports the settings of neverEmpty that were given without a value.
func (s Sources) unfilled(c *Config) []error {
	var errs []error
	for _, setting := range settings(c) {
		if slices.Contains(neverEmpty, setting.Name) && setting.Target.Len() == 0 && s.of(setting.Name) != sourceDefault {
			errs = append(errs, s.locate(problem{setting.Name, fmt.Sprintf("--%s is empty: give it a value, or leave it out", setting.Name)}))
		}
	}
	return errs
}
