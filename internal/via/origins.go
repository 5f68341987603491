package via

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// Origins is the web pages that may use this server. The zero value allows
// those of the same host and port as the request's.
type Origins struct {
	any, null bool
	rules     []originRule
}

// originRule is one element of the list.
type originRule struct {
	scheme string // "": http or https
	host   string // in lower case, an address of IPv6 in brackets
	port   string // "": the default of the scheme
	below  bool   // what is below host, and not host itself
}

// ParseOrigins reads what --allow-origin lists. An empty list is the zero value.
func ParseOrigins(list []string) (Origins, error) {
	var o Origins
	for _, text := range list {
		switch text {
		case "*":
			o.any = true
		case "null":
			o.null = true
		default:
			rule, err := parseRule(text)
			if err != nil {
				return o, fmt.Errorf("%q: %w: write https://app.example.com, app.example.com, *.example.com, null, or *", text, err)
			}
			o.rules = append(o.rules, rule)
		}
	}
	return o, nil
}

func parseRule(text string) (r originRule, err error) {
	scheme, authority, found := strings.Cut(text, "://")
	if !found {
		scheme, authority = "", text
	}
	if authority, r.below = strings.CutPrefix(authority, "*."); strings.Contains(authority, "*") {
		return r, errors.New("a * stands only at the start, before a dot")
	}
	r.scheme = strings.ToLower(scheme)
	if found && r.scheme != "http" && r.scheme != "https" {
		return r, errors.New("the scheme of an origin is http or https")
	}
	var ok bool
	if r.host, r.port, ok = splitHost(authority); !ok {
		return r, errors.New("this is no host with or without a port")
	}
	return r, nil
}

// Allow reports whether a page of an origin, as a browser sends it, may use
// this server by the name of host, as in the Host header. No origin is no
// browser: it is allowed.
func (o Origins) Allow(origin, host string) bool {
	switch {
	case origin == "", o.any:
		return true
	case origin == "null": // of many kinds of documents, and of whoever wants it
		return o.null
	}
	scheme, authority, _ := strings.Cut(origin, "://")
	scheme = strings.ToLower(scheme)
	if scheme != "http" && scheme != "https" {
		return false
	}
	name, port, ok := splitHost(authority)
	if !ok {
		return false // RFC 6454, 6.2: an origin has nothing but scheme, host and port
	}
	standard := "80"
	if scheme == "https" {
		standard = "443"
	}
	port = cmp.Or(port, standard)
	if len(o.rules) == 0 && !o.null {
		ourName, ourPort, ok := splitHost(host)
		return ok && name == ourName && port == cmp.Or(ourPort, standard)
	}
	for _, r := range o.rules {
		if (r.scheme == "" || r.scheme == scheme) && port == cmp.Or(r.port, standard) && r.names(name) {
			return true
		}
	}
	return false
}

func (r originRule) names(host string) bool {
	if !r.below {
		return host == r.host
	}
	above, ok := strings.CutSuffix(host, r.host)
	return ok && len(above) > 1 && above[len(above)-1] == '.'
}

// splitHost reads a host with or without a port, and nothing else: no user, no
// path. The host comes in lower case, the port without leading zeros.
func splitHost(text string) (host, port string, ok bool) {
	host = text
	if i := strings.LastIndexByte(text, ':'); i >= 0 && !strings.HasSuffix(text, "]") {
		host, port = text[:i], text[i+1:]
		if !isPort(port) || port == "0" {
			return "", "", false
		}
	}
	if inner, bracketed := strings.CutPrefix(host, "["); bracketed {
		inner, bracketed = strings.CutSuffix(inner, "]")
		a, err := netip.ParseAddr(inner)
		if !bracketed || err != nil || !a.Is6() || a.Zone() != "" {
			return "", "", false
		}
		return "[" + a.String() + "]", port, true
	}
	if host == "" || strings.ContainsFunc(host, func(c rune) bool { return !strings.ContainsRune(hostChars, c) }) {
		return "", "", false
	}
	return strings.ToLower(host), port, true
}

// hostChars are those of a domain name in an origin: IDNA has made it ASCII.
const hostChars = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._"
