package topics

import (
	"slices"
	"time"
)

// Follower wants to know how one message gets through the node: a [Bus] gives it
// to the few messages that somebody follows. Its methods must not block. What is
// read of history for who fell behind, or held back for max_rate, is not told.
type Follower interface {
	// Queued says for how many shards the message stands in its feed's ring; 0:
	// nobody here hears it, or it has come before. It is called once at most, with
	// the hub locked, before any FannedOut.
	Queued(shards int)

	// FannedOut says that one of these shards has handed the message to sockets.
	// It is called by the shard's loop, once, unless the ring gave the message up
	// before the shard came to it.
	FannedOut(Stretch)
}

// Stretch is a message's way through one shard.
type Stretch struct {
	Shard       int
	Subscribers int       // connections to which it went at once; about, where some fell behind just then
	Encoded     int64     // bytes of frames made of it until now, by all shards
	Began       time.Time // zero: nobody there gets it as it comes
}

// Trail is a Follower in the room of a pointer, for every message has it.
type Trail struct{ Follower }

// handed tells an entry's follower that a shard is done with it.
func (m *Members) handed(e *entry, subscribers int, began time.Time) {
	e.Trail.FannedOut(Stretch{Shard: m.index, Subscribers: subscribers, Encoded: max(0, e.encoded.Load()), Began: began})
}

// passedOver tells followers of messages that no group of the shard gets as they come.
func (v *view) passedOver(entries []*entry) {
	for _, e := range entries {
		if e.Trail != nil {
			v.members.handed(e, 0, time.Time{})
		}
	}
}

// handed tells followers of the run that it has left.
func (fan *fanout) handed(m *Members) {
	if fan.flush != nil {
		return
	}
	for _, e := range fan.run {
		if e.Trail != nil {
			m.handed(e, fan.sent/len(fan.run), fan.began)
		}
	}
}

// handed tells followers of the entries that they have left.
func (b *blend) handed() {
	if !slices.ContainsFunc(b.entries, func(e *entry) bool { return e.Trail != nil }) {
		return
	}
	b.heard = slices.Grow(b.heard[:0], len(b.entries))[:len(b.entries)]
	clear(b.heard)
	for _, l := range b.links {
		b.heard[l.entry]++
	}
	for i, e := range b.entries {
		if e.Trail != nil {
			b.view.members.handed(e, int(b.heard[i]), b.began)
		}
	}
}
