package topics

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// paces subscribes to at most so many values a second.
func (c *socket) paces(pattern string, rate float64) {
	c.t.Helper()
	c.wish(pattern, Want{Mode: ModeLatest, MaxRate: rate})
}

func (c *socket) wish(pattern string, want Want) {
	c.t.Helper()
	if _, _, err := c.shard.members.Subscribe(c.slot, 0, pattern, ".", want); err != nil {
		c.t.Fatal(err)
	}
	for len(c.shard.rig.bus.asked) > 0 {
		c.shard.rig.bus.answer(nil)
	}
	for _, sh := range c.shard.rig.shards {
		sh.runTasks()
	}
	c.got = nil
}

// passes lets time pass, and what is due then happen.
func (r *rig) passes(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
	r.run()
}

// synced runs a test by a clock of its own.
func synced(t *testing.T, f func(t *testing.T)) { synctest.Test(t, f) }

// Each client sees each symbol at most so often, the first value at once and
// the last in the end, and each flush is one write.
func TestConflation(t *testing.T) {
	const (
		symbols = 500
		clients = 20
		seconds = 5
		rate    = 2
	)
	synced(t, func(t *testing.T) {
		r := newRig(t, HubConfig{}, 2)
		rnd := rand.New(rand.NewPCG(1, 2))
		last := map[string]string{}
		all := make([]*socket, clients)
		got := make([]map[string]string, clients)
		for i := range all {
			c := r.connect(i%2, uint32(i))
			all[i], got[i] = c, map[string]string{}
			at := map[string]time.Time{}
			c.onFrame = func(line string) {
				topic, value, _ := strings.Cut(line, " ")
				if topic == "skipped" {
					return
				}
				now := time.Now()
				if before, ok := at[topic]; ok && now.Sub(before) < time.Second/rate {
					t.Errorf("client %d: %s twice in %v", i, topic, now.Sub(before))
				}
				at[topic], got[i][topic] = now, value
			}
			c.paces("s.*", rate)
		}
		for range seconds * 1000 {
			var topics []string
			for range 5 {
				topics = append(topics, fmt.Sprintf("s.%d", rnd.IntN(symbols)))
			}
			first := len(last) == 0
			r.publish(topics...)
			for i, topic := range topics {
				last[topic] = fmt.Sprint(r.number - 4 + i)
			}
			r.run()
			if first && len(got[0]) != len(last) {
				t.Fatalf("the first values are %v, want %v", got[0], last)
			}
			r.passes(time.Millisecond)
		}
		r.passes(time.Second)
		for i, c := range all {
			for topic, want := range last {
				if got[i][topic] != want {
					t.Errorf("client %d: %s ends on %s, want %s", i, topic, got[i][topic], want)
				}
			}
			if most := seconds*rate + 2; c.writes > most {
				t.Errorf("client %d: %d writes, want at most %d", i, c.writes, most)
			}
		}
	})
}

// How many values a value replaces is told, and what changes between is one value.
func TestConflatedValues(t *testing.T) {
	synced(t, func(t *testing.T) {
		r := newRig(t, HubConfig{}, 1)
		c := r.connect(0, 1)
		c.paces("a.*", 1)
		r.publish("a.x")
		r.run()
		c.wants("a.x 1")
		r.publish("a.x", "a.y", "a.x", "a.x")
		r.run()
		c.wants()
		r.passes(999 * time.Millisecond)
		c.wants()
		r.passes(time.Millisecond)
		c.wants("a.y 3", "skipped a.x 2", "a.x 5")
		r.passes(10 * time.Second)
		r.publish("a.y")
		r.run()
		c.wants("a.y 6")
	})
}

// A connection that falls behind by one of its subscriptions still gets what is
// held back for another.
func TestConflatedBesideAnother(t *testing.T) {
	for _, namespace := range []string{"n", "latest"} {
		for _, other := range []string{".y", ".*"} {
			t.Run(namespace+other, func(t *testing.T) {
				synced(t, func(t *testing.T) {
					h := newFakeHistory(nil)
					r := newRig(t, historyConfig(h), 1)
					x, y := namespace+".x", namespace+".y"
					publish := func(topics ...string) {
						for _, topic := range topics {
							r.number++
							m := Message{Topic: topic, Data: fmt.Append(nil, r.number)}
							if namespace != "n" {
								m = h.stream(namespace).store(topic, m.Data)
							}
							r.hub.Deliver([]Message{m})
						}
						r.run()
					}
					settle := func() {
						for h.answer(nil) {
							r.run()
						}
						r.run()
					}
					c := r.connect(0, 1)
					c.paces(x, 1)
					settle()
					c.wish(namespace+other, Want{Mode: ModeLatest})
					settle()
					publish(x)
					publish(x) // which is held back
					c.got = nil
					c.block(0)
					publish(y)
					if c.shard.members.Behind(1) != 1 {
						t.Fatal("the connection is not behind")
					}
					r.passes(2 * time.Second)
					c.drain()
					settle()
					r.passes(2 * time.Second)
					if !slices.Contains(c.got, x+" 2") || !slices.Contains(c.got, y+" 3") {
						t.Errorf("got %q, want x = 2 and y = 3 among it", c.got)
					}
					r.passes(10 * time.Second)
					c.got = nil
					publish(x)
					if want := []string{x + " 4"}; !slices.Equal(slices.Compact(c.got), want) {
						t.Errorf("then got %q, want %q", c.got, want)
					}
				})
			})
		}
	}
}

// A whole shard that was too slow says so to those who want few values as well:
// where there is no history, the last of a topic may be gone.
func TestConflatedShardLags(t *testing.T) {
	synced(t, func(t *testing.T) {
		r := newRig(t, HubConfig{RingMessages: 2}, 1)
		c, d := r.connect(0, 1), r.connect(0, 2)
		c.paces("a.*", 1)
		d.wish("a.*", Want{Mode: ModeLatest})
		r.publish("a.x", "a.y", "a.z", "a.w")
		r.run()
		r.passes(time.Second)
		d.wants("gap a.* slow", "a.z 3", "a.w 4")
		c.wants("gap a.* slow", "a.z 3", "a.w 4")
	})
}
