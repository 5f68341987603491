package config

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/pushd/pushd/internal/auth"
)

// Secret is a text that is printed nowhere.
type Secret string

// redacted stands for a secret wherever one would be shown.
const redacted = "REDACTED"

// Format writes what stands for the secret, whatever the verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// LogValue keeps it out of logs.
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// APIKey lets whoever has a key publish and subscribe. The key itself is not
// here, but its hash: pushd key NAME makes both.
type APIKey struct {
	Name      string   `name:"name" help:"The identity of whoever shows the key."`
	Hash      string   `name:"hash" help:"sha256: and the 64 hexadecimal digits of the key's hash."`
	Subscribe []string `name:"subscribe" help:"Patterns of topics that may be subscribed to; > is all."`
	Publish   []string `name:"publish" help:"Patterns of topics that may be published to."`
}

// Permissions are patterns of topics. They may span namespaces: > is all.
type Permissions struct {
	Subscribe []string `name:"subscribe" help:"Patterns of topics that may be subscribed to; > is all."`
	Publish   []string `name:"publish" help:"Patterns of topics that may be published to."`
}

// Public is what may be done in a namespace without a permission, once there
// is authentication.
type Public string

// The kinds of public namespaces.
const (
	PublicNone      Public = "none"
	PublicSubscribe Public = "subscribe"
	PublicPublish   Public = "publish"
	PublicAll       Public = "all"
)

// MaySubscribe reports whether anybody may.
func (p Public) MaySubscribe() bool { return p == PublicSubscribe || p == PublicAll }

// MayPublish reports whether anybody may.
func (p Public) MayPublish() bool { return p == PublicPublish || p == PublicAll }

// Authenticates reports whether clients have to show who they are: there is
// something to check credentials against.
func (c *Config) Authenticates() bool {
	return c.AcceptsTokens() || len(c.APIKeys) > 0 || c.ClientCertificates != nil || c.TLSClientCA != ""
}

// AcceptsTokens reports whether there are keys to verify tokens with.
func (c *Config) AcceptsTokens() bool {
	return c.TokenSecret != "" || c.TokenSecretFile != "" || len(c.TokenKeys) > 0 || c.JWKSURL != ""
}

// mostKeyFiles bounds --token-key.
const mostKeyFiles = 64

// authentication checks who may connect. What is in files of keys is checked
// where they are read.
func (v *validator) authentication(c *Config) {
	between(v, "token-leeway", c.TokenLeeway, 0, 10*time.Minute)
	between(v, "auth-timeout", c.AuthTimeout, 10*time.Millisecond, 5*time.Minute)
	between(v, "authorize-timeout", c.AuthorizeTimeout, 10*time.Millisecond, time.Minute)
	between(v, "max-connections-per-identity", c.MaxConnectionsPerIdentity, 0, 10_000_000)
	v.tokens(c)
	v.authorize(c)
	for _, ns := range c.served() {
		switch ns.Public {
		case "", PublicNone, PublicSubscribe, PublicPublish, PublicAll:
		default:
			v.addf(ns.key+".public", "%s.public is %q, but must be none, subscribe, publish or all", ns.key, ns.Public)
		}
	}
	hashes := make(map[string]int)
	for i, k := range c.APIKeys {
		key := fmt.Sprintf("%s[%d]", keyAPIKeys, i)
		v.apiKey(key, k)
		if before, twice := hashes[strings.ToLower(k.Hash)]; twice {
			v.addf(key+".hash", "%s.hash is that of %s[%d] too: a key has one name", key, keyAPIKeys, before)
		}
		hashes[strings.ToLower(k.Hash)] = i
	}
	if c.ClientCertificates != nil {
		if c.TLSClientCA == "" {
			v.addf(keyCertificates, "%s says what clients with a certificate may do, but none is asked for one: give --tls-client-ca", keyCertificates)
		}
		v.permissions(keyCertificates, c.ClientCertificates.Subscribe, c.ClientCertificates.Publish)
	}
}

