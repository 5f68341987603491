package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/term"

	"github.com/pushd/pushd/internal/statistics"
)

// topPeriod is how often nodes say something of themselves.
const topPeriod = time.Second

type topCommand struct {
	adminFlags
}

// Run shows the nodes until ctx is done, or somebody types q or Ctrl-C.
func (c *topCommand) Run(ctx context.Context, p program) error {
	ctx, quit := context.WithCancel(ctx)
	defer quit()
	show, restore, err := newDisplay(p, quit)
	if err != nil {
		return err
	}
	defer restore()
	var view top
	for {
		nodes, err := c.nodes(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && view.last == nil:
			return err // it is wrong from the start
		}
		if err := show(view.see(nodes, err)); err != nil {
			return err
		}
		if sleep(ctx, topPeriod) != nil {
			return nil
		}
	}
}

// top is what is shown: rates are of what nodes said before.
type top struct {
	last map[string]statistics.Node // by name
}

// line is one node, or all.
type line struct {
	name, state             string
	connections, most, slow int64
	deliveries              float64 // a second
	lag                     float64 // ms, the worst
	cpu                     float64 // percent of one
	nats                    string
}

// frame is one second of it.
type frame struct {
	err   error
	nodes []line // the busiest first
	all   line
}

// see takes what the nodes say now.
func (v *top) see(nodes []statistics.Node, err error) frame {
	f := frame{err: err, all: line{name: fmt.Sprintf("%d nodes", len(nodes))}}
	if err != nil {
		return f
	}
	now := make(map[string]statistics.Node, len(nodes))
	for _, n := range nodes {
		now[n.Node] = n
		l := line{
			name: plain(n.Node), state: plain(n.State), connections: int64(n.Connections.Open), most: int64(n.Connections.Max), slow: n.Subscriptions.Behind,
			lag: n.Latency.LoopLag.Max, nats: natsWord(&n),
		}
		if was, known := v.last[n.Node]; known && was.Started == n.Started && n.Time > was.Time {
			seconds := float64(n.Time-was.Time) / 1000
			l.deliveries = float64(n.Traffic.Deliveries-was.Traffic.Deliveries) / seconds
			l.cpu = 100 * (n.Process.CPU - was.Process.CPU) / seconds
		}
		f.nodes = append(f.nodes, l)
		f.all.connections += l.connections
		f.all.most += l.most
		f.all.slow += l.slow
		f.all.deliveries += l.deliveries
		f.all.cpu += l.cpu
		f.all.lag = max(f.all.lag, l.lag)
	}
	v.last = now
	slices.SortFunc(f.nodes, func(a, b line) int {
		return cmp.Or(-cmp.Compare(a.connections, b.connections), cmp.Compare(a.name, b.name))
	})
	return f
}

// text is a frame of so many lines at most.
func (f frame) text(height int) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NODE\tSTATE\tCONNECTIONS\tMAX\tDELIVERIES/S\tLAG MS\tSLOW\tCPU %\tNATS")
	for i, l := range append([]line{f.all}, f.nodes...) {
		if i+3 > height {
			break
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%.0f\t%.1f\t%d\t%.0f\t%s\n", l.name, l.state, l.connections, l.most, l.deliveries, l.lag, l.slow, l.cpu, l.nats)
	}
	_ = w.Flush() // into a builder
	if f.err != nil {
		fmt.Fprintf(&b, "%v\n", f.err)
	}
	return b.String()
}

// newDisplay returns what shows a frame, and what leaves the terminal as it was.
// Where stdout is no terminal a frame is one line.
func newDisplay(p program, quit func()) (show func(frame) error, restore func(), err error) {
	out, isFile := p.stdout.(*os.File)
	if !isFile || !term.IsTerminal(int(out.Fd())) {
		return func(f frame) error { return showLine(p.stdout, f) }, func() {}, nil
	}
	restore = func() { fmt.Fprint(out, "\x1b[?25h\x1b[?1049l") }
	if in, isFile := p.stdin.(*os.File); isFile && term.IsTerminal(int(in.Fd())) {
		was, err := term.MakeRaw(int(in.Fd()))
		if err != nil {
			return nil, nil, fmt.Errorf("the terminal's keys: %w", err)
		}
		go awaitQuit(in, quit) // a read of a terminal ends with the process
		back := restore
		restore = func() {
			back()
			_ = term.Restore(int(in.Fd()), was) // fails where the terminal is gone
		}
	}
	fmt.Fprint(out, "\x1b[?1049h\x1b[?25l") // a screen of its own, without a cursor
	return func(f frame) error {
		width, height, err := term.GetSize(int(out.Fd()))
		if err != nil {
			width, height = 80, 24
		}
		return draw(out, f, width, height)
	}, restore, nil
}

// awaitQuit reads keys until q or Ctrl-C.
func awaitQuit(keys io.Reader, quit func()) {
	const ctrlC = 3
	for key := make([]byte, 1); ; {
		if _, err := keys.Read(key); err != nil {
			return
		}
		if key[0] == 'q' || key[0] == ctrlC {
			quit()
			return
		}
	}
}

// draw writes a frame over the one before, in one go.
func draw(w io.Writer, f frame, width, height int) error {
	var b strings.Builder
	b.WriteString("\x1b[H")
	for text := range strings.Lines(f.text(height)) {
		cut := []rune(strings.TrimSuffix(text, "\n"))
		b.WriteString(string(cut[:min(len(cut), width)]) + "\x1b[K\r\n")
	}
	b.WriteString("\x1b[J")
	_, err := io.WriteString(w, b.String())
	return err
}

// showLine writes a frame for what is no terminal.
func showLine(w io.Writer, f frame) error {
	if f.err != nil {
		_, err := fmt.Fprintln(w, f.err)
		return err
	}
	_, err := fmt.Fprintf(w, "%s  %d connections  %.0f deliveries/s  lag %.1f ms  slow %d\n", f.all.name, f.all.connections, f.all.deliveries, f.all.lag, f.all.slow)
	return err
}
