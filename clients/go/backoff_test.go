package pushd

import (
	"testing"
	"time"
)

// Who was told when to come comes then, and is no worse off for the next time.
func TestTurn(t *testing.T) {
	c := &Client{backoff: Backoff{Min: time.Hour, Max: time.Hour}}
	for range 200 {
		refused := refusedEnd(&Error{Code: Unavailable, Status: 503, RetryAfter: 7 * time.Second})
		if wait := c.untilAgain(refused); wait < 7*time.Second || wait > 8*time.Second {
			t.Fatalf("a wait of %v, want 7 to 8 s", wait)
		}
	}
	if c.backoff.failures != 0 {
		t.Errorf("the backoff counts %d failures", c.backoff.failures)
	}
	if c.untilAgain(refusedEnd(&Error{Code: Unavailable, Status: 503})); c.backoff.failures != 1 {
		t.Errorf("the backoff counts %d failures where no time was named, want 1", c.backoff.failures)
	}
}

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
