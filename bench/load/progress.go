package load

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// progress shows how far a run is, on a terminal alone: elsewhere it is a nil
// bar, and its methods do nothing.
type progress struct {
	bar  *progressbar.ProgressBar
	name string // of the phase
}

func newProgress(w io.Writer) *progress {
	file, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return &progress{}
	}
	return &progress{bar: progressbar.NewOptions64(-1,
		progressbar.OptionSetWriter(w),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionClearOnFinish(),
		progressbar.OptionSpinnerType(14),
	)}
}

// phase names what is being done now.
func (p *progress) phase(name string) {
	p.name = name
	p.show(0, 0, "")
}

// show says that so many of all are done; all may be 0 where it is not known.
func (p *progress) show(done, all int, what string) {
	if p.bar == nil {
		return
	}
	text := p.name
	switch {
	case all > 0:
		text = fmt.Sprintf("%s: %d of %d %s", p.name, done, all, what)
	case what != "":
		text = fmt.Sprintf("%s: %d %s", p.name, done, what)
	}
	p.bar.Describe(text)
	_ = p.bar.Add(1) // fails where the terminal is gone
}

// clear makes the line free for something else.
func (p *progress) clear() {
	if p.bar != nil {
		_ = p.bar.Clear() // fails where the terminal is gone
	}
}
