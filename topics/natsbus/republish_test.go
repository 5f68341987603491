package natsbus

import (
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
)

// TestRepublish compares with what the server does, subject by subject.
func TestRepublish(t *testing.T) {
	subjects := []string{"a", "a.b", "a.b.c", "a.b.c.d", "b", "b.b", "b.b.c"}
	f := func(source, destination string) {
		t.Helper()
		r, err := newRepublish(jetstream.RePublish{Source: source, Destination: destination})
		if err != nil {
			t.Errorf("%s to %s: %v", source, destination, err)
			return
		}
		theirs, err := server.NewSubjectTransform(source, destination)
		if err != nil {
			t.Fatal(err)
		}
		for _, subject := range subjects {
			got, ok := r.apply(subject)
			want, err := theirs.Match(subject)
			if got != want || ok != (err == nil) {
				t.Errorf("%s to %s: %s goes to %q (%v), want %q (%v)", source, destination, subject, got, ok, want, err)
			}
			if ok && !server.SubjectsCollide(got, r.everywhere()) {
				t.Errorf("%s to %s: %s is not below %s", source, destination, got, r.everywhere())
			}
		}
	}
	f("", "x.>")
	f(">", "x.>")
	f("a.>", "x.>")
	f("a.b.>", "x.>")
	f("a", "x")
	f("a.*", "x.$1")
	f("a.*.*", "x.{{wildcard(2)}}.{{ Wildcard( 1 ) }}")
	f("*.*", "x.$2.$1.$1")
	f("*.b.>", "x.$1.y.>")

	refused := func(destination string) {
		t.Helper()
		if _, err := newRepublish(jetstream.RePublish{Source: "a.*", Destination: destination}); err == nil {
			t.Errorf("%s is followed", destination)
		}
	}
	refused("x")
	refused("x.$2")
	refused("x.$0")
	refused("x.{{partition(3,1)}}")
	refused("x.{{split(1,-)}}")
	refused("x.{{random(3)}}")

	pattern := func(source, destination, pattern, want string) {
		t.Helper()
		r, err := newRepublish(jetstream.RePublish{Source: source, Destination: destination})
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := r.apply(pattern); got != want || ok != (want != "") {
			t.Errorf("%s to %s: %s goes to %q (%v), want %q", source, destination, pattern, got, ok, want)
		}
	}
	pattern(">", "x.>", "a.>", "x.a.>")
	pattern("a.>", "x.>", "a.>", "x.>")
	pattern("a.>", "x.>", "a.*.c", "x.*.c")
	pattern("a.b.>", "x.>", "a.>", "")
	pattern("a.*", "x.$1", "a.>", "")
	pattern("a.*", "x.$1", "a.*", "x.*")
	pattern("a.b", "x", "a.*", "")
}
