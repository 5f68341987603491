package wire

import (
	"bytes"
	"encoding/base64"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// The text/event-stream of a connection that is no WebSocket (WHATWG HTML, 9.2.5
// and 9.2.6). A message is an event of the default type, whose data is the object
// that a WebSocket gets; what else is to be told is an event of the object's own
// type:
//
//	retry: 2718
//	event: welcome
//	data: {"type":"welcome", … }
//
//	id: k3.42@stocks.AAPL
//	data: {"type":"message","topic":"stocks.AAPL", … }

// EventStreamType is the Content-Type of events.
const EventStreamType = "text/event-stream"

// EventHeartbeat is a comment, which clients pass over.
const EventHeartbeat = ":\n\n"

// AppendEvent appends one server message other than `message` as an event of its
// type. id is where to go on from, "" for nowhere in particular.
func AppendEvent(dst []byte, id string, message []byte) []byte {
	dst = append(dst, "event: "...)
	dst = append(dst, typeOf(message)...)
	dst = append(dst, '\n')
	return appendData(appendEventID(dst, id), message)
}

// typeOf is the type of a message that an Append function has made.
func typeOf(message []byte) []byte {
	t, _ := bytes.CutPrefix(message, []byte(`{"type":"`))
	t, _, _ = bytes.Cut(t, []byte{'"'})
	return t
}

// AppendRetry appends after which time a client that has lost its connection comes
// back. It goes before an event.
func AppendRetry(dst []byte, after time.Duration) []byte {
	dst = strconv.AppendInt(append(dst, "retry: "...), after.Milliseconds(), 10)
	return append(dst, '\n')
}

// AppendMessageEvent appends AppendMessage as an event.
func AppendMessageEvent(dst []byte, topic, cursor string, at int64, payload []byte) []byte {
	dst = appendEventID(dst, EventID(cursor, topic))
	return appendData(dst, AppendMessage(nil, topic, cursor, at, payload))
}

// AppendRawEvent appends a payload alone: as it is where it is UTF-8, but that
// each end of a line in it comes out as LF; else in base64, as an event of type
// `binary`.
func AppendRawEvent(dst []byte, topic, cursor string, payload []byte) []byte {
	id := EventID(cursor, topic)
	if utf8.Valid(payload) {
		return appendData(appendEventID(dst, id), payload)
	}
	dst = appendEventID(append(dst, "event: binary\n"...), id)
	dst = append(dst, "data: "...)
	dst = base64.StdEncoding.AppendEncode(dst, payload)
	return append(dst, "\n\n"...)
}

// AppendCloseEvent appends the last event before the server ends a stream, with
// what a close frame would have said:
//
//	{"type":"close","code":1012,"reason":"draining"}
func AppendCloseEvent(dst []byte, code CloseCode, reason string) []byte {
	return AppendEvent(dst, "", AppendClose(nil, code, reason))
}

// AppendClose appends the object of AppendCloseEvent.
func AppendClose(dst []byte, code CloseCode, reason string) []byte {
	dst = appendInt(dst, `{"type":"close","code":`, int64(code))
	dst = appendText(dst, `,"reason":`, reason)
	return append(dst, '}')
}

// EventID is what a client is to go on from: a cursor, and a topic that says whose.
// Without a cursor there is none.
func EventID(cursor, topic string) string {
	if cursor == "" {
		return ""
	}
	return cursor + "@" + topic
}

// CutEventID takes apart what EventID has made. A cursor alone has no topic.
func CutEventID(id string) (cursor, topic string) {
	cursor, topic, _ = strings.Cut(id, "@")
	return cursor, topic
}

func appendEventID(dst []byte, id string) []byte {
	if id == "" {
		return dst
	}
	dst = append(append(dst, "id: "...), id...)
	return append(dst, '\n')
}

// appendData appends text as the data of an event, and ends the event. Each line
// of the text is one of the stream, whichever way it ends.
func appendData(dst, text []byte) []byte {
	const field = "data: "
	dst = slices.Grow(dst, len(field)+len(text)+2)
	for {
		end := bytes.IndexAny(text, "\r\n")
		dst = append(dst, field...)
		if end < 0 {
			return append(append(dst, text...), "\n\n"...)
		}
		dst = append(append(dst, text[:end]...), '\n')
		if text[end] == '\r' && end+1 < len(text) && text[end+1] == '\n' {
			end++
		}
		text = text[end+1:]
	}
}
