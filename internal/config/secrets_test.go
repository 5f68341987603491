package config

import (
	"os"
	"strings"
	"testing"
)

// What is given without a value is a mistake, and does not mean: without.
func TestEmptySecrets(t *testing.T) {
	// One at a time: with --open nothing else would be wrong.
	for name, want := range map[string]string{
		"PUSHD_TOKEN_SECRET":      "environment: PUSHD_TOKEN_SECRET is set, but empty: give it its secret, or unset it",
		"PUSHD_ADMIN_TOKEN":       "environment: PUSHD_ADMIN_TOKEN is set, but empty: give it its secret, or unset it",
		"PUSHD_JWKS_URL":          "env PUSHD_JWKS_URL: --jwks-url is empty: give it a value, or leave it out",
		"PUSHD_TOKEN_KEY":         "env PUSHD_TOKEN_KEY: --token-key is empty: give it a value, or leave it out",
		"PUSHD_TOKEN_SECRET_FILE": "env PUSHD_TOKEN_SECRET_FILE: --token-secret-file is empty: give it a value, or leave it out",
		"PUSHD_ADMIN_TOKEN_FILE":  "env PUSHD_ADMIN_TOKEN_FILE: --admin-token-file is empty: give it a value, or leave it out",
		"PUSHD_TLS_CERT":          "env PUSHD_TLS_CERT: --tls-cert is empty: give it a value, or leave it out",
		"PUSHD_TLS_KEY":           "env PUSHD_TLS_KEY: --tls-key is empty: give it a value, or leave it out",
		"PUSHD_TLS_CLIENT_CA":     "env PUSHD_TLS_CLIENT_CA: --tls-client-ca is empty: give it a value, or leave it out",
	} {
		t.Setenv(name, "")
		if _, _, err := load(t); err == nil || err.Error() != want {
			t.Errorf("%s:\ngot  %v\nwant %s", name, err, want)
		}
		os.Unsetenv(name)
	}
	t.Setenv("PUSHD_ADMIN_TOKEN", " \n")
	if _, _, err := load(t); err == nil || !strings.Contains(err.Error(), "PUSHD_ADMIN_TOKEN is set, but empty") {
		t.Errorf("blanks: %v", err)
	}
	os.Unsetenv("PUSHD_ADMIN_TOKEN")
	if _, _, err := load(t, "--jwks-url="); err == nil || err.Error() != "--jwks-url is empty: give it a value, or leave it out" {
		t.Errorf("a flag: %v", err)
	}
	writeFile(t, "token-secret-file: ''\n")
	want := "pushd.yaml:1:20: --token-secret-file is empty: give it a value, or leave it out"
	if err := Check("pushd.yaml"); err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

// The token of the environment is trimmed as that of a file is.
func TestAdminTokenTrimmed(t *testing.T) {
	secret := strings.Repeat("s", MinAdminToken)
	t.Setenv("PUSHD_ADMIN_TOKEN", " "+secret+"\n")
	if c, _, err := load(t); err != nil || string(c.AdminToken) != secret {
		t.Errorf("%d characters, %v", len(c.AdminToken), err)
	}
}
