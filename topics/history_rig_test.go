package topics

import (
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
)

// fakeHistory is a History in memory, which answers when the test says so.
type fakeHistory struct {
	rnd     *rand.Rand
	streams map[string]*fakeStream
	reads   int

	// Guarded by mu, for timers ask too.
	mu    sync.Mutex
	asked []func(err error)
}

// fakeStream keeps messages by number, some of which may be gone.
type fakeStream struct {
	epoch    uint32
	kept     []Message // in order
	last     uint64
	stamp    uint32
	perTopic int
	replicas int // that lag behind each other, if there are several
	lag      int // newest messages that those lack which are read from
}

var errFakeAway = errors.New("history is away")

func newFakeHistory(rnd *rand.Rand) *fakeHistory {
	return &fakeHistory{rnd: rnd, streams: make(map[string]*fakeStream)}
}

func (h *fakeHistory) stream(namespace string) *fakeStream {
	if h.streams[namespace] == nil {
		h.streams[namespace] = &fakeStream{epoch: 7}
	}
	return h.streams[namespace]
}

// store takes a publication, and returns it as it is passed on live.
func (s *fakeStream) store(topic string, data []byte) Message {
	m := Message{Topic: topic, Data: data}
	for i := len(s.kept) - 1; i >= 0; i-- {
		if s.kept[i].Topic == topic {
			m.Prev = s.kept[i].Cursor.Seq
			break
		}
	}
	s.last++
	s.stamp++
	m.Cursor = Cursor{Epoch: s.epoch, Seq: s.last, Stamp: s.stamp}
	s.kept = append(s.kept, m)
	if s.perTopic > 0 {
		n := 0
		for i := len(s.kept) - 1; i >= 0; i-- {
			if s.kept[i].Topic == topic {
				if n++; n > s.perTopic {
					s.kept = slices.Delete(s.kept, i, i+1)
				}
			}
		}
	}
	return m
}

// expire drops the n oldest messages.
func (s *fakeStream) expire(n int) { s.kept = slices.Clone(s.kept[min(n, len(s.kept)):]) }

// renew is the stream made anew: empty, and numbered from 1.
func (s *fakeStream) renew() {
	s.epoch++
	s.kept, s.last = nil, 0
}

func (s *fakeStream) first() uint64 {
	if len(s.kept) == 0 {
		return s.last + 1
	}
	return s.kept[0].Cursor.Seq
}

// ask queues a question; what is answered is what holds then.
func (h *fakeHistory) ask(answer func(err error)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.asked = append(h.asked, answer)
}

// answer answers one question, not always the oldest.
func (h *fakeHistory) answer(err error) bool {
	h.mu.Lock()
	if len(h.asked) == 0 {
		h.mu.Unlock()
		return false
	}
	i := 0
	if h.rnd != nil {
		i = h.rnd.IntN(len(h.asked))
	}
	a := h.asked[i]
	h.asked = slices.Delete(h.asked, i, i+1)
	h.mu.Unlock()
	a(err)
	return true
}

// waiting says how many questions have had no answer.
func (h *fakeHistory) waiting() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.asked)
}

func (h *fakeHistory) Stream(namespace string, done func(Stream, error)) {
	s := h.stream(namespace)
	h.ask(func(err error) {
		st := Stream{Epoch: s.epoch, First: s.first(), Last: s.last, PerTopic: s.perTopic, Replicas: s.replicas}
		if n := len(s.kept); n > 0 && s.kept[n-1].Cursor.Seq == s.last {
			st.Stamp = s.kept[n-1].Cursor.Stamp
		}
		done(st, err)
	})
}

func (h *fakeHistory) Read(q Query, done func(Page, error)) {
	s := h.stream(q.Namespace)
	h.ask(func(err error) {
		h.reads++
		if err != nil {
			done(Page{}, err)
			return
		}
		lag := s.lag
		if s.replicas > 1 && h.rnd != nil && h.rnd.IntN(3) == 0 {
			lag = h.rnd.IntN(4)
		}
		if lag > 0 {
			lagging := *s
			lagging.last -= min(s.last, uint64(lag))
			lagging.kept = slices.DeleteFunc(slices.Clone(s.kept), func(m Message) bool { return m.Cursor.Seq > lagging.last })
			done(lagging.page(q), nil)
			return
		}
		done(s.page(q), nil)
	})
}

func (s *fakeStream) page(q Query) (p Page) {
	most := q.Messages
	if most == 0 {
		most = 5
	}
	most = min(most, 5)
	matches := func(m *Message) bool {
		return m.Cursor.Seq >= q.From && (q.Pattern == "" || Match(q.Pattern, m.Topic))
	}
	if q.Newest {
		seen := make(map[string]bool)
		for i := len(s.kept) - 1; i >= 0; i-- {
			if m := s.kept[i]; matches(&m) && !seen[m.Topic] {
				seen[m.Topic] = true
				p.Messages = append(p.Messages, m)
			}
		}
		slices.Reverse(p.Messages)
		p.Next, p.End = s.last+1, true
		return p
	}
	p.Next, p.End = max(q.From, s.last+1), true
	for _, m := range s.kept {
		if !matches(&m) {
			continue
		}
		if len(p.Messages) == most {
			p.Next, p.End = p.Messages[most-1].Cursor.Seq+1, false
			break
		}
		m.Prev = 0
		p.Messages = append(p.Messages, m)
	}
	return p
}

// Next is what the leader says, which does not lag.
func (h *fakeHistory) Next(namespace, pattern string, from uint64, done func(uint64, error)) {
	s := h.stream(namespace)
	h.ask(func(err error) {
		if p := s.page(Query{Pattern: pattern, From: from}); err == nil && len(p.Messages) > 0 {
			done(p.Messages[0].Cursor.Seq, nil)
			return
		}
		done(0, err)
	})
}

func (h *fakeHistory) Intact(namespace, pattern string, after uint64, done func(bool, error)) {
	s := h.stream(namespace)
	h.ask(func(err error) {
		done(s.perTopic == 0 && s.first() <= after+1, err)
	})
}

// historyConfig has namespaces that keep history: "all", and "one" by topic,
// deliver all, "latest" and "live" what they say.
func historyConfig(h *fakeHistory) HubConfig {
	return HubConfig{
		History: h,
		Settings: func(namespace string) Settings {
			modes := map[string]Mode{"all": ModeAll, "one": ModeAll, "latest": ModeLatest, "live": ModeLive}
			return Settings{ByTopic: namespace == "one", History: modes[namespace] != 0, Mode: modes[namespace]}
		},
	}
}
