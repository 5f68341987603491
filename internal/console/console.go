// Package console serves the operators' page: plain files, embedded as they
// are written.
package console

import (
	"embed"
	"net/http"

	"github.com/pushd/pushd/internal/static"
)

// Path is where the page lies.
const Path = "/console/"

//go:embed index.html assets
var files embed.FS

// Handler serves GET and HEAD of what is below [Path]; anything else is 404 or
// 405. Nothing in the files is secret. Browsers keep them, and ask each time
// whether they still hold.
func Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET "+Path+"{$}", alone(static.File(files, "index.html")))
	mux.Handle("GET "+Path+"base.css", alone(static.Base()))
	entries, err := files.ReadDir("assets")
	if err != nil {
		panic(err) // they were embedded
	}
	for _, e := range entries {
		mux.Handle("GET "+Path+e.Name(), alone(static.File(files, "assets/"+e.Name())))
	}
	return mux
}

// alone keeps other pages away from a file: one that opens it has no hold on it,
// and none may load it.
func alone(file http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cross-Origin-Opener-Policy", "same-origin")
		w.Header().Set("Cross-Origin-Resource-Policy", "same-origin")
		file.ServeHTTP(w, r)
	})
}
