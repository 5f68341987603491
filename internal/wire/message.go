package wire

import (
	"encoding/base64"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"
)

// Each Append function appends one server message, which is one text message
// on a connection of the json format, and allocates nothing but what dst needs
// to grow. Optional fields are left out where they are empty. Strings that are
// not UTF-8 come out with U+FFFD in place of each bad byte.

// Recovery is what became of the cursor of a subscribe command.
type Recovery uint8

const (
	NotResumed Recovery = iota // the command had no cursor; the field is absent
	Recovered                  // everything behind the cursor follows
	Truncated                  // something behind the cursor is missing; what is there follows
)

// AppendWelcome appends the first message of a connection:
//
//	{"type":"welcome","protocol":1,"client":"c_8fk2","heartbeat":25000,"max_message":65536}
//
// heartbeat is told in milliseconds, maxMessage in bytes.
func AppendWelcome(dst []byte, client string, heartbeat time.Duration, maxMessage int) []byte {
	dst = append(dst, `{"type":"welcome","protocol":`...)
	dst = strconv.AppendInt(dst, Version, 10)
	dst = appendText(dst, `,"client":`, client)
	dst = appendInt(dst, `,"heartbeat":`, heartbeat.Milliseconds())
	dst = appendInt(dst, `,"max_message":`, int64(maxMessage))
	return append(dst, '}')
}

// AppendSubscribed appends the reply to subscribe, one for each topic:
//
//	{"type":"subscribed","id":1,"topic":"stocks.AAPL","cursor":"k3:40","recovered":true}
//
// why is of Truncated alone.
func AppendSubscribed(dst []byte, id ID, topic, cursor string, r Recovery, why GapReason) []byte {
	dst = appendReply(dst, "subscribed", id)
	dst = appendText(dst, `,"topic":`, topic)
	dst = appendOptional(dst, `,"cursor":`, cursor)
	dst = appendRecovery(dst, r, why)
	return append(dst, '}')
}

func appendRecovery(dst []byte, r Recovery, why GapReason) []byte {
	switch r {
	case Recovered:
		return append(dst, `,"recovered":true`...)
	case Truncated:
		return appendText(append(dst, `,"recovered":false`...), `,"reason":`, string(why))
	}
	return dst
}

// AppendMessage appends a publication:
//
//	{"type":"message","topic":"stocks.AAPL","cursor":"k3:42","time":1732212345678,"data":{"price":187.2}}
//
// at is in milliseconds since the epoch. The payload goes out as it is where it
// is valid JSON, as a JSON string where it is other valid UTF-8, else as
//
//	"data":"3q2+7w==","encoding":"base64"
func AppendMessage(dst []byte, topic, cursor string, at int64, payload []byte) []byte {
	const envelope = len(`{"type":"message","topic":"","cursor":"","time":1732212345678,"data":""}`)
	dst = slices.Grow(dst, envelope+len(topic)+len(cursor)+len(payload))
	dst = appendText(dst, `{"type":"message","topic":`, topic)
	dst = appendOptional(dst, `,"cursor":`, cursor)
	dst = appendInt(dst, `,"time":`, at)
	dst = append(dst, `,"data":`...)
	switch {
	case validJSON(payload):
		dst = append(dst, payload...)
	case utf8.Valid(payload):
		dst = appendString(dst, view(payload))
	default:
		dst = append(dst, '"')
		dst = base64.StdEncoding.AppendEncode(dst, payload)
		dst = append(dst, `","encoding":"base64"`...)
	}
	return append(dst, '}')
}

// AppendGap appends the news that messages are missing; topic is as subscribed,
// and the cursors are empty where the namespace keeps none:
//
//	{"type":"gap","topic":"stocks.AAPL","from":"k3:42","to":"k3:57","reason":"slow"}
func AppendGap(dst []byte, topic, from, to string, reason GapReason) []byte {
	dst = appendText(dst, `{"type":"gap","topic":`, topic)
	dst = appendOptional(dst, `,"from":`, from)
	dst = appendOptional(dst, `,"to":`, to)
	dst = appendText(dst, `,"reason":`, string(reason))
	return append(dst, '}')
}

// AppendSkipped appends how many values conflation left out, before the one that replaces them:
//
//	{"type":"skipped","topic":"stocks.AAPL","count":14}
func AppendSkipped(dst []byte, topic string, count int) []byte {
	dst = appendText(dst, `{"type":"skipped","topic":`, topic)
	dst = appendInt(dst, `,"count":`, int64(count))
	return append(dst, '}')
}

