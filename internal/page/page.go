// Package page serves the live page, and the demos: plain files, embedded as
// they are written.
package page

import (
	"embed"
	"net/http"

	"github.com/pushd/pushd/internal/static"
)

//go:embed index.html assets demo
var files embed.FS

// Handler serves GET and HEAD of / and of what is below /assets/; any other
// path is 404 and any other method 405. Browsers keep the files, and ask each
// time whether they still hold.
func Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /{$}", static.File(files, "index.html"))
	mux.Handle("GET /assets/base.css", static.Base())
	for _, name := range []string{"app.js", "cards.js", "pushd.js", "style.css"} {
		mux.Handle("GET /assets/"+name, static.File(files, "assets/"+name))
	}
	return mux
}

// demos are pages, by the last part of their path.
var demos = []string{"ticker", "scoreboard", "iot", "crowd"}

// DemoHandler serves GET and HEAD of what is below /demo/, as Handler does.
func DemoHandler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /demo/{$}", static.File(files, "demo/index.html"))
	mux.Handle("GET /demo/demo.css", static.File(files, "demo/demo.css"))
	for _, name := range demos {
		mux.Handle("GET /demo/"+name, static.File(files, "demo/"+name+".html"))
		mux.Handle("GET /demo/"+name+".js", static.File(files, "demo/"+name+".js"))
	}
	return mux
}
