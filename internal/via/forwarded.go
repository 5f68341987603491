package via

import (
	"net/netip"
	"strings"
)

// maxHops bounds the elements of one header that are looked at.
const maxHops = 32

// Headers are the lines of a request that name those it was made for, each in
// the order in which they came.
type Headers struct {
	ForwardedFor []string // X-Forwarded-For
	Forwarded    []string // RFC 7239
}

// Claim is what a request says of who made it.
type Claim uint8

const (
	Silent     Claim = iota // nothing, or nobody whom it could be believed of sent it
	Named                   // an address
	Unbelieved              // something that cannot be read, or two addresses
)

// Client finds who made a request that came from an address, if that is a
// trusted proxy: the last address in the header that is no trusted proxy's
// itself, since each proxy appends whom it was asked by, and what stands before
// the first untrusted one may be invented. Where all are trusted, it is the
// first.
//
// Of what cannot be read, or is hidden ("unknown", "_gazonk"), nothing is
// believed: then it is the proxy's own address. So it is where X-Forwarded-For
// and Forwarded name two: a proxy that sets one passes on the other as a client
// has made it up. Whoever the client is then, it is not the proxy: where the
// claim is Unbelieved, what the proxy may is not for it.
func (h Headers) Client(from netip.Addr, trusted Networks) (netip.Addr, Claim) {
	if !trusted.Contains(from) {
		return from, Silent
	}
	var found netip.Addr
	for _, header := range []struct {
		lines []string
		read  func(string) ([]netip.Addr, bool)
	}{{h.ForwardedFor, readForwardedFor}, {h.Forwarded, readForwarded}} {
		if len(header.lines) == 0 {
			continue
		}
		a, ok := lastUntrusted(header.lines, header.read, trusted)
		if !ok || found.IsValid() && a != found {
			return from, Unbelieved
		}
		found = a
	}
	if !found.IsValid() {
		return from, Silent
	}
	return found, Named
}

// lastUntrusted walks the elements of all lines from the last to the first.
func lastUntrusted(lines []string, read func(string) ([]netip.Addr, bool), trusted Networks) (first netip.Addr, ok bool) {
	for i := len(lines) - 1; i >= 0; i-- {
		hops, whole := read(lines[i])
		for j := len(hops) - 1; j >= 0; j-- {
			if first = hops[j]; !first.IsValid() {
				return first, false
			}
			if !trusted.Contains(first) {
				return first, true
			}
		}
		if !whole {
			return first, false
		}
	}
	return first, first.IsValid()
}

// readForwardedFor reads the last elements of one line, up to maxHops; what is
// no address is one that is not valid. whole: it has no more.
func readForwardedFor(line string) (hops []netip.Addr, whole bool) {
	elements := strings.Split(line, ",")
	whole = len(elements) <= maxHops
	for _, e := range elements[max(0, len(elements)-maxHops):] {
		hops = append(hops, node(strings.Trim(e, " \t")))
	}
	return hops, whole
}

// node reads an address as proxies write it: with a port or without, and IPv6
// in brackets or without.
func node(text string) netip.Addr {
	a, err := netip.ParseAddr(text)
	if inner, ok := strings.CutPrefix(text, "["); err != nil && ok {
		if inner, ok = strings.CutSuffix(inner, "]"); ok {
			if a, err = netip.ParseAddr(inner); err == nil && a.Is4() {
				return netip.Addr{}
			}
		}
	}
	if err != nil {
		with, err := netip.ParseAddrPort(text)
		if err != nil {
			return netip.Addr{}
		}
		a = with.Addr()
	}
	if a.Zone() != "" { // it means something on the proxy's host alone
		return netip.Addr{}
	}
	return a.Unmap()
}

// readForwarded reads one line of Forwarded (RFC 7239, 4). Of a line that does
// not follow the grammar nothing is believed: where its elements begin is not sure.
func readForwarded(line string) (hops []netip.Addr, whole bool) {
	s := scanner{rest: line}
	for {
		hop, named := netip.Addr{}, false
		for {
			name := s.token()
			if name == "" || !s.skip('=') {
				return nil, false
			}
			value, ok := s.value()
			if !ok {
				return nil, false
			}
			if strings.EqualFold(name, "for") {
				if named {
					return nil, false // 4: each parameter at most once
				}
				hop, named = nodeName(value), true
			}
			if !s.skip(';') {
				break
			}
		}
		if hops = append(hops, hop); len(hops) > maxHops {
			return nil, false
		}
		s.space()
		if s.rest == "" {
			return hops, true
		}
		if !s.skip(',') {
			return nil, false
		}
		s.space()
	}
}

// nodeName reads the node of a for= (RFC 7239, 6), where IPv6 must be in brackets.
func nodeName(text string) netip.Addr {
	if strings.Count(text, ":") > 1 && !strings.HasPrefix(text, "[") {
		return netip.Addr{}
	}
	return node(text)
}

// scanner takes a header line apart from its start.
type scanner struct{ rest string }

func (s *scanner) space() { s.rest = strings.TrimLeft(s.rest, " \t") }

func (s *scanner) skip(c byte) bool {
	if s.rest == "" || s.rest[0] != c {
		return false
	}
	s.rest = s.rest[1:]
	return true
}

// token is the token (RFC 9110, 5.6.2) that comes next, "" for none.
func (s *scanner) token() string {
	n := 0
	for n < len(s.rest) && isTokenChar(s.rest[n]) {
		n++
	}
	token := s.rest[:n]
	s.rest = s.rest[n:]
	return token
}

func isTokenChar(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}

// value is a token or a quoted string (RFC 9110, 5.6.4).
func (s *scanner) value() (string, bool) {
	if !s.skip('"') {
		token := s.token()
		return token, token != ""
	}
	var b strings.Builder
	for i := 0; i < len(s.rest); i++ {
		switch c := s.rest[i]; c {
		case '"':
			s.rest = s.rest[i+1:]
			return b.String(), true
		case '\\':
			if i++; i == len(s.rest) {
				return "", false
			}
			b.WriteByte(s.rest[i])
		default:
			b.WriteByte(c)
		}
	}
	return "", false
}
