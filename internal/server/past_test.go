package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/pushd/pushd/topics"
)

// shelf is a topics.History in memory, with pages as small as they come.
type shelf struct {
	stream   topics.Stream
	messages []topics.Message // that are kept, in order
	page     int              // messages of a page, at most
	gone     map[string]uint64
	reads    int
	fails    error
}

func (h *shelf) Stream(_ string, done func(topics.Stream, error)) { done(h.stream, h.fails) }

func (h *shelf) Read(q topics.Query, done func(topics.Page, error)) {
	h.reads++
	if q.Namespace != "a" || q.Urgency != topics.UrgentAsked {
		done(topics.Page{}, fmt.Errorf("asked for %+v", q))
		return
	}
	matches := func(m topics.Message) bool { return q.Pattern == "" || topics.Match(q.Pattern, m.Topic) }
	if q.Newest {
		page := topics.Page{Next: 1, End: true}
		for i := len(h.messages) - 1; i >= 0 && len(page.Messages) == 0; i-- {
			if matches(h.messages[i]) {
				page.Messages, page.Next = h.messages[i:i+1], h.stream.Last+1
			}
		}
		done(page, nil)
		return
	}
	first, _ := slices.BinarySearchFunc(h.messages, q.From, func(m topics.Message, from uint64) int { return cmp.Compare(m.Cursor.Seq, from) })
	most := min(cmp.Or(q.Messages, 500), h.page)
	var found []topics.Message
	for i := first; i < len(h.messages) && len(found) <= most; i++ {
		if matches(h.messages[i]) {
			found = append(found, h.messages[i])
		}
	}
	page := topics.Page{Messages: found, Next: q.From, End: true}
	switch {
	case len(found) == 0: // what else there is, the bus does not say
	case len(found) > most:
		page = topics.Page{Messages: found[:most], Next: found[most-1].Cursor.Seq + 1}
	default:
		page.Next = found[len(found)-1].Cursor.Seq + 1
	}
	done(page, nil)
}

func (h *shelf) Next(_, _ string, _ uint64, done func(uint64, error)) { done(0, nil) }

func (h *shelf) Intact(_, pattern string, after uint64, done func(bool, error)) {
	done(h.gone[pattern] <= after, nil)
}

// newShelf has last messages of some topics, of which some have gone.
func newShelf(r *rand.Rand, last int) *shelf {
	h := &shelf{page: 1 + r.IntN(9), gone: map[string]uint64{}, stream: topics.Stream{Epoch: 7, Last: uint64(last)}}
	perTopic := []int{0, 1, 3}[r.IntN(3)]
	first := 1 + r.IntN(last/2+1)
	kept := map[string]int{}
	for seq := last; seq >= 1; seq-- {
		m := topics.Message{Topic: fmt.Sprintf("a.%d", min(r.IntN(6), r.IntN(6))), Data: make([]byte, r.IntN(20)), Cursor: topics.Cursor{Epoch: 7, Seq: uint64(seq), Stamp: uint32(seq) * 3}}
		if seq < first || perTopic > 0 && kept[m.Topic] == perTopic {
			h.gone[m.Topic] = max(h.gone[m.Topic], m.Cursor.Seq)
			continue
		}
		kept[m.Topic]++
		h.messages = append(h.messages, m)
	}
	slices.Reverse(h.messages)
	h.stream.First, h.stream.Stamp, h.stream.PerTopic = uint64(first), uint32(last)*3, perTopic
	return h
}

// of returns what is kept of a topic behind a number.
func (h *shelf) of(topic string, after uint64) (list []topics.Message) {
	for _, m := range h.messages {
		if m.Topic == topic && m.Cursor.Seq > after {
			list = append(list, m)
		}
	}
	return list
}

func numbers(messages []topics.Message) string {
	var b strings.Builder
	for _, m := range messages {
		fmt.Fprintf(&b, "%d(%d) ", m.Cursor.Seq, len(m.Data))
	}
	return b.String()
}

// fits returns how many of some messages, in their order, an excerpt has room for.
func fits(messages []topics.Message, limit, bytes int) (n int) {
	for size := 0; n < min(limit, len(messages)); n++ {
		if size += len(messages[n].Data); n > 0 && size > bytes {
			break
		}
	}
	return n
}

