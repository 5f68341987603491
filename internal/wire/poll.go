package wire

import (
	"strconv"
	"strings"
	"time"
)

// The answer of GET /poll has the objects that a WebSocket gets, and one cursor for all
// topics of the request: the place of each in the order of topic=, joined by commas.
//
//	{"messages":[{"type":"message",…},{"type":"gap",…}],"cursor":"k3.58.x7,k3.58.x7"}

// pollSeparator joins the places in a cursor of GET /poll.
const pollSeparator = ","

// AppendPolled appends the answer of GET /poll. messages are objects with a comma
// behind each, and cursor needs no escaping.
func AppendPolled(dst, messages, cursor []byte) []byte {
	dst = append(dst, `{"messages":[`...)
	if n := len(messages); n > 0 {
		dst = append(dst, messages[:n-1]...)
	}
	dst = append(dst, `],"cursor":"`...)
	dst = append(dst, cursor...)
	return append(dst, `"}`...)
}

// AppendPlace appends one more place to the cursor of GET /poll, of the topic at index n.
func AppendPlace(dst []byte, n int, place string) []byte {
	if n > 0 {
		dst = append(dst, pollSeparator...)
	}
	return append(dst, place...)
}

// PollPlaces takes apart what cursor= says to GET /poll, for so many topics: one value
// for all of them, as an answer had it, or one for each. Nothing, or only an empty
// value, is no place for any. What a place is, is not checked.
func PollPlaces(values []string, topics int) ([]string, *Error) {
	if len(values) == 0 || len(values) == 1 && values[0] == "" {
		return make([]string, topics), nil
	}
	places := values
	if len(values) == 1 {
		if n := strings.Count(values[0], pollSeparator) + 1; n != topics {
			return nil, badRequest("\"cursor\" has %d places, and there are %d topics: send back the cursor of an answer to the same topics, as it was", n, topics)
		}
		places = strings.Split(values[0], pollSeparator)
	}
	if len(places) != topics {
		return nil, badRequest("there are %d cursors and %d topics: send the one that an answer had, or one for each topic in the same order", len(places), topics)
	}
	return places, nil
}

// How long GET /poll waits, as wait= says in seconds.
const (
	DefaultPollWait = 25 * time.Second
	MaxPollWait     = 60 * time.Second
)

// ParsePollWait reads wait=.
func ParsePollWait(s string) (time.Duration, *Error) {
	if s == "" {
		return DefaultPollWait, nil
	}
	seconds, err := strconv.ParseFloat(s, 64)
	if err != nil || !(seconds >= 0 && seconds <= MaxPollWait.Seconds()) {
		return 0, badRequest("\"wait\" is %s: it is a number of seconds from 0 to %v", quote(s), MaxPollWait.Seconds())
	}
	return time.Duration(seconds * float64(time.Second)), nil
}
