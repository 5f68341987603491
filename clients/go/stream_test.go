package pushd

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// eventsOf is the plain model of eventReader: the data of events, and no more.
func eventsOf(text string) (all []string) {
	blocks := strings.Split(strings.ReplaceAll(text, "\r\n", "\n"), "\n\n")
	for _, block := range blocks[:len(blocks)-1] {
		var data []string
		for line := range strings.SplitSeq(block, "\n") {
			if value, has := strings.CutPrefix(line, "data:"); has {
				data = append(data, strings.TrimPrefix(value, " "))
			}
		}
		if len(data) > 0 {
			all = append(all, strings.Join(data, "\n"))
		}
	}
	return all
}

func FuzzEventReader(f *testing.F) {
	f.Add("retry: 2718\nevent: welcome\ndata: {\"type\":\"welcome\"}\n\n:\n\nid: k3.1@a\ndata: 1\n\ndata: half")
	f.Add("data:\n\ndata:1\ndata:\n\n")
	f.Add("data:a\r\ndata:\r\n\r\n\ndata\n\n")
	f.Add("data: " + strings.Repeat("x", 200<<10) + "\n\ndata: 2\n\n")
	f.Fuzz(func(t *testing.T, text string) {
		events := newEventReader(iotest.OneByteReader(strings.NewReader(text)))
		if len(text) > 1<<10 {
			events = newEventReader(strings.NewReader(text))
		}
		for _, want := range eventsOf(text) {
			got, err := events.next()
			if err != nil || string(got) != want {
				t.Fatalf("%q: got %q, %v; want %q", text, got, err, want)
			}
		}
		if got, err := events.next(); err != io.EOF {
			t.Fatalf("%q: %q, %v after the last", text, got, err)
		}
	})
}

// An event costs its own bytes.
func TestEventAllocations(t *testing.T) {
	stream := bytes.Repeat([]byte("id: k3.42@a\ndata: {\"type\":\"message\",\"topic\":\"a\",\"cursor\":\"k3.42\",\"time\":1,\"data\":1}\n\n"), 1101)
	events := newEventReader(bytes.NewReader(stream))
	n := testing.AllocsPerRun(1000, func() {
		if _, err := events.next(); err != nil {
			t.Fatal(err)
		}
	})
	if n > 1 {
		t.Errorf("%v allocations, want 1", n)
	}
}

// Names overlap where there is a topic that both match.
func TestOverlap(t *testing.T) {
	var topics []string
	level := []string{"a", "b", "c"}
	for range 4 {
		topics = append(topics, level...)
		var next []string
		for _, name := range level {
			next = append(next, name+".a", name+".b", name+".c")
		}
		level = next
	}
	names := strings.Fields("a a.b a.c a.b.c a.* a.> a.*.c a.*.* a.b.> a.*.> b.* *.b *.*.c a.*.b.> a.b.*.c b")
	for _, one := range names {
		for _, other := range names {
			want := false
			for _, topic := range topics {
				want = want || match(one, topic) && match(other, topic)
			}
			if got := overlap(one, other); got != want {
				t.Errorf("overlap(%s, %s) is %v, want %v", one, other, got, want)
			}
		}
	}
}
