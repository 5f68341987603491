package topics

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// rig is a hub and its shards, all run by hand on the test's goroutine: what
// happens when is the test's choice alone.
type rig struct {
	t      testing.TB
	bus    *fakeBus
	hub    *Hub
	shards []*shard
	number int // of the latest message
}

func newRig(t testing.TB, cfg HubConfig, shards int) *rig {
	r := &rig{t: t, bus: &fakeBus{standing: make(map[Interest]bool)}}
	if cfg.Settings == nil {
		cfg.Settings = func(namespace string) Settings { return Settings{ByTopic: namespace == "user"} }
	}
	cfg.Final = func(err error) bool { return errors.Is(err, errDenied) }
	r.hub = NewHub(cfg, r.bus, lines{})
	for range shards {
		sh := &shard{rig: r, sockets: make(map[uint32]*socket)}
		sh.members = NewMembers(r.hub, sh, sh.post, 8)
		r.shards = append(r.shards, sh)
	}
	return r
}

// fakeBus notes what it is asked, and answers when the test says so.
type fakeBus struct {
	standing map[Interest]bool
	asked    []question
}

type question struct {
	in    Interest
	ready func(error)
}

func (b *fakeBus) Subscribe(in Interest, ready func(error)) {
	if b.standing[in] {
		panic(fmt.Sprintf("%v is wanted twice", in))
	}
	b.standing[in] = true
	b.asked = append(b.asked, question{in, ready})
}

func (b *fakeBus) Unsubscribe(in Interest) {
	if !b.standing[in] {
		panic(fmt.Sprintf("%v is ended, and was not wanted", in))
	}
	delete(b.standing, in)
}

// errDenied is an answer that rigs take for final.
var errDenied = errors.New("denied")

// answer calls ready for the oldest question that has had no answer.
func (b *fakeBus) answer(err error) {
	if len(b.asked) > 0 {
		q := b.asked[0]
		b.asked = b.asked[1:]
		q.ready(err)
	}
}

// lines is an Encoder whose frames are lines, except that format 1 cannot tell of gaps.
type lines struct{}

func (lines) Message(_ Format, m *Message) []byte {
	return fmt.Appendf(nil, "%s %s\n", m.Topic, m.Data)
}

func (lines) Like(f Format, _ *Message) Format { return f }

func (lines) Gap(f Format, pattern string, why LossReason, _, _ Cursor) []byte {
	if f == 1 {
		return nil
	}
	return fmt.Appendf(nil, "gap %s %s\n", pattern, why)
}

func (lines) Skipped(f Format, topic string, count int) []byte {
	if f == 1 {
		return nil
	}
	return fmt.Appendf(nil, "skipped %s %d\n", topic, count)
}

// shard has a Members, the tasks posted to it, and sockets.
type shard struct {
	rig     *rig
	members *Members
	sockets map[uint32]*socket

	onStanding func(slot uint32, pattern string, st Standing, err error)

	// Guarded by mu, for timers post too.
	mu    sync.Mutex
	tasks []Task
}

func (sh *shard) post(t Task) bool {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.tasks = append(sh.tasks, t)
	return true
}

// posted takes what was posted up to now.
func (sh *shard) posted() (tasks []Task) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	tasks, sh.tasks = sh.tasks, nil
	return tasks
}

// socket is the client's end of a connection.
type socket struct {
	t     testing.TB
	shard *shard
	slot  uint32

	room     int  // frames that it takes, until it drains; -1: any number
	refused  bool // Drained is due
	got      []string
	writes   int // in which that came
	onFrame  func(line string)
	onStand  func(pattern string)
	onRefuse func(pattern string)
}

const endless = -1

// connect puts a new client into a slot of a shard.
func (r *rig) connect(shard int, slot uint32) *socket {
	sh := r.shards[shard]
	c := &socket{t: r.t, shard: sh, slot: slot, room: endless}
	sh.sockets[slot] = c
	return c
}

