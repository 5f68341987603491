package conn

import (
	"bytes"
	"crypto/sha1"
	"crypto/x509"
	"encoding/base64"
	"net/http"
	"net/netip"
	"slices"
	"unsafe"
)

// Request is a valid request for an upgrade, or a GET of a path that is claimed.
// Its strings are views of the read buffer: they are valid during the call that
// hands it over and must be cloned to be kept.
type Request struct {
	Path          string // as sent, not unescaped
	Query         string // as sent, without "?"
	Host          string
	Origin        string // "": none was sent, so it is no browser
	Authorization string
	UserAgent     string
	Offered       string // Sec-WebSocket-Protocol as sent; several lines are joined by ", "
	Protocol      string // the first protocol offered that is known; "": none
	LastEventID   string // of a GET: as sent, for who goes on with a stream
	KeepAlive     bool   // of a GET: the client can make another request on this connection
	Deflate       bool   // permessage-deflate is agreed on: Deflater frames may be sent

	Address     netip.Addr        // the client's, as far as proxies that are trusted tell it; not valid where the socket has none
	Unlimited   bool              // Address is one that limits do not concern
	Again       bool              // the slot's last request was answered, and was made for the same client on the same connection
	Operator    bool              // it is as Handed says: who may do what has been decided
	Certificate *x509.Certificate // the client's, verified, by TLS; nil: it has shown none. It may be kept
}

// handshaker answers requests for an upgrade (RFC 6455, 4.2). It is reused for
// each, and belongs to one loop.
//
// It is no ws.Upgrader, which refuses some valid requests (more than one
// Connection line, Upgrade with other protocols beside websocket), takes some
// that are ambiguous (repeated keys and hosts), and lends header values out of
// a pooled buffer that is another's when it returns.
type handshaker struct {
	// Static after construction.
	protocols []string
	deflate   bool // permessage-deflate is accepted

	// Loop-only: the request being answered.
	req    Request
	joined []byte // what came in several lines
}

// newHandshaker makes one that knows the given subprotocols, and accepts
// compression or does not.
func newHandshaker(protocols []string, deflate bool) *handshaker {
	return &handshaker{protocols: protocols, deflate: deflate}
}

// upgrade answers a complete head, for which WantsUpgrade is true: either the
// 101 appended to dst, and what was asked for; or dst as it is, and why not.
// req is valid until the next call.
func (h *handshaker) upgrade(head, dst []byte) (response []byte, req *Request, refused *Refusal) {
	h.joined = h.joined[:0]
	f, refused := readFields(head)
	if refused == nil {
		refused = h.accept(f)
	}
	if refused != nil {
		return dst, nil, refused
	}
	dst = appendSwitching(dst, f.key, h.req.Protocol)
	if h.deflate && f.extensions != nil {
		if f.moreExtensions {
			f.extensions = h.join(f.lines, "sec-websocket-extensions")
		}
		var offer deflateOffer
		if offer, h.req.Deflate = acceptable(f.extensions); h.req.Deflate {
			dst = appendAccepted(dst, offer)
		}
	}
	return append(dst, "\r\n\r\n"...), &h.req, nil
}

