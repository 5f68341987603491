package topics

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// witness is a Follower that notes what it is told.
type witness struct{ told []string }

func (w *witness) Queued(shards int) { w.told = append(w.told, fmt.Sprint("queued ", shards)) }

func (w *witness) FannedOut(s Stretch) {
	w.told = append(w.told, fmt.Sprintf("shard %d: %d, encoded %v, began %v", s.Shard, s.Subscribers, s.Encoded >= int64(len("a.x data")), !s.Began.IsZero()))
}

// follow publishes messages in one batch, of which the last is followed, lets
// the shards do their work, and returns what was told.
func (r *rig) follow(topics ...string) []string {
	w := &witness{}
	var batch []Message
	for _, topic := range topics {
		batch = append(batch, Message{Topic: topic, Data: []byte("data")})
	}
	batch[len(batch)-1].Trail = &Trail{w}
	r.hub.Deliver(batch)
	r.run()
	slices.Sort(w.told[1:])
	return w.told
}

// A follower hears once of the ring, and once of each shard that has members,
// by whichever way the message goes.
func TestFollower(t *testing.T) {
	both := []string{"queued 2", "shard 0: 2, encoded true, began true", "shard 1: 1, encoded true, began true"}
	for _, test := range []struct {
		name   string
		topics []string // published together
		want   []string
	}{
		{"one message", []string{"a.x"}, both},
		{"behind others of its topic", []string{"a.x", "a.x", "a.x"}, both},
		{"blended with others", []string{"a.y", "a.z", "a.x"}, both},
		{"nobody hears it", []string{"a.nobody"}, []string{"queued 0"}},
		{"nobody hears its namespace", []string{"b.x"}, []string{"queued 0"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t, HubConfig{}, 3)
			r.connect(0, 1).subscribe("a.x", "a.y")
			r.connect(0, 2).subscribe("a.x", "a.z")
			r.connect(1, 1).subscribe("a.x", "a.z")
			r.connect(2, 1).subscribe("a.other")
			if got := r.follow(test.topics...); !slices.Equal(got, test.want) {
				t.Errorf("told %q, want %q", got, test.want)
			}
		})
	}
}

// Of messages that go blended, each follower hears of its own.
func TestFollowersOfABlend(t *testing.T) {
	r := newRig(t, HubConfig{}, 1)
	r.connect(0, 1).subscribe("a.x", "a.y")
	r.connect(0, 2).subscribe("a.x")
	r.connect(0, 3).subscribe("a.x", "a.z")
	batch := []Message{{Topic: "a.z"}, {Topic: "a.x"}, {Topic: "a.y"}, {Topic: "a.x"}}
	all := make([]*witness, len(batch))
	for i := range batch {
		batch[i].Data = []byte("data")
		if i == 0 {
			continue
		}
		all[i] = &witness{}
		batch[i].Trail = &Trail{all[i]}
	}
	r.hub.Deliver(batch)
	r.run()
	for i, subscribers := range map[int]int{1: 3, 2: 1, 3: 3} {
		want := []string{"queued 1", fmt.Sprintf("shard 0: %d, encoded true, began true", subscribers)}
		if got := all[i].told; !slices.Equal(got, want) {
			t.Errorf("of message %d: told %q, want %q", i, got, want)
		}
	}
}

// Who gets a message later is no part of its fan-out: who is behind, and who
// wants few values a second. Their shard tells all the same, or the message
// would be waited for.
func TestFollowerOfFew(t *testing.T) {
	synced(t, func(t *testing.T) {
		r := newRig(t, HubConfig{}, 1)
		slow, paced := r.connect(0, 1), r.connect(0, 2)
		slow.subscribe("a.x")
		slow.block(0)
		if got, want := r.follow("a.x"), []string{"queued 1", "shard 0: 0, encoded true, began true"}; !slices.Equal(got, want) {
			t.Errorf("to a socket that takes nothing: told %q, want %q", got, want)
		}
		slow.leave()
		paced.paces("a.x", 1)
		for range 2 { // at once, and held back
			if got, want := r.follow("a.x"), []string{"queued 1", "shard 0: 0, encoded false, began false"}; !slices.Equal(got, want) {
				t.Errorf("to a group with max_rate: told %q, want %q", got, want)
			}
		}
		r.passes(2 * time.Second)
	})
}

// A message that is followed allocates nothing more than the follower does.
func TestFollowedAllocatesNothing(t *testing.T) {
	c := newCosts(HubConfig{RingMessages: 16})
	for slot := range uint32(100) {
		c.subscribe(t, slot, "a.x")
	}
	trail := &Trail{silent{}}
	publish := func() {
		batch := [1]Message{{Topic: "a.x", Data: []byte("data"), Trail: trail}}
		c.hub.Deliver(batch[:])
		c.run()
	}
	for range 20 {
		publish()
	}
	if n := testing.AllocsPerRun(10, publish); n > 2 {
		t.Errorf("%v allocations, at most 2 as without", n)
	}
}

type silent struct{}

func (silent) Queued(int)        {}
func (silent) FannedOut(Stretch) {}
