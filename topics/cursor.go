package topics

import (
	"errors"
	"strconv"
	"strings"
)

// Cursor is a message's place in the history of its namespace. The zero value
// is no place: the namespace keeps no history.
type Cursor struct {
	Seq   uint64 // the stream's number of the message; 0: before the first
	Epoch uint32 // of the stream: it has another where it was made anew
	Stamp uint32 // bits of the time when the stream took it, which tell it from a message of the same number; 0: not known
}

// IsZero reports whether c is no place.
func (c Cursor) IsZero() bool { return c == Cursor{} }

// cursorBase is the base of a cursor's numbers as text.
const cursorBase = 36

// String is what clients keep, for instance "k3f9a2.41.x7p1", or "" of no
// place. They compare it for equality alone.
func (c Cursor) String() string { return string(c.Append(nil)) }

// Append appends String to dst.
func (c Cursor) Append(dst []byte) []byte {
	if c.IsZero() {
		return dst
	}
	dst = strconv.AppendUint(dst, uint64(c.Epoch), cursorBase)
	dst = strconv.AppendUint(append(dst, '.'), c.Seq, cursorBase)
	if c.Stamp != 0 {
		dst = strconv.AppendUint(append(dst, '.'), uint64(c.Stamp), cursorBase)
	}
	return dst
}

// ErrBadCursor means that a text was never a cursor of any pushd.
var ErrBadCursor = errors.New("not a cursor: send back what a message or subscribed had, as it was")

// ParseCursor reads what String has made, and nothing else: there is one text
// for each cursor.
func ParseCursor(s string) (c Cursor, err error) {
	epoch, rest, ok := strings.Cut(s, ".")
	seq, stamp, stamped := strings.Cut(rest, ".")
	if !ok {
		return Cursor{}, ErrBadCursor
	}
	e, errE := strconv.ParseUint(epoch, cursorBase, 32)
	n, errN := strconv.ParseUint(seq, cursorBase, 64)
	c = Cursor{Epoch: uint32(e), Seq: n}
	if stamped {
		t, errT := strconv.ParseUint(stamp, cursorBase, 32)
		c.Stamp, err = uint32(t), errT
	}
	if errE != nil || errN != nil || err != nil || c.String() != s {
		return Cursor{}, ErrBadCursor
	}
	return c, nil
}
