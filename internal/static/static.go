// Package static serves embedded files as they are written: those of the live
// page, the demos and the console.
package static

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"io/fs"
	"net/http"
	"path"
	"time"
)

// policy lets a page load what its own server serves and nothing else, and
// connect to that (in CSP level 3, 'self' means its ws or wss too). The icon is a
// data: URL.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

//go:embed base.css
var base []byte

// file is one file, ready to be served.
type file struct {
	contentType string
	content     []byte
	etag        string
}

// File serves GET and HEAD of an embedded file, and panics if there is none or its
// ending is unknown. Browsers keep it, and ask each time whether it still holds.
func File(files fs.FS, name string) http.Handler {
	content, err := fs.ReadFile(files, name)
	if err != nil {
		panic(err) // it was embedded
	}
	return newFile(name, content)
}

// Base serves the style that all pages begin with: colours, light and dark, and
// no margins.
func Base() http.Handler { return newFile("base.css", base) }

func newFile(name string, content []byte) *file {
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
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-cache")
	h.Set("ETag", f.etag) // ServeContent answers If-None-Match by it
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(f.content))
}
