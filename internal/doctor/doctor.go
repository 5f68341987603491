// Package doctor looks at the machine, the files and the NATS that a server
// would run with, says what is wrong and what to change, and changes nothing.
package doctor

import (
	"context"
	"fmt"
	"io"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pushd/pushd/conn"
	"github.com/pushd/pushd/internal/config"
)

// Level is how bad something is.
type Level int

// The levels.
const (
	OK      Level = iota
	Warning       // it runs, and not as well or as long as it could
	Failure       // it does not run, or does not do what was configured
)

func (l Level) String() string { return [...]string{"ok", "warning", "failure"}[l] }

// Finding is what was seen of one thing.
type Finding struct {
	Level   Level
	Subject string
	Text    string
	Cure    string // what to change; "" where nothing has to be, or Text says it
}

// Machine is where answers come from; a test has its own.
type Machine struct {
	Root  string // above proc and sys; "" is the real one
	Files func() (soft, hard uint64, err error)
	Space func(dir string) (free uint64, err error)
	URing func() error
	Now   func() time.Time

	Listen func(address string) error // for a moment
}

// Here is the machine that this process runs on.
func Here() Machine {
	return Machine{
		Files: func() (uint64, uint64, error) {
			var limit syscall.Rlimit
			err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit)
			return limit.Cur, limit.Max, err
		},
		Space: func(dir string) (uint64, error) {
			var fs unix.Statfs_t
			if err := unix.Statfs(dir, &fs); err != nil {
				return 0, err
			}
			return fs.Bavail * uint64(fs.Bsize), nil
		},
		URing: conn.CheckURing,
		Now:   time.Now,

		Listen: tryListen,
	}
}

// Examine looks at everything that the settings concern.
func Examine(ctx context.Context, m Machine, cfg *config.Config) []Finding {
	e := &examination{Machine: m, cfg: cfg}
	e.files()
	e.memory()
	e.kernel()
	e.uring()
	e.listeners(ctx)
	e.store()
	e.certificates()
	e.keys()
	e.keySet(ctx)
	e.adminToken()
	e.nats(ctx)
	return e.found
}

// examination is one run. Only its goroutine touches it.
type examination struct {
	Machine
	cfg     *config.Config
	clients int // that are taken at most
	found   []Finding
}

func (e *examination) okf(subject, format string, args ...any) {
	e.found = append(e.found, Finding{OK, subject, fmt.Sprintf(format, args...), ""})
}

// badf notes something with what cures it.
func (e *examination) badf(level Level, subject, cure, format string, args ...any) {
	e.found = append(e.found, Finding{level, subject, fmt.Sprintf(format, args...), cure})
}

// Write prints findings, each with its cure below it, and counts them.
func Write(w io.Writer, findings []Finding) (warnings, failures int, err error) {
	for _, f := range findings {
		switch f.Level {
		case Warning:
			warnings++
		case Failure:
			failures++
		}
		if _, err := fmt.Fprintf(w, "%-8s %s: %s\n", f.Level, f.Subject, f.Text); err != nil {
			return warnings, failures, err
		}
		if f.Cure != "" {
			if _, err := fmt.Fprintf(w, "         change: %s\n", f.Cure); err != nil {
				return warnings, failures, err
			}
		}
	}
	return warnings, failures, nil
}
