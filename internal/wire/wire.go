// Package wire is version 1 of the client protocol: the one place where a
// message becomes bytes and bytes become a command. The contract itself is
// docs/PROTOCOL.md, whose examples a test of this package holds against it.
//
// A connection in the json format sees, in this order:
//
//	server  welcome
//	client  subscribe, unsubscribe, publish, auth, presence, ping     (Parser.Parse)
//	server  one reply for each, or error, with the command's id       (AppendSubscribed …)
//	server  message, gap, skipped, unsubscribed, whenever there is one (AppendMessage …)
//	server  reconnect, before it closes with one of the CloseCodes
//
// The package knows no socket, no WebSocket frame, no NATS and no topic syntax.
package wire

// Version is the protocol's version, as in the welcome and in the names of the subprotocols.
const Version = 1

// The names that a client may offer in Sec-WebSocket-Protocol (RFC 6455 section 1.9).
const (
	SubprotocolJSON = "pushd.v1.json"
	SubprotocolRaw  = "pushd.v1.raw"
)

// Format is how messages are laid out on one connection.
type Format uint8

const (
	JSON       Format = iota // one JSON object a text message, both ways
	Raw                      // each payload alone; the client sends only control frames
	NumFormats               // the length of an array indexed by Format
)

// String returns the format's name in a query string, which is also its metric label.
func (f Format) String() string {
	switch f {
	case JSON:
		return "json"
	case Raw:
		return "raw"
	}
	return "invalid"
}

// Subprotocol returns the name by which Sec-WebSocket-Protocol asks for the format.
func (f Format) Subprotocol() string {
	switch f {
	case JSON:
		return SubprotocolJSON
	case Raw:
		return SubprotocolRaw
	}
	return ""
}

// ParseFormat reads the value of format= in a query string.
func ParseFormat(s string) (Format, bool) {
	switch s {
	case "json":
		return JSON, true
	case "raw":
		return Raw, true
	}
	return 0, false
}

// ParseSubprotocol reads one name offered in Sec-WebSocket-Protocol.
func ParseSubprotocol(s string) (Format, bool) {
	switch s {
	case SubprotocolJSON:
		return JSON, true
	case SubprotocolRaw:
		return Raw, true
	}
	return 0, false
}

// Mode is how a subscription is delivered; empty is the namespace's own delivery.
type Mode string

const (
	ModeAll    Mode = "all"    // every message, in order; one that falls behind is fed from history
	ModeLatest Mode = "latest" // the newest value of each topic; those between may be skipped
	ModeLive   Mode = "live"   // every message while the client keeps up, else a gap
)

// ParseMode reads a mode, from a command or from mode= in a query string.
func ParseMode(s string) (Mode, *Error) {
	switch m := Mode(s); m {
	case ModeAll, ModeLatest, ModeLive:
		return m, nil
	}
	return "", badRequest(`"mode" is %s: it can be "all", "latest" or "live"`, quote(s))
}

// GapReason says why messages are missing; it is log word and metric label too.
type GapReason string

const (
	GapSlow      GapReason = "slow"      // the client took its messages too slowly
	GapExpired   GapReason = "expired"   // history no longer reaches back to the cursor
	GapUpstream  GapReason = "upstream"  // NATS was away, or lost messages on the way to this node
	GapRestarted GapReason = "restarted" // the namespace's history began anew
)

// OtherFeed is why a topic of a stream of events does not go on from Last-Event-ID:
// that is a place in another feed.
const OtherFeed GapReason = "other_feed"

// UnsubscribedReason says why a subscription ended.
type UnsubscribedReason string

const (
	UnsubscribedRequested    UnsubscribedReason = "requested"     // by the client's command
	UnsubscribedForbidden    UnsubscribedReason = "forbidden"     // the permission was taken back
	UnsubscribedTokenExpired UnsubscribedReason = "token_expired" // the token that allowed it ran out
)

// ReconnectReason says why a client is asked to go elsewhere.
type ReconnectReason string

// ReconnectDraining: the node is about to stop; a close with CloseDraining follows.
const ReconnectDraining ReconnectReason = "draining"
