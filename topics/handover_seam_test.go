package topics

import (
	"slices"
	"testing"
)

// Once all that the process before has had has come, a message with the topic and
// the data of an earlier one is another.
func TestEndSeams(t *testing.T) {
	first, next := newRig(t, HubConfig{}, 1), newRig(t, HubConfig{}, 1)
	first.connect(0, 1).subscribe("n.x")
	tick := []Message{{Topic: "n.x", Data: []byte("tick")}}
	first.hub.Record()
	first.hub.Deliver(tick) // before the second is subscribed
	next.hub.Expect(first.hub.Patterns(), func(error) {})
	for len(next.bus.asked) > 0 {
		next.bus.answer(nil)
	}
	first.run()
	feeds := first.hub.Export()
	if err := next.hub.ImportFeed(&feeds[0]); err != nil {
		t.Fatal(err)
	}
	subs, _ := first.shards[0].members.Export(1)
	c := next.connect(0, 1)
	if err := next.shards[0].members.Import(1, 0, &subs[0]); err != nil {
		t.Fatal(err)
	}
	next.hub.Settle()
	next.hub.EndSeams()
	next.hub.Deliver(tick)
	next.run()
	c.wants("n.x tick")
}

// The follower of a message that comes while connections are still to be imported
// hears of the ring once, as of any other.
func TestImportFeedTellsFollowersOnce(t *testing.T) {
	first, next := newRig(t, HubConfig{}, 1), newRig(t, HubConfig{}, 1)
	first.connect(0, 1).subscribe("n.x")
	next.hub.Expect(first.hub.Patterns(), func(error) {})
	for len(next.bus.asked) > 0 {
		next.bus.answer(nil)
	}
	w := &witness{}
	next.hub.Deliver([]Message{{Topic: "n.x", Data: []byte("data"), Trail: &Trail{w}}})
	feeds := first.hub.Export()
	if err := next.hub.ImportFeed(&feeds[0]); err != nil {
		t.Fatal(err)
	}
	if want := []string{"queued 0"}; !slices.Equal(w.told, want) {
		t.Errorf("told %q, want %q", w.told, want)
	}
	next.hub.Settle()
}
