package config

import (
	"strings"
	"testing"
)

// TestAdminToken reads the token from the environment, and shows it nowhere.
func TestAdminToken(t *testing.T) {
	secret := strings.Repeat("s", MinAdminToken)
	t.Setenv("PUSHD_ADMIN_TOKEN", secret)
	c, sources, err := load(t, "--admin=:8081")
	if err != nil || string(c.AdminToken) != secret || !c.AdminNeedsToken() {
		t.Fatalf("token %q, %v", c.AdminToken, err)
	}
	var shown strings.Builder
	if err := Write(&shown, &c, sources); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(shown.String(), secret) {
		t.Errorf("the token is printed:\n%s", shown.String())
	}

	t.Setenv("PUSHD_ADMIN_TOKEN", "guess-me")
	_, _, err = load(t)
	if want := "env PUSHD_ADMIN_TOKEN: the token has 8 characters, but must have at least 32: openssl rand -hex 32 makes a good one"; err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	if _, _, err := load(t, "--admin-token=x"); err == nil {
		t.Error("the token can be given as a flag")
	}
}
