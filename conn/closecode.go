package conn

import "github.com/gobwas/ws"

// Close codes of pushd's own, from the range for private use (RFC 6455, 7.4.2).
// What a client does about each is part of the published protocol.
const (
	statusNoToken      ws.StatusCode = 4001
	statusTokenExpired ws.StatusCode = 4002
	statusKicked       ws.StatusCode = 4003
	statusTooSlow      ws.StatusCode = 4008
)

// Codes that are in IANA's registry but not in RFC 6455.
const (
	statusServiceRestart ws.StatusCode = 1012
	statusTryAgainLater  ws.StatusCode = 1013
)

// Reason is why a connection ended. Each has one word, for logs and metrics
// alike, and at most one close code.
type Reason uint8

const (
	ReasonNone Reason = iota // it has not ended

	// What the client did.
	ReasonClientClosed // sent a close frame; its own code is echoed
	ReasonClientGone   // end of stream or reset without a close frame

	// Before it was a WebSocket: told in HTTP, or not at all.
	ReasonHandshakeTimeout // the request's head did not come in time
	ReasonHandshakeRefused // the request was answered with a Refusal
	ReasonHeadTooLarge     // the request's head exceeds 8 KiB
	ReasonNotHTTP          // its first byte starts no HTTP request
	ReasonHandedOver       // no upgrade: the socket went to net/http
	ReasonAddressFull      // its address has as many connections as it may
	ReasonAddressRate      // its address made too many connections of late
	ReasonHandshakeRate    // too many handshakes of all clients at a time
	ReasonProxyHeader      // it must begin with a PROXY header, and does not
	ReasonNotTLS           // its first bytes are no TLS, which this port wants
	ReasonTLSFailed        // the TLS handshake failed, or a record was wrong
	ReasonBadCertificate   // its certificate could not be verified
	ReasonTLSBusy          // too many waited for their TLS handshake
	ReasonAnswered         // a GET that was answered; its connection may go on with another request

	// What it sent cannot be taken.
	ReasonProtocolError   // breach of RFC 6455
	ReasonUnsupportedData // data of a kind that is not understood here
	ReasonBadUTF8         // text or close reason is not UTF-8
	ReasonMessageTooBig   // exceeds the limit for one message
	ReasonPolicy          // too many bad commands, too fast
	ReasonIdentityFull    // its identity has as many connections as it may
	ReasonRate            // it went on sending commands faster than it may

	// What it did not do. A silent client is most likely gone and hears
	// nothing; one that does hear (it slept, say) is to connect again, which
	// 1001 makes it do: this endpoint leaves, and nothing is wrong with what
	// the client sent. 1006, which fits better, cannot be sent (7.4.1).
	ReasonSilent  // not a byte came for the heartbeat and the wait for its pong
	ReasonTooSlow // it does not read, and what it misses cannot be made up for

	// What the server does.
	ReasonShutdown    // it ends
	ReasonDraining    // it is drained or restarts; others serve
	ReasonOverloaded  // it has no room
	ReasonReceiveFull // it has no room for what has come of a message in part
	ReasonAnswerFull  // it has no room for an answer that the client does not take
	ReasonInternal    // a fault in the server

	// What was decided about this client.
	ReasonNoToken      // it showed no valid token
	ReasonTokenExpired // its token ended
	ReasonKicked       // an administrator cut it off

	ReasonIOError // the socket failed in another way than by the client's leaving

	NumReasons // how many there are: the size of an array with one element for each
)

// reasons has the word and the code of each Reason; code 0: none is told.
var reasons = [NumReasons]struct {
	word string
	code ws.StatusCode
}{
	ReasonNone:             {"none", 0},
	ReasonClientClosed:     {"client_closed", 0},
	ReasonClientGone:       {"client_gone", 0},
	ReasonHandshakeTimeout: {"handshake_timeout", 0},
	ReasonHandshakeRefused: {"handshake_refused", 0},
	ReasonHeadTooLarge:     {"head_too_large", 0},
	ReasonNotHTTP:          {"not_http", 0},
	ReasonHandedOver:       {"handed_over", 0},
	ReasonAddressFull:      {"address_full", 0},
	ReasonAddressRate:      {"address_rate", 0},
	ReasonHandshakeRate:    {"handshake_rate", 0},
	ReasonProxyHeader:      {"proxy_header", 0},
	ReasonNotTLS:           {"not_tls", 0},
	ReasonTLSFailed:        {"tls_failed", 0},
	ReasonBadCertificate:   {"bad_certificate", 0},
	ReasonTLSBusy:          {"tls_busy", 0},
	ReasonAnswered:         {"answered", 0},
	ReasonProtocolError:    {"protocol_error", ws.StatusProtocolError},
	ReasonUnsupportedData:  {"unsupported_data", ws.StatusUnsupportedData},
	ReasonBadUTF8:          {"bad_utf8", ws.StatusInvalidFramePayloadData},
	ReasonMessageTooBig:    {"message_too_big", ws.StatusMessageTooBig},
	ReasonPolicy:           {"policy", ws.StatusPolicyViolation},
	ReasonIdentityFull:     {"identity_full", ws.StatusPolicyViolation},
	ReasonRate:             {"rate", ws.StatusPolicyViolation},
	ReasonSilent:           {"silent", ws.StatusGoingAway},
	ReasonTooSlow:          {"too_slow", statusTooSlow},
	ReasonShutdown:         {"shutdown", ws.StatusGoingAway},
	ReasonDraining:         {"draining", statusServiceRestart},
	ReasonOverloaded:       {"overloaded", statusTryAgainLater},
	ReasonReceiveFull:      {"receive_full", statusTryAgainLater},
	ReasonAnswerFull:       {"answer_full", 0},
	ReasonInternal:         {"internal", ws.StatusInternalServerError},
	ReasonNoToken:          {"no_token", statusNoToken},
	ReasonTokenExpired:     {"token_expired", statusTokenExpired},
	ReasonKicked:           {"kicked", statusKicked},
	ReasonIOError:          {"io_error", 0},
}

// String is the reason's one word: the log word and the metric label.
func (r Reason) String() string {
	if r < NumReasons {
		return reasons[r].word
	}
	return "unknown"
}

// Code is the close code that tells the client (RFC 6455, 7.4), or 0 where it
// is told nothing, or nothing of the server's own choice.
func (r Reason) Code() ws.StatusCode {
	if r < NumReasons {
		return reasons[r].code
	}
	return 0
}

// reasonOf is the Reason for a failure of the decoder; 0: there was none.
func reasonOf(fail ws.StatusCode) Reason {
	switch fail {
	case 0:
		return ReasonNone
	case ws.StatusInvalidFramePayloadData:
		return ReasonBadUTF8
	case ws.StatusMessageTooBig:
		return ReasonMessageTooBig
	default:
		return ReasonProtocolError
	}
}
