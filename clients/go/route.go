package pushd

// route hands a message to the subscriptions that it is for.
func (s *session) route(m *Message) {
	c := s.client
	c.mu.Lock()
	hits := s.hits[:0]
	if i := c.interest[m.Topic]; i != nil {
		hits = append(hits, i)
	}
	for _, i := range c.patterns {
		if match(i.topic, m.Topic) {
			hits = append(hits, i)
		}
	}
	var events []Event
	switch {
	case len(hits) == 1 && hits[0].stand == stands && hits[0].passed == nil:
		events = s.deliverLocked(m, hits)
	case len(hits) > 0:
		events = s.overlapLocked(m, hits)
	}
	s.hits = hits
	c.mu.Unlock()
	if events != nil {
		c.tell(events...)
	}
}

// overlapLocked delivers a message that several interests match, once to each
// subscription. It came by one that stands: those that do not take no notice.
func (s *session) overlapLocked(m *Message, hits []*interest) (events []Event) {
	repeated := make(map[*Subscription]bool)
	var fresh []*interest
	for _, i := range hits {
		if i.repeatsLocked(m) {
			repeated[i.sub] = true
		} else if i.stand == stands {
			fresh = append(fresh, i)
		}
	}
	for _, i := range fresh {
		for _, other := range hits {
			if other.stand != stands && other.cursor != "" && m.Cursor != "" {
				other.aheadLocked(i, m.Cursor)
			}
		}
	}
	for len(fresh) > 0 {
		sub := fresh[0].sub
		var same, rest []*interest
		for _, i := range fresh {
			if i.sub == sub {
				same = append(same, i)
			} else {
				rest = append(rest, i)
			}
		}
		if !repeated[sub] {
			events = append(events, s.deliverLocked(m, same)...)
		} else {
			for _, i := range same {
				i.cursor = m.Cursor
			}
		}
		fresh = rest
	}
	return events
}

// deliverLocked gives a message to the subscription of some interests, all of
// which it comes by.
func (s *session) deliverLocked(m *Message, by []*interest) (events []Event) {
	sub := by[0].sub
	switch sub.push(m, by) {
	case pushed:
		if m.Cursor != "" {
			for _, i := range by {
				i.cursor = m.Cursor
			}
		}
	case full:
		return s.pauseLocked(sub)
	case dropped:
		return []Event{&Gap{Topic: by[0].topic, Reason: slow, Lost: 1}}
	}
	return nil
}

// pauseLocked gives a consumer time: what it gets later comes from the history.
func (s *session) pauseLocked(sub *Subscription) []Event {
	var drop []*interest
	var topics []string
	for _, i := range sub.interests {
		if i.stand == stands && i.cursor != "" {
			drop, topics = append(drop, i), append(topics, i.topic)
		}
	}
	s.dropLocked(drop...)
	return []Event{&Paused{topics, true}}
}

// What an overlapping subscription already had. Messages of a feed come in its
// order, and overlapping interests are of one feed. So the server repeats a
// message to interest h only where it replays it to another one, a, and only up
// to the last one that h had while a was away: that one is remembered, and what
// both match is no news to h until it has come again.

// passed says that h has had what it shares with another interest, up to a cursor.
type passed struct {
	with  *interest
	until string
}

// aheadLocked notes that h got a message while i, which matches it too, was away.
func (i *interest) aheadLocked(h *interest, cursor string) {
	if i.ahead == nil {
		i.ahead = make(map[*interest]string)
	}
	i.ahead[h] = cursor
}

// caughtUpLocked is for an interest that stands again: recovered says that all
// that it missed is about to come.
func (i *interest) caughtUpLocked(c *Client, recovered bool) {
	if recovered && i.sub.options.Mode != Latest {
		for h, until := range i.ahead {
			if !h.gone {
				h.passed = append(h.passed, passed{i, until})
			}
		}
	}
	i.ahead = nil
}

// repeatsLocked reports whether i has had a message that it matches.
func (i *interest) repeatsLocked(m *Message) bool {
	repeats, kept := false, i.passed[:0]
	for _, p := range i.passed {
		shared := match(p.with.topic, m.Topic)
		repeats = repeats || shared
		if !shared || p.until != m.Cursor {
			kept = append(kept, p)
		}
	}
	if i.passed = kept; len(kept) == 0 {
		i.passed = nil
	}
	return repeats
}

// leftLocked is for an interest of which no more will come for now. What was
// being replayed to it will be replayed again.
func (i *interest) leftLocked(c *Client) {
	for _, h := range c.order {
		for n := len(h.passed) - 1; n >= 0; n-- {
			if p := h.passed[n]; p.with == i {
				i.aheadLocked(h, p.until)
				h.passed = append(h.passed[:n], h.passed[n+1:]...)
			}
		}
	}
}

// forgetLocked is for an interest whose replay is no longer complete: better
// twice than never.
func (i *interest) forgetLocked(c *Client) {
	for _, h := range c.order {
		for n := len(h.passed) - 1; n >= 0; n-- {
			if h.passed[n].with == i {
				h.passed = append(h.passed[:n], h.passed[n+1:]...)
			}
		}
	}
}
