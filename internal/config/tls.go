package config

import "slices"

// tls checks the settings of TLS to clients. What is in the files is seen when
// they are read.
func (v *validator) tls(c *Config) {
	if len(c.TLSCert) != len(c.TLSKey) {
		v.addf("tls-key", "--tls-cert is there %d times and --tls-key %d times: give one key for each certificate, in the same order", len(c.TLSCert), len(c.TLSKey))
	}
	for _, files := range []struct {
		key   string
		paths []string
	}{{"tls-cert", c.TLSCert}, {"tls-key", c.TLSKey}} {
		if slices.Contains(files.paths, "") {
			v.addf(files.key, "--%s has an empty name, but must name a file", files.key)
		}
	}
	for i, path := range c.TLSCert {
		if path != "" && slices.Contains(c.TLSCert[:i], path) {
			v.addf("tls-cert", "--tls-cert has %s twice: once is enough", path)
		}
	}
	if c.TLSClientCA != "" && len(c.TLSCert) == 0 {
		v.addf("tls-client-ca", "--tls-client-ca needs TLS: add --tls-cert and --tls-key")
	}
	between(v, "max-handshakes", c.MaxHandshakes, 1, 1_000_000)
}
