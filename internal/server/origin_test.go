package server

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pushd/pushd/internal/config"
)

// A page of a foreign origin gets no WebSocket, and nothing it asks for over
// HTTP is done.
func TestOrigins(t *testing.T) {
	r := start(t, func(c *config.Config) { c.AllowOrigin = []string{"https://app.example.com", "*.example.org"} })
	host := r.Addr()
	listener := r.subscribed("a.b")
	for _, tc := range []struct {
		origins []string
		allowed bool
	}{
		{nil, true},
		{[]string{"https://app.example.com"}, true},
		{[]string{"https://APP.example.com"}, true},
		{[]string{"http://x.example.org"}, true},
		{[]string{"http://" + host}, false}, // the list replaces the default
		{[]string{"https://app.example.com.evil.com"}, false},
		{[]string{"https://evil.com"}, false},
		{[]string{"null"}, false},
		{[]string{"https://app.example.com", "https://evil.com"}, false},
		{[]string{"https://evil.com", "https://app.example.com"}, false},
		{[]string{"https://app.example.com", "https://app.example.com"}, false},
	} {
		headers := http.Header{}
		var list []string
		for _, o := range tc.origins {
			headers.Add("Origin", o)
			list = append(list, "Origin", o)
		}
		_, status := r.dialFrom("127.0.0.1", "", headers)
		want, publish := 403, 403
		if tc.allowed {
			want, publish = 101, 202
		}
		if len(tc.origins) > 1 {
			want = 400 // two readers could take it for two
		}
		if status != want {
			t.Errorf("WebSocket of %q: %d, want %d", tc.origins, status, want)
		}
		// As a form or a script sends it that asks nobody before.
		status, header, text := r.request("POST", "http://"+host+"/publish/a.b", "text/plain", `"x"`, list...)
		if status != publish || !tc.allowed && (!strings.Contains(text, `"forbidden"`) || !strings.Contains(text, "--allow-origin")) {
			t.Errorf("publication of %q: %d %s, want %d", tc.origins, status, text, publish)
		}
		wantHeader := ""
		if tc.allowed && len(tc.origins) == 1 {
			wantHeader = tc.origins[0]
		}
		if got := header.Get("Access-Control-Allow-Origin"); got != wantHeader || header.Get("Vary") != "Origin" {
			t.Errorf("%q: Access-Control-Allow-Origin %q, Vary %q", tc.origins, got, header.Get("Vary"))
		}
		if tc.allowed {
			listener.wantData("a.b", `"x"`)
		}
	}
	r.http("POST", "/publish/a.b", "", `"last"`)
	listener.wantData("a.b", `"last"`) // and nothing of the others
}

func TestPreflight(t *testing.T) {
	r := start(t, func(c *config.Config) { c.AllowOrigin = []string{"https://app.example.com"} })
	ask := func(path string, headers ...string) (int, http.Header) {
		status, header, _ := r.request("OPTIONS", "http://"+r.Addr()+path, "", "", headers...)
		return status, header
	}
	for _, path := range []string{"/publish/a.b", "/publish", "/history/a.b", "/healthz"} {
		status, header := ask(path, "Origin", "https://app.example.com", "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "authorization")
		if status != 204 || header.Get("Access-Control-Allow-Origin") != "https://app.example.com" ||
			!strings.Contains(header.Get("Access-Control-Allow-Methods"), "POST") || !strings.Contains(header.Get("Access-Control-Allow-Headers"), "Authorization") ||
			!strings.Contains(header.Get("Access-Control-Allow-Headers"), "Traceparent, "+keyHeader) || header.Get("Access-Control-Allow-Credentials") != "" {
			t.Errorf("%s: %d %v", path, status, header)
		}
		status, header = ask(path, "Origin", "https://evil.com", "Access-Control-Request-Method", "POST")
		if status != 403 || header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s of a foreign page: %d %v", path, status, header)
		}
		if status, _ = ask(path, "Origin", "https://app.example.com"); status != 405 {
			t.Errorf("%s without asking for a method: %d", path, status)
		}
	}
}

// By default it is pages of pushd's own host and port that are served.
func TestSameOrigin(t *testing.T) {
	r := start(t)
	for origin, want := range map[string]int{
		"": 200, "http://" + r.Addr(): 200, "https://" + r.Addr(): 200,
		"http://localhost": 403, "http://evil.com": 403, "null": 403, "http://" + r.Addr() + ".evil.com": 403,
	} {
		headers := []string{"Origin", origin}
		if origin == "" {
			headers = nil
		}
		if status, _, text := r.request("GET", "http://"+r.Addr()+"/healthz", "", "", headers...); status != want {
			t.Errorf("%q: %d %s, want %d", origin, status, text, want)
		}
	}
}

// The check is made where a WebSocket comes behind an HTTP request, too.
func TestOriginOfKeptConnection(t *testing.T) {
	r := start(t)
	c, err := net.Dial("tcp", r.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	in := bufio.NewReader(c)
	for _, request := range []struct {
		text string
		want int
	}{
		{"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n", 200},
		{"GET /ws HTTP/1.1\r\nHost: a\r\nOrigin: http://b\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n", 403},
	} {
		io.WriteString(c, request.text)
		resp, err := http.ReadResponse(in, nil)
		if err != nil || resp.StatusCode != request.want {
			t.Fatalf("%q: %v %v", request.text, resp, err)
		}
		io.Copy(io.Discard, resp.Body)
	}
}
