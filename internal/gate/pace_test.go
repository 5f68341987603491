package gate

import (
	"testing"
	"time"
)

func TestPace(t *testing.T) {
	const s = int64(time.Second / time.Microsecond)
	for _, start := range []int64{0, 12345, 300 * 86400 * s} {
		p, paid := NewPace(10, 2*time.Second), int64(0)
		now := start
		for i := range 20 {
			if wait := p.Take(&paid, now); wait != 0 {
				t.Fatalf("from %d: number %d of a burst of 20 waits %v", start, i, wait)
			}
		}
		if wait := p.Take(&paid, now); wait != 100*time.Millisecond {
			t.Errorf("from %d: beyond the burst one waits %v, want 100ms", start, wait)
		}
		now += s / 10
		if wait := p.Take(&paid, now); wait != 0 {
			t.Errorf("from %d: after the wait it still waits %v", start, wait)
		}
		if p.Recovered(paid, now+2*s-1) || !p.Recovered(paid, now+2*s) {
			t.Errorf("from %d: it recovers at another time than 2s after the last", start)
		}
		if wait := p.Charge(&paid, now, 15); wait != 1500*time.Millisecond {
			t.Errorf("from %d: 15 more wait %v, want 1.5s", start, wait)
		}
		if wait := p.Charge(&paid, now, 1_000_000); wait != (maxDebt-1)*2*time.Second {
			t.Errorf("from %d: very many wait %v: more than %d bursts are not owed", start, wait, maxDebt)
		}
	}
}

func TestPaceWithoutLimit(t *testing.T) {
	p, paid := NewPace(0, Burst), int64(0)
	for now := range int64(1000) {
		if p.Take(&paid, now) != 0 || p.Charge(&paid, now, 1000) != 0 || !p.Recovered(paid, now+1) {
			t.Fatal("a rate of 0 limits")
		}
	}
}
