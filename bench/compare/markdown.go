package main

import (
	"cmp"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// write writes the result and its drawings.
func (c *comparison) write() error {
	plots := filepath.Join(filepath.Dir(c.out), "plots")
	if err := os.MkdirAll(plots, 0o755); err != nil {
		return err
	}
	drawings, err := c.draw(plots)
	if err != nil {
		return err
	}
	return os.WriteFile(c.out, []byte(c.markdown(drawings)), 0o644)
}

// markdown is the result for people.
func (c *comparison) markdown(drawings []drawing) string {
	var b strings.Builder
	c.writeHead(&b)
	if faults := c.faults(nil); len(faults) > 0 {
		b.WriteString("## What went wrong\n\nThe figures of these runs are left out.\n\n")
		for _, line := range faults {
			// An error may have the end of a server's output below it.
			fmt.Fprintf(&b, "- %s\n", strings.ReplaceAll(line, "\n", "\n  "))
		}
		b.WriteString("\n")
	}
	b.WriteString("## Goals\n\n| figure | goal | measured | reached |\n| --- | --- | --- | --- |\n")
	for _, g := range goals() {
		measured, reached := c.judge(g)
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", g.text, g.limit(), measured, reached)
	}
	b.WriteString("\n")
	for _, d := range drawings {
		fmt.Fprintf(&b, "![%s](plots/%s)\n\n", d.bars.Title, d.file)
	}
	for _, m := range measures() {
		if chosen(c.measures, m.name) && len(c.serversOf(m)) > 0 {
			c.writeMeasure(&b, m)
		}
	}
	c.writeCommands(&b)
	return b.String()
}

func (c *comparison) writeHead(b *strings.Builder) {
	fmt.Fprintf(b, "# pushd beside its peers\n\nWritten by `%s` on %s, in %v.\n\n", strings.Join(c.command, " "), c.began.UTC().Format(time.DateOnly), c.ended.Sub(c.began).Round(time.Minute))
	if c.shrink > 1 {
		fmt.Fprintf(b, "**This run had 1/%d of the clients that titles and goals speak of. It shows that everything runs, and no more.**\n\n", c.shrink)
	}
	fmt.Fprintf(b, "%s. Server, load generator and, for pushd, NATS share these CPUs. CPU is that of the server's process, "+
		"user and system; for pushd without NATS, which is a process of its own: it is in \"CPU elsewhere\", the part of the machine that neither "+
		"server nor generator had, together with whatever else ran. Memory is resident memory of the server, without the kernel's for sockets. "+
		"Servers that can keep history do so in `resume` and `slow` alone: pushd a namespace with `delivery: all` in a stream in the memory of NATS, "+
		"centrifuge in its own memory. Payload 128 bytes, unless a title says otherwise. In `deflate` a message is compressed once for all, at the level that the peers' README names; "+
		"bytes are those that clients read, above TCP. ", c.machine)
	if c.rounds == 1 {
		b.WriteString("One round. ")
	} else {
		fmt.Fprintf(b, "Medians of %d rounds in which all servers had their turn, in parentheses the least and the most. ", c.rounds)
	}
	fmt.Fprintf(b, "\"floor\" is a program that accepts, answers a canned 101, and makes a blocking `write` of each message to each socket; ratios are to its figure of the same round. "+
		"It is no lower bound where messages wait together, since it never sends two in one write. "+
		"Peers are the same small hub on each library, see [peers/README.md](%s).\n\n", c.link("bench/peers/README.md"))
	fmt.Fprintf(b, "| | version |\n| --- | --- |\n")
	for _, v := range c.versions {
		fmt.Fprintf(b, "| %s | %s |\n", v.name, v.text)
	}
	fmt.Fprintf(b, "| Go | %s |\n\n", runtime.Version())
}

// link is a path of the project as seen from the result.
func (c *comparison) link(path string) string {
	from, err := filepath.Abs(filepath.Dir(c.out))
	if err != nil {
		return path
	}
	to, err := filepath.Abs(path)
	if err != nil {
		return path
	}
	relative, err := filepath.Rel(from, to)
	if err != nil {
		return path
	}
	return filepath.ToSlash(relative)
}

func (c *comparison) writeMeasure(b *strings.Builder, m measure) {
	fmt.Fprintf(b, "## %s\n\n", m.title)
	head, line := "| server |", "| --- |"
	for _, col := range m.columns {
		head += " " + col.title + " |"
		line += " --- |"
		if col.ofFloor {
			head += " of the floor's |"
			line += " --- |"
		}
	}
	fmt.Fprintf(b, "%s\n%s\n", head, line)
	for _, s := range c.serversOf(m) {
		fmt.Fprintf(b, "| %s |", c.name(m, s))
		for i, col := range m.columns {
			values := c.values(m.name, s.name, col.figure)
			cell := show(values)
			if i == 0 {
				cell = cmp.Or(m.refusal(s), cell)
			}
			fmt.Fprintf(b, " %s |", cell)
			if col.ofFloor {
				fmt.Fprintf(b, " %s |", show(values.over(c.values(m.name, floorName, col.figure))))
			}
		}
		b.WriteString("\n")
	}
	b.WriteString("\n")
}

// name is the server in its row, with a mark where not all of its rounds count.
func (c *comparison) name(m measure, s server) string {
	rounds, wrong := c.outcomes[outcomeKey{m.name, s.name}], 0
	for _, o := range rounds {
		if o.faulty() {
			wrong++
		}
	}
	if wrong == 0 {
		return s.name
	}
	return fmt.Sprintf("%s, **wrong in %d of %d**", s.name, wrong, len(rounds))
}

// writeCommands says how each cell is measured by itself.
func (c *comparison) writeCommands(b *strings.Builder) {
	b.WriteString("## Each by itself\n\n`go run ./bench/compare -measures MEASURE -only floor,SERVER -out bin/bench/one/RESULTS.md` repeats one row. " +
		"A single run with all that is counted, once the above has built everything: `nats-server` and `pushbench` with the flags of the measure and of the server.\n\n")
	fmt.Fprintf(b, "    %s/nats-server -js -a 127.0.0.1 -p %d &\n    go run ./bench/pushbench MEASURE SERVER\n\n| measure | flags |\n| --- | --- |\n", c.dir, c.ports.nats)
	for _, m := range measures() {
		switch {
		case !chosen(c.measures, m.name):
		case m.name == scaleMeasure:
			fmt.Fprintf(b, "| %s | no pushbench, but `%s` |\n", m.name, strings.Join(c.scaleCommand(), " "))
		default:
			spec := c.spec(m, server{compresses: true})
			fmt.Fprintf(b, "| %s | `%s` |\n", m.name, flags(spec))
		}
	}
	b.WriteString("\n")
	for _, s := range c.servers {
		if chosen(c.only, s.name) {
			fmt.Fprintf(b, "%s:\n\n    %s\n\n", s.name, flagsOf(s))
			if s.history != "" {
				fmt.Fprintf(b, "The command of `--start` is followed by `%s` in measures with history.\n\n", strings.TrimSpace(s.history))
			}
			if s.compression != "" {
				fmt.Fprintf(b, "It is followed by `%s` in `deflate`.\n\n", strings.TrimSpace(s.compression))
			}
			if s.events.URL != "" {
				fmt.Fprintf(b, "In measures of Server-Sent Events, `--url=%s --subscribed-mark=%s`.\n\n", quote(s.events.URL), quote(s.events.SubscribedMark))
			}
		}
	}
}

// show is the median, with the least and the most where there are several.
func show(values byRound) string {
	if len(values) == 0 {
		return "–"
	}
	median, least, most := values.spread()
	if len(values) == 1 {
		return number(median)
	}
	return fmt.Sprintf("%s (%s–%s)", number(median), number(least), number(most))
}

// number has three digits that mean something.
func number(v float64) string {
	switch size := math.Abs(v); { // what is a difference may be negative
	case size == 0:
		return "0"
	case size >= 100:
		return fmt.Sprintf("%.0f", v)
	case size >= 10:
		return fmt.Sprintf("%.1f", v)
	case size >= 1:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.3f", v)
}
