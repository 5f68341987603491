package config

import (
	"net/netip"
	"testing"
)

func TestValidateLimits(t *testing.T) {
	f := changed(t)
	f(func(c *Config) {
		c.MaxConnectionsPerAddress, c.ConnectionRatePerAddress, c.HandshakeRate, c.MaxByteRate, c.MaxCommandRate, c.MaxPublishRate = -1, 0, 0, 0, 0, 0
	})
	f(func(c *Config) { c.MaxConnectionsPerAddress = -2 }, "--max-connections-per-address is -2, but must be -1 to 10000000")
	f(func(c *Config) { c.ConnectionRatePerAddress = -1 }, "--connection-rate-per-address is -1, but must be 0 to 100000")
	f(func(c *Config) { c.HandshakeRate = 100_001 }, "--handshake-rate is 100001, but must be 0 to 100000")
	f(func(c *Config) { c.MaxByteRate = 1 << 30 }, "--max-byte-rate is 1GiB, but must be 0 to 256MiB")
	f(func(c *Config) { c.MaxCommandRate = -1 }, "--max-command-rate is -1, but must be 0 to 100000")
	f(func(c *Config) { c.MaxPublishRate = -1 }, "--max-publish-rate is -1, but must be 0 to 100000")
	f(func(c *Config) {
		c.Unlimited, c.ProxyProtocol, c.TrustForwarded = []string{"none"}, []string{"10.0.0.0/8", "192.0.2.1"}, []string{"fd00::/8"}
	})
	const network = ", which is no network: write an address such as 192.0.2.7, or a network such as 10.0.0.0/8 or fd00::/8"
	f(func(c *Config) { c.Unlimited = []string{"10.0.0.0/8", "none"} }, `--unlimited has "none"`+network)
	f(func(c *Config) { c.ProxyProtocol = []string{"proxy.example.com"} }, `--proxy-protocol has "proxy.example.com"`+network)
	f(func(c *Config) { c.TrustForwarded = []string{"10.0.0.1/8"} }, `--trust-forwarded has "10.0.0.1/8", with bits beyond its mask: did you mean 10.0.0.0/8?`)
	f(func(c *Config) { c.AllowOrigin = []string{"https://a.com", "*.b.com", "null", "*"} })
	f(func(c *Config) { c.AllowOrigin = []string{"https://a.com/path"} },
		`--allow-origin has "https://a.com/path": this is no host with or without a port: write https://app.example.com, app.example.com, *.example.com, null, or *`)
}

func TestNetworks(t *testing.T) {
	for _, tc := range []struct {
		list []string
		want bool
	}{{nil, false}, {[]string{"none"}, false}, {Default().Unlimited, true}} {
		n, err := Networks(tc.list)
		if err != nil || n.Contains(netip.MustParseAddr("127.8.9.1")) != tc.want {
			t.Errorf("%q: %v, %v", tc.list, n, err)
		}
	}
}
