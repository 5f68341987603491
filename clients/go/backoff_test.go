package pushd

import (
	"testing"
	"time"
)

func TestBackoff(t *testing.T) {
	b := Backoff{Min: 100 * time.Millisecond, Max: time.Second}
	for i, ceiling := range []time.Duration{100, 200, 400, 800, 1000, 1000, 1000} {
		seen := time.Duration(0)
		for range 200 {
			b.failures = i
			wait := b.Next()
			if wait <= 0 || wait > ceiling*time.Millisecond {
				t.Fatalf("failure %d: %v, want at most %vms", i, wait, int(ceiling))
			}
			seen = max(seen, wait)
		}
		if seen < ceiling*time.Millisecond/2 { // by chance once in 2^200
			t.Errorf("failure %d: 200 waits of at most %v: the jitter is not full", i, seen)
		}
	}
	b.failures = 1000
	if wait := b.Next(); wait <= 0 || wait > time.Second {
		t.Errorf("after 1,000 failures: %v", wait)
	}
}
