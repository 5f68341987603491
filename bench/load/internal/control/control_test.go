package control

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestAssign(t *testing.T) {
	one := Plan{Topics: make([]string, 4), TopicsPerClient: 1}
	for client, want := range []uint32{0, 1, 2, 3, 0, 1} {
		if got := one.Assign(nil, client); !slices.Equal(got, []uint32{want}) {
			t.Errorf("client %d: %v, want %d", client, got, want)
		}
	}
	many := Plan{Topics: make([]string, 50), TopicsPerClient: 20}
	subscribers := make([]int, 50)
	for client := range 1000 {
		topics := many.Assign(nil, client)
		for _, topic := range topics {
			subscribers[topic]++
		}
		if slices.Sort(topics); len(slices.Compact(topics)) != 20 {
			t.Fatalf("client %d has topics twice: %v", client, topics)
		}
	}
	for topic, n := range subscribers { // 400 each, with a deviation of 15
		if n < 300 || n > 500 {
			t.Errorf("topic %d has %d subscribers", topic, n)
		}
	}
	if !slices.Equal(many.Assign(nil, 7), many.Assign(nil, 7)) {
		t.Error("a client's topics are not the same each time")
	}
	all := Plan{Topics: make([]string, 3), TopicsPerClient: 3}
	if got := all.Assign([]uint32{9}, 0); len(got) != 4 || got[0] != 9 {
		t.Errorf("%v: want 9 and three topics behind it", got)
	}
}

// On each topic there are clients that stay and clients that change.
func TestChurns(t *testing.T) {
	p := Plan{Topics: make([]string, 4), TopicsPerClient: 1, ChurnEvery: 2}
	stay := make([]int, 4)
	for client := range 16 {
		if !p.Churns(client) {
			stay[p.Assign(nil, client)[0]]++
		}
	}
	if diff := cmp.Diff([]int{2, 2, 2, 2}, stay); diff != "" {
		t.Errorf("who stays, by topic: -want +got:\n%s", diff)
	}
}

func TestArrivals(t *testing.T) {
	var a Arrival
	a.Record(3 * time.Microsecond)
	a.Record(2 * time.Microsecond)
	a.Record(-time.Microsecond)
	if want := (Arrival{3, 3}); a != want {
		t.Errorf("%+v, want %+v", a, want)
	}
	a.Record(10_000 * time.Second)
	if a.Last != math.MaxUint32 {
		t.Errorf("what is too long for the field is %d", a.Last)
	}
	merged, err := MergeArrivals(nil, PackArrivals([]Arrival{{1, 10}, {2, 20}}))
	if err != nil {
		t.Fatal(err)
	}
	if merged, err = MergeArrivals(merged, PackArrivals([]Arrival{{3, 5}, {4, 40}, {5, 50}})); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]Arrival{{4, 10}, {6, 40}, {5, 50}}, merged); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if _, err := MergeArrivals(nil, make([]byte, 7)); err == nil {
		t.Error("7 bytes are taken for arrivals")
	}
}
