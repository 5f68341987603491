package config

import (
	"github.com/pushd/pushd/internal/via"
)

// noneNetworks is the one element of a list of networks that has none, where the
// default has some.
const noneNetworks = "none"

const (
	maxRate     = 100_000 // a second: what a rate can be told apart by
	maxByteRate = 256 << 20
)

// limits checks what concerns addresses and rates.
func (v *validator) limits(c *Config) {
	between(v, "max-connections-per-address", c.MaxConnectionsPerAddress, -1, 10_000_000)
	between(v, "connection-rate-per-address", c.ConnectionRatePerAddress, 0, maxRate)
	between(v, "handshake-rate", c.HandshakeRate, 0, maxRate)
	between(v, "max-byte-rate", c.MaxByteRate, 0, maxByteRate)
	between(v, "max-command-rate", c.MaxCommandRate, 0, maxRate)
	between(v, "max-publish-rate", c.MaxPublishRate, 0, maxRate)
	for _, list := range []struct {
		key      string
		networks []string
	}{{"unlimited", c.Unlimited}, {"proxy-protocol", c.ProxyProtocol}, {"trust-forwarded", c.TrustForwarded}} {
		if _, err := Networks(list.networks); err != nil {
			v.addf(list.key, "--%s has %v", list.key, err)
		}
	}
	if _, err := via.ParseOrigins(c.AllowOrigin); err != nil {
		v.addf("allow-origin", "--allow-origin has %v", err)
	}
}

// Networks reads a list of networks of the settings; none alone is an empty one.
func Networks(list []string) (via.Networks, error) {
	if len(list) == 1 && list[0] == noneNetworks {
		return nil, nil
	}
	return via.ParseNetworks(list)
}

// ConnectionsPerAddress is how many connections one address may have, where
// there may be most in all; 0: any number.
func (c *Config) ConnectionsPerAddress(most int) int {
	switch c.MaxConnectionsPerAddress {
	case 0:
		return max(most/10, 256)
	case -1:
		return 0
	}
	return c.MaxConnectionsPerAddress
}
