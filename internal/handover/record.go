package handover

import (
	"fmt"
	"time"

	"github.com/pushd/pushd/poller"
	"github.com/pushd/pushd/topics"
)

// Field numbers are never given twice, nor changed: see field.go for what odd
// ones mean.

// Hello is what a new process says first.
type Hello struct {
	Version  uint64
	Software string // version of the binary, for people
}

// Append appends the record.
func (h *Hello) Append(dst []byte) []byte {
	w := writer(dst)
	w.uint(1, h.Version)
	w.string(2, h.Software)
	return w
}

// ParseHello reads what Append made.
func ParseHello(p []byte) (h Hello, err error) {
	err = read(p, func(r *reader) {
		switch r.field {
		case 1:
			h.Version = r.uint64()
		case 2:
			h.Software = r.string()
		default:
			r.unknown()
		}
	})
	return h, err
}

// Offer is what the node is. Beside it come the listeners of the shards in their
// order, and that of the operators.
type Offer struct {
	NodeID   uint32
	NodeName string
	Started  time.Time // of this process, to the millisecond
	Others   []string  // other nodes of the cluster
	Listen   string    // as configured
	Admin    string
	Store    string // of the embedded NATS, as configured; "": NATS is external
}

// Append appends the record.
func (o *Offer) Append(dst []byte) []byte {
	w := writer(dst)
	w.uint(1, uint64(o.NodeID))
	w.string(3, o.NodeName)
	w.string(5, o.Listen)
	w.string(7, o.Admin)
	w.uint(8, uint64(max(0, o.Started.UnixMilli())))
	for _, name := range o.Others {
		w.put(10, []byte(name))
	}
	w.string(11, o.Store)
	return w
}

// ParseOffer reads what Append made.
func ParseOffer(p []byte) (o Offer, err error) {
	err = read(p, func(r *reader) {
		switch r.field {
		case 1:
			o.NodeID = r.uint32()
		case 3:
			o.NodeName = r.string()
		case 5:
			o.Listen = r.string()
		case 7:
			o.Admin = r.string()
		case 8:
			o.Started = time.UnixMilli(int64(r.uint(1<<62 - 1)))
		case 10:
			o.Others = append(o.Others, r.string())
		case 11:
			o.Store = r.string()
		default:
			r.unknown()
		}
	})
	return o, err
}

// Interests is what clients are subscribed to, and which names each shard has given.
type Interests struct {
	Patterns []string
	Shards   []Names
}

// Names bounds the slots and generations of a shard.
type Names struct{ Slots, Generation uint32 }

// Append appends the record.
func (in *Interests) Append(dst []byte) []byte {
	w := writer(dst)
	for _, pattern := range in.Patterns {
		w.put(1, []byte(pattern))
	}
	for _, n := range in.Shards {
		w.record(3, func(w *writer) {
			w.uint(1, uint64(n.Slots))
			w.uint(3, uint64(n.Generation))
		})
	}
	return w
}

// ParseInterests reads what Append made.
func ParseInterests(p []byte) (in Interests, err error) {
	err = read(p, func(r *reader) {
		switch r.field {
		case 1:
			in.Patterns = append(in.Patterns, r.string())
		case 3:
			var n Names
			r.record(func(r *reader) {
				switch r.field {
				case 1:
					n.Slots = r.uint32()
				case 3:
					n.Generation = r.uint32()
				default:
					r.unknown()
				}
			})
			in.Shards = append(in.Shards, n)
		default:
			r.unknown()
		}
	})
	return in, err
}

// Sockets names the connections of a shard whose sockets come beside it, in
// their order.
type Sockets struct {
	Shard int
	IDs   []poller.Token
}

// Append appends the record.
func (s *Sockets) Append(dst []byte) []byte {
	w := writer(dst)
	w.uint(1, uint64(s.Shard))
	for _, id := range s.IDs {
		w.record(3, func(w *writer) { appendID(w, id) })
	}
	return w
}

// ParseSockets reads what Append made.
func ParseSockets(p []byte) (s Sockets, err error) {
	err = read(p, func(r *reader) {
		switch r.field {
		case 1:
			s.Shard = int(r.uint(topics.MaxShards - 1))
		case 3:
			var slot, generation uint32
			r.record(func(r *reader) {
				switch r.field {
				case 1:
					slot = r.uint32()
				case 3:
					generation = r.uint32()
				default:
					r.unknown()
				}
			})
			s.IDs = append(s.IDs, poller.NewToken(slot, generation))
		default:
			r.unknown()
		}
	})
	return s, err
}

