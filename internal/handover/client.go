package handover

import (
	"encoding"
	"net/netip"
	"time"

	"github.com/gobwas/ws"

	"github.com/pushd/pushd/conn"
	"github.com/pushd/pushd/poller"
	"github.com/pushd/pushd/topics"
)

// Client is all that one process knows of a connection.
type Client struct {
	Shard   int
	Conn    conn.Carried
	Subs    []topics.Carried
	Session *Session // nil: it has shown nothing
	Ahead   bool     // its socket was among Sockets; else it comes beside the message, in the order of those

	// What the server knows of it, in its own numbers.
	Shape    uint8
	Strikes  uint8
	Standing uint8
	Denials  uint8
	Lead     uint8
	Owes     bool // it has yet to show a token

	OwesWithin time.Duration // how long it has for that; 0: as long as any
}

// Append appends the record of one of the clients of a message.
func (c *Client) Append(dst []byte) []byte {
	w := writer(dst)
	w.record(1, func(w *writer) {
		w.uint(1, uint64(c.Shard))
		w.record(3, func(w *writer) { appendConn(w, &c.Conn) })
		for i := range c.Subs {
			w.record(5, func(w *writer) { appendSub(w, &c.Subs[i]) })
		}
		if c.Session != nil {
			w.record(7, c.Session.append)
		}
		w.uint(9, uint64(c.Shape))
		w.uint(10, uint64(c.Strikes))
		w.uint(11, uint64(c.Standing))
		w.uint(12, uint64(c.Denials))
		w.uint(14, uint64(c.Lead))
		w.bool(15, c.Owes)
		w.bool(17, c.Ahead)
		w.duration(18, c.OwesWithin)
	})
	return w
}

// ParseClients reads the clients of a message. Each is yield's until it returns;
// bytes are views of p.
func ParseClients(p []byte, yield func(*Client) error) error {
	var c Client
	return read(p, func(r *reader) {
		if r.field != 1 {
			r.unknown()
			return
		}
		c = Client{Subs: c.Subs[:0]}
		if readClient(r, &c); r.err == nil {
			r.fail(yield(&c))
		}
	})
}

func readClient(r *reader, c *Client) {
	r.record(func(r *reader) {
		switch r.field {
		case 1:
			c.Shard = int(r.uint(topics.MaxShards - 1))
		case 3:
			readConn(r, &c.Conn)
		case 5:
			c.Subs = append(c.Subs, readSub(r))
		case 7:
			c.Session = readSession(r)
		case 9:
			c.Shape = r.uint8()
		case 10:
			c.Strikes = r.uint8()
		case 11:
			c.Standing = r.uint8()
		case 12:
			c.Denials = r.uint8()
		case 14:
			c.Lead = r.uint8()
		case 15:
			c.Owes = r.bool()
		case 17:
			c.Ahead = r.bool()
		case 18:
			c.OwesWithin = r.duration()
		default:
			r.unknown()
		}
	})
}

func appendSub(w *writer, s *topics.Carried) {
	w.string(1, s.Pattern)
	w.uint(3, uint64(s.Mode))
	w.duration(5, s.Window)
	w.uint(7, uint64(s.At.Cursor.Epoch))
	w.uint(9, s.At.Cursor.Seq)
	w.uint(10, uint64(s.At.Cursor.Stamp))
	w.uint(11, s.At.Ring.Life)
	w.uint(13, s.At.Ring.Entry)
}

func readSub(r *reader) (s topics.Carried) {
	r.record(func(r *reader) {
		switch r.field {
		case 1:
			s.Pattern = r.string()
		case 3:
			s.Mode = topics.Mode(r.uint8())
		case 5:
			s.Window = r.duration()
		case 7:
			s.At.Cursor.Epoch = r.uint32()
		case 9:
			s.At.Cursor.Seq = r.uint64()
		case 10:
			s.At.Cursor.Stamp = r.uint32()
		case 11:
			s.At.Ring.Life = r.uint64()
		case 13:
			s.At.Ring.Entry = r.uint64()
		default:
			r.unknown()
		}
	})
	return s
}

