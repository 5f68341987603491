package console_test

import (
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/pushd/pushd/internal/console"
)

// answer returns what the handler says to a request, and its body.
func answer(method, path string) (*http.Response, string) {
	w := httptest.NewRecorder()
	console.Handler().ServeHTTP(w, httptest.NewRequest(method, path, nil))
	return w.Result(), w.Body.String()
}

func TestHandler(t *testing.T) {
	for _, tt := range []struct {
		method, path string
		status       int
		contentType  string
	}{
		{"GET", "/console/", 200, "text/html; charset=utf-8"},
		{"HEAD", "/console/", 200, "text/html; charset=utf-8"},
		{"GET", "/console/app.js", 200, "text/javascript; charset=utf-8"},
		{"GET", "/console/uplot.js", 200, "text/javascript; charset=utf-8"},
		{"GET", "/console/base.css", 200, "text/css; charset=utf-8"},
		{"GET", "/console/style.css", 200, "text/css; charset=utf-8"},
		{"GET", "/console/uplot-license.txt", 200, "text/plain; charset=utf-8"},
		{"POST", "/console/", 405, ""},
		{"GET", "/console/index.html", 404, ""},
		{"GET", "/console/assets/app.js", 404, ""},
		{"GET", "/console/console.go", 404, ""},
		{"GET", "/", 404, ""},
	} {
		resp, _ := answer(tt.method, tt.path)
		if resp.StatusCode != tt.status {
			t.Errorf("%s %s = %d, want %d", tt.method, tt.path, resp.StatusCode, tt.status)
		}
		if tt.status != 200 {
			continue
		}
		h := resp.Header
		if got := h.Get("Content-Type"); got != tt.contentType {
			t.Errorf("%s %s has Content-Type %q, want %q", tt.method, tt.path, got, tt.contentType)
		}
		if got := h.Get("Content-Security-Policy"); !strings.HasPrefix(got, "default-src 'none'; ") || strings.Contains(got, "unsafe") || !strings.Contains(got, "frame-ancestors 'none'") {
			t.Errorf("%s %s has Content-Security-Policy %q", tt.method, tt.path, got)
		}
		if h.Get("Cross-Origin-Opener-Policy") != "same-origin" || h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Cache-Control") != "no-cache" {
			t.Errorf("%s %s has the headers %v", tt.method, tt.path, h)
		}
	}
}

// TestFilesKeepThePolicy wants nothing in the files that the policy forbids,
// that would put a message into the page as markup, or that would load or keep
// anything elsewhere; and none so long that nobody reads it.
func TestFilesKeepThePolicy(t *testing.T) {
	forbidden := regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|\sstyle=|<style|\son[a-z]+="|(src|href)="(https?:)?//|url\(|@import|import .*https?:|localStorage|document\.cookie`)
	paths := []string{"index.html"}
	entries, err := fs.ReadDir(os.DirFS("assets"), ".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), "uplot") {
			paths = append(paths, "assets/"+e.Name())
		}
	}
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if found := forbidden.Find(content); found != nil {
			t.Errorf("%s has %q", path, found)
		}
		if lines := strings.Count(string(content), "\n"); lines > 500 {
			t.Errorf("%s has %d lines", path, lines)
		}
	}
}
