package handover

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"
)

// A record is a sequence of fields: number, length, bytes. What is zero is left
// out. Who meets a field that it does not know skips it if its number is even,
// and refuses the record if it is odd: it would go on wrongly without.

// writer puts a record together.
type writer []byte

func (w *writer) bytes(field uint64, p []byte) {
	if len(p) > 0 {
		w.put(field, p)
	}
}

// put is bytes where nothing is something too.
func (w *writer) put(field uint64, p []byte) {
	*w = binary.AppendUvarint(*w, field)
	*w = binary.AppendUvarint(*w, uint64(len(p)))
	*w = append(*w, p...)
}

func (w *writer) string(field uint64, s string) { w.bytes(field, []byte(s)) }

func (w *writer) uint(field, v uint64) {
	if v != 0 {
		var b [binary.MaxVarintLen64]byte
		w.put(field, b[:binary.PutUvarint(b[:], v)])
	}
}

func (w *writer) bool(field uint64, v bool) {
	if v {
		w.uint(field, 1)
	}
}

func (w *writer) duration(field uint64, d time.Duration) { w.uint(field, uint64(max(d, 0))) }

// record has one within another.
func (w *writer) record(field uint64, f func(*writer)) {
	*w = binary.AppendUvarint(*w, field)
	*w = append(*w, 0)
	from := len(*w)
	f(w)
	var b [binary.MaxVarintLen64]byte
	size := b[:binary.PutUvarint(b[:], uint64(len(*w)-from))]
	if len(size) > 1 { // most are short
		*w = slices.Insert(*w, from, size[1:]...)
	}
	copy((*w)[from-1:], size)
}

// reader takes the fields of a record apart. After its first failure all that it
// reads is zero.
type reader struct {
	rest  []byte
	field uint64
	value []byte
	err   error
}

var errRecord = errors.New("handover: a record is broken")

// next finds the next field, and reports whether there is one.
func (r *reader) next() bool {
	if r.err != nil || len(r.rest) == 0 {
		return false
	}
	field, n := binary.Uvarint(r.rest)
	if n <= 0 {
		r.err = errRecord
		return false
	}
	size, m := binary.Uvarint(r.rest[n:])
	if m <= 0 || size > uint64(len(r.rest)-n-m) {
		r.err = errRecord
		return false
	}
	r.field, r.value, r.rest = field, r.rest[n+m:][:size:size], r.rest[n+m+int(size):]
	return true
}

// unknown is for a field that the reader of the record does not know.
func (r *reader) unknown() {
	if r.field%2 == 1 {
		r.fail(fmt.Errorf("handover: field %d is needed and not known here", r.field))
	}
}

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

// uint is a number of at most a size.
func (r *reader) uint(most uint64) uint64 {
	v, n := binary.Uvarint(r.value)
	if n != len(r.value) || n <= 0 || v > most {
		r.fail(errRecord)
		return 0
	}
	return v
}

func (r *reader) uint8() uint8   { return uint8(r.uint(1<<8 - 1)) }
func (r *reader) uint32() uint32 { return uint32(r.uint(1<<32 - 1)) }
func (r *reader) uint64() uint64 { return r.uint(1<<64 - 1) }
func (r *reader) int() int       { return int(r.uint(1<<62 - 1)) }
func (r *reader) bool() bool     { return r.uint(1) == 1 }
func (r *reader) string() string { return string(r.value) }

func (r *reader) duration() time.Duration { return time.Duration(r.uint(1<<63 - 1)) }

// record reads one within another.
func (r *reader) record(f func(*reader)) {
	outer := *r
	r.rest = r.value
	for r.next() {
		f(r)
	}
	r.rest, r.field, r.value = outer.rest, outer.field, outer.value
}

// read reads a whole record.
func read(p []byte, f func(*reader)) error {
	r := reader{rest: p}
	for r.next() {
		f(&r)
	}
	return r.err
}
