package server

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pushd/pushd/internal/config"
	"github.com/pushd/pushd/topics"
)

// What becomes of a history under those who are away, or slow.

// cutHistory is a node, and the history that is about to lose something.
type cutHistory struct {
	*running
	js        jetstream.JetStream
	namespace string
	published []sighting // in order; their seq is of several streams
}

func startCut(t *testing.T, namespace string, spec nodeSpec) *cutHistory {
	r := start(t, func(c *config.Config) { spec.Ring = 16; *c = spec.config() })
	js, err := jetstream.New(r.backend())
	if err != nil {
		t.Fatal(err)
	}
	return &cutHistory{running: r, js: js, namespace: namespace}
}

func (c *cutHistory) topic() string  { return c.namespace + ".x" }
func (c *cutHistory) stream() string { return "push_" + c.namespace }

// publish publishes so many messages of about size bytes to the topic, and one
// to another after each. Data is a number that goes up.
func (c *cutHistory) publish(count, size int) {
	c.t.Helper()
	for range count {
		for _, topic := range []string{c.topic(), c.namespace + ".other"} {
			n := len(c.published) + 1
			body := fmt.Appendf(nil, `{"n":%d,"padding":%q}`, n, strings.Repeat("x", size))
			ack, err := c.js.Publish(context.Background(), "push."+topic, body)
			if err != nil {
				c.t.Fatal(err)
			}
			c.published = append(c.published, sighting{ack.Sequence, n, topic})
		}
	}
}

// count is how many messages the stream has.
func (c *cutHistory) count() uint64 {
	c.t.Helper()
	s, err := c.js.Stream(context.Background(), c.stream())
	if err != nil {
		c.t.Fatal(err)
	}
	return s.CachedInfo().State.Msgs
}

// keptOf is what the stream has of a topic, and is not about to expire.
func (c *cutHistory) keptOf(topic string) []sighting {
	c.t.Helper()
	if age := c.cfg.Namespaces[c.namespace].History.Age; age > 0 && age < time.Minute {
		return nil
	}
	return slices.DeleteFunc(streamed(c.t, c.js, c.namespace), func(s sighting) bool { return s.topic != topic })
}

// cut is a way in which a history loses something.
type cut struct {
	name   string
	spec   nodeSpec
	size   int // of messages
	happen func(c *cutHistory)
	told   string
}

var cuts = []cut{
	{"purged", nodeSpec{Age: time.Hour}, 4 << 10, func(c *cutHistory) { c.purge(0) }, "expired"},
	{"purged in part", nodeSpec{Age: time.Hour}, 4 << 10, func(c *cutHistory) { c.purge(c.published[len(c.published)-6].seq) }, "expired"},
	{"limited by bytes", nodeSpec{Bytes: 256 << 10}, 4 << 10, func(c *cutHistory) { c.publish(100, 4<<10) }, "expired"},
	{"limited by age", nodeSpec{Age: time.Second}, 4 << 10, func(c *cutHistory) {
		eventually(c.t, "everything expires", func() bool { return c.count() == 0 })
	}, "expired"},
	{"made anew", nodeSpec{Age: time.Hour}, 4 << 10, (*cutHistory).renew, "restarted"},
}

