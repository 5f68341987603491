package conn

import (
	"strings"
	"testing"
)

func TestScanHead(t *testing.T) {
	const get = "GET /ws HTTP/1.1\r\n"
	pad := func(size int) string { // a head of exactly size bytes
		return get + "X: " + strings.Repeat("x", size-len(get)-len("X: \r\n\r\n")) + "\r\n\r\n"
	}
	f := func(name, p string, end int, v verdict) {
		t.Helper()
		if gotEnd, got := scanHead([]byte(p), 0); gotEnd != end || got != v {
			t.Errorf("%s: %d, verdict %d, want %d, %d", name, gotEnd, got, end, v)
		}
		// In any number of reads the verdict is the same, at the first read
		// that allows it.
		for _, step := range []int{1, 2, 3, 7, 4096} {
			from := 0
			for n := 0; ; n = min(n+step, len(p)) {
				gotEnd, got := scanHead([]byte(p[:n]), from)
				if got != headNeedMore || n == len(p) {
					if gotEnd != end || got != v {
						t.Errorf("%s: in steps of %d: %d, verdict %d after %d bytes, want %d, %d", name, step, gotEnd, got, n, end, v)
					}
					if got == headComplete && n-end >= step {
						t.Errorf("%s: in steps of %d: found only after %d bytes", name, step, n)
					}
					break
				}
				from = n
			}
		}
	}
	f("nothing", "", 0, headNeedMore)
	f("a request", get+"Host: a\r\n\r\n", len(get)+11, headComplete)
	f("no headers", get+"\r\n", len(get)+2, headComplete)
	f("bare LF", "GET / HTTP/1.1\nHost: a\n\n", 24, headComplete)
	f("mixed line ends", "GET / HTTP/1.1\r\nHost: a\n\r\n", 26, headComplete)
	f("mixed line ends", "GET / HTTP/1.1\r\nHost: a\r\n\n", 26, headComplete)
	f("a line of CR alone is not blank", "GET / HTTP/1.1\r\nHost: a\r\n\r\r\n", 0, headNeedMore)
	f("cut within the blank line", get+"Host: a\r\n\r", 0, headNeedMore)
	f("no line end", "GET / HTTP/1.1", 0, headNeedMore)
	f("any method", "publish /x HTTP/1.1\r\n\r\n", 23, headComplete)

	// What follows the blank line stays where it is.
	f("frames behind it", get+"\r\n\x81\x80\x00\x00\x00\x00", len(get)+2, headComplete)
	f("a second blank line", get+"\r\n\r\n\r\n", len(get)+2, headComplete)

	// Nothing that starts like this can become a request.
	f("TLS", "\x16\x03\x01\x02\x00", 0, headNotHTTP)
	f("a frame", "\x81\x05hello", 0, headNotHTTP)
	f("a blank line first", "\r\nGET / HTTP/1.1\r\n\r\n", 0, headNotHTTP)
	f("a space first", " GET / HTTP/1.1\r\n\r\n", 0, headNotHTTP)
	f("NUL", "\x00", 0, headNotHTTP)
	f("JSON", `{"type":"ping"}`, 0, headNotHTTP)

	// The limit is for the head alone.
	f("as long as can be", pad(maxHead), maxHead, headComplete)
	f("as long as can be, and more", pad(maxHead)+strings.Repeat("\x81", 100), maxHead, headComplete)
	f("one too long", pad(maxHead+1), 0, headTooLarge)
	f("almost too long", pad(maxHead + 1)[:maxHead-1], 0, headNeedMore)
	f("a line without end", strings.Repeat("x", maxHead), 0, headTooLarge)
}

func TestWantsUpgrade(t *testing.T) {
	f := func(head string, want bool) {
		t.Helper()
		head = strings.ReplaceAll(head, "|", "\r\n") + "\r\n\r\n"
		if got := WantsUpgrade([]byte(head)); got != want {
			t.Errorf("WantsUpgrade(%q) = %v", head, got)
		}
	}
	f("GET /ws HTTP/1.1|Host: a|Upgrade: websocket", true)
	f("GET /ws HTTP/1.1|UPGRADE:WebSocket", true)
	f("GET /ws HTTP/1.1|upgrade: \t h2c , webSocket ,", true)
	f("GET /ws HTTP/1.1|Upgrade: h2c|Upgrade: websocket", true)
	f("GET /ws HTTP/1.1\nUpgrade: websocket\n\n", true)
	f("GET /ws|Upgrade: websocket", true) // refused as an upgrade

	f("GET /ws HTTP/1.1", false)
	f("GET /ws HTTP/1.1|Host: a", false)
	f("GET /ws HTTP/1.1|Upgrade:", false)
	f("GET /ws HTTP/1.1|Upgrade: h2c", false)
	f("GET /ws HTTP/1.1|Upgrade: websockets", false)
	f("GET /ws HTTP/1.1|Upgrade: web socket", false)
	f("GET /ws HTTP/1.1|Upgrade: web\u017focket", false) // a long s is no s
	f("GET /ws HTTP/1.1|X-Upgrade: websocket", false)
	f("GET /ws HTTP/1.1|Upgrade : websocket", false)
	f("GET /ws HTTP/1.1| Upgrade: websocket", false)
	f("GET /ws HTTP/1.1|X: a|\tUpgrade: websocket", false)
	f("GET /ws HTTP/1.1||Upgrade: websocket", false) // behind the blank line
	f("POST /ws HTTP/1.1|Upgrade: websocket", false)
	f("get /ws HTTP/1.1|Upgrade: websocket", false)
	f("GETS /ws HTTP/1.1|Upgrade: websocket", false)
	f("GET /ws HTTP/1.0|Upgrade: websocket", false)
	f("", false)
}

func TestHeadAllocs(t *testing.T) {
	head := []byte(browserHead)
	if n := testing.AllocsPerRun(100, func() {
		if _, v := scanHead(head, 0); v != headComplete || !WantsUpgrade(head) {
			t.Fatal("not understood")
		}
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}
