// Package console serves the operators' page: plain files, embedded as they
// are written.
package console

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"net/http"
	"path"
	"time"
)

// Path is where the page lies.
const Path = "/console/"

//go:embed index.html assets
var files embed.FS

// policy lets the page load what this package serves and nothing else, and
// connect to the server that it came from (in CSP level 3, 'self' means
// its ws or wss too). The icon is a data: URL.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// file is one embedded file, ready to be served.
type file struct {
	contentType string
	content     []byte
	etag        string
}

// Handler serves GET and HEAD of what is below [Path]; anything else is 404 or
// 405. Nothing in the files is secret. Browsers keep them, and ask each time
// whether they still hold.
func Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET "+Path+"{$}", newFile("index.html"))
	entries, err := files.ReadDir("assets")
	if err != nil {
		panic(err) // they were embedded
	}
	for _, e := range entries {
		mux.Handle("GET "+Path+e.Name(), newFile("assets/"+e.Name()))
	}
	return mux
}

func newFile(name string) *file {
	content, err := files.ReadFile(name)
	if err != nil {
		panic(err) // it was embedded
	}
	sum := sha256.Sum256(content)
	return &file{
		contentType: contentType(path.Ext(name)),
		content:     content,
		etag:        `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`,
	}
}

// contentType does not ask the machine's own table, as package mime does.
func contentType(ext string) string {
	switch ext {
	case ".html":
		return "text/html; charset=utf-8"
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".txt":
		return "text/plain; charset=utf-8"
	}
	panic("no content type for files with the ending " + ext)
}

func (f *file) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", f.contentType)
	h.Set("Content-Security-Policy", policy)
	h.Set("Cross-Origin-Opener-Policy", "same-origin") // a page that opens it has no hold on it
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-cache")
	h.Set("ETag", f.etag) // ServeContent answers If-None-Match by it
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(f.content))
}
