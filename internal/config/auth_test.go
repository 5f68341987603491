package config

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const testHash = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789ABCDEF"

func TestAuthenticationMistakes(t *testing.T) {
	f := changed(t)
	key := func(k APIKey) func(c *Config) { return func(c *Config) { c.APIKeys = []APIKey{k} } }

	// Whoever authenticates may be reached.
	for _, change := range []func(c *Config){
		func(c *Config) { c.TokenSecret = "x" },
		func(c *Config) { c.TokenSecretFile = "x" },
		func(c *Config) { c.TokenKeys = []string{"x"} },
		func(c *Config) { c.JWKSURL = "https://issuer.example/keys" },
		key(APIKey{Name: "a", Hash: testHash}),
		func(c *Config) { withTLS(c); c.TLSClientCA = "ca" },
	} {
		f(func(c *Config) { change(c); c.Listen = ":8080" })
		f(func(c *Config) { change(c); c.Admin = ":8081" },
			"--admin :8081 can be reached from beyond this machine: use 127.0.0.1, or name a token with --admin-token-file or PUSHD_ADMIN_TOKEN")
	}

	f(func(c *Config) { c.TokenLeeway = 11 * time.Minute }, "--token-leeway is 11m0s, but must be 0s to 10m0s")
	f(func(c *Config) { c.AuthTimeout = 0 }, "--auth-timeout is 0s, but must be 10ms to 5m0s")
	f(func(c *Config) { c.AuthorizeTimeout = time.Hour }, "--authorize-timeout is 1h0m0s, but must be 10ms to 1m0s")
	f(func(c *Config) { c.TokenSecret, c.TokenSecretFile = "x", "y" },
		"--token-secret-file and PUSHD_TOKEN_SECRET exclude each other: give one of them")
	f(func(c *Config) { c.TokenKeys = make([]string, 65) }, append([]string{"--token-key has 65 files, of at most 64: a file may have several keys"},
		slicesRepeat("--token-key has an empty name: give a file with public keys", 65)...)...)
	f(func(c *Config) { c.TokenIssuer, c.TokenAudience = "x", "y" },
		"--token-issuer is of no use without keys to verify tokens with: give --token-secret-file, --token-key or --jwks-url",
		"--token-audience is of no use without keys to verify tokens with: give --token-secret-file, --token-key or --jwks-url")
	f(func(c *Config) { c.TokenSecret, c.TokenIssuer, c.TokenAudience = "x", "y", "z" })

	// Where keys come from is who can make tokens.
	const jwks = "--jwks-url must be an https:// URL, or http:// on this machine (127.0.0.1), without a password: whoever can change what comes from there can make tokens"
	for url, want := range map[string]string{
		"https://issuer.example/keys": "", "http://127.0.0.1:1/x": "", "http://localhost/x": "", "http://[::1]/x": "",
		"http://issuer.example/keys": jwks, "ftp://127.0.0.1/x": jwks, "file:///etc/keys": jwks, "https://": jwks, "x": jwks, "https://u:p@h/": jwks,
		"http://localhost.example/": jwks, "://": jwks,
	} {
		if want == "" {
			f(func(c *Config) { c.JWKSURL = url })
		} else {
			f(func(c *Config) { c.JWKSURL = url }, want)
		}
	}

	// Authorization by request.
	with := func(subject string) func(c *Config) {
		return func(c *Config) { c.TokenSecret, c.Authorize = "x", subject }
	}
	f(with("auth.pushd"))
	f(func(c *Config) { c.Authorize = "auth" }, "--authorize needs to know who asks: give --token-secret-file, --token-key, --jwks-url, --tls-client-ca or api_keys:")
	f(with("auth.*"), `--authorize is "auth.*", but it must be one NATS subject, and cannot have '*'`)
	f(with("$SYS.x"), `--authorize is "$SYS.x", but what starts with $ or _INBOX belongs to NATS itself`)
	f(with("push.auth"), `--authorize is "push.auth", which overlaps with --prefix push, where clients may be heard and answer themselves`)

	at := func(subject string) func(c *Config) {
		return func(c *Config) {
			with("shop.orders.auth")(c)
			c.Namespaces = map[string]Namespace{"orders": {Delivery: DeliveryLive, Interest: InterestNamespace, Subject: subject, History: History{Messages: 1}}}
		}
	}
	f(at("shop.sales"))
	f(at("shop.orders"), `--authorize is "shop.orders.auth", which overlaps with namespaces.orders.subject shop.orders, where clients may be heard and answer themselves`)
	f(at("shop.orders.auth.x"), `--authorize is "shop.orders.auth", which overlaps with namespaces.orders.subject shop.orders.auth.x, where clients may be heard and answer themselves`)
	f(with("push-live.auth"), `--authorize is "push-live.auth", which overlaps with push-live, where history is republished`)

	// API keys and certificates.
	f(key(APIKey{Name: "a", Hash: testHash, Subscribe: []string{">", "*", "*.a.*", "a.>"}, Publish: []string{"a.b"}}))
	f(key(APIKey{Hash: testHash}), "api_keys[0].name is empty: it is the identity of whoever shows the key")
	f(key(APIKey{Name: "a\n", Hash: testHash}), "api_keys[0].name has control characters: it is the identity of whoever shows the key")
	const hash = "api_keys[0].hash must be sha256: and 64 hexadecimal digits, as pushd key NAME prints it"
	f(key(APIKey{Name: "a"}), hash)
	f(key(APIKey{Name: "a", Hash: "pushd_secret"}), hash)
	f(key(APIKey{Name: "a", Hash: testHash + "0"}), hash)
	f(key(APIKey{Name: "a", Hash: testHash, Publish: []string{"a", "a..b"}}), `api_keys[0].publish: pattern "a..b": token 2 (byte 2) is empty`)
	f(key(APIKey{Name: "a", Hash: testHash, Subscribe: []string{">.a"}}),
		`api_keys[0].subscribe: pattern ">.a": token 1 (byte 0) is the wildcard ">", but the first token is the namespace and must be literal`)
	f(key(APIKey{Name: "a", Hash: testHash, Subscribe: make([]string, 257)}), append([]string{"api_keys[0].subscribe has 257 patterns, of at most 256"},
		slicesRepeat(`api_keys[0].subscribe: pattern "" is empty`, 257)...)...)
	f(func(c *Config) {
		c.APIKeys = []APIKey{{Name: "a", Hash: testHash}, {Name: "a", Hash: strings.ToLower(testHash)}}
	}, "api_keys[1].hash is that of api_keys[0] too: a key has one name")
	f(func(c *Config) { c.ClientCertificates = &Permissions{} },
		"client_certificates says what clients with a certificate may do, but none is asked for one: give --tls-client-ca")
	f(func(c *Config) {
		withTLS(c)
		c.TLSClientCA = "ca"
		c.ClientCertificates = &Permissions{Publish: []string{"a b"}}
	},
		`client_certificates.publish: pattern "a b": token 1 (byte 1) has " ", which is none of A-Z a-z 0-9 _ -`)

	f(func(c *Config) { c.Default.Public = PublicSubscribe })
	f(func(c *Config) { c.Namespaces = map[string]Namespace{"a": c.Default}; c.Default.Public = "yes" },
		`default.public is "yes", but must be none, subscribe, publish or all`)
}