func appendConn(w *writer, c *conn.Carried) {
	appendID(w, c.ID)
	w.uint(5, uint64(c.Stage))
	for i, is := range flagsOf(c) {
		w.bool(uint64(7+2*i), *is)
	}
	if c.Client.IsValid() {
		appendText(w, 41, c.Client)
	}
	if c.Network.IsValid() {
		appendText(w, 43, c.Network)
	}
	w.bool(58, c.Again)
	if c.Served.IsValid() {
		appendText(w, 60, c.Served)
	}
	w.uint(45, uint64(c.Heard))
	w.duration(46, c.SinceReceived)
	w.duration(48, c.SinceSent)
	w.duration(52, c.SinceStalled)
	w.bytes(53, c.Unsent)
	w.bytes(55, c.Head)
	if p := &c.Partial; p.InFrame || p.Op != 0 || len(p.Header) > 0 {
		w.record(57, func(w *writer) { appendPartial(w, p) })
	}
}

func appendID(w *writer, id poller.Token) {
	w.uint(1, uint64(id.Slot()))
	w.uint(3, uint64(id.Generation()))
}

// flagsOf are the fields 7, 9, … of a connection, in an order that only grows.
func flagsOf(c *conn.Carried) [12]*bool {
	return [12]*bool{&c.Stream, &c.Deflates, &c.Adopted, &c.Proxied, &c.Unlimited, &c.Ended, &c.Paced, &c.Pinged, &c.Waits, &c.Blocked, &c.Backlog, &c.Throttled}
}

func readConn(r *reader, c *conn.Carried) {
	var slot, generation uint32
	flags := flagsOf(c)
	r.record(func(r *reader) {
		if i := (r.field - 7) / 2; r.field >= 7 && r.field%2 == 1 && i < uint64(len(flags)) {
			*flags[i] = r.bool()
			return
		}
		switch r.field {
		case 1:
			slot = r.uint32()
		case 3:
			generation = r.uint32()
		case 5:
			c.Stage = conn.Stage(r.uint8())
		case 41:
			c.Client = readText(r, netip.ParseAddr)
		case 43:
			c.Network = readText(r, netip.ParsePrefix)
		case 45:
			c.Heard = r.uint32()
		case 46:
			c.SinceReceived = r.duration()
		case 48:
			c.SinceSent = r.duration()
		case 52:
			c.SinceStalled = r.duration()
		case 53:
			c.Unsent = r.value
		case 55:
			c.Head = r.value
		case 57:
			c.Partial = readPartial(r)
		case 58:
			c.Again = r.bool()
		case 60:
			c.Served = readText(r, netip.ParsePrefix)
		default:
			r.unknown()
		}
	})
	c.ID = poller.NewToken(slot, generation)
}

func appendText[T encoding.TextAppender](w *writer, field uint64, v T) {
	var room [64]byte
	text, _ := v.AppendText(room[:0]) // of addresses there is no error
	w.bytes(field, text)
}

func readText[T any](r *reader, parse func(string) (T, error)) T {
	v, err := parse(r.string())
	if err != nil {
		r.fail(err)
	}
	return v
}

func appendPartial(w *writer, p *conn.Partial) {
	w.bytes(1, p.Header)
	if p.InFrame {
		w.record(3, func(w *writer) {
			w.bool(1, p.Frame.Fin)
			w.uint(3, uint64(p.Frame.Rsv))
			w.uint(5, uint64(p.Frame.OpCode))
			w.bool(7, p.Frame.Masked)
			w.bytes(9, p.Frame.Mask[:])
			w.uint(11, uint64(p.Frame.Length))
		})
	}
	w.uint(5, uint64(p.Missing))
	w.bytes(7, p.Control)
	w.uint(9, uint64(p.Op))
	w.bool(11, p.Deflated)
	w.bytes(13, p.Body)
	w.uint(15, uint64(p.Valid))
}

func readPartial(r *reader) (p conn.Partial) {
	r.record(func(r *reader) {
		switch r.field {
		case 1:
			p.Header = r.value
		case 3:
			p.InFrame = true
			p.Frame = readFrame(r)
		case 5:
			p.Missing = r.int()
		case 7:
			p.Control = r.value
		case 9:
			p.Op = ws.OpCode(r.uint8())
		case 11:
			p.Deflated = r.bool()
		case 13:
			p.Body = r.value
		case 15:
			p.Valid = r.int()
		default:
			r.unknown()
		}
	})
	return p
}

func readFrame(r *reader) (h ws.Header) {
	r.record(func(r *reader) {
		switch r.field {
		case 1:
			h.Fin = r.bool()
		case 3:
			h.Rsv = r.uint8()
		case 5:
			h.OpCode = ws.OpCode(r.uint8())
		case 7:
			h.Masked = r.bool()
		case 9:
			if copy(h.Mask[:], r.value) != len(h.Mask) {
				r.fail(errRecord)
			}
		case 11:
			h.Length = int64(r.int())
		default:
			r.unknown()
		}
	})
	return h
}