// appendSwitching appends the 101, but for what is said of extensions and the
// blank line.
func appendSwitching(dst, key []byte, protocol string) []byte {
	const keyGUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11" // RFC 6455, 1.3
	var salted [24 + len(keyGUID)]byte
	sum := sha1.Sum(append(append(salted[:0], key...), keyGUID...))
	dst = append(dst, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "...)
	dst = base64.StdEncoding.AppendEncode(dst, sum[:])
	if protocol != "" {
		dst = append(append(dst, "\r\nSec-WebSocket-Protocol: "...), protocol...)
	}
	return dst
}

// accept checks the fields that decide whether there is a handshake, and makes
// the Request of them. The numbers are the items of RFC 6455, 4.2.1.
func (h *handshaker) accept(f fields) *Refusal {
	path, query, authority, ok := splitTarget(f.target)
	switch {
	case string(f.method) != http.MethodGet: // 1
		return badRequest("the method of a WebSocket handshake is GET")
	case !atLeastHTTP11(f.version): // 1
		return badRequest("a WebSocket handshake needs HTTP/1.1")
	case !ok: // 1
		return badRequest("the request target is no path, and no http URL")
	case !validHost(f.host): // 2
		return badRequest("one Host header with the server's name is required")
	case !f.upgrade: // 3
		return badRequest("the Upgrade header does not name websocket")
	case !f.connection: // 4
		return badRequest("the Connection header does not name Upgrade")
	case !validKey(f.key): // 5
		return badRequest("Sec-WebSocket-Key must be 16 bytes in base64")
	case f.body:
		// What follows the head would be a body to a proxy and frames to us. A
		// proxy may find its length malformed, so that this is no matter of versions.
		return badRequest("a WebSocket handshake has no body")
	case string(f.wsVersion) != "13": // 6
		return &Refusal{
			Status:  http.StatusUpgradeRequired, // 4.2.2
			Code:    "bad_request",
			Message: "Sec-WebSocket-Version must be 13",
		}
	}
	if len(authority) > 0 {
		f.host = authority // RFC 9112, 3.2.2: it replaces the Host header
	}

	offered := f.protocol
	if f.moreProtocols {
		offered = h.join(f.lines, "sec-websocket-protocol")
	}
	protocol, ok := h.choose(offered)
	if !ok {
		return badRequest("Sec-WebSocket-Protocol must be a list of tokens")
	}
	h.req = Request{
		Path:          view(path),
		Query:         view(query),
		Host:          view(f.host),
		Origin:        view(f.origin),
		Authorization: view(f.authorization),
		UserAgent:     view(f.userAgent),
		Offered:       view(offered),
		Protocol:      protocol,
	}
	return nil
}

// get reads a complete head, for which Table.claims is true. req is valid until
// the next call.
func (h *handshaker) get(head []byte) (req *Request, refused *Refusal) {
	f, refused := readFields(head)
	if refused != nil {
		return nil, refused
	}
	path, query, authority, ok := splitTarget(f.target)
	old := string(f.version) == "HTTP/1.0"
	switch {
	case !old && !atLeastHTTP11(f.version):
		return nil, badRequest("this is neither HTTP/1.1 nor HTTP/1.0")
	case !ok:
		return nil, badRequest("the request target is no path, and no http URL")
	case !validHost(f.host) && !(old && f.host == nil): // RFC 9112, 3.2
		return nil, badRequest("one Host header with the server's name is required")
	case f.body:
		return nil, badRequest("this request has no body") // what follows could be one, or another request
	}
	if len(authority) > 0 {
		f.host = authority
	}
	h.req = Request{
		Path:          view(path),
		Query:         view(query),
		Host:          view(f.host),
		Origin:        view(f.origin),
		Authorization: view(f.authorization),
		UserAgent:     view(f.userAgent),
		LastEventID:   view(f.lastEventID),
		KeepAlive:     !f.close && (!old || f.keepAlive), // RFC 9112, 9.3
	}
	return &h.req, nil
}

// choose returns the first known protocol of the client's list, which is in
// the order of its preference; "" if it knows none (RFC 6455, 4.2.2, item 5).
// ok is false if the list is malformed.
func (h *handshaker) choose(offered []byte) (protocol string, ok bool) {
	for len(offered) > 0 {
		var element []byte
		element, offered, _ = bytes.Cut(offered, []byte{','})
		element = trimSpace(element)
		if len(element) == 0 {
			continue // RFC 9110, 5.6.1.2: empty elements are to be ignored
		}
		if !allToken(element) {
			return "", false
		}
		if protocol == "" {
			if i := slices.Index(h.protocols, view(element)); i >= 0 {
				protocol = h.protocols[i]
			}
		}
	}
	return protocol, true
}

// join makes one list of several lines of a header (RFC 9110, 5.3), behind
// those that it made for the same request.
func (h *handshaker) join(lines headLines, header string) []byte {
	start := len(h.joined)
	separator := ""
	for {
		line, ok := lines.next()
		if !ok {
			return h.joined[start:]
		}
		name, value, _ := splitField(line)
		if equalFold(name, header) {
			h.joined = append(append(h.joined, separator...), value...)
			separator = ", "
		}
	}
}

// validKey reports whether key is 16 bytes in base64 (RFC 6455, 4.2.1, item 5).
func validKey(key []byte) bool {
	const keySize = 16
	var decoded [keySize + 2]byte // what 24 characters can hold
	if len(key) != base64.StdEncoding.EncodedLen(keySize) {
		return false
	}
	n, err := base64.StdEncoding.Decode(decoded[:], key)
	return err == nil && n == keySize
}

// view is p as a string that shares its memory.
func view(p []byte) string {
	return unsafe.String(unsafe.SliceData(p), len(p))
}
