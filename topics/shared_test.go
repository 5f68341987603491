package topics

import (
	"slices"
	"testing"
)

// Those who fell behind at different messages soon read the same pages: history
// is read once for all of them, and not once for each.
func TestPagesAreShared(t *testing.T) {
	const clients, messages = 10, 400
	h := newFakeHistory(nil)
	cfg := historyConfig(h)
	cfg.RingMessages = 8
	r := newRig(t, cfg, 1)
	settle := func() {
		r.run()
		for h.answer(nil) {
			r.run()
		}
	}
	var all []*socket
	for i := range clients {
		c := r.connect(0, uint32(i))
		c.wish("all.*", Want{})
		all = append(all, c)
	}
	settle()
	for _, c := range all {
		c.got = nil
	}
	var want []string
	for n := range messages {
		if n < clients {
			all[n].block(0)
		}
		m := h.stream("all").store("all.x", []byte{byte('a' + n%26)})
		want = append(want, "all.x "+string(m.Data))
		r.hub.Deliver([]Message{m})
		r.run()
	}
	settle()
	before := h.reads
	for _, c := range all {
		c.drain()
	}
	settle()
	for i, c := range all {
		if !slices.Equal(c.got, want) {
			t.Errorf("client %d got %d messages, want %d", i, len(c.got), len(want))
		}
	}
	const pages = messages / 5 // of fakeHistory
	if n := h.reads - before; n > pages+3*clients {
		t.Errorf("%d reads for %d clients, want %d, and a few at first", n, clients, pages)
	}
	r.wantConsistent()
}

// wantSharedConsistent checks what is kept of what was read.
func (h *Hub) wantSharedConsistent(r *rig) {
	r.t.Helper()
	var weight int64
	pages, lined, listed := 0, 0, 0
	for w, read := range h.shared.reads {
		if read.in {
			weight += read.weight
			listed++
		}
		if w.kind == readPage {
			pages++
			if !slices.Contains(h.shared.pages[pageLine{w.feed, w.pattern}], read) {
				r.t.Fatalf("the page from %d of %q is not in its line", w.from, w.pattern)
			}
		}
	}
	for read := h.shared.oldest; read != nil; read = read.newer {
		listed--
	}
	for at, line := range h.shared.pages {
		lined += len(line)
		if len(line) == 0 || !slices.IsSortedFunc(line, func(a, b *read) int { return byFrom(a, b.wanted.from) }) {
			r.t.Fatalf("the %d pages of %q are not in order", len(line), at.pattern)
		}
	}
	if pages != lined || listed != 0 || weight != h.shared.weight {
		r.t.Fatalf("%d pages, %d in lines; %d more than in the order of use; they weigh %d, counted %d", pages, lined, listed, weight, h.shared.weight)
	}
}
