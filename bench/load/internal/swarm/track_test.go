package swarm

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pushd/pushd/bench/load/internal/control"
)

func newTracked() *Swarm {
	return &Swarm{subs: []subscription{{next: 1}}, holes: map[uint32][]span{}}
}

func TestTrack(t *testing.T) {
	f := func(name string, last uint32, came []uint32, want control.Counts) {
		t.Helper()
		s := newTracked()
		var got control.Counts
		for _, sequence := range came {
			s.track(0, sequence, 0, &got)
		}
		s.settle(0, 0, last, true, &got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: -want +got:\n%s", name, diff)
		}
	}
	f("all", 3, []uint32{1, 2, 3}, control.Counts{Expected: 3, Received: 3})
	f("none", 3, nil, control.Counts{Expected: 3, Missing: 3})
	f("the first is missing", 3, []uint32{2, 3}, control.Counts{Expected: 3, Received: 2, Missing: 1})
	f("the last is missing", 3, []uint32{1, 2}, control.Counts{Expected: 3, Received: 2, Missing: 1})
	f("one twice", 3, []uint32{1, 2, 2, 3}, control.Counts{Expected: 3, Received: 3, Duplicate: 1})
	f("one twice, later", 3, []uint32{1, 2, 3, 1}, control.Counts{Expected: 3, Received: 3, Duplicate: 1})
	f("exchanged", 3, []uint32{1, 3, 2}, control.Counts{Expected: 3, Received: 3, OutOfOrder: 1})
	f("exchanged, and one twice", 3, []uint32{1, 3, 2, 2}, control.Counts{Expected: 3, Received: 3, OutOfOrder: 1, Duplicate: 1})
	f("a hole filled in its middle", 6, []uint32{1, 6, 3}, control.Counts{Expected: 6, Received: 3, Missing: 3, OutOfOrder: 1})
}

// What arrives in a later window is neither received there nor twice.
func TestTrackLate(t *testing.T) {
	s := newTracked()
	var first, second control.Counts
	s.track(0, 1, 0, &first)
	s.settle(0, 0, 2, true, &first)
	s.track(0, 2, 2, &second)
	s.track(0, 3, 2, &second)
	s.track(0, 2, 2, &second)
	s.settle(0, 2, 3, true, &second)
	if diff := cmp.Diff(control.Counts{Expected: 2, Received: 1, Missing: 1}, first); diff != "" {
		t.Errorf("first window: -want +got:\n%s", diff)
	}
	if diff := cmp.Diff(control.Counts{Expected: 1, Received: 1, Late: 1, Duplicate: 1}, second); diff != "" {
		t.Errorf("second window: -want +got:\n%s", diff)
	}
}

// Who was away misses what was sent meanwhile by nobody's fault.
func TestTrackAway(t *testing.T) {
	s := newTracked()
	var got control.Counts
	s.track(0, 1, 0, &got)
	s.subs[0].state |= away
	s.track(0, 4, 0, &got)
	s.track(0, 6, 0, &got)
	s.settle(0, 0, 6, true, &got)
	if diff := cmp.Diff(control.Counts{Expected: 6, Received: 3, Away: 2, Missing: 1}, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// Where nothing came on the new connection, all of it was sent while the client was away.
func TestTrackStillAway(t *testing.T) {
	s := newTracked()
	var first, second control.Counts
	s.track(0, 1, 0, &first)
	s.subs[0].state |= away
	s.settle(0, 0, 3, true, &first)
	s.track(0, 4, 3, &second)
	s.track(0, 3, 3, &second)
	s.settle(0, 3, 5, true, &second)
	if diff := cmp.Diff(control.Counts{Expected: 3, Received: 1, Away: 2}, first); diff != "" {
		t.Errorf("first window: -want +got:\n%s", diff)
	}
	if diff := cmp.Diff(control.Counts{Expected: 2, Received: 1, Missing: 1, Late: 1}, second); diff != "" {
		t.Errorf("second window: -want +got:\n%s", diff)
	}
}

// Who does not come back misses everything.
func TestTrackGone(t *testing.T) {
	s := newTracked()
	var got control.Counts
	s.track(0, 1, 0, &got)
	s.subs[0].state |= away
	s.settle(0, 0, 3, false, &got)
	if diff := cmp.Diff(control.Counts{Expected: 3, Received: 1, Missing: 2}, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// Who subscribes while messages flow is owed what follows the first.
func TestTrackJoining(t *testing.T) {
	s := newTracked()
	s.subs[0] = subscription{state: joining}
	var got control.Counts
	for _, sequence := range []uint32{7, 8, 10} {
		s.track(0, sequence, 0, &got)
	}
	if diff := cmp.Diff(control.Counts{Received: 3, Missing: 1}, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// Any order of any messages is counted as a set and a maximum count it.
func FuzzTrack(f *testing.F) {
	f.Add([]byte{1, 2, 3}, byte(3))
	f.Add([]byte{5, 3, 3, 1, 9, 4}, byte(10))
	f.Add([]byte{}, byte(4))
	f.Fuzz(func(t *testing.T, came []byte, last byte) {
		s := newTracked()
		var got, want control.Counts
		seen, highest := map[byte]bool{}, byte(0)
		for _, sequence := range came {
			if sequence == 0 || sequence > last {
				continue
			}
			s.track(0, uint32(sequence), 0, &got)
			switch {
			case seen[sequence]:
				want.Duplicate++
			case sequence < highest:
				want.OutOfOrder++
			}
			seen[sequence], highest = true, max(highest, sequence)
		}
		s.settle(0, 0, uint32(last), true, &got)
		want.Expected, want.Received = uint64(last), uint64(len(seen))
		want.Missing = want.Expected - want.Received
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("-want +got:\n%s", diff)
		}
	})
}