func (c *cutHistory) purge(below uint64) {
	c.t.Helper()
	s, err := c.js.Stream(context.Background(), c.stream())
	if err == nil && below > 0 {
		err = s.Purge(context.Background(), jetstream.WithPurgeSequence(below))
	} else if err == nil {
		err = s.Purge(context.Background())
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

// renew deletes the stream, and has the node make it again.
func (c *cutHistory) renew() {
	c.t.Helper()
	if err := c.js.DeleteStream(context.Background(), c.stream()); err != nil {
		c.t.Fatal(err)
	}
	eventually(c.t, "the stream is there again", func() bool {
		n := len(c.published) + 1
		status, answer := c.post("/publish/"+c.topic(), "", fmt.Sprintf(`{"n":%d}`, n), "")
		if status != 200 {
			return false
		}
		at, err := topics.ParseCursor(cursorOf(answer))
		if err != nil {
			c.t.Fatal(err)
		}
		c.published = append(c.published, sighting{at.Seq, n, c.topic()})
		return true
	})
}

// TestCutWhileAway has a client come back after its history has lost something
// of what it missed: it is told, and gets what is there.
func TestCutWhileAway(t *testing.T) {
	f := func(k cut, namespace string) {
		t.Run(k.name+", "+namespace, func(t *testing.T) {
			t.Parallel()
			c := startCut(t, namespace, k.spec)
			s := c.subscribed()
			s.send(`{"type":"subscribe","topic":"` + c.topic() + `"}`)
			cursor := s.want("subscribed").Cursor
			c.publish(5, 100)
			for range 5 {
				cursor = s.want("message").Cursor
			}
			s.conn.Close()
			c.publish(50, k.size)
			k.happen(c)
			c.publish(2, 100)

			s = c.dial("topic=" + c.topic() + "&cursor=" + url.QueryEscape(cursor))
			s.want("welcome")
			back := s.want("subscribed")
			// Of a stream that was made anew just now, the node may hear a moment later.
			if back.is() != k.told && !(back.is() == "true" && k.told == "restarted") {
				t.Fatalf("told %+v, want it not recovered: %s", back, k.told)
			}
			c.follow(s, c.published[8].n, back.is() != "true", k.told)
		})
	}
	for _, k := range cuts {
		f(k, wholeNamespace)
		f(k, apartNamespace)
	}
}

// TestCutWhileSlow has a client not read while its history loses something of
// what it has not had: it is told, and gets what is there.
func TestCutWhileSlow(t *testing.T) {
	f := func(k cut, namespace string) {
		t.Run(k.name+", "+namespace, func(t *testing.T) {
			t.Parallel()
			c := startCut(t, namespace, k.spec)
			s, err := openSocket(context.Background(), &net.Dialer{Control: smallBuffer}, "ws://"+c.Addr()+"/ws")
			if err != nil {
				t.Fatal(err)
			}
			defer s.conn.Close()
			s.t = t
			s.want("welcome")
			s.subscribe(c.topic())
			c.publish(200, k.size)
			eventually(t, "the client is behind", func() bool {
				n := int64(0)
				for _, sh := range c.shards {
					n += sh.members.Counts().Behind
				}
				return n == 1
			})
			k.happen(c)
			c.publish(2, 100)
			c.follow(s, 0, false, k.told)
		})
	}
	for _, k := range cuts {
		f(k, wholeNamespace)
		f(k, apartNamespace)
	}
}

// follow reads up to the last message of the topic, and then one more that it
// publishes. Between those that come nothing may be missing unless it is told
// of, for the reason given; and what is kept must come once it was told.
func (c *cutHistory) follow(s *socket, last int, told bool, reason string) {
	c.t.Helper()
	kept := map[int]bool{}
	for _, k := range c.keptOf(c.topic()) {
		kept[k.n] = true
	}
	gaps := 0
	if told {
		gaps++
	}
	for more := 1; ; more-- {
		mine := slices.DeleteFunc(slices.Clone(c.published), func(p sighting) bool { return p.topic != c.topic() })
		for last != mine[len(mine)-1].n {
			m := s.receive()
			switch {
			case m.Type == "gap" && m.Topic == c.topic() && m.Reason == reason:
				told = true
				gaps++
				continue
			case m.Type != "message" || m.Topic != c.topic():
				c.t.Fatalf("got %+v after %d, want a message, or a gap: %s", m, last, reason)
			}
			n := numberOf(m)
			for _, p := range mine {
				if p.n <= last || p.n >= n {
					continue
				}
				if !told || kept[p.n] {
					c.t.Fatalf("got %d after %d without %d; told of a gap: %v, kept: %v", n, last, p.n, told, kept[p.n])
				}
			}
			if n <= last {
				c.t.Fatalf("got %d after %d", n, last)
			}
			last, told = n, false
		}
		if more == 0 {
			break
		}
		c.publish(1, 100)
	}
	if gaps == 0 {
		c.t.Error("nothing was told")
	}
}
