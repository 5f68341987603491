package conn

import "bytes"

// maxHead is the most bytes that a request's head may have, its blank line
// included.
const maxHead = 8 << 10

// verdict is what the bytes of a request's head amount to so far.
type verdict uint8

const (
	headNeedMore verdict = iota
	headComplete
	headTooLarge // the blank line is not within maxHead bytes: 431
	headNotHTTP  // the first byte cannot start a request
)

// scanHead looks for the end of a request's head in p, all that has come of a
// connection. from is how many bytes of p an earlier call has seen already;
// they are not looked at again. With headComplete, end is the index behind the
// blank line: what is there belongs to the WebSocket.
//
// As in net/http, a line ends with LF, and a CR before it is not part of the
// line (RFC 9112, 2.2); an empty line before the request is not skipped.
func scanHead(p []byte, from int) (end int, v verdict) {
	if len(p) == 0 {
		return 0, headNeedMore
	}
	if !isToken[p[0]] {
		return 0, headNotHTTP // the method is a token (RFC 9110, 9.1)
	}
	seen := p[:min(len(p), maxHead)]
	// The blank line may have begun with the last two bytes seen: LF CR.
	for i := max(from-2, 0); ; {
		n := bytes.IndexByte(seen[min(i, len(seen)):], '\n')
		if n < 0 {
			break
		}
		i += n + 1
		switch rest := seen[i:]; {
		case len(rest) >= 1 && rest[0] == '\n':
			return i + 1, headComplete
		case len(rest) >= 2 && rest[0] == '\r' && rest[1] == '\n':
			return i + 2, headComplete
		}
	}
	if len(p) >= maxHead {
		return 0, headTooLarge
	}
	return 0, headNeedMore
}

// WantsUpgrade reports whether a complete head asks for a WebSocket: a GET of
// HTTP/1.1 or later, with websocket among the protocols of its Upgrade lines
// (RFC 6455, 4.2.1; an Upgrade in HTTP/1.0 is to be ignored: RFC 9110, 7.8).
// Everything else is for net/http, malformed requests included.
func WantsUpgrade(head []byte) bool {
	lines := headLines{rest: head}
	request, _ := lines.next()
	if !bytes.HasPrefix(request, []byte("GET ")) || bytes.HasSuffix(request, []byte(" HTTP/1.0")) {
		return false
	}
	for {
		line, ok := lines.next()
		if !ok {
			return false
		}
		if name, value, ok := splitField(line); ok && equalFold(name, "upgrade") && listHas(value, "websocket") {
			return true
		}
	}
}

// fields is a request's head taken apart. A slice is nil if the header was not
// there; all are views of the head.
type fields struct {
	method, target, version []byte
	lines                   headLines // the header lines

	host, origin, authorization, userAgent []byte
	lastEventID                            []byte
	key, wsVersion, protocol               []byte // Sec-WebSocket-…
	moreProtocols                          bool   // protocol is only the first of several lines
	extensions                             []byte // Sec-WebSocket-Extensions
	moreExtensions                         bool   // … only the first of several lines
	upgrade                                bool   // Upgrade has websocket
	connection                             bool   // Connection has Upgrade
	keepAlive, close                       bool   // … and these
	body                                   bool   // a body is announced
}

// readFields takes a complete head apart. It refuses what two readers could
// read differently, a proxy before us and we, say: lines that continue others,
// control characters (NUL, a lone CR), space before a colon, and a second one
// of a header that says who is asked for, who asks, or what is signed.
func readFields(head []byte) (f fields, refused *Refusal) {
	f.lines.rest = head
	request, _ := f.lines.next()
	f.method, request, _ = bytes.Cut(request, []byte{' '})
	f.target, f.version, _ = bytes.Cut(request, []byte{' '})
	if !allVisible(f.target) {
		return f, badRequest("malformed request line") // RFC 9112, 3
	}

	for lines := f.lines; ; {
		line, ok := lines.next()
		if !ok {
			return f, nil
		}
		name, value, ok := splitField(line)
		if !ok || !validValue(value) {
			return f, badRequest("malformed header line") // RFC 9112, 5.1 and 5.2; RFC 9110, 5.5
		}
		var once *[]byte
		switch {
		case equalFold(name, "host"):
			once = &f.host // RFC 9112, 3.2
		case equalFold(name, "sec-websocket-key"):
			once = &f.key // RFC 6455, 11.3.1
		case equalFold(name, "sec-websocket-version"):
			once = &f.wsVersion // RFC 6455, 11.3.5
		case equalFold(name, "origin"):
			once = &f.origin // RFC 6454, 7.3
		case equalFold(name, "authorization"):
			once = &f.authorization // RFC 9110, 5.3: it is no list
		case equalFold(name, "last-event-id"):
			once = &f.lastEventID // HTML, 9.2.4: it is one text
		case equalFold(name, "user-agent"):
			if f.userAgent == nil {
				f.userAgent = value
			}
		case equalFold(name, "sec-websocket-protocol"):
			if f.protocol == nil {
				f.protocol = value
			} else {
				f.moreProtocols = true // RFC 6455, 11.3.4: it may come again
			}
		case equalFold(name, "sec-websocket-extensions"):
			if f.extensions == nil {
				f.extensions = value
			} else {
				f.moreExtensions = true // RFC 6455, 11.3.2
			}
		case equalFold(name, "upgrade"):
			f.upgrade = f.upgrade || listHas(value, "websocket")
		case equalFold(name, "connection"):
			f.connection = f.connection || listHas(value, "upgrade")
			f.keepAlive = f.keepAlive || listHas(value, "keep-alive")
			f.close = f.close || listHas(value, "close")
		case equalFold(name, "content-length"):
			f.body = f.body || string(value) != "0"
		case equalFold(name, "transfer-encoding"):
			f.body = true
		}
		if once != nil {
			if *once != nil {
				return f, badRequest("header " + string(name) + " comes more than once")
			}
			*once = value
		}
	}
}

