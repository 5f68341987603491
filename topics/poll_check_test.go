package topics

import (
	"fmt"
	"slices"
	"strings"
)

// check looks at a line of an answer. Those of one that is lost must be right too.
func (c *pollClient) check(slot uint32, line string, lost bool) {
	m := c.model
	words := strings.Fields(line)
	switch words[0] {
	case "gap":
		p := c.find(words[1])
		if p == nil || !p.stands {
			m.t.Fatalf("slot %d got %q, and has no such subscription", slot, line)
		}
		if !m.mayGap(p) && !(Namespace(p.pattern) == "live" && words[2] == "slow") {
			m.t.Fatalf("slot %d got %q, and nothing is lost", slot, line)
		}
		p.gap = true
		return
	case "skipped":
		if !c.latest() {
			m.t.Fatalf("slot %d got %q, and does not want the newest alone", slot, line)
		}
		return
	}
	topic, number := words[0], 0
	fmt.Sscan(words[1], &number)
	ns := Namespace(topic)
	matching := 0
	floor := 1 << 30
	for _, p := range c.topics {
		if !p.stands || !Match(p.pattern, topic) {
			continue
		}
		matching++
		if p.start < 0 {
			floor = min(floor, p.floorNow)
		} else {
			floor = min(floor, p.floor)
		}
	}
	feed := ns
	if m.hub.cfg.Settings(ns).ByTopic {
		feed = topic
	}
	switch {
	case matching == 0:
		m.t.Fatalf("slot %d got %q, and has no subscription for it", slot, line)
	case c.latest():
		if was := c.values[topic]; number <= was && matching == 1 { // several each bring it in their own time
			m.t.Fatalf("slot %d got %s after %d", slot, line, was)
		}
	case number <= c.last[feed] || number <= floor:
		m.t.Fatalf("slot %d got %q after %d, from %d", slot, line, c.last[feed], floor)
	}
	if lost {
		return
	}
	c.values[topic] = max(c.values[topic], number)
	if !c.latest() {
		c.missing(feed, topic, number)
	}
	c.last[feed] = max(c.last[feed], number)
}

// missing checks that nothing before a message is missing without having been told.
func (c *pollClient) missing(feed, topic string, number int) {
	m := c.model
	ns := Namespace(topic)
	for i := c.last[feed]; i < number-1; i++ {
		msg := &m.log[ns][i]
		if feed != ns && msg.Topic != feed {
			continue
		}
		for _, p := range c.topics {
			if !Match(p.pattern, msg.Topic) || p.start < 0 && !p.stands || p.gap || i < p.lost {
				continue
			}
			start := p.start
			if start < 0 {
				start = p.startNow
			}
			if i >= start {
				m.t.Fatalf("%s %d came, and %s %d did not, for %s from %d", topic, number, msg.Topic, i+1, p.pattern, start)
			}
		}
	}
}

// wantAll checks that a client has all there is to have.
func (c *pollClient) wantAll() {
	m := c.model
	for _, p := range c.topics {
		ns := Namespace(p.pattern)
		newest := make(map[string]int)
		for i := max(p.start, 0); i < len(m.log[ns]); i++ {
			topic := m.log[ns][i].Topic
			feed := ns
			if m.hub.cfg.Settings(ns).ByTopic {
				feed = topic
			}
			if !Match(p.pattern, topic) || i < p.lost {
				continue
			}
			newest[topic] = i + 1
			if !c.latest() && i+1 > c.last[feed] {
				m.t.Fatalf("%s of mode %d from %d lacks %s %d: it has come to %d", p.pattern, c.want.Mode, p.start, topic, i+1, c.last[feed])
			}
		}
		for topic, number := range newest {
			history := ns != "n" && ns != "u"
			kept := !history || slices.ContainsFunc(m.history.stream(ns).kept, func(msg Message) bool { return string(msg.Data) == fmt.Sprint(number) })
			if kept && c.values[topic] < number {
				m.t.Fatalf("%s of mode %d from %d lacks %s %d, the newest: it has %d", p.pattern, c.want.Mode, p.start, topic, number, c.values[topic])
			}
		}
	}
}
