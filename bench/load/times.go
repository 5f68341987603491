package load

import (
	"fmt"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Times is a distribution of durations, in microseconds.
type Times struct {
	Count int64   `json:"count"`
	Mean  float64 `json:"mean_us"`
	P50   float64 `json:"p50_us"`
	P90   float64 `json:"p90_us"`
	P99   float64 `json:"p99_us"`
	P999  float64 `json:"p99.9_us"`
	P9999 float64 `json:"p99.99_us"`
	Max   float64 `json:"max_us"`
	// Histogram is the whole, in HdrHistogram's V2 compressed format, ns. Empty where Count is 0.
	Histogram []byte `json:"histogram,omitempty"`
}

// Quantile is one point of a distribution.
type Quantile struct {
	Fraction float64 // of the durations that are at most Duration; the last is 1
	Duration time.Duration
}

// What histograms hold: three digits, from a microsecond to two minutes, in ns.
const (
	shortest = int64(time.Microsecond)
	longest  = int64(2 * time.Minute)
	digits   = 3
)

func newHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(shortest, longest, digits) }

// record takes a duration; what is out of range counts as the nearest within.
func record(h *hdrhistogram.Histogram, d time.Duration) {
	_ = h.RecordValue(min(max(int64(d), 0), longest)) // within range, so it cannot fail
}

// merge adds what another process encoded.
func merge(into *hdrhistogram.Histogram, encoded []byte) error {
	h, err := hdrhistogram.Decode(encoded)
	if err != nil {
		return fmt.Errorf("histogram of a worker: %w", err)
	}
	if dropped := into.Merge(h); dropped > 0 {
		return fmt.Errorf("%d values of a worker's histogram are out of range", dropped)
	}
	return nil
}

func newTimes(h *hdrhistogram.Histogram) (Times, error) {
	if h.TotalCount() == 0 {
		return Times{}, nil
	}
	encoded, err := h.Encode(hdrhistogram.V2CompressedEncodingCookieBase)
	if err != nil {
		return Times{}, err
	}
	us := func(percent float64) float64 { return float64(h.ValueAtPercentile(percent)) / 1e3 }
	return Times{
		Count: h.TotalCount(), Mean: h.Mean() / 1e3,
		P50: us(50), P90: us(90), P99: us(99), P999: us(99.9), P9999: us(99.99), Max: us(100),
		Histogram: encoded,
	}, nil
}

// Quantiles returns the distribution in steps that halve the distance to 1.
func (t Times) Quantiles() ([]Quantile, error) {
	if t.Count == 0 {
		return nil, nil
	}
	h, err := hdrhistogram.Decode(t.Histogram)
	if err != nil {
		return nil, err
	}
	var quantiles []Quantile
	for _, b := range h.CumulativeDistributionWithTicks(5) {
		quantiles = append(quantiles, Quantile{b.Quantile / 100, time.Duration(b.ValueAt)})
	}
	return quantiles, nil
}
