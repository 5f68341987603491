package page

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// answer returns what is said to a request with some headers ("Name: value").
func answer(method, path string, headers ...string) *http.Response {
	r := httptest.NewRequest(method, path, nil)
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	w := httptest.NewRecorder()
	handler := Handler()
	if strings.HasPrefix(path, "/demo/") {
		handler = DemoHandler()
	}
	handler.ServeHTTP(w, r)
	return w.Result()
}

func TestHandler(t *testing.T) {
	for _, tt := range []struct {
		method, path string
		status       int
		contentType  string
	}{
		{"GET", "/", 200, "text/html; charset=utf-8"},
		{"GET", "/?topic=stocks.*", 200, "text/html; charset=utf-8"},
		{"HEAD", "/", 200, "text/html; charset=utf-8"},
		{"GET", "/assets/app.js", 200, "text/javascript; charset=utf-8"},
		{"GET", "/assets/cards.js", 200, "text/javascript; charset=utf-8"},
		{"GET", "/assets/pushd.js", 200, "text/javascript; charset=utf-8"},
		{"GET", "/assets/base.css", 200, "text/css; charset=utf-8"},
		{"GET", "/assets/style.css", 200, "text/css; charset=utf-8"},
		{"GET", "/demo/", 200, "text/html; charset=utf-8"},
		{"GET", "/demo/ticker", 200, "text/html; charset=utf-8"},
		{"GET", "/demo/ticker.js", 200, "text/javascript; charset=utf-8"},
		{"GET", "/demo/demo.css", 200, "text/css; charset=utf-8"},
		{"POST", "/", 405, ""},
		{"POST", "/demo/ticker", 405, ""},
		{"GET", "/demo/ticker.html", 404, ""},
		{"GET", "/assets/", 404, ""},
		{"GET", "/assets/page.go", 404, ""},
		{"GET", "/index.html", 404, ""},
	} {
		resp := answer(tt.method, tt.path)
		if resp.StatusCode != tt.status {
			t.Errorf("%s %s = %d, want %d", tt.method, tt.path, resp.StatusCode, tt.status)
		}
		if tt.status != 200 {
			continue
		}
		if got := resp.Header.Get("Content-Type"); got != tt.contentType {
			t.Errorf("%s %s has Content-Type %q, want %q", tt.method, tt.path, got, tt.contentType)
		}
		if got := resp.Header.Get("Content-Security-Policy"); !strings.HasPrefix(got, "default-src 'none'; ") || strings.Contains(got, "unsafe") {
			t.Errorf("%s %s has Content-Security-Policy %q", tt.method, tt.path, got)
		}
	}
}

func TestUnchangedFileIsNotSentAgain(t *testing.T) {
	first := answer("GET", "/assets/app.js")
	etag := first.Header.Get("ETag")
	if again := answer("GET", "/assets/app.js", "If-None-Match: "+etag); again.StatusCode != http.StatusNotModified {
		t.Errorf("GET with If-None-Match: %s = %d, want 304", etag, again.StatusCode)
	}
	if other := answer("GET", "/assets/style.css", "If-None-Match: "+etag); other.StatusCode != http.StatusOK {
		t.Errorf("GET of another file with that ETag = %d, want 200", other.StatusCode)
	}
	if got := first.Header.Get("Cache-Control"); got != "no-cache" {
		t.Errorf("Cache-Control = %q, want no-cache: else a browser may not ask", got)
	}
}

// TestFilesKeepThePolicy wants nothing in the files that the policy forbids,
// or that would put a message into the page as markup.
func TestFilesKeepThePolicy(t *testing.T) {
	forbidden := regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|\sstyle=|<style|\son[a-z]+="|(src|href)="(https?:)?//|url\(|@import|import .*https?:`)
	for _, path := range []string{"/", "/assets/app.js", "/assets/cards.js", "/assets/base.css", "/assets/style.css", "/demo/", "/demo/demo.css",
		"/demo/ticker", "/demo/ticker.js", "/demo/scoreboard", "/demo/scoreboard.js", "/demo/iot", "/demo/iot.js", "/demo/crowd", "/demo/crowd.js"} {
		var body strings.Builder
		if err := answer("GET", path).Write(&body); err != nil {
			t.Fatal(err)
		}
		if found := forbidden.FindString(body.String()); found != "" {
			t.Errorf("%s has %q", path, found)
		}
	}
}
