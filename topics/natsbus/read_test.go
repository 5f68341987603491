package natsbus

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/pushd/pushd/topics"
)

// TestBatch holds the sink up: what piles up comes in batches, whole and in order.
func TestBatch(t *testing.T) {
	b, r := openEmbedded(t)
	mustSubscribe(t, b, topic("a"))
	release := r.holdUp(t)
	mustPublish(t, b, "a", "0")
	wait(t, r.held, "Deliver")
	var want []string
	for i := range 1000 {
		want = append(want, strconv.Itoa(i))
		if i > 0 {
			mustPublish(t, b, "a", strconv.Itoa(i))
		}
	}
	eventually(t, "all wait", func() bool { return b.State().Pending == 999 })
	release()
	r.awaitMessage(t, "999")
	if got := r.messages(); !slices.Equal(got, want) {
		t.Fatalf("%d messages, or not in order", len(got))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if want := []int{1, 256, 256, 256, 231}; !slices.Equal(r.batches, want) {
		t.Errorf("batches of %v, want %v", r.batches, want)
	}
}

// TestPendingFull drops messages at a small channel, and wants them counted
// exactly and told, behind the messages that came before.
func TestPendingFull(t *testing.T) {
	b, r := open(t, Config{Listen: "127.0.0.1:0", Pending: 16})
	full, quiet := namespace("full"), topic("quiet")
	mustSubscribe(t, b, full, quiet)
	nc := client(t, b.ClientURL())

	for round := range 3 {
		const n = 2000
		release := r.holdUp(t)
		for i := range n {
			if err := nc.Publish("push.full.a", []byte(fmt.Sprintf("%d/%d", round, i))); err != nil {
				t.Fatal(err)
			}
			if i == 0 { // the reader must be held before the flood, or it takes part of it along
				wait(t, r.held, "Deliver")
			}
		}
		if err := nc.Flush(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "a full channel", func() bool { return b.State().Pending == 16 })
		told := r.count(func(e event) bool { return e.lost == full })
		release()
		r.await(t, "Lost", func([]event) bool { return r.count(func(e event) bool { return e.lost == full }) > told })
		eventually(t, "every message delivered or counted", func() bool {
			return uint64(len(r.messages()))+b.State().Dropped[DropPendingFull] == uint64(round+1)*(n+1)-1
		})
		next := fmt.Sprintf("%d/next", round)
		mustPublish(t, b, "full", next)
		r.awaitMessage(t, next)
	}

	lostSeen := false
	var round, last int
	for i, e := range r.all() {
		switch {
		case e.lost != topics.Interest{}:
			if e.lost != full {
				t.Errorf("lost %+v", e.lost)
			}
			if i == 0 {
				t.Error("Lost came before the messages that preceded the loss")
			}
			lostSeen = true
		case strings.HasSuffix(e.data, "next"):
			if !lostSeen {
				t.Errorf("%s without a Lost before it", e.data)
			}
			round, last, lostSeen = round+1, -1, false
		default:
			var inRound, number int
			if _, err := fmt.Sscanf(e.data, "%d/%d", &inRound, &number); err != nil {
				t.Fatal(err)
			}
			if inRound != round || number <= last && number != 0 {
				t.Errorf("message %s after %d/%d", e.data, round, last)
			}
			last = number
		}
	}
}

func TestInvalidTopics(t *testing.T) {
	b, r := openEmbedded(t)
	mustSubscribe(t, b, namespace("ns"))
	nc := client(t, b.ClientURL())
	deep := "push.ns" + strings.Repeat(".x", topics.MaxTokens)
	long := "push.ns." + strings.Repeat("x", topics.MaxLength)
	bad := []string{"push.ns.a!", "push.ns.$a", "push.ns.ä", deep, long}
	for _, subject := range append(bad, "push.ns.good") {
		if err := nc.Publish(subject, []byte(subject)); err != nil {
			t.Fatal(err)
		}
	}
	r.awaitMessage(t, "push.ns.good")
	if got := r.messages(); len(got) != 1 {
		t.Errorf("delivered %q", got)
	}
	if got := b.State(); got.Dropped[DropInvalidTopic] != uint64(len(bad)) || got.Received != uint64(len(bad)+1) {
		t.Errorf("state %+v", got)
	}
}

// TestMaxMessage sends messages of the limit and above it: these are dropped,
// and each interest that misses some is told so once for a batch.
func TestMaxMessage(t *testing.T) {
	b, r := open(t, Config{Listen: "127.0.0.1:0", MaxMessage: 100})
	mustSubscribe(t, b, namespace("ns"), topic("user.1"), topic("small"))
	fits, large := strings.Repeat("x", 100), strings.Repeat("x", 101)

	release := r.holdUp(t)
	mustPublish(t, b, "small", "first")
	wait(t, r.held, "Deliver") // all that follows is one batch
	for _, topic := range []string{"ns", "ns.a", "ns.b", "user.1", "user.1"} {
		mustPublish(t, b, topic, large)
	}
	mustPublish(t, b, "ns.a", fits)
	mustPublish(t, b, "small", fits)
	eventually(t, "all wait", func() bool { return b.State().Pending == 7 })
	release()
	lost := func(in topics.Interest) int {
		return r.count(func(e event) bool { return e.lost == in })
	}
	r.await(t, "Lost", func([]event) bool { return lost(namespace("ns")) > 0 && lost(topic("user.1")) > 0 })
	mustSubscribe(t, b, topic("barrier")) // what was to be told is on its way
	mustPublish(t, b, "small", "last")
	r.awaitMessage(t, "last")
	if ns, user := lost(namespace("ns")), lost(topic("user.1")); ns != 1 || user != 1 || lost(topic("small")) != 0 {
		t.Errorf("lost told: %+v", r.all())
	}
	if got, want := r.messages(), []string{"first", fits, fits, "last"}; !slices.Equal(got, want) {
		t.Errorf("delivered %q, want %q", got, want)
	}
	if got := b.State(); got.Dropped[DropTooLarge] != 5 || got.Received != 9 {
		t.Errorf("state %+v", got)
	}
}

// TestLossIsToldBehind tells of losses while a thousand messages wait: the
// sink must hear of them behind those messages, and not at the end of time.
func TestLossIsToldBehind(t *testing.T) {
	const waiting = 1000
	arrived := make(chan *nats.Msg, 4*waiting)
	send := func(n int) {
		for range n {
			arrived <- &nats.Msg{Subject: "push.a"}
		}
	}
	sink := newRecorder()
	r := newReader(arrived, "push", nil, 0)
	r.sink = sink
	send(waiting)
	r.tell(topic("a"))
	r.tellAll()
	send(waiting)

	var running sync.WaitGroup
	running.Go(r.run)
	sink.await(t, "LostAll", func(events []event) bool { return len(events) == 2*waiting+2 })
	close(r.stop)
	running.Wait()

	for i, e := range sink.all() {
		if e.topic == "" && (i < waiting || i > waiting+2*maxBatch) {
			t.Errorf("loss told at %d, behind %d messages that waited: %+v", i, waiting, e)
		}
	}
}
