package chart

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func twoServers() Bars {
	return Bars{
		Title: "bytes & more", Axis: "memory, bytes", Groups: []string{"few", "many"},
		Series: []BarSeries{
			{Name: "one", Colour: 1, Bars: []Bar{{151, 147, 192}, {}}},
			{Name: "<other>", Colour: 7, Bars: []Bar{{14990, 14990, 14990}, {20.4, 0, 30}}},
		},
	}
}

func TestBars(t *testing.T) {
	for _, log := range []bool{false, true} {
		path := filepath.Join(t.TempDir(), "bars.svg")
		b := twoServers()
		b.Log, b.Line = log, 100
		if err := b.Write(path); err != nil {
			t.Fatal(err)
		}
		text := readSVG(t, path)
		for _, want := range []string{"bytes & more", "memory, bytes", "few", "many", "one", "<other>", "151", "14990", "20.4"} {
			if !strings.Contains(text, want) {
				t.Errorf("log %v: the drawing says %q, and not %q", log, text, want)
			}
		}
		if strings.Contains(text, "NaN") || strings.Contains(text, "0.00") {
			t.Errorf("log %v: what was not measured has a label: %q", log, text)
		}
		svg, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(svg), "NaN") || strings.Contains(string(svg), "Inf") {
			t.Errorf("log %v: a bar stands nowhere", log)
		}
	}
}

func TestBarsThatAreNone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none.svg")
	empty := Bars{Groups: []string{"a"}, Series: []BarSeries{{Name: "x", Bars: []Bar{{}}}}}
	if err := empty.Write(path); err != nil {
		t.Fatal(err)
	}
	for name, bar := range map[string]Bar{
		"NaN": {math.NaN(), 1, 2}, "infinite": {2, 1, math.Inf(1)}, "outside": {5, 1, 2}, "negative": {1, -1, 2}, "all zero but the most": {0, 0, math.NaN()},
	} {
		wrong := Bars{Groups: []string{"a"}, Series: []BarSeries{{Name: "x", Bars: []Bar{bar}}}}
		if err := wrong.Write(path); err == nil {
			t.Errorf("%s: %v is drawn", name, bar)
		}
	}
	short := Bars{Groups: []string{"a", "b"}, Series: []BarSeries{{Name: "x", Bars: []Bar{{1, 1, 1}}}}}
	if err := short.Write(path); err == nil {
		t.Error("a series with too few bars is drawn")
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file: %v", err)
	}
}
