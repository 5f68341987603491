package load

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Markdown returns the result for people: the answer, and below it what was
// counted.
func (r *Result) Markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "## %s: %s\n\n%s\n\n", r.Scenario, r.Name, r.Question)
	rows := [][]string{{"figure", "value"}}
	for _, f := range r.Figures {
		rows = append(rows, []string{f.Text, strings.TrimSpace(number(f.Value) + " " + f.Unit)})
	}
	table(&b, rows)
	rows = [][]string{{"window", "seconds", "published", "expected", "received", "missing", "away", "twice", "out of order", "late", "unwanted", "gaps told", "lost connections"}}
	for _, w := range r.Windows {
		rows = append(rows, countRow(w, w.Name, w.Steady))
		if w.Others != (Counts{}) {
			rows = append(rows, countRow(w, w.Name+", clients that stall or churn", w.Others))
		}
	}
	table(&b, rows)
	rows = [][]string{{"ms", "count", "p50", "p90", "p99", "p99.9", "p99.99", "max"}}
	for _, w := range r.Windows {
		rows = timesRow(rows, w.Name+": publish to delivery", w.Latency)
		rows = timesRow(rows, w.Name+": publish to the last subscriber", w.Last)
		rows = timesRow(rows, w.Name+": connect to subscribed", w.Ready)
		rows = timesRow(rows, w.Name+": the publisher behind its plan", w.Behind)
	}
	table(&b, rows)
	rows = [][]string{{"CPU seconds", "server, user", "system", "generator, user", "system", "elsewhere", "server memory, MiB"}}
	for _, w := range r.Windows {
		rows = append(rows, []string{
			w.Name, number(w.Server.User), number(w.Server.System), number(w.Generator.User), number(w.Generator.System),
			number(w.Elsewhere), number(float64(w.Memory.RSS) / (1 << 20)),
		})
	}
	table(&b, rows)
	for _, w := range r.Windows {
		for _, what := range sortedKeys(w.Problems) {
			fmt.Fprintf(&b, "- %s: %d × %s\n", w.Name, w.Problems[what], what)
		}
		if w.Overdue > 0 {
			fmt.Fprintf(&b, "- %s: %d messages were not with all subscribers after %v\n", w.Name, w.Overdue, r.Spec.Patience)
		}
	}
	c := r.Connections
	fmt.Fprintf(&b, "- %d of %d connections from %d processes, %d attempts failed, %d lost\n", c.Open, c.Wanted, len(c.Workers), c.Failed, c.Lost)
	fmt.Fprintf(&b, "- %s; %s\n- `%s`\n", r.Machine, r.Started.UTC().Format(time.RFC3339), strings.Join(quote(r.Command), " "))
	return b.String()
}

func countRow(w *Window, name string, c Counts) []string {
	row := []string{name, number(w.Seconds), strconv.Itoa(w.Published)}
	for _, n := range []uint64{c.Expected, c.Received, c.Missing, c.Away, c.Duplicate, c.OutOfOrder, c.Late, c.Unwanted, c.Gaps} {
		row = append(row, strconv.FormatUint(n, 10))
	}
	return append(row, strconv.Itoa(w.Lost))
}

func timesRow(rows [][]string, name string, t Times) [][]string {
	if t.Count == 0 {
		return rows
	}
	row := []string{name, strconv.FormatInt(t.Count, 10)}
	for _, us := range []float64{t.P50, t.P90, t.P99, t.P999, t.P9999, t.Max} {
		row = append(row, number(us/1e3))
	}
	return append(rows, row)
}

// table writes rows, the first of which is the head; one without any rows it
// leaves out.
func table(b *strings.Builder, rows [][]string) {
	if len(rows) < 2 {
		return
	}
	for i, row := range rows {
		b.WriteString("| " + strings.Join(row, " | ") + " |\n")
		if i == 0 {
			b.WriteString("|" + strings.Repeat(" --- |", len(row)) + "\n")
		}
	}
	b.WriteByte('\n')
}

// number is a value with three digits, or all of those before the point.
func number(v float64) string {
	switch {
	case v == float64(int64(v)), v >= 100, v <= -100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case v >= 10 || v <= -10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	case v >= 1 || v <= -1:
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
	return strconv.FormatFloat(v, 'f', 3, 64)
}

// quote makes a command line that a shell reads as it was given.
func quote(args []string) []string {
	quoted := slices.Clone(args)
	for i, arg := range quoted {
		if arg == "" || strings.ContainsAny(arg, " \t\n\"'`$&|;<>()*?[]{}~#!\\") {
			quoted[i] = "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
		}
	}
	return quoted
}

func sortedKeys(m map[string]int) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
