package config

import (
	"os"
	"strings"
	"testing"
)

// What is given without a value is a mistake, and does not mean: without, or any.
func TestEmptySecrets(t *testing.T) {
	// One at a time: with --open nothing else would be wrong.
	f := func(name, want string) {
		t.Helper()
		t.Setenv(name, "")
		if _, _, err := load(t); err == nil || err.Error() != want {
			t.Errorf("%s:\ngot  %v\nwant %s", name, err, want)
		}
		os.Unsetenv(name)
	}
	for _, name := range []string{"PUSHD_TOKEN_SECRET", "PUSHD_ADMIN_TOKEN"} {
		f(name, "environment: "+name+" is set, but empty: give it its secret, or unset it")
	}
	for name, flag := range map[string]string{
		"PUSHD_JWKS_URL":          "--jwks-url",
		"PUSHD_TOKEN_KEY":         "--token-key",
		"PUSHD_TOKEN_SECRET_FILE": "--token-secret-file",
		"PUSHD_TOKEN_ISSUER":      "--token-issuer",
		"PUSHD_TOKEN_AUDIENCE":    "--token-audience",
		"PUSHD_ADMIN_TOKEN_FILE":  "--admin-token-file",
		"PUSHD_TLS_CERT":          "--tls-cert",
		"PUSHD_TLS_KEY":           "--tls-key",
		"PUSHD_TLS_CLIENT_CA":     "--tls-client-ca",
	} {
		f(name, "env "+name+": "+flag+" is empty: give it a value, or leave it out")
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
