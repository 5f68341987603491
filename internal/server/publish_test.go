package server

import (
	"testing"

	"github.com/pushd/pushd/internal/wire"
)

// No two publications that are meant to be two have the same ID.
func TestPublicationIDs(t *testing.T) {
	seen := map[string]string{}
	for _, p := range [][2]string{{"a", "k"}, {"a.b", "k"}, {"a", "/k"}, {"a", "k/"}, {"b", "a/k"}, {"a", "b/k"}} {
		id := publicationID(p[0], p[1])
		if before, ok := seen[id]; ok {
			t.Errorf("%q has the ID %q of %s", p, id, before)
		}
		seen[id] = p[0] + " " + p[1]
	}
	if id := publicationID("a", ""); id != "" {
		t.Errorf("no key has the ID %q", id)
	}
	b := lineBatch{key: "run", number: 7}
	if key := b.keyOf(&wire.Publication{Key: "own"}); key != "own" {
		t.Errorf("a line with a key has %q", key)
	}
	if key := b.keyOf(&wire.Publication{}); key != "run.7" {
		t.Errorf("line 7 of a request with a key has %q", key)
	}
	b.key = ""
	if key := b.keyOf(&wire.Publication{}); key != "" {
		t.Errorf("a line without any key has %q", key)
	}
}
