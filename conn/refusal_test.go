package conn

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestAppendRefusal(t *testing.T) {
	for _, r := range []*Refusal{
		{Status: 400, Code: "bad_request", Message: "plain"},
		{Status: 401, Code: "unauthorized", Message: "no token"},
		{Status: 403, Code: "forbidden", Message: `quote " backslash \ newline ` + "\n and </script>"},
		{Status: 426, Code: "bad_request", Message: "Sec-WebSocket-Version must be 13"},
		{Status: 429, Code: "rate_limited", Message: "slow down", RetryAfter: 1500 * time.Millisecond},
		{Status: 503, Code: "unavailable", Message: "", RetryAfter: time.Minute},
		refuseHeadTooLarge(),
	} {
		raw := appendRefusal([]byte("before"), r)
		raw, found := bytes.CutPrefix(raw, []byte("before"))
		if !found {
			t.Fatalf("%d: dst was not kept", r.Status)
		}
		in := bufio.NewReader(bytes.NewReader(raw))
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatalf("%d: %v in %q", r.Status, err, raw)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil || in.Buffered() != 0 {
			t.Errorf("%d: %v, and %d bytes behind the body", r.Status, err, in.Buffered())
		}

		var got struct{ Code, Message string }
		if err := json.Unmarshal(body, &got); err != nil {
			t.Errorf("%d: body %q: %v", r.Status, body, err)
		}
		if got.Code != r.Code || got.Message != r.Message {
			t.Errorf("%d: body %q, want %q and %q", r.Status, body, r.Code, r.Message)
		}
		if resp.StatusCode != r.Status || !resp.Close || resp.ContentLength != int64(len(body)) {
			t.Errorf("%d: status %d, close %v, Content-Length %d for %d bytes",
				r.Status, resp.StatusCode, resp.Close, resp.ContentLength, len(body))
		}
		if _, err := http.ParseTime(resp.Header.Get("Date")); err != nil {
			t.Errorf("%d: %v", r.Status, err)
		}
	}
}

func TestAppendRefusalHeaders(t *testing.T) {
	f := func(r Refusal, name, want string) {
		t.Helper()
		raw := appendRefusal(nil, &r)
		resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(raw)), nil)
		if err != nil {
			t.Fatalf("%v in %q", err, raw)
		}
		defer resp.Body.Close()
		if got := strings.Join(resp.Header.Values(name), ", "); got != want {
			t.Errorf("%d: %s: %q, want %q", r.Status, name, got, want)
		}
	}
	f(Refusal{Status: 400}, "Cache-Control", "no-store")
	f(Refusal{Status: 400}, "Content-Type", "application/json")
	f(Refusal{Status: 400}, "Retry-After", "")
	f(Refusal{Status: 400}, "Upgrade", "")
	f(Refusal{Status: 401}, "WWW-Authenticate", "Bearer")
	f(Refusal{Status: 426}, "Sec-WebSocket-Version", "13")
	f(Refusal{Status: 426}, "Upgrade", "websocket")
	f(Refusal{Status: 503, RetryAfter: time.Millisecond}, "Retry-After", "1")
	f(Refusal{Status: 503, RetryAfter: 2 * time.Second}, "Retry-After", "2")
	f(Refusal{Status: 503, RetryAfter: 2001 * time.Millisecond}, "Retry-After", "3")

	// http.ReadResponse keeps Connection to itself.
	raw := appendRefusal(nil, &Refusal{Status: 426})
	if want := "\r\nConnection: close, Upgrade\r\n"; !strings.Contains(string(raw), want) {
		t.Errorf("426 is %q, want in it %q", raw, want)
	}
}

func TestAppendRefusalReplacesBadUTF8(t *testing.T) {
	raw := appendRefusal(nil, &Refusal{Status: 400, Code: "bad_request", Message: "topic \xff"})
	_, body, _ := strings.Cut(string(raw), "\r\n\r\n")
	if !json.Valid([]byte(body)) || !utf8.ValidString(body) {
		t.Errorf("body %q is no JSON text", body)
	}
}
