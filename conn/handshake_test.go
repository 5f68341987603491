package conn

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/gobwas/ws"
)

// browserHead is what a browser sends, at its usual length.
const browserHead = "GET /ws?topic=stocks.AAPL&format=json HTTP/1.1\r\n" +
	"Host: push.example.com\r\n" +
	"Connection: Upgrade\r\n" +
	"Pragma: no-cache\r\n" +
	"Cache-Control: no-cache\r\n" +
	"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36\r\n" +
	"Upgrade: websocket\r\n" +
	"Origin: https://example.com\r\n" +
	"Sec-WebSocket-Version: 13\r\n" +
	"Accept-Encoding: gzip, deflate, br\r\n" +
	"Accept-Language: en-GB,en;q=0.9\r\n" +
	"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" +
	"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n" +
	"Sec-WebSocket-Protocol: pushd.v1.json\r\n\r\n"

var testProtocols = []string{"pushd.v1.json", "pushd.v1.raw"}

// A valid request, from which the cases take a piece away or add one: "|" is a
// line end.
const (
	getLine        = "GET /ws HTTP/1.1"
	hostLine       = "|Host: example.com"
	upLine         = "|Upgrade: websocket"
	connLine       = "|Connection: Upgrade"
	keyLine        = "|Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
	versLine       = "|Sec-WebSocket-Version: 13"
	headerLines    = hostLine + upLine + connLine + keyLine + versLine // behind the request line
	minimalRequest = getLine + headerLines
)

type handshakeCase struct {
	name   string
	head   string  // without the blank line
	status int     // 0: it is upgraded
	want   Request // Path "": "/ws"; Host "": "example.com"
}

