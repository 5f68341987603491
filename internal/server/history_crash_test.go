package server

import (
	"fmt"
	"net"
	"net/url"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/pushd/pushd/internal/natstest"
	"github.com/pushd/pushd/topics"
)

// crashing is a node with the embedded server, that keeps its store and its port.
func crashing(t testing.TB) nodeSpec {
	return nodeSpec{
		NATSListen: net.JoinHostPort("127.0.0.1", strconv.Itoa(natstest.FreePort(t))),
		Store:      t.TempDir(), Ring: 64, Age: time.Hour,
	}
}

// TestAcknowledgedSurvivesKill kills a node right after it has acknowledged
// messages, over HTTP and by command: they are there afterwards, at the same
// places, and a client goes on from any of them.
func TestAcknowledgedSurvivesKill(t *testing.T) {
	n := startNode(t, crashing(t))
	const topic = "whole.x"
	first := n.subscribed()
	first.send(`{"type":"subscribe","topic":"` + topic + `"}`)
	cursors := []string{first.want("subscribed").Cursor} // by number: that after which it comes
	for round := range 3 {
		s := n.subscribed()
		for range 20 {
			number := len(cursors)
			if number%2 == 0 {
				cursors = append(cursors, n.store(topic, fmt.Sprint(number)))
				continue
			}
			s.send(fmt.Sprintf(`{"type":"publish","topic":%q,"data":%d}`, topic, number))
			cursors = append(cursors, s.want("published").Cursor)
		}
		n.end(t, syscall.SIGKILL)
		n.start(t)

		kept := n.past(topic, "limit=1000")
		if len(kept.Messages) != len(cursors)-1 {
			t.Fatalf("round %d: %d messages are kept, want %d", round, len(kept.Messages), len(cursors)-1)
		}
		for i, m := range kept.Messages {
			if string(m.Data) != fmt.Sprint(i+1) || !samePlace(t, m.Cursor, cursors[i+1]) {
				t.Errorf("round %d: %s is kept at %s, want %d at %s", round, m.Data, m.Cursor, i+1, cursors[i+1])
			}
		}
		for _, from := range []int{0, len(cursors) / 2, len(cursors) - 1} {
			s := n.dial("topic=" + topic + "&cursor=" + url.QueryEscape(cursors[from]))
			s.want("welcome")
			if m := s.want("subscribed"); m.is() != "true" {
				t.Errorf("round %d: from %d: %+v, want it recovered", round, from, m)
			}
			s.wantNumbers(topic, from+1, len(cursors)-1)
			s.conn.Close()
		}
	}
}

// samePlace compares a cursor with that of an acknowledgement, which does not
// know the time.
func samePlace(t testing.TB, a, b string) bool {
	t.Helper()
	x, err := topics.ParseCursor(a)
	if err != nil {
		t.Fatal(err)
	}
	y, err := topics.ParseCursor(b)
	if err != nil {
		t.Fatal(err)
	}
	return x.Epoch == y.Epoch && x.Seq == y.Seq
}

// TestHistoryCrash kills a node with the embedded server again and again, while
// many publish and watch.
func TestHistoryCrash(t *testing.T) {
	spec := crashing(t)
	spec.Lose = 0.02
	o := &ordeal{
		t: t, urls: []string{"nats://" + spec.NATSListen}, specs: []nodeSpec{spec}, clients: 20, messages: 2000,
		faults: []fault{nodeKilled, nodeKilled, nodeStopped},
	}
	if soaking() {
		o.clients, o.messages = 100, 60_000
		for range 3 {
			o.faults = append(o.faults, o.faults...)
		}
	}
	o.run()
}
