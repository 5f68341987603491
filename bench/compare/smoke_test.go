package main

import (
	"context"
	"encoding/xml"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/pushd/pushd/bench/load"
)

func TestMain(m *testing.M) {
	load.WorkerMain()
	// With the race detector a process sleeps for a second when it exits; workers need not.
	if err := os.Setenv("GORACE", "atexit_sleep_ms=0"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// testTimeout bounds the smoke test. It is no expectation.
const testTimeout = 3 * time.Minute

// TestSmoke runs everything with a few clients against real servers: what was published has to
// arrive, and the result has to show it. A peer stands for all: bench/peers tests each. All but
// deliveries have two servers, for the time that each run takes to start and to settle.
func TestSmoke(t *testing.T) {
	t.Chdir(filepath.Join("..", "..")) // paths are seen from there
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	defer cancel()
	dir := t.TempDir()
	if err := compile(ctx, dir); err != nil {
		t.Fatal(err)
	}
	lane := "pushd-uring"
	deliver := []string{"floor", "pushd-write", lane, "gobwas"}
	if err := uringAllowed(); err != nil {
		t.Logf("without the io_uring lane: %v", err)
		lane, deliver = "pushd-write", []string{"floor", "pushd-write", "gobwas"}
	}
	parts := []*smokePart{
		{who: deliver, what: []string{"fanout", "inflight", "ticker", "many"}, draws: "plots/last.svg"},
		{who: []string{"floor", lane, "centrifuge"}, what: []string{"resume"}, draws: "plots/catchup.svg"},
		{who: []string{"floor", lane, "centrifuge"}, what: []string{"events", "events-many", "events-memory", "json", "deflate"}, draws: "plots/last.svg"},
		{who: []string{"floor", lane}, what: []string{"handshake", "storm", "churn", "slow", "memory", "heartbeat", scaleMeasure}, draws: "plots/slow.svg"},
	}
	var all sync.WaitGroup // no subtests in parallel: one that has changed its folder may have none
	for _, part := range parts {
		part.comparison = comparison{
			command: []string{"compare"}, rounds: 1, duration: 100 * time.Millisecond, settle: 10 * time.Millisecond, shrink: 500,
			only: strings.Join(append(slices.Clone(part.who), simulation), ","), measures: strings.Join(part.what, ","),
			out: filepath.Join(t.TempDir(), "RESULTS.md"), dir: dir, ports: freePorts(t), progress: t.Output(),
		}
		all.Go(func() { part.err = part.run(ctx) })
	}
	all.Wait()
	covered := 0
	for _, part := range parts {
		covered += len(part.what)
		part.check(t)
	}
	if covered != len(measures()) {
		t.Errorf("%d measures ran, want all %d", covered, len(measures()))
	}
}

// smokePart is a comparison of some servers in some measures.
type smokePart struct {
	comparison
	who, what []string
	draws     string // a drawing that does not hang on CPU time, of which there may be less than the kernel counts
	err       error
}

func (p *smokePart) check(t *testing.T) {
	if p.err != nil {
		t.Error(p.err)
		return
	}
	for _, m := range measures() {
		if !slices.Contains(p.what, m.name) {
			continue
		}
		for _, s := range p.serversOf(m) {
			o := p.outcomes[outcomeKey{m.name, s.name}][0]
			switch {
			case m.refusal(s) != "":
				if o != nil {
					t.Errorf("%s: %s was measured, though %q", m.name, s.name, m.refusal(s))
				}
			case o == nil || o.faulty():
				t.Errorf("%s, %s: the outcome is %+v", m.name, s.name, o)
			default:
				checkDeliveries(t, m, s, &o.result)
				checkHistory(t, m, s, &o.result)
			}
		}
	}
	text, err := os.ReadFile(p.out)
	if err != nil {
		t.Error(err)
		return
	}
	p.checkTables(t, string(text))
	p.checkGoals(t)
	p.checkDrawings(t, string(text))
	for _, want := range []string{"github.com/gobwas/ws v1.", "github.com/nats-io/nats-server/v2 v2."} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the result does not say %q", want)
		}
	}
}

// checkGoals holds that each goal of these measures has a figure.
func (p *smokePart) checkGoals(t *testing.T) {
	t.Helper()
	for _, g := range goals() {
		if !slices.Contains(p.what, g.measure) || g.server != simulation && !slices.Contains(p.who, g.server) {
			continue
		}
		// A floor that used less CPU than the kernel counts has no ratio.
		if measured, _ := p.judge(g); measured == "–" || measured == "not measured" && g.of != theFloor {
			t.Errorf("goal %q: %s", g.text, measured)
		}
	}
}

