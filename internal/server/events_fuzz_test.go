package server

import (
	"slices"
	"strings"
	"testing"

	"github.com/pushd/pushd/internal/config"
	"github.com/pushd/pushd/topics"
)

// A Last-Event-ID is what an event had, or it is refused. It concerns the topics of
// its own feed, and those alone.
func FuzzLastEventID(f *testing.F) {
	for _, seed := range []string{"k3.42@a.b", "k3.42.x1@a.*", "k3.42", "1.1@d.e", "1.1@d.x", "", "@", "1.1@", "@a.b", "1.1@@a.b", "1.1@a.b@c", "01.1@a", "1.1@a..b", "1.1 @a.b", "1.1@>"} {
		f.Add(seed)
	}
	cfg := config.Default()
	cfg.Namespaces = map[string]config.Namespace{"d": {Interest: config.InterestTopic, Delivery: config.DeliveryLive}}
	sh := &shard{server: &Server{cfg: cfg}}
	wanted, own := []string{"a.b", "a.>", "d.e", "d.f", "g"}, []string{"", "", "9.9", "", ""}
	f.Fuzz(func(t *testing.T, id string) {
		o, open := &eventsOpening{}, &opening{topics: wanted, cursors: slices.Clone(own), lastEvent: id}
		refused := sh.resumeEvents(o, open)
		if id == "" {
			if refused != nil || !slices.Equal(open.cursors, own) || o.others != nil {
				t.Fatalf("no id changes %+v (%v)", open, refused)
			}
			return
		}
		cursor, topic, named := strings.Cut(id, "@")
		_, bad := topics.ParseCursor(cursor)
		if bad == nil && topic != "" {
			bad = topics.CheckPattern(topic)
		}
		if (refused != nil) != (bad != nil) {
			t.Fatalf("%q: refused with %v, and the model says %v", id, refused, bad)
		}
		if refused != nil {
			return
		}
		for i, pattern := range wanted {
			goesOn := !named || topic == "" || topic == pattern || topics.Namespace(topic) == "a" && topics.Namespace(pattern) == "a" || topics.Namespace(topic) == "g" && pattern == "g"
			want := own[i]
			if goesOn {
				want = cursor
			}
			if told := slices.Contains(o.others, pattern); open.cursors[i] != want || told != (want == "") {
				t.Fatalf("%q: %s goes on from %q, want %q; told that it is of another feed: %v", id, pattern, open.cursors[i], want, told)
			}
		}
	})
}