func (v *validator) tokens(c *Config) {
	if c.TokenSecret != "" && c.TokenSecretFile != "" {
		v.addf("token-secret-file", "--token-secret-file and %s exclude each other: give one of them", envTokenSecret)
	}
	if len(c.TokenKeys) > mostKeyFiles {
		v.addf("token-key", "--token-key has %d files, of at most %d: a file may have several keys", len(c.TokenKeys), mostKeyFiles)
	}
	for _, file := range c.TokenKeys {
		if file == "" {
			v.addf("token-key", "--token-key has an empty name: give a file with public keys")
		}
	}
	if c.JWKSURL != "" {
		if err := auth.CheckKeySetURL(c.JWKSURL); err != nil {
			v.addf("jwks-url", "--jwks-url %v", err)
		}
	}
	if c.AcceptsTokens() {
		return
	}
	for _, setting := range []struct{ key, value string }{{"token-issuer", c.TokenIssuer}, {"token-audience", c.TokenAudience}} {
		if setting.value != "" {
			v.addf(setting.key, "--%s is of no use without keys to verify tokens with: give --token-secret-file, --token-key or --jwks-url", setting.key)
		}
	}
}

func (v *validator) authorize(c *Config) {
	const key = "authorize"
	if c.Authorize == "" {
		return
	}
	if !c.Authenticates() {
		v.addf(key, "--authorize needs to know who asks: give --token-secret-file, --token-key, --jwks-url, --tls-client-ca or api_keys:")
	}
	if problem := subjectProblem(c.Authorize); problem != "" {
		v.addf(key, "--authorize is %q, but %s", c.Authorize, problem)
	} else if overlap(c.Authorize, c.Prefix) {
		v.addf(key, "--authorize is %q, which overlaps with --prefix %s, where clients may be heard and answer themselves", c.Authorize, c.Prefix)
	} else if live := c.Prefix + "-live"; overlap(c.Authorize, live) {
		v.addf(key, "--authorize is %q, which overlaps with %s, where history is republished", c.Authorize, live)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Namespaces)) {
		if subject := c.Namespaces[name].Subject; subject != "" && overlap(c.Authorize, subject) {
			v.addf(key, "--authorize is %q, which overlaps with %s.%s.subject %s, where clients may be heard and answer themselves", c.Authorize, keyNamespaces, name, subject)
		}
	}
}

func (v *validator) apiKey(key string, k APIKey) {
	if err := auth.CheckIdentity(k.Name); err != nil {
		v.addf(key+".name", "%s.name %v: it is the identity of whoever shows the key", key, err)
	}
	if _, err := auth.ParseAPIKeyHash(k.Hash); err != nil {
		// What stands there may be the key itself, so it is not repeated.
		v.addf(key+".hash", "%s.hash %v", key, err)
	}
	v.permissions(key, k.Subscribe, k.Publish)
}

func (v *validator) permissions(key string, subscribe, publish []string) {
	for _, list := range []struct {
		name     string
		patterns []string
	}{{"subscribe", subscribe}, {"publish", publish}} {
		key := key + "." + list.name
		if len(list.patterns) > auth.MaxPermissions {
			v.addf(key, "%s has %d patterns, of at most %d", key, len(list.patterns), auth.MaxPermissions)
		}
		for _, pattern := range list.patterns {
			if err := auth.CheckPermission(pattern); err != nil {
				v.addf(key, "%s: %v", key, err)
			}
		}
	}
}

// keyed is a namespace with its path in the file.
type keyed struct {
	Namespace
	key string
}

// served returns the settings of all namespaces, also of those without a name.
func (c *Config) served() []keyed {
	all := []keyed{{c.Default, keyDefault}}
	for _, name := range slices.Sorted(maps.Keys(c.Namespaces)) {
		all = append(all, keyed{c.Namespaces[name], keyNamespaces + "." + name})
	}
	return all
}
