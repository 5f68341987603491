// Package page serves the live page, and the demos: plain files, embedded as
// they are written.
package page

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"net/http"
	"path"
	"time"
)

//go:embed index.html assets demo
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

// Handler serves GET and HEAD of / and of what is below /assets/; any other
// path is 404 and any other method 405. Browsers keep the files, and ask each
// time whether they still hold.
func Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /{$}", newFile("index.html"))
	for _, name := range []string{"app.js", "cards.js", "connection.js", "pushd.js", "style.css"} {
		mux.Handle("GET /assets/"+name, newFile("assets/"+name))
	}
	return mux
}

// demos are pages, by the last part of their path.
var demos = []string{"ticker", "scoreboard", "iot", "crowd"}

// DemoHandler serves GET and HEAD of what is below /demo/, as Handler does.
func DemoHandler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /demo/{$}", newFile("demo/index.html"))
	mux.Handle("GET /demo/demo.css", newFile("demo/demo.css"))
	for _, name := range demos {
		mux.Handle("GET /demo/"+name, newFile("demo/"+name+".html"))
		mux.Handle("GET /demo/"+name+".js", newFile("demo/"+name+".js"))
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
	}
	panic("no content type for files with the ending " + ext)
}

func (f *file) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", f.contentType)
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-cache")
	h.Set("ETag", f.etag) // ServeContent answers If-None-Match by it
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(f.content))
}
