package topics

import "fmt"

// joining is what a shard learns when it asks for a pattern.
type joining struct {
	sub  *sub
	view *view
	last uint64 // the feed's newest entry: what comes after it is for the shard
}

// acquire notes that a shard has its first member for a pattern, and keeps it.
func (h *Hub) acquire(m *Members, pattern string) (joining, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f, err := h.feedFor(pattern)
	if err != nil {
		return joining{}, err
	}
	v := f.view(m)
	if v == nil {
		v = &view{feed: f, members: m, pos: f.last, ready: f.ready} // if not, an activation follows
		f.views = append(f.views, v)
	}
	s := h.subOf(f, pattern)
	s.shards |= m.bit
	h.stopLingering(s)
	f.forget(pattern)
	return joining{sub: s, view: v, last: f.last}, nil
}

// feedFor returns the feed that a pattern belongs to, making it if there is none.
// mu must be held.
func (h *Hub) feedFor(pattern string) (*feed, error) {
	in := Interest{Name: Namespace(pattern), Namespace: true}
	settings := h.cfg.Settings(in.Name)
	namespace := in.Name
	if settings.ByTopic {
		if HasWildcard(pattern) {
			return nil, fmt.Errorf("%q: %w", pattern, ErrNoWildcards)
		}
		in = Interest{Name: pattern}
	}
	f, ok := h.table(in).get(in.Name)
	if !ok {
		f = &feed{in: in, most: h.cfg.RingMessages, delay: h.delayOf(settings.BatchDelay)}
		if !settings.History && settings.RingMessages > 0 {
			f.most = settings.RingMessages
		}
		if settings.History && h.cfg.History != nil {
			f.kept = &kept{stream: h.streamOf(namespace)}
		}
		h.table(in).put(in.Name, f)
		h.stats.feeds.Add(1)
		h.bus.Subscribe(in, func(err error) { h.answered(f, err) })
	}
	f.idle = 0
	return f, nil
}

// subOf returns a feed's pattern, making it if there is none. mu must be held.
func (h *Hub) subOf(f *feed, pattern string) *sub {
	s, ok := f.subs.get(pattern)
	if !ok {
		s = &sub{pattern: pattern, feed: f, life: newLife(), at: len(f.list)}
		f.subs.insert(pattern, s)
		f.list = append(f.list, s)
		h.occupancy.enter(s)
		h.stats.subs.Add(1)
	}
	return s
}
