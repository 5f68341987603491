package pushd

// route hands a message to the subscriptions that it is for.
func (f *flow) route(m *Message) {
	c := f.client
	if f.skipped.Count > 0 && f.skipped.Topic == m.Topic {
		m.Skipped, f.skipped = f.skipped.Count, Skipped{}
	}
	c.mu.Lock()
	c.backoff.Reset()
	hits := f.hits[:0]
	if i := c.interest[m.Topic]; i != nil && i.on == f {
		hits = append(hits, i)
	}
	for _, i := range c.patterns {
		if i.on == f && match(i.topic, m.Topic) {
			hits = append(hits, i)
		}
	}
	var events []Event
	switch {
	case len(hits) == 1 && hits[0].stand == stands && hits[0].passed == nil:
		events, _ = c.deliverLocked(m, hits)
	case len(hits) > 0:
		events = c.overlapLocked(m, hits)
	}
	f.hits = hits
	c.mu.Unlock()
	if events != nil {
		c.tell(events...)
	}
}

// overlapLocked delivers a message that several interests match, once to each
// subscription. It came by one that stands: those that do not take no notice,
// but for what they will have to know when they come back.
func (c *Client) overlapLocked(m *Message, hits []*interest) (events []Event) {
	had := make(map[*interest]bool) // all hits that have had it, now or before
	repeated := make(map[*Subscription]bool)
	var again []passed // what was passed until this message, as seen by the one that it was replayed to
	for _, i := range hits {
		repeats, done := i.repeatsLocked(m)
		if repeats {
			had[i], repeated[i.sub] = true, true
		}
		for _, p := range done {
			again = append(again, passed{i, p.until, p.with})
		}
	}
	fresh := make(map[*interest]bool)
	for _, i := range hits {
		if i.stand != stands || had[i] {
			continue
		}
		var same []*interest
		for _, other := range hits {
			if other.sub == i.sub && other.stand == stands && !had[other] {
				same = append(same, other)
			}
		}
		took := true
		if repeated[i.sub] {
			for _, i := range same {
				i.cursor = m.Cursor
			}
		} else {
			told, fits := c.deliverLocked(m, same)
			events, took = append(events, told...), fits
		}
		for _, i := range same {
			if took {
				had[i], fresh[i] = true, true
			}
		}
	}
	for _, p := range again {
		if !had[p.by] {
			p.by.aheadLocked(p.with, p.until)
		}
	}
	for _, x := range hits {
		if had[x] || x.cursor == "" || m.Cursor == "" {
			continue
		}
		for h := range fresh {
			x.aheadLocked(h, m.Cursor)
		}
	}
	return events
}

// deliverLocked gives a message to the subscription of some interests, all of
// which it comes by. It returns false where it has to come again.
func (c *Client) deliverLocked(m *Message, by []*interest) (events []Event, fits bool) {
	sub := by[0].sub
	switch sub.push(m, by) {
	case pushed:
		if m.Cursor != "" {
			for _, i := range by {
				i.cursor = m.Cursor
			}
		}
	case full:
		return c.pauseLocked(sub), false
	case dropped:
		events = []Event{&Gap{Topic: by[0].topic, Reason: slow, Lost: 1}}
	}
	return events, true
}

// pauseLocked gives a consumer time: what it gets later comes from the history.
func (c *Client) pauseLocked(sub *Subscription) []Event {
	var drop []*interest
	var topics []string
	for _, i := range sub.interests {
		if i.stand == stands && i.cursor != "" {
			drop, topics = append(drop, i), append(topics, i.topic)
		}
	}
	c.link.dropLocked(drop...)
	return []Event{&Paused{topics, true}}
}

// What an overlapping subscription already had. Messages of a feed come in its
// order, and overlapping interests are of one feed. So the server repeats a
// message to interest h only where it replays it to another one, x, and only up
// to the last one that h had while x was away: that one is remembered, and what
// both match is no news to h until it has come again.

// passed says that an interest has had what it shares with another, up to a cursor.
type passed struct {
	with  *interest
	until string
	by    *interest // only in overlapLocked: to whom it is replayed
}

// aheadLocked notes that h got a message which i, that matches it too, has not had.
func (i *interest) aheadLocked(h *interest, cursor string) {
	if i.ahead == nil {
		i.ahead = make(map[*interest]string)
	}
	i.ahead[h] = cursor
}

// caughtUpLocked is for an interest that stands again: recovered says that all
// that it missed is about to come.
func (i *interest) caughtUpLocked(recovered bool) {
	if recovered && i.sub.options.Mode != Latest {
		for h, until := range i.ahead {
			if !h.gone {
				h.passed = append(h.passed, passed{with: i, until: until})
			}
		}
	}
	i.ahead = nil
}

// repeatsLocked reports whether i has had a message that it matches, and what it
// had passed until this one.
func (i *interest) repeatsLocked(m *Message) (repeats bool, done []passed) {
	kept := i.passed[:0]
	for _, p := range i.passed {
		switch {
		case !match(p.with.topic, m.Topic):
			kept = append(kept, p)
			continue
		case p.until == m.Cursor:
			done = append(done, p)
		default:
			kept = append(kept, p)
		}
		repeats = true
	}
	if i.passed = kept; len(kept) == 0 {
		i.passed = nil
	}
	return repeats, done
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

// forgetLocked is for a replay that is not complete: what is waited for might
// not come, and twice is better than never.
func (c *Client) forgetLocked() {
	for _, i := range c.order {
		i.ahead, i.passed = nil, nil
	}
}
