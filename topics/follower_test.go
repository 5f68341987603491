package topics

import (
	"fmt"
	"runtime"
	"strings"
)

// follower is one client with one subscription at a time.
type follower struct {
	*socket
	model   *historyModel
	pattern string // "": not subscribed
	mode    Mode
	stands  bool
	start   int            // messages of the log up to here are not for it
	seen    int            // newest message of the log that came
	values  map[string]int // the same by topic
	gap     bool           // told since the newest message
	cursor  Cursor         // of the newest message, or of subscribed
	at      int            // place of cursor in the log
}

var historyPatterns = map[string][]string{
	"all":    {"all.x", "all.y", "all.*", "all.>"},
	"one":    {"one.x", "one.y", "one.z"},
	"latest": {"latest.x", "latest.*", "latest.>"},
	"live":   {"live.x", "live.*"},
}

var historyTopics = []string{"x", "y", "z", "v.w"}

func (m *historyModel) newFollower(shard int, slot uint32) *follower {
	c := &follower{model: m, socket: m.connect(shard, slot)}
	c.onFrame = c.frame
	m.shards[shard].onStanding = func(slot uint32, pattern string, st Standing, err error) {
		for _, c := range m.clients {
			if c.slot == slot && c.shard == m.shards[shard] && c.pattern == pattern {
				c.standsAt(st, err)
			}
		}
	}
	return c
}

func (c *follower) namespace() string { return Namespace(c.pattern) }

func (c *follower) begin(ns string, resume bool) {
	patterns := historyPatterns[ns]
	if !resume {
		c.pattern = patterns[c.model.rnd.IntN(len(patterns))]
		c.mode = c.model.hub.cfg.Settings(ns).Mode
		if c.mode != ModeLatest && c.model.rnd.IntN(4) == 0 {
			c.mode = ModeLatest
		}
		c.seen, c.values, c.gap = 0, make(map[string]int), false
		c.start = len(c.model.log[ns])
	}
	c.model.note("slot %d subscribes %s mode %d, resumes %v from %v", c.slot, c.pattern, c.mode, resume, c.cursor)
	want := Want{Mode: c.mode, Resume: resume, Cursor: c.cursor}
	c.stands = false
	st, stands, err := c.shard.members.Subscribe(c.slot, 0, c.pattern, ".", want)
	if err != nil {
		c.t.Fatalf("Subscribe(%q): %v", c.pattern, err)
	}
	if stands {
		c.standsAt(st, nil)
	}
}

// standsAt is told where the subscription begins.
func (c *follower) standsAt(st Standing, err error) {
	if err != nil {
		c.pattern, c.stands = "", false
		return
	}
	if c.pattern == "" || c.stands {
		return
	}
	c.model.note("slot %d stands %+v", c.slot, st)
	c.stands = true
	ns := c.namespace()
	if st.Resumed == NotRecovered && !c.model.lossy[ns] && c.model.history.stream(ns).perTopic == 0 {
		c.t.Fatalf("slot %d: %s from %v was not recovered (%v), and nothing is lost", c.slot, c.pattern, c.cursor, st.Why)
	}
	if st.Resumed == NotResumed {
		c.cursor, c.at = st.Cursor, len(c.model.log[ns])
		if c.mode != ModeLatest {
			c.start = c.model.place(ns, st.Cursor)
			c.at = c.start
		}
	}
	if st.Resumed == NotRecovered {
		c.gap = true
		if st.Why == LossRestarted { // what it had counts no more, even if the feed does not know of that yet
			c.seen = 0
			clear(c.values)
		}
	}
}

// comeBack drops the connection, and resumes on another.
func (c *follower) comeBack() {
	if c.pattern == "" || !c.stands || c.cursor.IsZero() {
		return
	}
	if c.at > 0 && c.model.cut[c.namespace()+string(c.model.log[c.namespace()][c.at-1].Data)] {
		return // its number may be given again between two questions
	}
	c.socket.leave()
	c.reconnect()
	c.begin(c.namespace(), true)
}

