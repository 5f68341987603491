package config

import "net"

// MinAdminToken is the fewest characters of an admin token: it cannot be
// guessed, however many guesses a listener takes.
const MinAdminToken = 32

// AdminNeedsToken reports whether the admin listener answers only who shows a token.
func (c *Config) AdminNeedsToken() bool { return c.AdminToken != "" || c.AdminTokenFile != "" }

// admin checks who can reach the admin listener. --open is not about it: it can
// disconnect everybody, and shows what is subscribed to.
func (v *validator) admin(c *Config) {
	v.address("admin", c.Admin, true, "")
	switch {
	case c.AdminToken != "" && c.AdminTokenFile != "":
		v.addf("admin-token-file", "--admin-token-file and %s exclude each other: give one of them", envAdminToken)
	case c.AdminToken != "" && len(c.AdminToken) < MinAdminToken:
		v.addf("admin-token", "the token has %d characters, but must have at least %d: openssl rand -hex 32 makes a good one", len(c.AdminToken), MinAdminToken)
	}
	if host, _, err := net.SplitHostPort(c.Admin); err == nil && !loopback(host) && !c.AdminNeedsToken() {
		v.addf("admin", "--admin %s can be reached from beyond this machine: use 127.0.0.1, or name a token with --admin-token-file or %s", c.Admin, envAdminToken)
	}
}
