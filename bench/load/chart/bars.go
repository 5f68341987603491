package chart

import (
	"cmp"
	"fmt"
	"image/color"
	"math"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// Bars compares servers: groups of bars side by side, each group with one of
// each series.
type Bars struct {
	Title  string
	Axis   string  // what the bars are, with its unit
	Log    bool    // a logarithmic axis, for what differs by orders of magnitude
	Line   float64 // a line across at this value; 0: none
	Groups []string
	Series []BarSeries
}

// BarSeries is the bars of one server.
type BarSeries struct {
	Name   string
	Colour int   // so that a server has the same in all drawings: 0 to 7, as the palette has them
	Bars   []Bar // of each group
}

// Bar is a value, with the least and the most that it was. The zero Bar is none: nothing was measured.
type Bar struct{ Value, Least, Most float64 }

// What a drawing of bars is made of.
const (
	barsWidth   = 24 * vg.Centimeter
	legendWidth = 3.2 * vg.Centimeter
	groupShare  = 0.84 // of the room of a group that its bars take
	labelSize   = 6.5  // points, of labels that stand upright
	lyingLabel  = 1.2 * vg.Centimeter
)

// palette has neighbours that belong together: two blues, then warm colours and what is left.
func palette() []color.Color {
	c := colours()
	return []color.Color{c[7], c[5], c[0], c[1], c[4], c[2], c[3], c[6]}
}

// Write writes the drawing to an SVG file. Without any bar there is no file.
func (b *Bars) Write(path string) error {
	least, most, err := b.extent()
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if most == 0 {
		return nil
	}
	p := plot.New()
	p.Title.Text, p.Title.Padding = b.Title, vg.Points(8)
	p.Y.Label.Text, p.Y.Label.Padding = b.Axis, vg.Points(4)
	p.NominalX(b.Groups...)
	p.X.Min, p.X.Max = -0.5, float64(len(b.Groups))-0.5
	p.Y.Min, p.Y.Max = 0, most*1.15 // room for the label of the highest
	if b.Log {
		p.Y.Min, p.Y.Max = math.Pow(10, math.Floor(math.Log10(least)*0.999)), most*2.5
		p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, plot.TickerFunc(decades)
	}
	for _, style := range []*text.Style{&p.Title.TextStyle, &p.X.Tick.Label, &p.Y.Tick.Label, &p.Y.Label.TextStyle} {
		style.Font.Variant = "Sans"
	}
	legend := plot.NewLegend()
	legend.Top, legend.Left, legend.Padding = true, true, vg.Points(4)
	legend.TextStyle.Font.Variant, legend.TextStyle.Font.Size = "Sans", vg.Points(10)
	p.Add(levels{})
	if b.Line > 0 {
		p.Add(line(b.Line))
	}
	for i, s := range b.Series {
		drawn := bars{BarSeries: s, at: i, of: len(b.Series)}
		p.Add(drawn)
		legend.Add(s.Name, drawn)
	}
	return saveSize(path, barsWidth, height, func(c draw.Canvas) {
		c.SetColor(color.White)
		c.Fill(c.Rectangle.Path())
		p.Draw(draw.Crop(c, vg.Points(6), -legendWidth, vg.Points(6), -vg.Points(8)))
		legend.Draw(draw.Crop(c, barsWidth-legendWidth+vg.Points(8), 0, 0, -vg.Points(30)))
	})
}

// extent is the range of all bars; 0 where there is none.
func (b *Bars) extent() (least, most float64, err error) {
	least = math.Inf(1)
	for _, s := range b.Series {
		if len(s.Bars) != len(b.Groups) || s.Colour < 0 || s.Colour >= len(palette()) {
			return 0, 0, fmt.Errorf("%s: %d bars of colour %d for %d groups", s.Name, len(s.Bars), s.Colour, len(b.Groups))
		}
		for _, bar := range s.Bars {
			if bar == (Bar{}) {
				continue
			}
			// Written so that NaN is refused too.
			if !(bar.Least >= 0 && bar.Least <= bar.Value && bar.Value <= bar.Most) || math.IsInf(bar.Most, 1) {
				return 0, 0, fmt.Errorf("%s: bar %v", s.Name, bar)
			}
			least = min(least, cmp.Or(bar.Least, bar.Value, bar.Most)) // above 0, for a logarithmic axis
			most = max(most, bar.Most)
		}
	}
	return least, most, nil
}

// bars draws one series.
type bars struct {
	BarSeries
	at, of int // which of how many stand side by side
}

func (b bars) Plot(c draw.Canvas, p *plot.Plot) {
	x, y := p.Transforms(&c)
	each := groupShare / float64(b.of)
	label := labelStyle(p, x(each)-x(0))
	whisker := draw.LineStyle{Color: color.Black, Width: vg.Points(0.7)}
	for group, bar := range b.Bars {
		if bar == (Bar{}) {
			continue
		}
		left := float64(group) - groupShare/2 + float64(b.at)*each
		middle, from, to := x(left+each/2), x(left+each*0.06), x(left+each*0.94)
		height := func(v float64) vg.Length { return y(math.Max(v, p.Y.Min)) } // a logarithmic axis has no 0
		low, top := height(bar.Least), height(bar.Most)
		c.FillPolygon(palette()[b.Colour], []vg.Point{
			{X: from, Y: c.Min.Y}, {X: from, Y: height(bar.Value)}, {X: to, Y: height(bar.Value)}, {X: to, Y: c.Min.Y},
		})
		if bar.Least < bar.Most {
			cap := (to - from) / 5
			c.StrokeLine2(whisker, middle, low, middle, top)
			c.StrokeLine2(whisker, middle-cap, low, middle+cap, low)
			c.StrokeLine2(whisker, middle-cap, top, middle+cap, top)
		}
		fillLabel(c, label, vg.Point{X: middle, Y: top + vg.Points(3)}, digits(bar.Value))
	}
}

// labelStyle is upright where bars are too narrow for a label to lie.
func labelStyle(p *plot.Plot, room vg.Length) text.Style {
	style := text.Style{Color: color.Black, Font: p.X.Tick.Label.Font, XAlign: draw.XCenter, YAlign: draw.YBottom, Handler: p.X.Tick.Label.Handler}
	if room < lyingLabel {
		style.Rotation, style.XAlign, style.YAlign = math.Pi/2, draw.XLeft, draw.YCenter
		style.Font.Size = vg.Points(labelSize)
	}
	return style
}

// fillLabel keeps lines from running through the text.
func fillLabel(c draw.Canvas, style text.Style, at vg.Point, label string) {
	box := style.Rectangle(label).Add(at)
	c.FillPolygon(color.White, []vg.Point{box.Min, {X: box.Min.X, Y: box.Max.Y}, box.Max, {X: box.Max.X, Y: box.Min.Y}})
	c.FillText(style, at, label)
}

// Thumbnail draws the colour into the legend.
func (b bars) Thumbnail(c *draw.Canvas) { c.SetColor(palette()[b.Colour]); c.Fill(c.Rectangle.Path()) }

// line is drawn right across, below the bars.
type line float64

func (l line) Plot(c draw.Canvas, p *plot.Plot) {
	_, y := p.Transforms(&c)
	c.StrokeLine2(draw.LineStyle{Color: color.Black, Width: vg.Points(1), Dashes: []vg.Length{vg.Points(4), vg.Points(3)}}, c.Min.X, y(float64(l)), c.Max.X, y(float64(l)))
}

// levels draws a thin line at each labelled tick, below the bars.
type levels struct{}

func (levels) Plot(c draw.Canvas, p *plot.Plot) {
	_, y := p.Transforms(&c)
	for _, tick := range p.Y.Tick.Marker.Ticks(p.Y.Min, p.Y.Max) {
		if at := y(tick.Value); !tick.IsMinor() && at >= c.Min.Y && at <= c.Max.Y {
			c.StrokeLine2(draw.LineStyle{Color: color.Gray{0xdd}, Width: vg.Points(0.5)}, c.Min.X, at, c.Max.X, at)
		}
	}
}

// decades are ticks at each power of ten, and minor ones between them.
func decades(least, most float64) []plot.Tick {
	var ticks []plot.Tick
	for power := math.Floor(math.Log10(least)); power <= math.Ceil(math.Log10(most)); power++ {
		for digit := 1.0; digit < 10; digit++ {
			value := digit * math.Pow(10, power)
			tick := plot.Tick{Value: value}
			if digit == 1 {
				tick.Label = strconv.FormatFloat(value, 'f', -1, 64)
			}
			if value >= least*0.999 && value <= most {
				ticks = append(ticks, tick)
			}
		}
	}
	return ticks
}

// digits is a value as a label has room for it.
func digits(v float64) string {
	switch {
	case v >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case v >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}