func withTLS(c *Config) { c.TLSCert, c.TLSKey = []string{"cert"}, []string{"key"} }

func slicesRepeat(line string, n int) []string {
	lines := make([]string, n)
	for i := range lines {
		lines[i] = line
	}
	return lines
}

// Who may do what is read from the file, and each mistake has its place.
func TestAuthenticationFile(t *testing.T) {
	const tls = "\ntls-cert: [c]\ntls-key: [k]\ntls-client-ca: ca\n"
	const text = `token-key: [a.pem, b.json]
api_keys:
  - {name: billing, hash: "` + testHash + `", publish: [orders.>]}
  - name: desk
    hash: sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
    subscribe:
      - stocks.*
      - scores.>
client_certificates: {subscribe: [">"]}
namespaces: {news: {public: subscribe}}
` + tls
	writeFile(t, text)
	c, sources, err := load(t, "--config=pushd.yaml")
	if err != nil {
		t.Fatal(err)
	}
	want := []APIKey{
		{Name: "billing", Hash: testHash, Publish: []string{"orders.>"}},
		{Name: "desk", Hash: "sha256:" + strings.Repeat("a", 64), Subscribe: []string{"stocks.*", "scores.>"}},
	}
	if diff := cmp.Diff(want, c.APIKeys); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(&Permissions{Subscribe: []string{">"}}, c.ClientCertificates); diff != "" {
		t.Error(diff)
	}
	if ns := c.Namespace("news"); !ns.Public.MaySubscribe() || ns.Public.MayPublish() || c.Namespace("else").Public != PublicNone {
		t.Errorf("%+v", c.Namespaces)
	}
	var printed strings.Builder
	if err := Write(&printed, &c, sources); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"- name: billing # pushd.yaml:3:12", "publish: [\"orders.>\"] # pushd.yaml:3:111", "public: subscribe # pushd.yaml:10:29"} {
		if !strings.Contains(squeeze(printed.String()), "\n"+want+"\n") {
			t.Errorf("no line %q in\n%s", want, &printed)
		}
	}

	for file, want := range map[string]string{
		"api_keys: {a: b}":                              "pushd.yaml:1:11: api_keys: must be a list of mappings, each as pushd key NAME prints it",
		"api_keys: [a]":                                 "pushd.yaml:1:12: api_keys[0]: must be a mapping of keys to values",
		"api_keys: [{nam: x}]":                          `pushd.yaml:1:13: unknown key "nam" in api_keys[0], the nearest known is "name"`,
		"api_keys: [{name: x, hash: y}]":                "pushd.yaml:1:28: api_keys[0].hash must be sha256: and 64 hexadecimal digits, as pushd key NAME prints it",
		"client_certificates: {read: [a]}":              `pushd.yaml:1:23: unknown key "read" in client_certificates, the nearest known is "publish"`,
		"client_certificates: {publish: [a.>.b]}" + tls: `pushd.yaml:1:32: client_certificates.publish: pattern "a.>.b": token 2 (byte 2) is ">", which can only be the last token`,
		"default: {public: everything}":                 `pushd.yaml:1:19: default.public is "everything", but must be none, subscribe, publish or all`,
		"token-secret: x":                               `pushd.yaml:1:1: unknown key "token-secret", the nearest known is "token-issuer"`,
	} {
		writeFile(t, file)
		if err := Check("pushd.yaml"); err == nil || err.Error() != want {
			t.Errorf("%s\ngot  %v\nwant %s", file, err, want)
		}
	}
}

