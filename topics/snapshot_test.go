package topics

import "testing"

// partHistory answers who wants the newest messages with what is in page.
type partHistory struct {
	*fakeHistory
	page Page
}

func (h *partHistory) Read(q Query, done func(Page, error)) {
	if !q.Newest {
		h.fakeHistory.Read(q, done)
		return
	}
	h.ask(func(err error) { done(h.page, err) })
}

// A reading of many topics takes several requests, and what comes between them
// may be in some. It is no part of what is called read, but comes live.
func TestSnapshotReadInParts(t *testing.T) {
	h := &partHistory{fakeHistory: newFakeHistory(nil)}
	cfg := historyConfig(h.fakeHistory)
	cfg.History = h
	r := newRig(t, cfg, 1)
	s := h.stream("latest")
	first, all := r.connect(0, 0), r.connect(0, 1)
	s.store("latest.a", []byte("A"))
	s.store("latest.b", []byte("B"))
	first.wish("latest.x", Want{}) // the feed begins
	r.answers(h.fakeHistory)
	b := s.store("latest.b", []byte("C"))
	a := s.store("latest.a", []byte("D"))
	h.page = Page{Messages: []Message{s.kept[1], a}, Next: 3, End: true} // the feed lacks what comes after 2
	all.wish("latest.*", Want{})
	r.answers(h.fakeHistory)
	all.wants("latest.b B")
	r.hub.Deliver([]Message{b, a})
	r.answers(h.fakeHistory)
	all.wants("latest.b C", "latest.a D")
}