func handshakeCases() []handshakeCase {
	repeat := func(line string) string { return minimalRequest + line }
	return []handshakeCase{
		{name: "minimal", head: minimalRequest},
		{name: "browser", head: strings.ReplaceAll(strings.TrimSuffix(browserHead, "\r\n\r\n"), "\r\n", "|"), want: Request{
			Host: "push.example.com", Query: "topic=stocks.AAPL&format=json", Origin: "https://example.com",
			UserAgent: "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36",
			Offered:   "pushd.v1.json", Protocol: "pushd.v1.json",
		}},
		{name: "bare LF", head: strings.ReplaceAll(minimalRequest, "|", "\n") + "\n\n"},
		{name: "any case", head: "GET /ws HTTP/1.1|HOST: example.com|uPGRADE: WebSocket|connection: upgrade|" +
			"SEC-WEBSOCKET-KEY: dGhlIHNhbXBsZSBub25jZQ==|sec-websocket-version: 13"},
		{name: "white space around values", head: getLine + "|Host:example.com|Upgrade: \t websocket\t |Connection:Upgrade" +
			keyLine + " |Sec-WebSocket-Version:\t13"},
		{name: "authorization", head: minimalRequest + "|Authorization: Bearer abc", want: Request{Authorization: "Bearer abc"}},
		{name: "bytes above ASCII", head: minimalRequest + "|User-Agent: caf\xe9 ☕", want: Request{UserAgent: "caf\xe9 ☕"}},

		// What gobwas/ws refuses, and RFC 6455 does not.
		{name: "two Connection lines", head: getLine + hostLine + upLine + "|Connection: keep-alive" + connLine + keyLine + versLine},
		{name: "two Connection lines, the other order", head: minimalRequest + "|Connection: keep-alive"},
		{name: "list in Connection", head: getLine + hostLine + upLine + "|Connection: keep-alive, Upgrade" + keyLine + versLine},
		{name: "list in Upgrade", head: getLine + hostLine + "|Upgrade: h2c, websocket" + connLine + keyLine + versLine},
		{name: "two Upgrade lines", head: minimalRequest + "|Upgrade: h2c"},
		{name: "Connection with an empty value", head: minimalRequest + "|Connection:"},

		// The request line.
		{name: "root", head: "GET / HTTP/1.1" + headerLines, want: Request{Path: "/"}},
		{name: "query", head: "GET /ws?topic=a?b&x=%20%zz HTTP/1.1" + headerLines, want: Request{Query: "topic=a?b&x=%20%zz"}},
		{name: "empty query", head: "GET /ws? HTTP/1.1" + headerLines},
		{name: "escaped path", head: "GET /a%2Fb%20c HTTP/1.1" + headerLines, want: Request{Path: "/a%2Fb%20c"}},
		{name: "URL", head: "GET http://other.example:81/ws?q HTTP/1.1" + headerLines, want: Request{Host: "other.example:81", Query: "q"}},
		{name: "URL without path", head: "GET HTTPS://[::1]:81?q HTTP/1.1" + headerLines, want: Request{Host: "[::1]:81", Path: "/", Query: "q"}},
		{name: "URL in the query", head: "GET /ws?u=http://a/b HTTP/1.1" + headerLines, want: Request{Query: "u=http://a/b"}},
		{name: "later HTTP/1", head: "GET /ws HTTP/1.2" + headerLines},
		{name: "HTTP/1.0", head: "GET /ws HTTP/1.0" + headerLines, status: 400},
		{name: "HTTP/2.0", head: "GET /ws HTTP/2.0" + headerLines, status: 400},
		{name: "HTTP/1.10", head: "GET /ws HTTP/1.10" + headerLines, status: 400},
		{name: "no version", head: "GET /ws" + headerLines, status: 400},
		{name: "a space too many", head: "GET  /ws HTTP/1.1" + headerLines, status: 400},
		{name: "a space in the target", head: "GET /w s HTTP/1.1" + headerLines, status: 400},
		{name: "a tab in the target", head: "GET /w\ts HTTP/1.1" + headerLines, status: 400},
		{name: "no target", head: "GET HTTP/1.1" + headerLines, status: 400},
		{name: "asterisk", head: "GET * HTTP/1.1" + headerLines, status: 400},
		{name: "relative path", head: "GET ws HTTP/1.1" + headerLines, status: 400},
		{name: "fragment", head: "GET /ws#a HTTP/1.1" + headerLines, status: 400},
		{name: "fragment in the query", head: "GET /ws?a#b HTTP/1.1" + headerLines, status: 400},
		{name: "URL of another scheme", head: "GET ftp://example.com/ws HTTP/1.1" + headerLines, status: 400},
		{name: "URL without host", head: "GET http:///ws HTTP/1.1" + headerLines, status: 400},
		{name: "URL with a user", head: "GET http://u:p@example.com/ws HTTP/1.1" + headerLines, status: 400},
		{name: "POST", head: "POST /ws HTTP/1.1" + headerLines, status: 400},

		// What RFC 6455, 4.2.1, requires.
		{name: "no Host", head: getLine + upLine + connLine + keyLine + versLine, status: 400},
		{name: "empty Host", head: getLine + "|Host:" + upLine + connLine + keyLine + versLine, status: 400},
		{name: "malformed Host", head: getLine + "|Host: a/b" + upLine + connLine + keyLine + versLine, status: 400},
		{name: "no Upgrade", head: getLine + hostLine + connLine + keyLine + versLine, status: 400},
		{name: "no websocket in Upgrade", head: getLine + hostLine + "|Upgrade: h2c" + connLine + keyLine + versLine, status: 400},
		{name: "websocket with a long s", head: getLine + hostLine + "|Upgrade: web\u017focket" + connLine + keyLine + versLine, status: 400},
		{name: "no Connection", head: getLine + hostLine + upLine + keyLine + versLine, status: 400},
		{name: "no Upgrade in Connection", head: getLine + hostLine + upLine + "|Connection: keep-alive" + keyLine + versLine, status: 400},
		{name: "no key", head: getLine + hostLine + upLine + connLine + versLine, status: 400},
		{name: "empty key", head: getLine + hostLine + upLine + connLine + "|Sec-WebSocket-Key:" + versLine, status: 400},
		{name: "key of 15 bytes", head: getLine + hostLine + upLine + connLine + "|Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAA" + versLine, status: 400},
		{name: "key of 17 bytes", head: getLine + hostLine + upLine + connLine + "|Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAAA=" + versLine, status: 400},
		{name: "key of 18 bytes", head: getLine + hostLine + upLine + connLine + "|Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAAAA" + versLine, status: 400},
		{name: "key that is not base64", head: getLine + hostLine + upLine + connLine + "|Sec-WebSocket-Key: AAAAAAAAAA*AAAAAAAAAAA==" + versLine, status: 400},
		{name: "no version", head: getLine + hostLine + upLine + connLine + keyLine, status: 426},
		{name: "empty version", head: getLine + hostLine + upLine + connLine + keyLine + "|Sec-WebSocket-Version:", status: 426},
		{name: "version 8", head: getLine + hostLine + upLine + connLine + keyLine + "|Sec-WebSocket-Version: 8", status: 426},
		{name: "version 13.0", head: getLine + hostLine + upLine + connLine + keyLine + "|Sec-WebSocket-Version: 13.0", status: 426},
		{name: "two versions in a line", head: getLine + hostLine + upLine + connLine + keyLine + "|Sec-WebSocket-Version: 13, 8", status: 426},

		// What comes once comes once.
		{name: "two keys", head: repeat(keyLine), status: 400},
		{name: "two hosts", head: repeat(hostLine), status: 400},
		{name: "two hosts, and a URL", head: "GET http://a/ws HTTP/1.1" + headerLines + hostLine, status: 400},
		{name: "two empty hosts", head: getLine + "|Host:|Host:" + upLine + connLine + keyLine + versLine, status: 400},
		{name: "two versions", head: repeat(versLine), status: 400},
		{name: "two origins", head: minimalRequest + "|Origin: https://a|Origin: https://b", status: 400},
		{name: "two authorizations", head: minimalRequest + "|Authorization: Bearer a|Authorization: Bearer b", status: 400},
		{name: "two user agents", head: minimalRequest + "|User-Agent: a|User-Agent: b", want: Request{UserAgent: "a"}},

		// What a proxy might read in another way.
		{name: "continued line", head: minimalRequest + "|X-A: b| c", status: 400},
		{name: "continued line with a colon", head: minimalRequest + "|X-A: b|\tOrigin: https://a", status: 400},
		{name: "continued request line", head: getLine + "| X-A: b" + headerLines, status: 400},
		{name: "NUL in a value", head: minimalRequest + "|X-A: b\x00c", status: 400},
		{name: "CR in a value", head: minimalRequest + "|X-A: b\rOrigin: https://a", status: 400},
		{name: "CR before CRLF", head: minimalRequest + "|X-A: b\r", status: 400},
		{name: "DEL in a value", head: minimalRequest + "|X-A: b\x7f", status: 400},
		{name: "NUL in a name", head: minimalRequest + "|X\x00A: b", status: 400},
		{name: "CR in the request line", head: "GET /ws\r HTTP/1.1" + headerLines, status: 400},
		{name: "NUL in the target", head: "GET /w\x00s HTTP/1.1" + headerLines, status: 400},
		{name: "DEL in the target", head: "GET /w\x7fs HTTP/1.1" + headerLines, status: 400},
		{name: "space before the colon", head: minimalRequest + "|Origin : https://a", status: 400},
		{name: "no name", head: minimalRequest + "|: b", status: 400},
		{name: "no colon", head: minimalRequest + "|Origin", status: 400},
		{name: "body", head: minimalRequest + "|Content-Length: 5", status: 400},
		{name: "body of no length, and no version", head: getLine + hostLine + upLine + connLine + keyLine + "|Content-Length: A", status: 400},
		{name: "body with a length that is read in two ways", head: minimalRequest + "|Content-Length: 0|Content-Length: 5", status: 400},
		{name: "the same, the other order", head: minimalRequest + "|Content-Length: 5|Content-Length: 0", status: 400},
		{name: "no body, said so", head: minimalRequest + "|Content-Length: 0"},
		{name: "chunked body", head: minimalRequest + "|Transfer-Encoding: chunked", status: 400},

		// Subprotocols: the client's order counts.
		{name: "second protocol known", head: minimalRequest + "|Sec-WebSocket-Protocol: mqtt, pushd.v1.raw,pushd.v1.json",
			want: Request{Offered: "mqtt, pushd.v1.raw,pushd.v1.json", Protocol: "pushd.v1.raw"}},
		{name: "no protocol known", head: minimalRequest + "|Sec-WebSocket-Protocol: mqtt, PUSHD.V1.JSON",
			want: Request{Offered: "mqtt, PUSHD.V1.JSON"}},
		{name: "protocols in two lines", head: minimalRequest + "|Sec-WebSocket-Protocol: mqtt|X-A: b|Sec-WebSocket-Protocol: pushd.v1.json, pushd.v1.raw",
			want: Request{Offered: "mqtt, pushd.v1.json, pushd.v1.raw", Protocol: "pushd.v1.json"}},
		{name: "empty list of protocols", head: minimalRequest + "|Sec-WebSocket-Protocol: , ,", want: Request{Offered: ", ,"}},
		{name: "malformed protocol", head: minimalRequest + "|Sec-WebSocket-Protocol: pushd.v1.json, a b", status: 400},

		// Extensions are declined, whatever is offered.
		{name: "deflate", head: minimalRequest + "|Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=10"},
		{name: "malformed extension", head: minimalRequest + `|Sec-WebSocket-Extensions: permessage-deflate; a="b; =,;`},
	}
}

