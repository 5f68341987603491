package topics

import (
	"fmt"
	"slices"
	"testing"
)

// A connection comes back with subscriptions that overlap, one from before what
// the ring holds and one from within: it gets all in order, and what both want once.
func TestOverlapComesBackInOrder(t *testing.T) {
	history := newFakeHistory(nil)
	cfg := historyConfig(history)
	cfg.RingMessages = 4
	r := newRig(t, cfg, 1)
	defer r.hub.Close()
	settle := func() {
		for r.run(); len(r.bus.asked) > 0 || history.answer(nil); r.run() {
			r.bus.answer(nil)
		}
	}
	r.connect(0, 0).subscribe("all.none")
	settle()
	var cursors []Cursor
	for n := 1; n <= 10; n++ {
		m := history.stream("all").store([]string{"all.x", "all.y"}[n%2], fmt.Append(nil, n))
		cursors = append(cursors, m.Cursor)
		r.hub.Deliver([]Message{m})
		settle()
	}
	for _, order := range [][]string{{"all.x", "all.>"}, {"all.>", "all.x"}} {
		from := map[string]Cursor{"all.x": cursors[0], "all.>": cursors[6]}
		c := r.connect(0, 1)
		for _, pattern := range order {
			if _, _, err := r.shards[0].members.Subscribe(1, 0, pattern, ".", Want{Resume: true, Cursor: from[pattern]}); err != nil {
				t.Fatal(err)
			}
		}
		settle()
		got := slices.DeleteFunc(slices.Clone(c.got), func(line string) bool { return line[0] == 's' })
		want := []string{"all.x 2", "all.x 4", "all.x 6", "all.x 8", "all.y 9", "all.x 10"}
		if !slices.Equal(got, want) {
			t.Errorf("%v: got %q, want %q", order, got, want)
		}
		c.leave()
	}
}
