package main

import (
	"context"
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/pushd/pushd/bench/load"
)

// The simulated million is a measure and a server of its own.
const (
	scaleMeasure = "scale"
	simulation   = "simulation"
	million      = 1_000_000
)

// scaleRow is a figure of bench/scale: the row of its table that begins with
// text, and the first quantity there.
type scaleRow struct{ text, key, unit string }

func scaleRows() []scaleRow {
	return []scaleRow{
		{"resident memory", "memory", "MB"},
		{"full garbage collection", "gc_cpu", "ms"},
		{"one message to all", "broadcast_cpu", "ms"},
	}
}

// simulate runs bench/scale, which fails where not everything was delivered.
func (c *comparison) simulate(ctx context.Context) (load.Result, error) {
	command := c.scaleCommand()
	text, err := output(ctx, command...)
	if err != nil {
		return load.Result{}, err
	}
	figures, err := parseScale(text)
	if err != nil {
		return load.Result{}, err
	}
	return load.Result{Scenario: scaleMeasure, Name: simulation, Command: command, Figures: figures}, nil
}

func (c *comparison) scaleCommand() []string {
	return []string{filepath.Join(c.dir, "scale"), "-n", strconv.Itoa(million / c.shrink)}
}

// parseScale takes the figures out of what bench/scale prints.
func parseScale(text string) (figures []load.Figure, err error) {
	for _, row := range scaleRows() {
		value, err := row.find(text)
		if err != nil {
			return nil, err
		}
		figures = append(figures, load.Figure{Key: row.key, Text: row.text, Value: value, Unit: row.unit})
	}
	return figures, nil
}

// quantity is a number with its unit, and the CPU that a time has to be of.
var quantity = regexp.MustCompile(`^([0-9.]+) ?(MB|ns|µs|ms|s)( CPU)?\b`)

func (row scaleRow) find(text string) (float64, error) {
	for line := range strings.Lines(text) {
		cells := strings.Split(line, "|")
		if len(cells) < 3 || !strings.HasPrefix(strings.TrimSpace(cells[1]), row.text) {
			continue
		}
		found := quantity.FindStringSubmatch(strings.TrimSpace(cells[2]))
		switch {
		case found == nil:
		case found[2] == "MB" && row.unit == "MB":
			return strconv.ParseFloat(found[1], 64)
		case found[2] != "MB" && row.unit == "ms" && found[3] != "":
			d, err := time.ParseDuration(found[1] + found[2])
			return d.Seconds() * 1e3, err
		}
		return 0, fmt.Errorf("bench/scale prints %q, in which there is no quantity in %s", strings.TrimSpace(line), row.unit)
	}
	return 0, fmt.Errorf("bench/scale prints no row that begins with %q", row.text)
}
