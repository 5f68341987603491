package wire

import "testing"

func TestFormatNames(t *testing.T) {
	for f := range NumFormats {
		if got, ok := ParseFormat(f.String()); !ok || got != f {
			t.Errorf("ParseFormat(%q) = %v, %v", f, got, ok)
		}
		if got, ok := ParseSubprotocol(f.Subprotocol()); !ok || got != f {
			t.Errorf("ParseSubprotocol(%q) = %v, %v", f.Subprotocol(), got, ok)
		}
	}
	for _, s := range []string{"", "JSON", "msgpack", "invalid"} {
		if f, ok := ParseFormat(s); ok {
			t.Errorf("ParseFormat(%q) = %v", s, f)
		}
	}
	for _, s := range []string{"", "json", "pushd.v2.json"} {
		if f, ok := ParseSubprotocol(s); ok {
			t.Errorf("ParseSubprotocol(%q) = %v", s, f)
		}
	}
}

// max_rate= in a query string comes here with no JSON grammar checked before.
func TestParseMaxRate(t *testing.T) {
	for s, want := range map[string]float64{"2": 2, "0.5": 0.5, "1e3": 1000} {
		if got, err := ParseMaxRate(s); err != nil || got != want {
			t.Errorf("ParseMaxRate(%q) = %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "0", "-1", "NaN", "Inf", "+Inf", "-Inf", "1e999", "1e-999", "fast"} {
		if got, err := ParseMaxRate(s); err == nil {
			t.Errorf("ParseMaxRate(%q) = %v, want a refusal", s, got)
		}
	}
}

func TestHTTPStatus(t *testing.T) {
	for code, want := range map[ErrorCode]int{
		BadRequest: 400, UnknownType: 400, InvalidTopic: 400, TooManyTopics: 400, NoHistory: 400,
		Unauthorized: 401, Forbidden: 403, MessageTooLarge: 413, RateLimited: 429, Internal: 500, Unavailable: 503,
	} {
		if got := code.HTTPStatus(); got != want {
			t.Errorf("%s: status %d, want %d", code, got, want)
		}
	}
}

func TestUnknownCloseCode(t *testing.T) {
	if info := CloseCode(4999).Info(); info.Code != 4999 || info.Name != "other" || !info.Reconnect {
		t.Errorf("a code of nobody's: %+v", info)
	}
}
