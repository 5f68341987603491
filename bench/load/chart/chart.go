// Package chart draws the results of load runs as SVG.
package chart

import (
	"fmt"
	"image/color"
	"math"
	"os"
	"path/filepath"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"

	"github.com/pushd/pushd/bench/load"
)

// Series is one distribution, with a name for the legend.
type Series struct {
	Name  string
	Times load.Times
}

// size of a drawing.
const (
	width  = 18 * vg.Centimeter
	height = 11 * vg.Centimeter
)

// colours of Okabe and Ito, which people who see colours differently can tell
// apart.
func colours() []color.Color {
	return []color.Color{
		color.RGBA{0x00, 0x72, 0xb2, 0xff}, color.RGBA{0xd5, 0x5e, 0x00, 0xff}, color.RGBA{0x00, 0x9e, 0x73, 0xff}, color.RGBA{0xcc, 0x79, 0xa7, 0xff},
		color.RGBA{0xe6, 0x9f, 0x00, 0xff}, color.RGBA{0x56, 0xb4, 0xe9, 0xff}, color.RGBA{0x00, 0x00, 0x00, 0xff}, color.RGBA{0x99, 0x99, 0x99, 0xff},
	}
}

// Distributions writes a drawing of durations over percentiles to an SVG file, both axes
// logarithmic, so that each further nine has as much room as the one before. A
// series without values is left out; without any there is no file.
func Distributions(path, title string, series []Series) error {
	p := plot.New()
	p.Title.Text, p.Title.Padding = title, vg.Points(6)
	p.X.Label.Text, p.Y.Label.Text = "percentile", "duration"
	p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, plot.ConstantTicks(percentiles())
	p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, plot.TickerFunc(durations)
	p.Legend.Padding = vg.Points(3) // at the bottom right, below where curves end
	p.Add(plotter.NewGrid())
	drawn := 0
	for i, s := range series {
		points, err := points(s.Times)
		if err != nil {
			return fmt.Errorf("%s: %w", s.Name, err)
		}
		if len(points) == 0 {
			continue
		}
		line, err := plotter.NewLine(points)
		if err != nil {
			return fmt.Errorf("%s: %w", s.Name, err)
		}
		line.Color, line.Width = colours()[i%len(colours())], vg.Points(1.5)
		if i >= len(colours()) {
			line.Dashes = []vg.Length{vg.Points(4), vg.Points(2)}
		}
		p.Add(line)
		p.Legend.Add(s.Name, line)
		drawn++
	}
	if drawn == 0 {
		return nil
	}
	// A single value would have an axis that reaches to 0, which has no logarithm.
	p.X.Min, p.X.Max = 1, max(p.X.Max, 10)
	if p.Y.Min == p.Y.Max {
		p.Y.Min, p.Y.Max = p.Y.Min/2, p.Y.Max*2
	}
	return save(p, path)
}

// points are a distribution with 1/(1-fraction) to the right: 1 is the least,
// 10 the 90th percentile, 100 the 99th.
func points(t load.Times) (plotter.XYs, error) {
	quantiles, err := t.Quantiles()
	if err != nil {
		return nil, err
	}
	var xys plotter.XYs
	for _, q := range quantiles {
		if q.Fraction < 1 {
			// A duration of nothing has no place on a logarithmic axis.
			xys = append(xys, plotter.XY{X: 1 / (1 - q.Fraction), Y: math.Max(q.Duration.Seconds(), 1e-6)})
		}
	}
	return xys, nil
}

func percentiles() []plot.Tick {
	return []plot.Tick{
		{Value: 1, Label: "0"}, {Value: 2, Label: "50"}, {Value: 10, Label: "90"}, {Value: 100, Label: "99"}, {Value: 1e3, Label: "99.9"},
		{Value: 1e4, Label: "99.99"}, {Value: 1e5, Label: "99.999"}, {Value: 1e6, Label: "99.9999"}, {Value: 1e7, Label: "99.99999"},
	}
}

// durations are ticks of 1, 2 and 5 of each power of ten seconds.
func durations(least, most float64) []plot.Tick {
	var ticks []plot.Tick
	for power := math.Floor(math.Log10(least)); power <= math.Ceil(math.Log10(most)); power++ {
		for _, digit := range []float64{1, 2, 5} {
			value := digit * math.Pow(10, power)
			if value >= least && value <= most {
				ticks = append(ticks, plot.Tick{Value: value, Label: time.Duration(math.Round(value * 1e9)).String()})
			}
		}
	}
	return ticks
}

// save writes the file, and says where it fails.
func save(p *plot.Plot, path string) error { return saveSize(path, width, height, p.Draw) }

func saveSize(path string, width, height vg.Length, paint func(draw.Canvas)) error {
	canvas := vgsvg.New(width, height)
	paint(draw.New(canvas))
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	if _, err := canvas.WriteTo(file); err != nil {
		file.Close()
		return fmt.Errorf("%s: %w", path, err)
	}
	return file.Close()
}

// Result draws what a result has to show into SVG files of a directory, and
// returns their names.
func Result(directory string, r *load.Result) ([]string, error) {
	var paths []string
	for _, kind := range []struct {
		name, title string
		times       func(*load.Window) load.Times
	}{
		{"latency", "publish to delivery", func(w *load.Window) load.Times { return w.Latency }},
		{"last", "publish to the last subscriber", func(w *load.Window) load.Times { return w.Last }},
		{"ready", "connect to subscribed", func(w *load.Window) load.Times { return w.Ready }},
	} {
		var series []Series
		for _, w := range r.Windows {
			if times := kind.times(w); times.Count > 0 && w.Name != "warm-up" {
				series = append(series, Series{w.Name, times})
			}
		}
		if len(series) == 0 {
			continue
		}
		path := filepath.Join(directory, r.Scenario+"-"+kind.name+".svg")
		if err := Distributions(path, fmt.Sprintf("%s, %s: %s", r.Scenario, r.Name, kind.title), series); err != nil {
			return paths, err
		}
		paths = append(paths, path)
	}
	return paths, nil
}
