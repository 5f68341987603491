package via

import (
	"strings"
	"testing"
)

func TestOrigins(t *testing.T) {
	f := func(allowed, origin, host string, want bool) {
		t.Helper()
		o, err := ParseOrigins(strings.Fields(allowed))
		if err != nil {
			t.Fatal(err)
		}
		if got := o.Allow(origin, host); got != want {
			t.Errorf("--allow-origin %q: page of %q at %q: %v, want %v", allowed, origin, host, got, want)
		}
	}
	// By default, pages of the same host and port.
	f("", "", "example.com", true) // no browser
	f("", "http://example.com", "example.com", true)
	f("", "https://example.com", "example.com", true)
	f("", "https://example.com", "example.com:443", true)
	f("", "http://example.com", "example.com:80", true)
	f("", "http://example.com:80", "example.com", true)
	f("", "http://example.com:8080", "example.com:8080", true)
	f("", "HTTP://EXAMPLE.com", "example.COM", true)
	f("", "http://[::1]:8080", "[::1]:8080", true)
	f("", "http://[0:0:0:0:0:0:0:1]:8080", "[::1]:8080", true)
	f("", "http://127.0.0.1:8080", "127.0.0.1:8080", true)
	f("", "http://example.com", "example.com:8080", false)
	f("", "http://example.com:8081", "example.com:8080", false)
	f("", "https://example.com", "example.com:80", false)
	f("", "http://localhost:8080", "127.0.0.1:8080", false)
	f("", "https://example.com.evil.com", "example.com", false)
	f("", "https://evil.com", "example.com", false)
	f("", "https://example.com.", "example.com", false)
	f("", "https://example.com@evil.com", "example.com", false)
	f("", "https://evil.com@example.com", "example.com", false)
	f("", "https://example.com/", "example.com", false)
	f("", "https://example.com?x", "example.com", false)
	f("", "https://example.com#x", "example.com", false)
	f("", "https://example.com:", "example.com", false)
	f("", "https://example.com:0443", "example.com", false)
	f("", "https://example.com https://evil.com", "example.com", false)
	f("", "https://evil.com, https://example.com", "example.com", false)
	f("", "https://", "", false)
	f("", "://example.com", "example.com", false)
	f("", "example.com", "example.com", false)
	f("", "file://", "example.com", false)
	f("", "chrome-extension://example.com", "example.com", false)
	f("", "http://[::1", "[::1", false)
	f("", "http://[fe80::1%25eth0]", "[fe80::1%25eth0]", false)
	f("", "https://ex\u212aample.com", "exkample.com", false) // KELVIN SIGN
	f("", "null", "example.com", false)
	f("", "null", "null", false)

	// A list replaces that.
	f("https://app.example.com", "https://app.example.com", "push.example.com", true)
	f("https://app.example.com", "https://APP.example.com:443", "push.example.com", true)
	f("https://app.example.com", "http://app.example.com", "push.example.com", false)
	f("https://app.example.com", "https://app.example.com:8443", "push.example.com", false)
	f("https://app.example.com", "https://push.example.com", "push.example.com", false)
	f("https://app.example.com", "https://app.example.com.evil.com", "push.example.com", false)
	f("https://app.example.com", "https://evilapp.example.com", "push.example.com", false)
	f("https://app.example.com", "", "push.example.com", true)
	f("https://app.example.com:443", "https://app.example.com", "x", true)
	f("app.example.com:443", "https://app.example.com", "x", true)
	f("app.example.com:443", "http://app.example.com", "x", false)
	f("app.example.com", "http://app.example.com", "x", true)
	f("APP.example.com", "https://app.example.com", "x", true)
	f("app.example.com", "ws://app.example.com", "x", false)
	f("app.example.com:8443", "https://app.example.com:8443", "x", true)
	f("[2001:db8::7]:8080", "http://[2001:db8:0::7]:8080", "x", true)
	f("*.example.com", "https://app.example.com", "x", true)
	f("*.example.com", "https://a.b.example.com", "x", true)
	f("*.example.com", "https://example.com", "x", false)
	f("*.example.com", "https://.example.com", "x", false)
	f("*.example.com", "https://evilexample.com", "x", false)
	f("*.example.com", "https://app.example.com.", "x", false)
	f("*.example.com", "https://app.example.com:8443", "x", false)
	f("https://*.example.com:8443", "https://app.example.com:8443", "x", true)
	f("https://*.example.com", "http://app.example.com", "x", false)
	f("null", "null", "x", true)
	f("null", "https://x", "x", false)
	f("a.com null b.com", "https://b.com", "x", true)
	f("*", "https://evil.com", "x", true)
	f("*", "null", "x", true)

	for _, bad := range []string{"", "https://", "ftp://a.com", "https://a.com/", "https://u@a.com", "a.*.com", "*", "*a.com", "*.", "**.a.com", "a.com:0", "a.com:x", "a b", "[::1", "://a.com"} {
		if _, err := ParseOrigins([]string{bad}); (err == nil) != (bad == "*") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
