package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// progress shows how far a feed is, on a terminal alone: elsewhere it is a nil
// bar, and its methods do nothing.
type progress struct {
	bar   *progressbar.ProgressBar
	start time.Time
}

// newProgress takes the bytes of the input, or -1 where they are not known.
func newProgress(w io.Writer, size int64) *progress {
	file, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return &progress{}
	}
	return &progress{start: time.Now(), bar: progressbar.NewOptions64(size,
		progressbar.OptionSetWriter(w),
		progressbar.OptionShowBytes(true),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionClearOnFinish(),
	)}
}

// update is told the records so far, and the bytes of input they came from.
func (p *progress) update(records int, bytes int64) {
	if p.bar == nil {
		return
	}
	p.bar.Describe(fmt.Sprintf("%d records, %.0f/s", records, float64(records)/max(time.Since(p.start).Seconds(), 1e-3)))
	_ = p.bar.Set64(bytes) // fails where the terminal is gone
}

// clear makes the line free for something else.
func (p *progress) clear() {
	if p.bar != nil {
		_ = p.bar.Clear() // fails where the terminal is gone
	}
}