// checkDeliveries holds that each message that was due came, and came once.
func checkDeliveries(t *testing.T, m measure, s server, r *load.Result) {
	t.Helper()
	published := 0
	for _, w := range r.Windows {
		published += w.Published
		got := w.Steady
		if got.Received+got.Away != got.Expected || got.Missing+got.Duplicate+got.OutOfOrder > 0 {
			t.Errorf("%s, %s, %s: %+v", m.name, s.name, w.Name, got)
		}
	}
	silent := m.spec.Scenario == "idle" || m.spec.Scenario == "handshake" || m.name == scaleMeasure
	if silent != (published == 0) {
		t.Errorf("%s, %s: %d messages were published", m.name, s.name, published)
	}
}

// checkHistory holds that whoever keeps history has lost nothing by it.
func checkHistory(t *testing.T, m measure, s server, r *load.Result) {
	t.Helper()
	if m.history == noHistory || s.history == "" {
		return
	}
	w := r.Windows[len(r.Windows)-1]
	if m.name == "resume" {
		w = r.Window("resume")
		if clients := uint64(r.Spec.Clients); w.Resumed != clients || w.Recovered != clients || w.CatchUp.Messages != clients*uint64(r.Spec.Messages) {
			t.Errorf("%s, %s: %d resumed, %d recovered, %+v", m.name, s.name, w.Resumed, w.Recovered, w.CatchUp)
		}
	}
	if o := w.Others; o.Received != o.Expected {
		t.Errorf("%s, %s: those who had stalled got %+v", m.name, s.name, o)
	}
}

// checkTables holds that all measures have a row for each server, in which each column has a cell.
func (p *smokePart) checkTables(t *testing.T, text string) {
	t.Helper()
	tables := make(map[string][][]string) // rows by heading
	heading := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if title, ok := strings.CutPrefix(line, "## "); ok {
			heading = title
		}
		if inner, ok := strings.CutPrefix(line, "| "); ok {
			tables[heading] = append(tables[heading], strings.Split(strings.TrimSuffix(inner, " |"), " | "))
		}
	}
	for _, m := range measures() {
		if !slices.Contains(p.what, m.name) {
			continue
		}
		rows := tables[m.title]
		want := p.who
		if m.name == scaleMeasure {
			want = []string{simulation}
		}
		if len(rows) != 2+len(want) {
			t.Errorf("%q has %d lines, want a head and rows for %v:\n%v", m.title, len(rows), want, rows)
			continue
		}
		for i, row := range rows {
			if len(row) != len(rows[0]) || slices.Contains(row, "") {
				t.Errorf("%q: row %q does not fit the head %q", m.title, row, rows[0])
			}
			if i >= 2 && row[0] != want[i-2] {
				t.Errorf("%q: row %d is of %q, want %q", m.title, i-2, row[0], want[i-2])
			}
		}
	}
	if got, want := len(tables["Goals"]), 2+len(goals()); got != want {
		t.Errorf("the table of goals has %d lines, want %d", got, want)
	}
	for _, bad := range []string{"NaN", "Inf", "%!", "went wrong"} {
		if strings.Contains(text, bad) {
			t.Errorf("the result says %q", bad)
		}
	}
}

// checkDrawings holds that what the result shows are files of XML.
func (p *smokePart) checkDrawings(t *testing.T, text string) {
	t.Helper()
	links := regexp.MustCompile(`!\[[^]]+\]\(([^)]+)\)`).FindAllStringSubmatch(text, -1)
	if !slices.ContainsFunc(links, func(link []string) bool { return link[1] == p.draws }) {
		t.Errorf("the result shows %v, and not %s", links, p.draws)
	}
	for _, link := range links {
		file, err := os.Open(filepath.Join(filepath.Dir(p.out), link[1]))
		if err != nil {
			t.Error(err)
			continue
		}
		defer file.Close()
		for decoder := xml.NewDecoder(file); err == nil; _, err = decoder.Token() {
		}
		if !errors.Is(err, io.EOF) {
			t.Errorf("%s: %v", link[1], err)
		}
	}
}

// freePorts returns ports that were free a moment ago.
func freePorts(t *testing.T) ports {
	t.Helper()
	var list []int
	for range 4 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		list = append(list, l.Addr().(*net.TCPAddr).Port)
	}
	return ports{nats: list[0], clients: list[1], admin: list[2], gc: list[3]}
}

// uringAllowed says why the kernel has no io_uring for us, as in most containers.
func uringAllowed() error {
	var parameters [120]byte // struct io_uring_params, all zero
	fd, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, 1, uintptr(unsafe.Pointer(&parameters)), 0)
	if errno != 0 {
		return os.NewSyscallError("io_uring_setup", errno)
	}
	return unix.Close(int(fd))
}
