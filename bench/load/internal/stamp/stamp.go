// Package stamp marks the messages of a run, so that a receiver knows which
// message it has and how long it took, whatever envelope a server puts around
// it.
//
// A stamp is text of fixed length in characters that no JSON encoder touches:
//
//	@pb1:0000002a:00000007:000003e8:0000c350:000000174876e800;
//	     run      topic    sequence number   sent
//
// All are hexadecimal. A receiver scans for the first five characters.
package stamp

import (
	"bytes"
	"fmt"
)

// Stamp says which message this is.
type Stamp struct {
	Run      uint32 // of which run; messages of another are none of ours
	Topic    uint32 // index of the topic
	Sequence uint32 // within the topic, from 1; 0 is a probe, which asks who listens and counts nowhere
	Number   uint32 // within the run, over all topics, from 0
	Sent     int64  // when the publisher sent it, as Clock.Now has it
}

const (
	mark = "@pb1:"
	// Size is the length of a stamp in bytes.
	Size = len(mark) + 4*9 + 17
)

// A payload is a JSON object, so that servers that embed payloads in JSON take
// it as it is.
const (
	head   = `{"stamp":"`
	middle = `","pad":"`
	tail   = `"}`
	// MinPayload is the least length of a payload in bytes.
	MinPayload = len(head) + Size + len(middle) + len(tail)
)

// AppendPayload appends a payload of size bytes, but at least [MinPayload].
func AppendPayload(b []byte, s Stamp, size int) []byte {
	b = append(b, head...)
	b = s.Append(b)
	b = append(b, middle...)
	for range size - MinPayload {
		b = append(b, '.')
	}
	return append(b, tail...)
}

// Append appends the stamp alone.
func (s Stamp) Append(b []byte) []byte {
	b = append(b, mark...)
	b = appendHex(b, uint64(s.Run), 8, ':')
	b = appendHex(b, uint64(s.Topic), 8, ':')
	b = appendHex(b, uint64(s.Sequence), 8, ':')
	b = appendHex(b, uint64(s.Number), 8, ':')
	return appendHex(b, uint64(s.Sent), 16, ';')
}

func (s Stamp) String() string {
	return fmt.Sprintf("message %d of topic %d (number %d of run %d)", s.Sequence, s.Topic, s.Number, s.Run)
}

// Find returns the first stamp in b and the number of bytes up to its end,
// where the next one may be looked for. It returns 0 where there is none.
func Find(b []byte) (s Stamp, n int) {
	for {
		i := bytes.Index(b[n:], []byte(mark))
		if i < 0 || len(b)-n-i < Size {
			return Stamp{}, 0
		}
		n += i + len(mark)
		if s, ok := parse(b[n : n+Size-len(mark)]); ok {
			return s, n + Size - len(mark)
		}
	}
}

// parse reads what follows the mark, Size - len(mark) bytes.
func parse(b []byte) (s Stamp, ok bool) {
	if b[8] != ':' || b[17] != ':' || b[26] != ':' || b[35] != ':' || b[52] != ';' {
		return Stamp{}, false
	}
	run, ok1 := parseHex(b[:8])
	topic, ok2 := parseHex(b[9:17])
	sequence, ok3 := parseHex(b[18:26])
	number, ok4 := parseHex(b[27:35])
	sent, ok5 := parseHex(b[36:52])
	return Stamp{Run: uint32(run), Topic: uint32(topic), Sequence: uint32(sequence), Number: uint32(number), Sent: int64(sent)},
		ok1 && ok2 && ok3 && ok4 && ok5
}

const digits = "0123456789abcdef"

// appendHex appends the lowest n digits of v, and end.
func appendHex(b []byte, v uint64, n int, end byte) []byte {
	for shift := 4 * (n - 1); shift >= 0; shift -= 4 {
		b = append(b, digits[v>>shift&15])
	}
	return append(b, end)
}

func parseHex(b []byte) (v uint64, ok bool) {
	for _, c := range b {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		default:
			return 0, false
		}
		v = v<<4 | uint64(c)
	}
	return v, true
}