func (c handshakeCase) bytes() []byte {
	if strings.HasSuffix(c.head, "\n\n") {
		return []byte(c.head)
	}
	return []byte(strings.ReplaceAll(c.head, "|", "\r\n") + "\r\n\r\n")
}

// handshakeSeeds are the heads of the cases, for fuzzing.
func handshakeSeeds() (seeds []string) {
	for _, c := range handshakeCases() {
		seeds = append(seeds, string(c.bytes()))
	}
	return append(seeds, "POST /publish/a HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx", "GET / HTTP/1.1\n\n")
}

func TestHandshake(t *testing.T) {
	h := newHandshaker(testProtocols, false)
	for _, test := range handshakeCases() {
		t.Run(test.name, func(t *testing.T) {
			head := test.bytes()
			response, req, refused := h.upgrade(head, []byte("before"))
			if !bytes.Equal(head, test.bytes()) {
				t.Errorf("the head was changed: %q", head)
			}
			if test.status != 0 {
				if refused == nil {
					t.Fatalf("upgraded: %+v", req)
				}
				if refused.Status != test.status || refused.Code != "bad_request" || refused.Message == "" {
					t.Errorf("refused with %+v, want status %d", refused, test.status)
				}
				if req != nil || string(response) != "before" {
					t.Errorf("refused, yet there is a request %+v and a response %q", req, response)
				}
				return
			}
			if refused != nil {
				t.Fatalf("refused: %+v", refused)
			}
			want := test.want
			if want.Path == "" {
				want.Path = "/ws"
			}
			if want.Host == "" {
				want.Host = "example.com"
			}
			if *req != want {
				t.Errorf("request %+v, want %+v", *req, want)
			}
			response, found := bytes.CutPrefix(response, []byte("before"))
			if !found {
				t.Fatalf("dst was not kept: %q", response)
			}
			// The key is the example of RFC 6455, 1.3, and so is the answer.
			checkSwitching(t, response, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", want.Protocol)
		})
	}
}

// checkSwitching checks a whole 101 response (RFC 6455, 4.2.2, item 5).
func checkSwitching(t *testing.T, response []byte, accept, protocol string) {
	t.Helper()
	checkResponse(t, response, accept, protocol, "")
}

// checkResponse is checkSwitching where extensions may have been accepted.
func checkResponse(t *testing.T, response []byte, accept, protocol, extensions string) {
	t.Helper()
	in := bufio.NewReader(bytes.NewReader(response))
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatalf("%v in %q", err, response)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols || in.Buffered() != 0 {
		t.Errorf("status %d, and %d bytes behind the head", resp.StatusCode, in.Buffered())
	}
	for name, want := range map[string]string{
		"Upgrade":                  "websocket",
		"Connection":               "Upgrade",
		"Sec-Websocket-Accept":     accept,
		"Sec-Websocket-Protocol":   protocol,
		"Sec-Websocket-Extensions": extensions,
	} {
		if got := strings.Join(resp.Header[name], " and "); got != want {
			t.Errorf("%s is %q, want %q in %q", name, got, want, response)
		}
	}
}

// TestHandshakePipelined: what came with the request is left for the decoder.
func TestHandshakePipelined(t *testing.T) {
	p := append([]byte(browserHead), maskedFrame(finText, "early")...)
	end, v := scanHead(p, 0)
	if v != headComplete {
		t.Fatalf("verdict %d", v)
	}
	if _, _, refused := newHandshaker(testProtocols, false).upgrade(p[:end], nil); refused != nil {
		t.Fatalf("refused: %+v", refused)
	}
	var d decoder
	var in inboundLog
	if fail := d.feed(p[end:], testMaxMessage, nil, &in); fail != 0 || len(in.calls) != 1 || in.calls[0] != `text "early"` {
		t.Errorf("fail %d after %q", fail, in.calls)
	}
}

// TestHandshakeWhyNotGobwas holds why ws.Upgrader does not answer requests: it
// refuses these.
func TestHandshakeWhyNotGobwas(t *testing.T) {
	for _, head := range []string{
		minimalRequest + "|Connection: keep-alive",
		minimalRequest + "|Upgrade: h2c",
	} {
		head = strings.ReplaceAll(head, "|", "\r\n") + "\r\n\r\n"
		conn := struct {
			io.Reader
			io.Writer
		}{strings.NewReader(head), io.Discard}
		if _, err := ws.Upgrade(conn); err == nil {
			t.Errorf("ws.Upgrade takes %q", head)
		}
		if _, _, refused := newHandshaker(nil, false).upgrade([]byte(head), nil); refused != nil {
			t.Errorf("%q is refused: %+v", head, refused)
		}
	}
}

// TestHandshakeLongest: a head at the limit is one request like any other.
func TestHandshakeLongest(t *testing.T) {
	for _, part := range []struct{ before, after string }{
		{"GET /", " HTTP/1.1" + headerLines},
		{minimalRequest + "|Cookie: ", ""},
		{minimalRequest + "|User-Agent: ", ""},
		{minimalRequest + "|Sec-WebSocket-Protocol: pushd.v1.json, ", ""},
		{"GET http://", "/ws HTTP/1.1" + headerLines},
	} {
		before, after := strings.ReplaceAll(part.before, "|", "\r\n"), strings.ReplaceAll(part.after, "|", "\r\n")+"\r\n\r\n"
		head := before + strings.Repeat("a", maxHead-len(before)-len(after)) + after
		if end, v := scanHead([]byte(head), 0); v != headComplete || end != maxHead {
			t.Fatalf("%d, verdict %d", end, v)
		}
		response, _, refused := newHandshaker(testProtocols, false).upgrade([]byte(head), nil)
		if refused != nil || !bytes.HasPrefix(response, []byte("HTTP/1.1 101 ")) {
			t.Errorf("a long %q is refused: %+v", part.before, refused)
		}
	}
}

func TestHandshakeAllocs(t *testing.T) {
	h := newHandshaker(testProtocols, false)
	head, dst := []byte(browserHead), make([]byte, 0, 512)
	if n := testing.AllocsPerRun(100, func() {
		if _, _, refused := h.upgrade(head, dst); refused != nil {
			t.Fatalf("refused: %+v", refused)
		}
	}); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

func BenchmarkHandshake(b *testing.B) {
	h := newHandshaker(testProtocols, false)
	head, dst := []byte(browserHead), make([]byte, 0, 512)
	b.ReportAllocs()
	for b.Loop() {
		if _, v := scanHead(head, 0); v != headComplete || !WantsUpgrade(head) {
			b.Fatal("not understood")
		}
		if _, _, refused := h.upgrade(head, dst); refused != nil {
			b.Fatalf("refused: %+v", refused)
		}
	}
}