// The secret comes from the environment alone, and is shown nowhere.
func TestTokenSecret(t *testing.T) {
	const secret = "0123456789abcdef0123456789abcdef"
	t.Setenv("PUSHD_TOKEN_SECRET", secret)
	c, sources, err := load(t)
	if err != nil {
		t.Fatal(err)
	}
	if c.TokenSecret != secret || !c.Authenticates() {
		t.Error("the secret was not read")
	}
	var printed, logged strings.Builder
	if err := Write(&printed, &c, sources); err != nil {
		t.Fatal(err)
	}
	slog.New(slog.NewJSONHandler(&logged, nil)).Info("x", "secret", c.TokenSecret)
	fmt.Fprintf(&logged, "%v %+v %#v %s %q %x", c, &c, c, c.TokenSecret, c.TokenSecret, c.TokenSecret)
	if all := printed.String() + logged.String(); strings.Contains(all, secret) || strings.Contains(all, fmt.Sprintf("%x", secret)) {
		t.Errorf("the secret shows in\n%s", all)
	}
	if want := "\n# PUSHD_TOKEN_SECRET: REDACTED # env PUSHD_TOKEN_SECRET\n"; !strings.Contains(squeeze(printed.String()), want) {
		t.Errorf("no line %q in\n%s", want, &printed)
	}
}
