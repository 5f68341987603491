package conn

import (
	"cmp"
	"encoding/json"
	"net/http"
	"strconv"
	"time"
)

// Refusal is the answer to a request that does not become a WebSocket.
type Refusal struct {
	Status     int           // of HTTP: 400, 401, 403, 426, 429, 431, 503
	Code       string        // for programs: an error code of the protocol
	Message    string        // for people: what was wrong, and what would be right
	Challenge  string        // of a 401: what its WWW-Authenticate says; "": Bearer
	RetryAfter time.Duration // when to try again, rounded up to whole seconds; 0: not said
	Header     string        // further header lines, each with its CRLF
}

// appendRefusal appends the complete HTTP/1.1 response to dst. The connection
// ends with it.
func appendRefusal(dst []byte, r *Refusal) []byte {
	// Two strings always marshal: what is not UTF-8 in them is replaced.
	body, _ := json.Marshal(struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}{r.Code, r.Message})

	dst = append(dst, "HTTP/1.1 "...)
	dst = strconv.AppendInt(dst, int64(r.Status), 10)
	dst = append(dst, ' ')
	dst = append(dst, http.StatusText(r.Status)...)
	dst = append(dst, "\r\nDate: "...) // RFC 9110, 6.6.1: a server with a clock MUST
	dst = time.Now().UTC().AppendFormat(dst, http.TimeFormat)
	switch r.Status {
	case http.StatusUpgradeRequired:
		// Which version is spoken (RFC 6455, 4.2.2), and which protocol (RFC
		// 9110, 15.5.22); Upgrade is named in Connection too (7.8).
		dst = append(dst, "\r\nSec-WebSocket-Version: 13\r\nUpgrade: websocket\r\nConnection: close, Upgrade"...)
	case http.StatusUnauthorized:
		dst = append(dst, "\r\nWWW-Authenticate: "...) // RFC 9110, 15.5.2
		dst = append(dst, cmp.Or(r.Challenge, "Bearer")...)
		dst = append(dst, "\r\nConnection: close"...)
	default:
		dst = append(dst, "\r\nConnection: close"...)
	}
	if r.RetryAfter > 0 {
		dst = append(dst, "\r\nRetry-After: "...)
		dst = strconv.AppendInt(dst, int64((r.RetryAfter+time.Second-1)/time.Second), 10)
	}
	if r.Header != "" {
		dst = append(dst, "\r\n"...)
		dst = append(dst, r.Header[:len(r.Header)-len("\r\n")]...)
	}
	dst = append(dst, "\r\nCache-Control: no-store\r\nContent-Type: application/json\r\nContent-Length: "...)
	dst = strconv.AppendInt(dst, int64(len(body)), 10)
	dst = append(dst, "\r\n\r\n"...)
	return append(dst, body...)
}

// badRequest is the Refusal of a request that breaks a rule.
func badRequest(message string) *Refusal {
	return &Refusal{Status: http.StatusBadRequest, Code: "bad_request", Message: message}
}

// refuseHeadTooLarge is the Refusal for headTooLarge.
func refuseHeadTooLarge() *Refusal {
	return &Refusal{
		Status:  http.StatusRequestHeaderFieldsTooLarge,
		Code:    "bad_request",
		Message: "request line and headers exceed " + strconv.Itoa(maxHead) + " bytes",
	}
}