// AppendUnsubscribed appends the end of a subscription, as a reply to
// unsubscribe or, with no id, by the server's own decision:
//
//	{"type":"unsubscribed","id":4,"topic":"stocks.AAPL","reason":"requested"}
func AppendUnsubscribed(dst []byte, id ID, topic string, reason UnsubscribedReason) []byte {
	dst = appendReply(dst, "unsubscribed", id)
	dst = appendText(dst, `,"topic":`, topic)
	dst = appendText(dst, `,"reason":`, string(reason))
	return append(dst, '}')
}

// AppendPublished appends the reply to publish; with a cursor the message is stored:
//
//	{"type":"published","id":5,"topic":"chat.lobby","cursor":"k3:58"}
func AppendPublished(dst []byte, id ID, topic, cursor string) []byte {
	dst = appendReply(dst, "published", id)
	dst = appendText(dst, `,"topic":`, topic)
	dst = appendOptional(dst, `,"cursor":`, cursor)
	return append(dst, '}')
}

// AppendAuthenticated appends the reply to auth; expires is in milliseconds
// since the epoch, or 0, and left out, where that never happens:
//
//	{"type":"authenticated","id":6,"expires":1732215945000}
func AppendAuthenticated(dst []byte, id ID, expires int64) []byte {
	dst = appendReply(dst, "authenticated", id)
	if expires != 0 {
		dst = appendInt(dst, `,"expires":`, expires)
	}
	return append(dst, '}')
}

// AppendTokenExpires appends the warning that the token ends after a time told
// in milliseconds; expires is as in AppendAuthenticated:
//
//	{"type":"token_expires","after":30000,"expires":1732215945000}
func AppendTokenExpires(dst []byte, after time.Duration, expires int64) []byte {
	dst = appendInt(dst, `{"type":"token_expires","after":`, after.Milliseconds())
	dst = appendInt(dst, `,"expires":`, expires)
	return append(dst, '}')
}

// AppendPresence appends the reply to presence:
//
//	{"type":"presence","id":7,"topic":"chat.lobby","connections":1234}
func AppendPresence(dst []byte, id ID, topic string, connections int) []byte {
	dst = appendReply(dst, "presence", id)
	dst = appendText(dst, `,"topic":`, topic)
	dst = appendInt(dst, `,"connections":`, int64(connections))
	return append(dst, '}')
}

// AppendPong appends the reply to ping:
//
//	{"type":"pong","id":8}
func AppendPong(dst []byte, id ID) []byte {
	dst = appendReply(dst, "pong", id)
	return append(dst, '}')
}

// AppendError appends the reply to a command that was not obeyed:
//
//	{"type":"error","id":9,"code":"forbidden","message":"no permission to subscribe to \"secret.x\""}
func AppendError(dst []byte, id ID, code ErrorCode, message string) []byte {
	dst = appendReply(dst, "error", id)
	dst = appendText(dst, `,"code":`, string(code))
	dst = appendText(dst, `,"message":`, message)
	return append(dst, '}')
}

// AppendReconnect appends the advice to connect elsewhere, after a time told in milliseconds:
//
//	{"type":"reconnect","after":3200,"reason":"draining"}
func AppendReconnect(dst []byte, after time.Duration, reason ReconnectReason) []byte {
	dst = appendInt(dst, `{"type":"reconnect","after":`, after.Milliseconds())
	dst = appendText(dst, `,"reason":`, string(reason))
	return append(dst, '}')
}

// appendReply opens a message that answers a command, whose id it carries where there was one.
func appendReply(dst []byte, typ string, id ID) []byte {
	dst = append(dst, `{"type":"`...)
	dst = append(dst, typ...)
	dst = append(dst, '"')
	if id.n > 0 {
		dst = append(dst, `,"id":`...)
		dst = append(dst, id.raw[:id.n]...)
	}
	return dst
}

func appendText(dst []byte, label, s string) []byte {
	return appendString(append(dst, label...), s)
}

func appendOptional(dst []byte, label, s string) []byte {
	if s == "" {
		return dst
	}
	return appendText(dst, label, s)
}

func appendInt(dst []byte, label string, n int64) []byte {
	return strconv.AppendInt(append(dst, label...), n, 10)
}