// Send implements Sender.
func (sh *shard) Send(slot uint32, frames []byte) Outcome { return sh.SendCopy(slot, frames) }

// SendCopy implements Sender. As on a real socket, what is begun is taken whole.
func (sh *shard) SendCopy(slot uint32, p []byte) Outcome {
	c := sh.sockets[slot]
	if c == nil {
		return Gone
	}
	if c.room == 0 {
		c.refused = true
		return Blocked
	}
	c.writes++
	all := slices.Collect(strings.Lines(string(p)))
	if c.room > 0 {
		c.room = max(0, c.room-len(all))
	}
	for _, line := range all {
		line = strings.TrimSuffix(line, "\n")
		c.got = append(c.got, line)
		if c.onFrame != nil {
			c.onFrame(line)
		}
	}
	return Sent
}

// Subscribed implements Sender.
func (sh *shard) Subscribed(slot uint32, pattern, tag string, st Standing, err error) {
	if sh.onStanding != nil {
		sh.onStanding(slot, pattern, st, err)
		return
	}
	c := sh.sockets[slot]
	if err != nil {
		c.got = append(c.got, fmt.Sprintf("refused %s %s: %v", pattern, tag, err))
		if c.onRefuse != nil {
			c.onRefuse(pattern)
		}
		return
	}
	c.got = append(c.got, fmt.Sprintf("subscribed %s %s", pattern, tag))
	if c.onStand != nil {
		c.onStand(pattern)
	}
}

// FannedOut implements Sender.
func (sh *shard) FannedOut(int, time.Duration) {}

// runTasks runs what was posted to a shard up to now, and reports whether that was anything.
func (sh *shard) runTasks() bool {
	tasks := sh.posted()
	for _, t := range tasks {
		t.Run()
	}
	return len(tasks) > 0
}

// run lets the shards do all that there is to do.
func (r *rig) run() {
	for more := true; more; {
		more = false
		for _, sh := range r.shards {
			ran := sh.runTasks()
			more = sh.members.Turn() || ran || more
		}
	}
}

// publish delivers one message to each topic, in one batch. Its data is a number
// that goes up with each.
func (r *rig) publish(topics ...string) {
	var batch []Message
	for _, topic := range topics {
		r.number++
		batch = append(batch, Message{Topic: topic, Data: fmt.Append(nil, r.number)})
	}
	r.hub.Deliver(batch)
}

// subscribe subscribes, and has the bus answer at once.
func (c *socket) subscribe(patterns ...string) {
	c.t.Helper()
	for _, pattern := range patterns {
		if _, _, err := c.shard.members.Subscribe(c.slot, 0, pattern, ".", Want{}); err != nil {
			c.t.Fatal(err)
		}
		for len(c.shard.rig.bus.asked) > 0 {
			c.shard.rig.bus.answer(nil)
		}
		for _, sh := range c.shard.rig.shards {
			sh.runTasks()
		}
	}
	c.got = nil
}

func (c *socket) unsubscribe(pattern string) {
	c.t.Helper()
	if !c.shard.members.Unsubscribe(c.slot, pattern) {
		c.t.Errorf("slot %d was not subscribed to %s", c.slot, pattern)
	}
}

func (c *socket) leave() {
	c.shard.members.Leave(c.slot)
	delete(c.shard.sockets, c.slot)
}

// block has the socket take so many frames more.
func (c *socket) block(room int) { c.room = room }

// drain has the socket take everything again.
func (c *socket) drain() {
	c.room = endless
	if c.refused {
		c.refused = false
		c.shard.members.Drained(c.slot)
	}
}

// wants compares what the client got since it was last asked.
func (c *socket) wants(want ...string) {
	c.t.Helper()
	if !slices.Equal(c.got, want) {
		c.t.Errorf("slot %d got %q, want %q", c.slot, c.got, want)
	}
	c.got = nil
}
