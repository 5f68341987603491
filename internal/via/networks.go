// Package via says for whom a connection is that came by way of proxies: by
// the header of the PROXY protocol, and by what trusted proxies say in
// X-Forwarded-For or Forwarded. It reads bytes and knows no socket.
package via

import (
	"fmt"
	"net/netip"
	"strings"
)

// Networks is a set of addresses.
type Networks []netip.Prefix

// ParseNetworks reads networks such as 10.0.0.0/8 and fd00::/8, and single addresses.
func ParseNetworks(list []string) (Networks, error) {
	var all Networks
	for _, text := range list {
		network, err := parseNetwork(text)
		if err != nil {
			return nil, err
		}
		all = append(all, network)
	}
	return all, nil
}

func parseNetwork(text string) (netip.Prefix, error) {
	if !strings.Contains(text, "/") {
		a, err := netip.ParseAddr(text)
		if err != nil || a.Zone() != "" {
			return netip.Prefix{}, fmt.Errorf("%q, which is no network: write an address such as 192.0.2.7, or a network such as 10.0.0.0/8 or fd00::/8", text)
		}
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return p, fmt.Errorf("%q, which is no network: write an address such as 192.0.2.7, or a network such as 10.0.0.0/8 or fd00::/8", text)
	}
	if p != p.Masked() {
		return p, fmt.Errorf("%q, with bits beyond its mask: did you mean %v?", text, p.Masked())
	}
	if p.Addr().Is4In6() { // addresses are compared unmapped
		if p.Bits() < 96 {
			return p, fmt.Errorf("%q, which is wider than the IPv4 addresses it maps: write them as IPv4", text)
		}
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p, nil
}

// Contains reports whether an address is in one of the networks. One that is
// not valid is in none; IPv4 mapped into IPv6 is IPv4.
func (n Networks) Contains(a netip.Addr) bool {
	if len(n) == 0 {
		return false
	}
	a = a.Unmap().WithZone("")
	for _, network := range n {
		if network.Contains(a) {
			return true
		}
	}
	return false
}
