package topics

import (
	"fmt"
	"slices"
	"strings"
	"testing/synctest"
	"time"
)

// collect takes what a client got, and checks it as far as it goes.
func (c *chainClient) collect() {
	m := c.model
	c.got = append(c.got, c.socket.got...)
	c.socket.got = nil
	want := c.due()
	if c.want.Mode == ModeLatest {
		last := map[string]int{}
		for _, line := range c.got {
			topic, data, _ := strings.Cut(line, " ")
			if topic == "skipped" {
				continue
			}
			n := 0
			fmt.Sscan(data, &n)
			if n <= last[topic] {
				m.fail("slot %d of %v got %d of %v after %d", c.socket.slot, c, n, topic, last[topic])
			}
			last[topic] = n
		}
		return
	}
	if len(c.got) > len(want) || !slices.Equal(c.got, want[:len(c.got)]) {
		m.fail("slot %d of %v got\n%q of\n%q", c.socket.slot, c, c.got, want)
	}
}

// due is all that a client is to get.
func (c *chainClient) due() (lines []string) {
	for i, msg := range c.model.log[c.feed] {
		if slices.ContainsFunc(c.subs, func(s *chainSub) bool {
			return (s.stands || s.place != nil) && i >= s.from && Match(s.pattern, msg.Topic)
		}) {
			lines = append(lines, fmt.Sprintf("%s %s", msg.Topic, msg.Data))
		}
	}
	return lines
}

// check holds what has to be true at any time.
func (m *chainModel) check() {
	m.now.wantWakers()
	m.now.wantConsistent()
	members := 0
	for _, c := range m.clients {
		if c.socket != nil {
			c.collect()
			members += len(c.subs)
		}
	}
	occupied := 0
	m.now.hub.Occupied(func(o Occupied) { occupied += o.Connections })
	if occupied != members {
		m.fail("%d subscriptions are counted, and there are %d", occupied, members)
	}
}

// settle lets all come to its end, and holds that nobody lacks anything.
func (m *chainModel) settle() {
	for range 200 {
		m.catchUp(m.now)
		m.answerAll(m.now)
		for _, c := range m.clients {
			if c.socket != nil {
				c.socket.drain()
			}
		}
		m.now.hub.sweep(time.Now())
		for range 4 {
			for _, sh := range m.now.shards {
				sh.members.Tick()
			}
		}
		m.now.run()
		time.Sleep(50 * time.Millisecond)
		synctest.Wait()
	}
	m.check()
	for _, c := range m.clients {
		if c.socket == nil {
			continue
		}
		if !c.stands() {
			m.fail("slot %d of %v was never told that it stands", c.socket.slot, c)
		}
		want := c.due()
		if c.want.Mode != ModeLatest {
			if len(c.got) != len(want) {
				m.fail("slot %d of %v got\n%q and lacks\n%q", c.socket.slot, c, c.got, want[len(c.got):])
			}
			continue
		}
		newest := map[string]string{}
		for _, line := range want {
			topic, _, _ := strings.Cut(line, " ")
			newest[topic] = line
		}
		for _, line := range newest {
			if !slices.Contains(c.got, line) {
				m.fail("slot %d of %v in mode latest got %q and never %q", c.socket.slot, c, c.got, line)
			}
		}
	}
}
