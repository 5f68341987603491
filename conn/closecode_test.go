package conn

import (
	"regexp"
	"testing"

	"github.com/gobwas/ws"
)

func TestReasons(t *testing.T) {
	snakeCase := regexp.MustCompile(`^[a-z][a-z0-9]*(_[a-z0-9]+)*$`)
	seen := map[string]Reason{}
	for r := range NumReasons {
		word := r.String()
		if !snakeCase.MatchString(word) {
			t.Errorf("reason %d is called %q, want snake_case", r, word)
		}
		if other, dup := seen[word]; dup {
			t.Errorf("reasons %d and %d are both called %q", other, r, word)
		}
		seen[word] = r
		// What is told must be allowed in a close frame.
		if code := r.Code(); code != 0 && !validCloseCode(code) {
			t.Errorf("reason %q tells the code %d, which cannot be sent", word, code)
		}
	}
	if got := NumReasons.String(); got != "unknown" || NumReasons.Code() != 0 {
		t.Errorf("a reason that does not exist is %q with code %d", got, NumReasons.Code())
	}
}

// TestReasonCodes has the codes that clients rely on.
func TestReasonCodes(t *testing.T) {
	f := func(r Reason, want ws.StatusCode) {
		t.Helper()
		if got := r.Code(); got != want {
			t.Errorf("%v tells %d, want %d", r, got, want)
		}
	}
	f(ReasonClientClosed, 0)
	f(ReasonClientGone, 0)
	f(ReasonHandshakeTimeout, 0)
	f(ReasonShutdown, 1001)
	f(ReasonSilent, 1001)
	f(ReasonProtocolError, 1002)
	f(ReasonUnsupportedData, 1003)
	f(ReasonBadUTF8, 1007)
	f(ReasonPolicy, 1008)
	f(ReasonMessageTooBig, 1009)
	f(ReasonInternal, 1011)
	f(ReasonDraining, 1012)
	f(ReasonOverloaded, 1013)
	f(ReasonNoToken, 4001)
	f(ReasonTokenExpired, 4002)
	f(ReasonKicked, 4003)
	f(ReasonTooSlow, 4008)
}

// TestReasonOf: what the decoder fails with is what the client is told.
func TestReasonOf(t *testing.T) {
	for _, fail := range []ws.StatusCode{1002, 1007, 1009} {
		if got := reasonOf(fail).Code(); got != fail {
			t.Errorf("a failure of %d is told as %d", fail, got)
		}
	}
}