func (c *follower) leave() {
	c.model.note("slot %d leaves", c.slot)
	c.socket.leave()
	c.pattern, c.stands = "", false
	c.reconnect()
}

func (c *follower) reconnect() {
	c.room, c.refused = endless, false
	c.shard.sockets[c.slot] = c.socket
}

// frame checks what comes.
func (c *follower) frame(line string) {
	words := strings.Fields(line)
	c.model.note("slot %d got %q", c.slot, line)
	c.wantUnlocked()
	if c.pattern == "" {
		c.t.Fatalf("slot %d got %q and is not subscribed", c.slot, line)
	}
	switch words[0] {
	case "gap":
		if words[2] == LossRestarted.String() && c.model.regress { // what the stream still has comes again
			c.seen, c.cursor = 0, Cursor{}
			clear(c.values)
		}
		if c.mode == ModeAll && !c.model.lossy[c.namespace()] {
			c.t.Fatalf("slot %d got %q in mode all, and the stream lost nothing", c.slot, line)
		}
		c.gap = true
		return
	case "skipped":
		if c.mode != ModeLatest {
			c.t.Fatalf("slot %d got %q in mode %d", c.slot, line, c.mode)
		}
		return
	}
	if !c.stands {
		c.t.Fatalf("slot %d got %q before it was told that %s stands", c.slot, line, c.pattern)
	}
	ns := c.namespace()
	var number int
	fmt.Sscan(words[1], &number)
	if !Match(c.pattern, words[0]) {
		c.t.Fatalf("slot %d got %q for %s", c.slot, line, c.pattern)
	}
	if number <= c.values[words[0]] {
		c.t.Fatalf("slot %d got %q after number %d of the same topic", c.slot, line, c.values[words[0]])
	}
	if c.mode != ModeLatest {
		if number <= c.seen {
			c.t.Fatalf("slot %d got %q after number %d", c.slot, line, c.seen)
		}
		c.missing(number)
	}
	c.values[words[0]] = number
	c.seen = max(c.seen, number)
	c.gap = false
	c.cursor, c.at = c.model.log[ns][number-1].Cursor, number
}

// wantUnlocked checks that nobody sends while the feed is locked: the hub may
// be waiting for that lock, and whoever is told next would wait behind it.
func (c *follower) wantUnlocked() {
	_, g, _ := c.shard.members.find(c.slot, c.pattern)
	if g == nil {
		return
	}
	for range 1000 { // a timer of the hub may have it for a moment
		if g.view.feed.mu.TryLock() {
			g.view.feed.mu.Unlock()
			return
		}
		runtime.Gosched()
	}
	c.t.Fatalf("slot %d is sent to while its feed is locked", c.slot)
}

// missing checks that nothing is between the newest message that came and the
// one that comes now, unless the client was told.
func (c *follower) missing(number int) {
	if c.gap {
		return
	}
	for i := max(c.seen, c.start); i < number-1; i++ {
		if m := c.model.log[c.namespace()][i]; Match(c.pattern, m.Topic) && !c.mayVanish(m) {
			c.t.Fatalf("slot %d in mode %d of %s: number %d after %d, from %d, and %s %s is missing (ring of %d)",
				c.slot, c.mode, c.pattern, number, c.seen, c.start, m.Topic, m.Data, c.model.hub.cfg.RingMessages)
		}
	}
}

// mayVanish reports whether a message was lost on its way and went from the
// stream before anybody looked: with interest: topic nothing tells of that.
func (c *follower) mayVanish(m Message) bool {
	if c.model.cut[c.namespace()+string(m.Data)] {
		return true
	}
	if c.namespace() != "one" {
		return false
	}
	for _, kept := range c.model.history.stream("one").kept {
		if kept.Cursor == m.Cursor {
			return false
		}
	}
	return true
}

// oldest is what a subscriber without a snapshot need not have.
func (c *follower) oldest() int {
	if c.gap {
		return len(c.model.log[c.namespace()])
	}
	return 0
}
