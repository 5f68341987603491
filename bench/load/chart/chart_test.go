package chart

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/pushd/pushd/bench/load"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// times is a distribution of 1 µs to n µs.
func times(t *testing.T, n int64) load.Times {
	t.Helper()
	h := hdrhistogram.New(1000, 1e11, 3)
	for us := range n {
		if err := h.RecordValue((us + 1) * 1000); err != nil {
			t.Fatal(err)
		}
	}
	encoded, err := h.Encode(hdrhistogram.V2CompressedEncodingCookieBase)
	if err != nil {
		t.Fatal(err)
	}
	return load.Times{Count: n, Histogram: encoded}
}

func TestResult(t *testing.T) {
	r := load.Result{Scenario: "fanout", Name: "some <server>", Windows: []*load.Window{
		{Name: "connect", Ready: times(t, 10)},
		{Name: "warm-up", Latency: times(t, 10)},
		{Name: "fanout", Latency: times(t, 100_000), Last: times(t, 1)},
	}}
	directory := t.TempDir()
	got, err := Result(directory, &r)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{filepath.Join(directory, "fanout-latency.svg"), filepath.Join(directory, "fanout-last.svg"), filepath.Join(directory, "fanout-ready.svg")}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	for _, path := range got {
		text := readSVG(t, path)
		if !strings.Contains(text, "fanout, some <server>") || strings.Contains(text, "warm-up") {
			t.Errorf("%s says %q", path, text)
		}
	}
	if text := readSVG(t, want[0]); !strings.Contains(text, "99.9") || !strings.Contains(text, "50ms") {
		t.Errorf("the axes say %q", text)
	}
}

// readSVG returns the text in a drawing, and fails where it is not XML.
func readSVG(t *testing.T, path string) string {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var text strings.Builder
	for decoder := xml.NewDecoder(file); ; {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return text.String()
		}
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if data, ok := token.(xml.CharData); ok {
			text.Write(data)
		}
	}
}

// Where nothing was measured there is nothing to draw, and no file.
func TestNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.svg")
	if err := Distributions(path, "nothing", []Series{{Name: "a"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file: %v", err)
	}
	if err := Distributions(path, "broken", []Series{{"a", load.Times{Count: 1, Histogram: []byte("x")}}}); err == nil {
		t.Error("a broken histogram is drawn")
	}
	if err := Distributions(filepath.Join(path, "none.svg"), "t", []Series{{"a", times(t, 3)}}); err == nil {
		t.Error("a file without a directory is written")
	}
}

// The axis of percentiles gives each nine the same room.
func TestPoints(t *testing.T) {
	xys, err := points(times(t, 1000))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range xys {
		// 1 - 1/x of the durations are at most y, and 1,000 durations are spread evenly to 1 ms, at a resolution of 3 digits.
		if want := math.Max(1-1/p.X, 0.001) * 1e-3; p.Y < want*0.99 || p.Y > want*1.01+1e-6 {
			t.Errorf("at %v there is %v, want %v", p.X, p.Y, want)
		}
	}
	if len(xys) < 20 {
		t.Errorf("only %d points", len(xys))
	}
}
