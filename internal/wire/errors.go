package wire

import (
	"fmt"
	"strconv"
	"unicode/utf8"
)

// ErrorCode is the machine-readable half of an error reply and of an HTTP
// refusal. It is also log word and metric label.
type ErrorCode string

const (
	BadRequest      ErrorCode = "bad_request"       // the text is not a command as the protocol describes it
	UnknownType     ErrorCode = "unknown_type"      // a well-formed command of a type this version does not have
	InvalidTopic    ErrorCode = "invalid_topic"     // not a topic, or a pattern where only a topic will do
	Unauthorized    ErrorCode = "unauthorized"      // no token, or one that does not verify
	Forbidden       ErrorCode = "forbidden"         // a good token, or none, that does not permit this
	TooManyTopics   ErrorCode = "too_many_topics"   // beyond the subscriptions that one connection may hold
	MessageTooLarge ErrorCode = "message_too_large" // beyond welcome.max_message
	RateLimited     ErrorCode = "rate_limited"      // too often: wait, then retry
	NoHistory       ErrorCode = "no_history"        // asks for what only a namespace with history can do
	Unavailable     ErrorCode = "unavailable"       // NATS is away: retry
	Internal        ErrorCode = "internal"          // a fault of the server, which has logged it
)

// HTTPStatus is the status of a refusal with this code where nothing more
// exact is known (404, 405, 408, 426 and 431 all carry bad_request).
func (c ErrorCode) HTTPStatus() int {
	switch c {
	case Unauthorized:
		return 401
	case Forbidden:
		return 403
	case MessageTooLarge:
		return 413
	case RateLimited:
		return 429
	case Internal:
		return 500
	case Unavailable:
		return 503
	}
	return 400
}

// Error is a refusal that can be told to the client.
//
// The functions of this package return *Error, not error: compare it with nil
// before it is put into an error variable.
type Error struct {
	Code    ErrorCode
	Message string // for a person: what was wrong, in which field, and what would be right
}

func (e *Error) Error() string { return string(e.Code) + ": " + e.Message }

func badRequest(format string, args ...any) *Error {
	return &Error{Code: BadRequest, Message: fmt.Sprintf(format, args...)}
}

// maxQuoted bounds how much of a client's own text an error repeats to it, in bytes.
const maxQuoted = 64

// quote makes a client's text fit to stand in an error's message.
func quote(s string) string {
	if len(s) <= maxQuoted {
		return strconv.Quote(s)
	}
	cut := maxQuoted
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return strconv.Quote(s[:cut] + "…")
}
