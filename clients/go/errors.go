package pushd

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"
)

// Code is the machine-readable half of a refusal.
type Code string

// The codes of docs/PROTOCOL.md. A later server may have others.
const (
	BadRequest      Code = "bad_request"
	UnknownType     Code = "unknown_type"
	InvalidTopic    Code = "invalid_topic"
	Unauthorized    Code = "unauthorized" // no token, or one that does not verify
	Forbidden       Code = "forbidden"    // a good token, or none, that does not permit this
	TooManyTopics   Code = "too_many_topics"
	MessageTooLarge Code = "message_too_large"
	RateLimited     Code = "rate_limited"
	NoHistory       Code = "no_history"  // asks for what only a namespace with history can do
	Unavailable     Code = "unavailable" // NATS is away
	Internal        Code = "internal"
)

// Unsupported is the code of what cannot be had over the transport in use: the
// client itself says it, and no server.
const Unsupported Code = "unsupported"

// Error is an answer of the server that says no: to a command, to the upgrade
// of a connection, or to a request over HTTP ([ResponseError]). Its JSON form is
// that of the body of an HTTP error, and of a result line of POST /publish.
type Error struct {
	Code    Code   `json:"code"`
	Message string `json:"message"` // for people; it may change

	Topic      string        `json:"-"` // that was subscribed to, "" where it is about something else
	Status     int           `json:"-"` // of HTTP; 0 where it is no answer of HTTP
	RetryAfter time.Duration `json:"-"` // not to be tried again before; 0 where the server does not say
}

func (e *Error) Error() string { return string(e.Code) + ": " + e.Message }

// Temporary reports whether the same may succeed later.
func (e *Error) Temporary() bool {
	switch e.Status {
	case 0:
		return e.Code == Unavailable || e.Code == RateLimited
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// hasTurn reports whether the server said when it has room for the client.
func (e *Error) hasTurn() bool {
	return e.RetryAfter > 0 && (e.Status == http.StatusTooManyRequests || e.Status == http.StatusServiceUnavailable)
}

// ResponseError returns the refusal that a response of a pushd's HTTP endpoints
// with an error status is. It reads the body and does not close it. What stands
// between here and a pushd may answer with a body of its own: the code is
// "HTTP 502" then.
func ResponseError(response *http.Response) *Error {
	e := &Error{}
	const longest = 64 << 10 // bytes of a body that are worth reading for a message
	body, err := io.ReadAll(io.LimitReader(response.Body, longest))
	if err != nil || json.Unmarshal(body, e) != nil || e.Code == "" {
		e.Code, e.Message = statusCode(response.StatusCode), http.StatusText(response.StatusCode)
	}
	e.Status = response.StatusCode
	if seconds, err := strconv.Atoi(response.Header.Get("Retry-After")); err == nil && seconds > 0 {
		e.RetryAfter = time.Duration(seconds) * time.Second
	}
	return e
}

// statusCode is the code of an answer that is none of a pushd's own.
func statusCode(status int) Code { return Code("HTTP " + strconv.Itoa(status)) }

var (
	// ErrClosed is what is left of a client or a subscription after its Close.
	ErrClosed = errors.New("it is closed")
	// ErrSubscribed is the error of subscribing to a name that the client is subscribed to.
	ErrSubscribed = errors.New("the client is subscribed to it already")
	// ErrDead is the end of a connection on which no sign of life came in time: no
	// answer to a ping, no heartbeat, no answer to a poll.
	ErrDead = errors.New("the connection is dead: no sign of life came in time")

	errAdvised = errors.New("the server asked to connect again")
	errBroken  = errors.New("the connection broke off")
	errSilent  = errors.New("the server did not say welcome in time")
)
