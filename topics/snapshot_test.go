package topics

import (
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

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

// What has gone from the stream goes from a snapshot that is always in use.
func TestSnapshotIsReadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newFakeHistory(nil)
		r := newRig(t, historyConfig(h), 1)
		s := h.stream("latest")
		for _, topic := range []string{"latest.a", "latest.b", "latest.c"} {
			s.store(topic, []byte(topic))
		}
		r.connect(0, 0).wish("latest.x", Want{}) // the feed begins
		r.answers(h)
		gets := func() []string {
			c := r.connect(0, 1)
			c.wish("latest.*", Want{})
			r.answers(h)
			c.leave()
			return c.got
		}
		if n := len(gets()); n != 3 {
			t.Fatalf("got %d values, want 3", n)
		}
		s.expire(2)
		for range 20 {
			time.Sleep(sharedFor / 2)
			r.hub.sweep(time.Now())
			gets()
		}
		if got := gets(); len(got) != 1 {
			t.Errorf("got %q, and the stream has 1 value", got)
		}
		r.hub.Close()
	})
}

// A snapshot of many topics is brought up to date without being made anew.
func TestSnapshotFollows(t *testing.T) {
	const topics, messages = 2000, 3000
	h := newFakeHistory(nil)
	cfg := historyConfig(h)
	cfg.RingMessages = messages
	r := newRig(t, cfg, 1)
	s := h.stream("latest")
	s.perTopic = 1
	want := make(map[string]bool)
	for n := range topics {
		s.kept = append(s.kept, Message{Topic: fmt.Sprint("latest.", n), Data: []byte("old"), Cursor: Cursor{Epoch: s.epoch, Seq: uint64(n + 1), Stamp: uint32(n + 1)}})
		want[fmt.Sprint("latest.", n, " old")] = true
	}
	s.last, s.stamp = topics, topics
	first, c := r.connect(0, 0), r.connect(0, 1)
	first.wish("latest.0", Want{}) // the feed begins
	r.answers(h)
	c.wish("latest.*", Want{})
	c.block(0)
	r.answers(h) // the snapshot is there
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	v := r.shards[0].members.groupOf("latest.*").view
	w := wanted{feed: v.feed, pattern: "latest.*", kind: readSnapshot}
	for n := range messages {
		topic := fmt.Sprint("latest.", n%(topics/4))
		s.last++
		s.stamp++
		delete(want, topic+" old")
		r.hub.Deliver([]Message{{Topic: topic, Data: []byte("new"), Cursor: Cursor{Epoch: s.epoch, Seq: s.last, Stamp: s.stamp}}})
		want[topic+" new"] = true
		if _, _, ok := r.hub.snapshot(v, w, 0, false); !ok {
			t.Fatal("the snapshot is not there any more")
		}
	}
	runtime.ReadMemStats(&after)
	if n := (after.TotalAlloc - before.TotalAlloc) / messages; n > topics*8/2 {
		t.Errorf("%d bytes for each message", n)
	}
	if n := len(r.hub.shared.reads[w].entries); n > 2*topics {
		t.Errorf("the snapshot of %d topics has %d values", topics, n)
	}
	r.wantConsistent()
	c.drain()
	r.answers(h)
	for _, got := range c.got {
		if !want[got] {
			t.Fatalf("got %q, which is not the newest, or twice", got)
		}
		delete(want, got)
	}
	if len(want) > 0 {
		t.Errorf("%d values are missing", len(want))
	}
}
