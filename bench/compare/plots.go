package main

import (
	"cmp"
	"path/filepath"

	"github.com/pushd/pushd/bench/load/chart"
)

// drawing is a file, and what it shows.
type drawing struct {
	file   string
	bars   chart.Bars // without groups and series, until draw
	panels []panel
}

// panel is a group of bars: one figure of all servers.
type panel struct {
	measure string
	figure  figure
	ofFloor bool
	label   string // default: the measure's
}

func drawings() []drawing {
	return []drawing{
		{
			"cpu.svg", chart.Bars{Title: "Server CPU for each delivery or connection, beside the floor's", Axis: "multiple of the floor's CPU", Line: 1},
			[]panel{
				{"fanout", costOfDelivery, true, ""}, {"inflight", costOfDelivery, true, ""}, {"ticker", costOfDelivery, true, ""},
				{"many", costOfDelivery, true, ""}, {"events", costOfDelivery, true, ""}, {"deflate", costOfDelivery, true, ""}, {"handshake", costOfHandshake, true, ""}, {"storm", costOfHandshake, true, ""},
			},
		},
		{
			"last.svg", chart.Bars{Title: "Publish to the last subscriber, p99", Axis: "ms (logarithmic)", Log: true},
			[]panel{{"fanout", lastP99, false, ""}, {"inflight", lastP99, false, ""}, {"ticker", lastP99, false, ""}, {"many", lastP99, false, ""}, {"events", lastP99, false, ""}},
		},
		{
			"memory.svg", chart.Bars{Title: "Memory of an idle connection with one subscription", Axis: "bytes (logarithmic)", Log: true},
			[]panel{{"memory", bytesPerConnection, false, ""}, {"events-memory", bytesPerConnection, false, ""}},
		},
		{
			"catchup.svg", chart.Bars{Title: "Until the last client has what it had missed", Axis: "s (logarithmic)", Log: true},
			[]panel{{"resume", caughtUp, false, ""}, {"slow", caughtUp, false, "20 read again,\n32,000 bytes each"}},
		},
		{
			"slow.svg", chart.Bars{Title: "Publish to delivery, p99, to 80 subscribers, when 20 more stop reading", Axis: "ms (logarithmic)", Log: true},
			[]panel{{"slow", value("latency_p99_before"), false, "all read"}, {"slow", value("latency_p99_stalled"), false, "20 do not read"}},
		},
	}
}

// draw writes the drawings for which something was measured, and returns them.
func (c *comparison) draw(directory string) (drawn []drawing, err error) {
	for _, d := range drawings() {
		c.fill(&d)
		if len(d.bars.Groups) == 0 {
			continue
		}
		if err := d.bars.Write(filepath.Join(directory, d.file)); err != nil {
			return nil, err
		}
		drawn = append(drawn, d)
	}
	return drawn, nil
}

// fill makes the bars of a drawing; panels and servers of which nothing is known are left out.
func (c *comparison) fill(d *drawing) {
	series := make([]chart.BarSeries, len(c.servers))
	some := make([]bool, len(c.servers))
	for _, p := range d.panels {
		row, any := make([]chart.Bar, len(c.servers)), false
		for i, s := range c.servers {
			values := c.values(p.measure, s.name, p.figure)
			if p.ofFloor {
				values = values.over(c.values(p.measure, floorName, p.figure))
			}
			if len(values) == 0 {
				continue
			}
			if row[i] = bar(values); row[i].Value > 0 {
				some[i], any = true, true
			}
		}
		if !any {
			continue
		}
		d.bars.Groups = append(d.bars.Groups, cmp.Or(p.label, shortOf(p.measure)))
		for i := range series {
			series[i].Bars = append(series[i].Bars, row[i])
		}
	}
	for i, s := range c.servers {
		if some[i] {
			series[i].Name, series[i].Colour = s.name, i
			d.bars.Series = append(d.bars.Series, series[i])
		}
	}
}

// bar is the median, with the least and the most. Memory that shrank, as it may with
// few clients, has no height.
func bar(values byRound) chart.Bar {
	median, least, most := values.spread()
	return chart.Bar{Value: max(0, median), Least: max(0, least), Most: max(0, most)}
}

// shortOf is how a measure is called below its bars.
func shortOf(name string) string {
	for _, m := range measures() {
		if m.name == name {
			return m.short
		}
	}
	return name
}
