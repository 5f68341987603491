package pushd

// flow is what one connection brings, in one order, for the interests that are
// on it. Those of a WebSocket are all on one; over HTTP there may be several.
type flow struct {
	// Static.
	client *Client

	// The reading goroutine's.
	skipped Skipped // for the next message of its topic
	hits    []*interest
}

// handle takes what the server tells over any transport, and ignores what it does
// not know. text is what m was read from.
func (f *flow) handle(m *envelope, text []byte) {
	switch m.Type {
	case "message":
		message := m.message(text)
		f.route(&message)
	case "gap":
		f.gap(m)
	case "skipped":
		f.skipped = Skipped{m.Topic, m.Count}
		f.client.tell(&Skipped{m.Topic, m.Count})
	case "unsubscribed":
		f.unsubscribed(m)
	}
}

func (f *flow) gap(m *envelope) {
	c := f.client
	c.mu.Lock()
	gap := &Gap{Topic: m.Topic, From: m.From, To: m.To, Reason: m.Reason}
	if i := c.interest[m.Topic]; i != nil && i.on == f && i.stand == stands {
		c.forgetLocked()
		i.sub.pushGap(i, gap)
	}
	c.mu.Unlock()
	c.tell(gap)
}

// unsubscribed is for what the server has ended.
func (f *flow) unsubscribed(m *envelope) {
	c := f.client
	c.mu.Lock()
	defer c.mu.Unlock()
	i := c.interest[m.Topic]
	if i == nil || i.on != f || i.stand != stands {
		return
	}
	i.stand = absent
	i.leftLocked(c)
	if m.Reason != "token_expired" { // after which the connection ends, and the next has another
		c.endLocked(i, &Error{Code: Code(m.Reason), Message: "unsubscribed from " + m.Topic, Topic: m.Topic})
	}
	c.unlockedTell(&Unsubscribed{m.Topic, m.Reason})
}
