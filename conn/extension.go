package conn

import (
	"bytes"
	"strconv"
)

// What is agreed on about compression (RFC 7692). Offers of other extensions are
// declined by saying nothing of them (RFC 6455, 9.1), and so are offers that
// are not well formed: a client that made one does without.

// deflateOffer is an offer of permessage-deflate that can be accepted.
type deflateOffer struct {
	serverWindow byte // bits that it wants our window to have; 0: as many as we like
}

// acceptable finds the first of a client's offers that can be accepted, in
// Sec-WebSocket-Extensions (RFC 6455, 9.1):
//
//	extension-list = 1#extension
//	extension      = token *( ";" token [ "=" ( token / quoted-string ) ] )
//
// A list that does not conform has none.
func acceptable(list []byte) (offer deflateOffer, ok bool) {
	p := offerParser{rest: list}
	for {
		p.skip(", \t") // empty elements are to be ignored: RFC 9110, 5.6.1.2
		if len(p.rest) == 0 {
			return offer, ok
		}
		found, fits, formed := p.extension()
		if !formed {
			return deflateOffer{}, false
		}
		if fits && !ok {
			offer, ok = found, true
		}
	}
}

// offerParser takes a list of extensions apart.
type offerParser struct {
	rest []byte
}

func (p *offerParser) skip(set string) { p.rest = bytes.TrimLeft(p.rest, set) }

// next takes c, with white space around it, where it comes next.
func (p *offerParser) next(c byte) bool {
	p.skip(" \t")
	if len(p.rest) == 0 || p.rest[0] != c {
		return false
	}
	p.rest = p.rest[1:]
	p.skip(" \t")
	return true
}

// token takes the token that comes next; empty if there is none.
func (p *offerParser) token() (t []byte) {
	n := 0
	for n < len(p.rest) && isToken[p.rest[n]] {
		n++
	}
	t, p.rest = p.rest[:n], p.rest[n:]
	return t
}

// value takes a token or a quoted string, which has to be a token when it has
// been unquoted (RFC 6455, 9.1); empty if there is neither.
func (p *offerParser) value() (v []byte) {
	if len(p.rest) == 0 || p.rest[0] != '"' {
		return p.token()
	}
	for i := 1; i < len(p.rest); i++ {
		switch p.rest[i] {
		case '"':
			p.rest = p.rest[i+1:]
			return v
		case '\\':
			if i++; i == len(p.rest) {
				return nil
			}
		}
		if !isToken[p.rest[i]] {
			return nil
		}
		v = append(v, p.rest[i])
	}
	return nil
}

// extension takes an element of the list. formed is false where there is none;
// fits says that it is one of permessage-deflate that can be accepted.
func (p *offerParser) extension() (offer deflateOffer, fits, formed bool) {
	name := p.token()
	if len(name) == 0 {
		return offer, false, false
	}
	fits = string(name) == "permessage-deflate"
	var seen [4]bool // each at most once: RFC 7692, 7.1
	for p.next(';') {
		param := p.token()
		if len(param) == 0 {
			return offer, false, false
		}
		var value []byte
		hasValue := p.next('=')
		if hasValue {
			if value = p.value(); len(value) == 0 {
				return offer, false, false
			}
		}
		bits, isBits := windowOf(value)
		at := -1
		switch string(param) {
		case "server_no_context_takeover": // 7.1.1.1
			at = 0
			fits = fits && !hasValue
		case "client_no_context_takeover": // 7.1.1.2
			at = 1
			fits = fits && !hasValue
		case "server_max_window_bits": // 7.1.2.1: to be declined if it is not kept to
			at = 2
			fits = fits && isBits && bits >= windowBits
			offer.serverWindow = bits
		case "client_max_window_bits": // 7.1.2.2: we take any
			at = 3
			fits = fits && (!hasValue || isBits)
		default:
			fits = false // 7: an unknown parameter
		}
		if at >= 0 {
			fits = fits && !seen[at]
			seen[at] = true
		}
	}
	p.skip(" \t")
	return offer, fits, len(p.rest) == 0 || p.rest[0] == ','
}

// windowOf reads the size of a window in bits: 8 to 15, without leading zeros
// (RFC 7692, 7.1.2.1).
func windowOf(value []byte) (bits byte, ok bool) {
	switch {
	case len(value) == 1 && (value[0] == '8' || value[0] == '9'):
		return value[0] - '0', true
	case len(value) == 2 && value[0] == '1' && '0' <= value[1] && value[1] <= '5':
		return 10 + value[1] - '0', true
	}
	return 0, false
}

// appendAccepted appends the header line that accepts an offer, with its end.
// That the client is to forget its window too need not have been offered (RFC
// 7692, 7.1.1.2).
func appendAccepted(dst []byte, offer deflateOffer) []byte {
	dst = append(dst, "\r\nSec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover"...)
	if offer.serverWindow != 0 { // which then has to be answered: 7.1.2.1
		dst = strconv.AppendUint(append(dst, "; server_max_window_bits="...), uint64(offer.serverWindow), 10)
	}
	return dst
}
