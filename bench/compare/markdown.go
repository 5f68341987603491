package main

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// markdown is the result for people.
func (c *comparison) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# pushd beside its peers\n\nWritten by `%s` on %s.\n\n", strings.Join(append([]string{"go run ./bench/compare"}, os.Args[1:]...), " "), time.Now().UTC().Format(time.DateOnly))
	fmt.Fprintf(&b, "%s. Server, load generator and, for pushd, NATS share these CPUs. CPU is that of the server's process, "+
		"user and system; for pushd without NATS, which is a process of its own. Payload 128 bytes. "+
		"Medians of %d rounds in which all servers had their turn, in parentheses the least and the most. "+
		"\"floor\" is a C program that accepts, answers a canned 101, and writes each message to each socket; ratios are to its figure of the same round. "+
		"Peers are the same small hub on each library, see [peers/README.md](peers/README.md); versions stand in peers/go.mod. %s.\n\n",
		c.machine, c.rounds, runtime.Version())
	c.writeGoals(&b)
	for _, m := range measures {
		if len(c.results[m.name]) > 0 {
			c.writeMeasure(&b, m)
		}
	}
	if len(c.failed) > 0 {
		fmt.Fprintf(&b, "## What went wrong\n\n")
		for _, line := range c.failed {
			fmt.Fprintf(&b, "- %s\n", line)
		}
	}
	return b.String()
}

func (c *comparison) writeGoals(b *strings.Builder) {
	fmt.Fprintf(b, "## Goals\n\n| figure | goal | measured | reached |\n| --- | --- | --- | --- |\n")
	for _, g := range goals {
		values := c.values(g.measure, g.server, g.key)
		if g.ofFloor != "" {
			values = ratios(values, c.values(g.ofFloor, "floor", g.key))
		}
		if len(values) == 0 {
			continue
		}
		reached := "no"
		if median(values) <= g.most {
			reached = "yes"
		}
		fmt.Fprintf(b, "| %s | at most %v %s | %s | %s |\n", g.text, g.most, g.unit, spread(values), reached)
	}
	b.WriteString("\n")
}

func (c *comparison) writeMeasure(b *strings.Builder, m measure) {
	fmt.Fprintf(b, "## %s\n\n| server |", m.title)
	line := "| --- |"
	for _, col := range m.columns {
		fmt.Fprintf(b, " %s |", col.title)
		line += " --- |"
		if col.ofFloor {
			b.WriteString(" of the floor |")
			line += " --- |"
		}
	}
	fmt.Fprintf(b, "\n%s\n", line)
	for _, s := range c.servers {
		if len(c.results[m.name][s.name]) == 0 {
			continue
		}
		fmt.Fprintf(b, "| %s |", s.name)
		for _, col := range m.columns {
			values := c.values(m.name, s.name, col.key)
			fmt.Fprintf(b, " %s |", spread(values))
			if col.ofFloor {
				fmt.Fprintf(b, " %s |", spread(ratios(values, c.values(m.name, "floor", col.key))))
			}
		}
		b.WriteString("\n")
	}
	b.WriteString("\n")
}

// values is a figure of one server in all rounds; NaN-free: a round that failed is missing.
func (c *comparison) values(measure, server, key string) (values []float64) {
	for _, r := range c.results[measure][server] {
		if v, ok := r.Figure(key); ok {
			values = append(values, v)
		}
	}
	return values
}

// ratios divides round by round; of different lengths, where one has failed, by the median.
func ratios(values, floor []float64) (list []float64) {
	if len(floor) == 0 {
		return nil
	}
	for i, v := range values {
		of := median(floor)
		if len(floor) == len(values) {
			of = floor[i]
		}
		list = append(list, v/of)
	}
	return list
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

func spread(values []float64) string {
	if len(values) == 0 {
		return "–"
	}
	if len(values) == 1 {
		return number(values[0])
	}
	return fmt.Sprintf("%s (%s–%s)", number(median(values)), number(slices.Min(values)), number(slices.Max(values)))
}

// number has three digits that mean something.
func number(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	case v >= 1:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.3f", v)
}