// splitTarget takes a request target apart (RFC 9112, 3.2): a path, or a whole
// http or https URL, which has an authority too (RFC 6455, 4.2.1, item 1). ok
// is false for anything else, and with a fragment (RFC 6455, 3).
func splitTarget(target []byte) (path, query, authority []byte, ok bool) {
	if bytes.IndexByte(target, '#') >= 0 {
		return nil, nil, nil, false
	}
	path, query, _ = bytes.Cut(target, []byte{'?'})
	if len(path) > 0 && path[0] == '/' {
		return path, query, nil, true
	}
	scheme, rest, ok := bytes.Cut(path, []byte("://"))
	if !ok || !equalFold(scheme, "http") && !equalFold(scheme, "https") {
		return nil, nil, nil, false
	}
	authority, path = rest, []byte{'/'} // RFC 9110, 4.2.3: an empty path is "/"
	if i := bytes.IndexByte(rest, '/'); i >= 0 {
		authority, path = rest[:i], rest[i:]
	}
	return path, query, authority, validHost(authority)
}

// atLeastHTTP11 reports whether version is HTTP/1.1 or a later HTTP/1
// (RFC 9112, 2.3).
func atLeastHTTP11(version []byte) bool {
	const prefix = "HTTP/1."
	minor, ok := bytes.CutPrefix(version, []byte(prefix))
	return ok && len(minor) == 1 && '1' <= minor[0] && minor[0] <= '9'
}

// validHost reports whether host can be a name or address with a port
// (RFC 3986, 3.2.2 and 3.2.3); user information is refused (RFC 9110, 4.2.4).
func validHost(host []byte) bool {
	for _, c := range host {
		if !isHost[c] {
			return false
		}
	}
	return len(host) > 0
}

// allVisible reports whether p has neither spaces nor control characters, and
// is not empty. Bytes above ASCII pass, as they do in net/http.
func allVisible(p []byte) bool {
	for _, c := range p {
		if c <= ' ' || c == 0x7f {
			return false
		}
	}
	return len(p) > 0
}

// validValue reports whether p can be the value of a header (RFC 9110, 5.5).
func validValue(p []byte) bool {
	for _, c := range p {
		if c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// headLines walks over the lines of a complete head.
type headLines struct {
	rest []byte
}

// next is the next line without its end; ok is false at the blank line.
func (l *headLines) next() (line []byte, ok bool) {
	line, l.rest, ok = bytes.Cut(l.rest, []byte{'\n'})
	if n := len(line); n > 0 && line[n-1] == '\r' {
		line = line[:n-1]
	}
	return line, ok && len(line) > 0
}

// splitField takes a header line apart (RFC 9112, 5.1). ok is false unless the
// name is a token that the colon follows at once; so a line that continues
// another (obs-fold) is none.
func splitField(line []byte) (name, value []byte, ok bool) {
	name, value, ok = bytes.Cut(line, []byte{':'})
	return name, trimSpace(value), ok && allToken(name)
}

// trimSpace cuts off the optional white space around a value (RFC 9110,
// 5.6.3). Unlike bytes.Trim it never makes nil of what is empty.
func trimSpace(p []byte) []byte {
	for len(p) > 0 && (p[0] == ' ' || p[0] == '\t') {
		p = p[1:]
	}
	for n := len(p); n > 0 && (p[n-1] == ' ' || p[n-1] == '\t'); n-- {
		p = p[:n-1]
	}
	return p
}

// listHas reports whether a comma-separated list (RFC 9110, 5.6.1) has the
// token, given in lower case, in any case.
func listHas(list []byte, token string) bool {
	for len(list) > 0 {
		var element []byte
		element, list, _ = bytes.Cut(list, []byte{','})
		if equalFold(trimSpace(element), token) {
			return true
		}
	}
	return false
}

// equalFold compares with lower, which is ASCII in lower case. Unlike
// bytes.EqualFold it takes no other letter of Unicode for an ASCII one: the
// Kelvin sign is no k in a protocol.
func equalFold(p []byte, lower string) bool {
	if len(p) != len(lower) {
		return false
	}
	for i, c := range p {
		if 'A' <= c && c <= 'Z' {
			c |= 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// allToken reports whether p is a token: not empty, and of its characters only.
func allToken(p []byte) bool {
	for _, c := range p {
		if !isToken[c] {
			return false
		}
	}
	return len(p) > 0
}

// isToken has the characters of a token (RFC 9110, 5.6.2).
var isToken = byteSet("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")

// isHost has the characters of a host and port (RFC 3986, 3.2.2 and 3.2.3).
var isHost = byteSet("!$%&'()*+,-.:;=[]_~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")

// byteSet is the set of the bytes of s.
func byteSet(s string) (set [256]bool) {
	for i := range len(s) {
		set[s[i]] = true
	}
	return set
}
