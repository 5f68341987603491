package auth

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// judge answers as it is told, and counts.
type judge struct {
	asked   atomic.Int64
	verdict func(Question) (Verdict, error)
	clock   atomic.Int64 // of the cache
}

func newVerdicts(t *testing.T, size int, verdict func(Question) (Verdict, error)) (*judge, *Verdicts) {
	t.Helper()
	j := &judge{verdict: verdict}
	v := NewVerdicts(size, testTimeout, func(_ context.Context, q Question) (Verdict, error) {
		j.asked.Add(1)
		return j.verdict(q)
	})
	v.now = func() time.Time { return time.Unix(0, j.clock.Load()) }
	t.Cleanup(v.Close)
	return j, v
}

// Each verdict holds for its time, and not for longer than one of its kind.
func TestVerdictsHold(t *testing.T) {
	lost := errors.New("lost")
	for _, test := range []struct {
		name    string
		verdict Verdict
		err     error
		holds   time.Duration
	}{
		{"yes", Verdict{Allow: true}, nil, time.Minute},
		{"yes, for long", Verdict{Allow: true, TTL: 24 * time.Hour}, nil, time.Minute},
		{"yes, for a second", Verdict{Allow: true, TTL: time.Second}, nil, time.Second},
		{"yes, for less than nothing", Verdict{Allow: true, TTL: -time.Hour}, nil, time.Minute},
		{"no", Verdict{}, nil, 5 * time.Second},
		{"no, for long", Verdict{TTL: time.Hour}, nil, 5 * time.Second},
		{"no, for a second", Verdict{TTL: time.Second}, nil, time.Second},
		{"no answer", Verdict{}, lost, time.Second},
		{"yes and no answer", Verdict{Allow: true, TTL: time.Hour}, lost, time.Second},
	} {
		j, v := newVerdicts(t, 10, func(Question) (Verdict, error) { return test.verdict, test.err })
		q := Question{"alice", Subscribe, "a.>", "192.0.2.1"}
		want := test.verdict.Allow && test.err == nil
		ask := func(asked int64) {
			t.Helper()
			if allow, err := v.Ask(testContext(t), q); allow != want || !errors.Is(err, test.err) || j.asked.Load() != asked {
				t.Errorf("%s: %v, %v, asked %d times and not %d", test.name, allow, err, j.asked.Load(), asked)
			}
		}
		if _, known := v.Known(q); known {
			t.Errorf("%s: known before it was asked", test.name)
		}
		ask(1)
		j.clock.Add(int64(test.holds) - 1)
		ask(1)
		if allow, known := v.Known(q); !known || allow != want {
			t.Errorf("%s: Known: %v, %v", test.name, allow, known)
		}
		for _, other := range []Question{{"bob", Subscribe, "a.>", "192.0.2.1"}, {"alice", Publish, "a.>", "192.0.2.1"}, {"alice", Subscribe, "a", "192.0.2.1"}, {"alice", Subscribe, "a.>", ""}} {
			if _, known := v.Known(other); known {
				t.Errorf("%s: the answer to another question", test.name)
			}
		}
		j.clock.Add(1)
		if _, known := v.Known(q); known {
			t.Errorf("%s: known for longer than it holds", test.name)
		}
		ask(2)
	}
}

// Equal questions at a time are one, and a flood of others is refused.
func TestVerdictsInFlight(t *testing.T) {
	release := make(chan struct{})
	j, v := newVerdicts(t, 10, func(Question) (Verdict, error) { <-release; return Verdict{Allow: true}, nil })
	ctx := testContext(t)
	var waiting sync.WaitGroup
	for range 50 {
		waiting.Go(func() {
			if allow, err := v.Ask(ctx, Question{Topic: "same"}); !allow || err != nil {
				t.Errorf("%v, %v", allow, err)
			}
		})
	}
	eventually(t, "asked", func() bool { return j.asked.Load() == 1 })
	gone, cancel := context.WithCancel(ctx)
	cancel()
	for n := range maxFlights - 1 {
		if allow, err := v.Ask(gone, Question{Topic: fmt.Sprint(n)}); allow || !errors.Is(err, context.Canceled) {
			t.Fatalf("%v, %v", allow, err)
		}
	}
	if allow, err := v.Ask(ctx, Question{Topic: "one more"}); allow || !errors.Is(err, ErrBusy) {
		t.Errorf("%v, %v", allow, err)
	}
	close(release)
	waiting.Wait()
	eventually(t, "landed", func() bool { v.mu.Lock(); defer v.mu.Unlock(); return len(v.flights) == 0 })
	if n := j.asked.Load(); n != maxFlights {
		t.Errorf("asked %d times", n)
	}
	if n := len(v.entries); n != 10 || v.recent.Len() != n {
		t.Errorf("%d verdicts of at most 10 are remembered", n)
	}
}

// What was used last stays.
func TestVerdictsForget(t *testing.T) {
	_, v := newVerdicts(t, 2, func(Question) (Verdict, error) { return Verdict{Allow: true}, nil })
	ask := func(topic string) {
		if _, err := v.Ask(testContext(t), Question{Topic: topic}); err != nil {
			t.Fatal(err)
		}
	}
	ask("a")
	ask("b")
	ask("a")
	ask("c")
	for topic, want := range map[string]bool{"a": true, "b": false, "c": true} {
		if _, known := v.Known(Question{Topic: topic}); known != want {
			t.Errorf("%s is known: %v", topic, known)
		}
	}
}

// No answer in time is no, and so is none at the end.
func TestVerdictsTimeout(t *testing.T) {
	silent := func(ctx context.Context, _ Question) (Verdict, error) {
		<-ctx.Done()
		return Verdict{Allow: true}, ctx.Err()
	}
	v := NewVerdicts(10, time.Millisecond, silent)
	if allow, err := v.Ask(testContext(t), Question{}); allow || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, %v", allow, err)
	}
	v.Close()

	v = NewVerdicts(10, testTimeout, silent)
	answered := make(chan error)
	go func() {
		_, err := v.Ask(context.Background(), Question{})
		answered <- err
	}()
	eventually(t, "asked", func() bool { v.mu.Lock(); defer v.mu.Unlock(); return len(v.flights) == 1 })
	v.Close()
	if err := <-answered; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if allow, err := v.Ask(context.Background(), Question{Topic: "later"}); allow || !errors.Is(err, ErrClosed) {
		t.Errorf("%v, %v", allow, err)
	}
}
