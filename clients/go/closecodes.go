package pushd

import (
	"fmt"
	"time"
)

// closeCode is what a client does about the code of a close frame (RFC 6455
// section 7.4).
type closeCode struct {
	meaning string
	again   bool          // connect again by itself
	least   time.Duration // the least wait before that
}

// The codes that mean something to the client itself.
const (
	closeNormal      = 1000
	closeProtocol    = 1002
	closeUnsupported = 1003
	closeNoStatus    = 1005 // stands for none, and is never sent (RFC 6455 section 7.4.1)
	closeBadUTF8     = 1007
	closeTooBig      = 1009
	closeNoToken     = 4001
)

// closeCodes is the table of docs/PROTOCOL.md. A code that it does not name is
// answered with backoff. It is read only.
var closeCodes = map[int]closeCode{
	1000: {"normal", false, 0},
	1001: {"server gone", true, 0},
	1002: {"protocol error", false, 0},
	1003: {"unsupported data", false, 0},
	1007: {"bad UTF-8", false, 0},
	1008: {"policy (too many bad commands, rate)", true, 10 * time.Second},
	1009: {"message too big", false, 0},
	1011: {"internal error", true, 0},
	1012: {"draining or restarting", true, 0},
	1013: {"overloaded, try again later", true, 0},
	4001: {"no or bad token", false, 0}, // unless there is another one
	4002: {"token expired", true, 0},
	4003: {"disconnected by an administrator", false, 0},
	4008: {"too slow, and the namespace cannot conflate or replay", true, 0},
}

func closeCodeOf(code int) closeCode {
	if known, ok := closeCodes[code]; ok {
		return known
	}
	return closeCode{"not a code of this protocol", true, 0}
}

// CloseError is the close frame with which the server ended a connection, or
// what stands for one over HTTP. It
// is final where the table of close codes in docs/PROTOCOL.md says that a
// client does not come back: 1000, 1002, 1003, 1007, 1009, 4003, and 4001 unless
// there is another token.
type CloseError struct {
	Code   int // 1005 where the frame had none
	Reason string
}

func (e *CloseError) Error() string {
	reason := e.Reason
	switch {
	case e.Code == closeNoStatus:
		reason = "(no code given)"
	case reason == "":
		reason = closeCodeOf(e.Code).meaning
	}
	return fmt.Sprintf("the server closed the connection: %d %s", e.Code, reason)
}
