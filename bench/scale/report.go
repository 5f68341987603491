package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
)

// report is what a run found. As JSON it has its own fields.
type report interface {
	header() string
	rows() []row
}

// row is one figure, for people.
type row struct{ name, value string }

func figure(name, format string, args ...any) row { return row{name, fmt.Sprintf(format, args...)} }

// origin is where a report comes from.
type origin struct {
	Command []string `json:"command"`
	Go      string   `json:"go"`
	CPUs    int      `json:"cpus"`
}

func newOrigin() origin {
	command := slices.Clone(os.Args)
	command[0] = filepath.Base(command[0])
	return origin{command, runtime.Version(), runtime.NumCPU()}
}

func (o origin) header() string {
	return fmt.Sprintf("%s\n%s, %d CPUs", strings.Join(o.Command, " "), o.Go, o.CPUs)
}

func writeMarkdown(w io.Writer, r report) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n| figure | value |\n| --- | --- |\n", r.header())
	for _, row := range r.rows() {
		fmt.Fprintf(&b, "| %s | %s |\n", row.name, row.value)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func writeText(w io.Writer, r report) error {
	table := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprintf(table, "%s\n\n", r.header())
	for _, row := range r.rows() {
		fmt.Fprintf(table, "%s\t%s\n", row.name, row.value)
	}
	return table.Flush() // has the errors of all
}

func writeJSON(w io.Writer, r report) error {
	out := json.NewEncoder(w)
	out.SetIndent("", "  ")
	return out.Encode(r)
}

func mb(n int64) float64 { return float64(n) / 1e6 }
