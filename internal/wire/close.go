package wire

import (
	"slices"
	"time"
)

// CloseCode is the status of a WebSocket close frame (RFC 6455 section 7.4).
// What a client does when it sees one is part of the contract; its name is the
// word that logs and metrics of server and client have for it.
type CloseCode uint16

const (
	CloseNormal          CloseCode = 1000 // the client asked for it
	CloseGoingAway       CloseCode = 1001 // the server stops, or had given the client up as silent
	CloseProtocolError   CloseCode = 1002 // frames that RFC 6455 does not allow
	CloseUnsupportedData CloseCode = 1003 // a binary message, or any message in the raw format
	CloseBadUTF8         CloseCode = 1007 // a text message that is not UTF-8
	ClosePolicy          CloseCode = 1008 // too many bad commands, or commands too often
	CloseMessageTooBig   CloseCode = 1009 // a message beyond welcome.max_message
	CloseInternal        CloseCode = 1011 // a fault of the server
	CloseDraining        CloseCode = 1012 // the server drains its connections to stop or restart
	CloseOverloaded      CloseCode = 1013 // the server sheds connections
	CloseNoToken         CloseCode = 4001 // no token, or one that does not verify
	CloseTokenExpired    CloseCode = 4002 // the token ran out and was not refreshed
	CloseKicked          CloseCode = 4003 // an administrator ended the connection
	CloseTooSlow         CloseCode = 4008 // the socket took nothing for too long
)

// CloseInfo is one row of the table of close codes.
type CloseInfo struct {
	Code      CloseCode
	Name      string
	Meaning   string        // for a person
	Reconnect bool          // whether a client connects again by itself
	Wait      time.Duration // the least backoff before it does; 0: the client's usual one
	How       string        // how it connects again, or what must be done first
}

// closeTable is read only. Its order is that of the codes.
var closeTable = [...]CloseInfo{
	{CloseNormal, "normal", "normal", false, 0, "no"},
	{CloseGoingAway, "going_away", "server gone", true, 0, "yes, with backoff"},
	{CloseProtocolError, "protocol_error", "protocol error", false, 0, "no: mend the client"},
	{CloseUnsupportedData, "unsupported_data", "unsupported data", false, 0, "no: mend the client"},
	{CloseBadUTF8, "bad_utf8", "bad UTF-8", false, 0, "no: mend the client"},
	{ClosePolicy, "policy", "policy (too many bad commands, rate)", true, 10 * time.Second, "yes, backoff of at least 10 s"},
	{CloseMessageTooBig, "message_too_big", "message too big", false, 0, "no: mend the client"},
	{CloseInternal, "internal", "internal error", true, 0, "yes, with backoff"},
	{CloseDraining, "draining", "draining or restarting", true, 0, "yes, after the `reconnect` advice"},
	{CloseOverloaded, "overloaded", "overloaded, try again later", true, 0, "yes, after the `reconnect` advice"},
	{CloseNoToken, "no_token", "no or bad token", false, 0, "no: get a token"},
	{CloseTokenExpired, "token_expired", "token expired", true, 0, "yes, with a new token"},
	{CloseKicked, "kicked", "disconnected by an administrator", false, 0, "no"},
	{CloseTooSlow, "too_slow", "too slow, and the namespace cannot conflate or replay", true, 0, "yes, resume from the cursor"},
}

// CloseCodes returns a copy of the whole table, in the order of the codes.
func CloseCodes() []CloseInfo { return slices.Clone(closeTable[:]) }

// Info returns the code's row. A code that the protocol does not name, such as
// one that a peer made up, has the name "other" and is answered with backoff.
func (c CloseCode) Info() CloseInfo {
	for i := range closeTable {
		if closeTable[i].Code == c {
			return closeTable[i]
		}
	}
	return CloseInfo{Code: c, Name: "other", Meaning: "not a code of this protocol", Reconnect: true, How: "yes, with backoff"}
}

// Name returns the code's log word and metric label, "other" where it has none.
func (c CloseCode) Name() string { return c.Info().Name }