// TestPast holds both ways to look back against a plain walk over the messages.
func TestPast(t *testing.T) {
	for seed := range uint64(400) {
		r := rand.New(rand.NewPCG(seed, 1))
		h := newShelf(r, 1+r.IntN(400))
		p := past{history: h, topic: fmt.Sprintf("a.%d", r.IntN(7)), limit: 1 + r.IntN(12), bytes: 1 + r.IntN(120)}
		all := h.of(p.topic, 0)

		got, err := p.newest(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		backwards := slices.Clone(all)
		slices.Reverse(backwards)
		end := h.stream.Last
		if len(all) == 0 {
			end = h.stream.First - 1
		}
		want := all[len(all)-fits(backwards, p.limit, p.bytes):]
		if numbers(got.messages) != numbers(want) || got.end.Seq != end || got.resumed != topics.NotResumed || got.more {
			t.Fatalf("seed %d, %+v: newest %s up to %v, want %s", seed, p, numbers(got.messages), got.end, numbers(want))
		}

		// From a random place on, page by page.
		c := topics.Cursor{Epoch: 7, Seq: uint64(r.IntN(int(h.stream.Last) + 1))}
		if r.IntN(2) == 0 {
			c.Stamp = uint32(c.Seq) * 3
		}
		recovered := topics.Recovered
		if h.gone[p.topic] > c.Seq {
			recovered = topics.NotRecovered
		}
		rest := h.of(p.topic, c.Seq)
		for first := true; first || len(rest) > 0; first = false {
			got, err := p.after(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			n := fits(rest, p.limit, p.bytes)
			if numbers(got.messages) != numbers(rest[:n]) || got.more != (n < len(rest)) {
				t.Fatalf("seed %d, %+v: after %v %s and more %v, want %s of %s", seed, p, c, numbers(got.messages), got.more, numbers(rest[:n]), numbers(rest))
			}
			if got.resumed != recovered || recovered == topics.NotRecovered && got.why != topics.LossExpired {
				t.Fatalf("seed %d: after %v is %v (%v), want %v", seed, c, got.resumed, got.why, recovered)
			}
			if end := max(end, c.Seq); !got.more && got.end.Seq != end {
				t.Fatalf("seed %d, %+v: read to the end, which is %d, and told of %v (%+v); %+v; %s", seed, p, end, got.end, got, h.stream, numbers(all))
			}
			if c, rest = got.end, rest[n:]; h.gone[p.topic] <= c.Seq {
				recovered = topics.Recovered
			}
		}
	}
}

// A rare topic in a large stream is found with few reads.
func TestPastOfARareTopic(t *testing.T) {
	h := &shelf{page: 500, stream: topics.Stream{Epoch: 7, First: 1, Last: 1 << 40}}
	for _, seq := range []uint64{5, 1 << 20, 1 << 39} {
		h.messages = append(h.messages, topics.Message{Topic: "a.b", Cursor: topics.Cursor{Epoch: 7, Seq: seq}})
	}
	p := past{history: h, topic: "a.b", limit: 100, bytes: 1 << 20}
	got, err := p.newest(t.Context())
	if err != nil || len(got.messages) != 3 || h.reads > 16 {
		t.Errorf("%d messages, %v, after %d reads", len(got.messages), err, h.reads)
	}
	h.reads, p.topic = 0, "a.none"
	if got, err := p.newest(t.Context()); err != nil || len(got.messages) != 0 || h.reads != 1 || got.end.Seq != 0 {
		t.Errorf("a topic of which nothing is kept: %+v, %v, after %d reads", got, err, h.reads)
	}
}

// A topic of which there is very much, but long ago, is not read through.
func TestPastOfATopicThatWasBusy(t *testing.T) {
	h := &shelf{page: 500, stream: topics.Stream{Epoch: 7, First: 1, Last: 1 << 40}}
	for seq := range uint64(50_000) {
		h.messages = append(h.messages, topics.Message{Topic: "a.b", Cursor: topics.Cursor{Epoch: 7, Seq: seq + 1}})
	}
	h.messages = append(h.messages, topics.Message{Topic: "a.b", Cursor: topics.Cursor{Epoch: 7, Seq: 1 << 39}})
	for _, limit := range []int{1, 2, 100, 1000} {
		h.reads = 0
		p := past{history: h, topic: "a.b", limit: limit, bytes: 1 << 20}
		got, err := p.newest(t.Context())
		if err != nil || numbers(got.messages) != numbers(h.messages[len(h.messages)-limit:]) || h.reads > 250 {
			t.Errorf("limit %d: %d messages, %v, after %d reads", limit, len(got.messages), err, h.reads)
		}
		t.Logf("limit %d: %d reads", limit, h.reads)
	}
}

// A stream that began anew is found out, whatever its numbers are now.
func TestPastRestarted(t *testing.T) {
	h := &shelf{page: 500, stream: topics.Stream{Epoch: 7, First: 1, Last: 2, Stamp: 20}, messages: []topics.Message{
		{Topic: "a.b", Cursor: topics.Cursor{Epoch: 7, Seq: 1, Stamp: 10}},
		{Topic: "a.b", Cursor: topics.Cursor{Epoch: 7, Seq: 2, Stamp: 20}},
	}}
	p := past{history: h, topic: "a.b", limit: 100, bytes: 1 << 20}
	for _, c := range []topics.Cursor{{Epoch: 6, Seq: 1}, {Epoch: 7, Seq: 1, Stamp: 11}, {Epoch: 7, Seq: 3}} {
		got, err := p.after(t.Context(), c)
		if err != nil || got.resumed != topics.NotRecovered || got.why != topics.LossRestarted || len(got.messages) != 2 || got.end.Seq != 2 {
			t.Errorf("after %v: %+v, %v", c, got, err)
		}
	}
	got, err := p.after(t.Context(), topics.Cursor{Epoch: 7, Seq: 1, Stamp: 10})
	if err != nil || got.resumed != topics.Recovered || len(got.messages) != 1 {
		t.Errorf("after a cursor of this stream: %+v, %v", got, err)
	}
}

func TestPastFails(t *testing.T) {
	away := errors.New("away")
	p := past{history: &shelf{fails: away}, topic: "a.b", limit: 1, bytes: 1}
	if _, err := p.newest(t.Context()); !errors.Is(err, away) {
		t.Errorf("newest: %v", err)
	}
	if _, err := p.after(t.Context(), topics.Cursor{}); !errors.Is(err, away) {
		t.Errorf("after: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := await(ctx, func(func(bool, error)) {}); !errors.Is(err, context.Canceled) {
		t.Errorf("of one who does not answer: %v", err)
	}
}