// AppendFeed appends the record of a feed.
func AppendFeed(dst []byte, f *topics.CarriedFeed) []byte {
	w := writer(dst)
	w.string(1, f.Interest.Name)
	w.bool(3, f.Interest.Namespace)
	w.uint(5, f.Last)
	w.uint(7, f.Floor)
	w.uint(9, f.MarkEvicted)
	for i := range f.Subs {
		s := &f.Subs[i]
		w.record(11, func(w *writer) {
			w.string(1, s.Pattern)
			w.uint(3, s.Life)
			w.uint(5, s.Evicted)
			w.bool(7, s.Polled)
		})
	}
	for i := range f.Entries {
		e := &f.Entries[i]
		w.record(13, func(w *writer) {
			w.uint(1, e.Seq)
			w.string(3, e.Topic)
			w.bytes(5, e.Data)
			w.uint(7, uint64(max(e.Time, 0)))
			w.bool(9, e.Lost)
			w.uint(11, uint64(e.Why))
		})
	}
	for i := range f.Recent {
		w.bytes(15, f.Recent[i][:])
	}
	return w
}

// ParseFeed reads what AppendFeed made. Data is a view of p.
func ParseFeed(p []byte) (f topics.CarriedFeed, err error) {
	err = read(p, func(r *reader) {
		switch r.field {
		case 1:
			f.Interest.Name = r.string()
		case 3:
			f.Interest.Namespace = r.bool()
		case 5:
			f.Last = r.uint64()
		case 7:
			f.Floor = r.uint64()
		case 9:
			f.MarkEvicted = r.uint64()
		case 11:
			f.Subs = append(f.Subs, readFeedSub(r))
		case 13:
			f.Entries = append(f.Entries, readEntry(r))
		case 15:
			var d topics.Digest
			if copy(d[:], r.value) != len(r.value) {
				r.fail(errRecord)
			}
			f.Recent = append(f.Recent, d)
		default:
			r.unknown()
		}
	})
	return f, err
}

func readFeedSub(r *reader) (s topics.CarriedSub) {
	r.record(func(r *reader) {
		switch r.field {
		case 1:
			s.Pattern = r.string()
		case 3:
			s.Life = r.uint64()
		case 5:
			s.Evicted = r.uint64()
		case 7:
			s.Polled = r.bool()
		default:
			r.unknown()
		}
	})
	return s
}

func readEntry(r *reader) (e topics.CarriedEntry) {
	r.record(func(r *reader) {
		switch r.field {
		case 1:
			e.Seq = r.uint64()
		case 3:
			e.Topic = r.string()
		case 5:
			e.Data = r.value
		case 7:
			e.Time = int64(r.uint(1<<63 - 1))
		case 9:
			e.Lost = r.bool()
		case 11:
			e.Why = topics.LossReason(r.uint(uint64(topics.NumLossReasons) - 1))
		default:
			r.unknown()
		}
	})
	return e
}

// Rights is what clients may do who are said to have the number.
type Rights struct {
	Number    uint64
	Subscribe []string
	Publish   []string
}

// Append appends the record.
func (g *Rights) Append(dst []byte) []byte {
	w := writer(dst)
	w.uint(1, g.Number)
	for _, s := range g.Subscribe {
		w.put(3, []byte(s))
	}
	for _, s := range g.Publish {
		w.put(5, []byte(s))
	}
	return w
}

// ParseRights reads what Append made.
func ParseRights(p []byte) (g Rights, err error) {
	err = read(p, func(r *reader) {
		switch r.field {
		case 1:
			g.Number = r.uint64()
		case 3:
			g.Subscribe = append(g.Subscribe, r.string())
		case 5:
			g.Publish = append(g.Publish, r.string())
		default:
			r.unknown()
		}
	})
	return g, err
}

// AppendEnd appends how many connections there were.
func AppendEnd(dst []byte, connections int) []byte {
	w := writer(dst)
	w.uint(1, uint64(connections))
	return w
}

// ParseEnd reads what AppendEnd made.
func ParseEnd(p []byte) (connections int, err error) {
	err = read(p, func(r *reader) {
		if r.field != 1 {
			r.unknown()
			return
		}
		connections = r.int()
	})
	return connections, err
}

// Session is that a client has shown who it is.
type Session struct {
	Identity string
	Rights   uint64        // number; 0: everything
	Expires  uint32        // in seconds since the epoch; 0: never
	Left     time.Duration // until then
}

func (s *Session) append(w *writer) {
	w.string(1, s.Identity)
	w.uint(3, s.Rights)
	w.uint(5, uint64(s.Expires))
	w.duration(7, s.Left)
}

func readSession(r *reader) *Session {
	s := &Session{}
	r.record(func(r *reader) {
		switch r.field {
		case 1:
			s.Identity = r.string()
		case 3:
			s.Rights = r.uint64()
		case 5:
			s.Expires = r.uint32()
		case 7:
			s.Left = r.duration()
		default:
			r.unknown()
		}
	})
	return s
}

// CheckVersion compares what the other side speaks with what this one does.
func CheckVersion(theirs uint64) error {
	if theirs != Version {
		return fmt.Errorf("the other binary hands over in version %d, and this one in %d: restart pushd instead (pushd drain spares the clients the rush)", theirs, Version)
	}
	return nil
}
