package wire

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestEventsGolden(t *testing.T) {
	const at = 1732212345678
	price := []byte(`{"price":187.2}`)
	cases := []struct {
		name string
		got  []byte
	}{
		{"welcome", AppendEvent(AppendRetry(nil, 2718*time.Millisecond), "", AppendWelcome(nil, "c_8fk2", 25*time.Second, 65536))},
		{"subscribed", AppendEvent(nil, EventID("k3.40", "stocks.*"), AppendSubscribed(nil, ID{}, "stocks.*", "k3.40", NotResumed, ""))},
		{"subscribed-other-feed", AppendEvent(nil, "", AppendSubscribed(nil, ID{}, "chat.lobby", "", Truncated, OtherFeed))},
		{"message", AppendMessageEvent(nil, "stocks.AAPL", "k3.42", at, price)},
		{"message-no-cursor", AppendMessageEvent(nil, "stocks.AAPL", "", at, price)},
		{"message-lines", AppendMessageEvent(nil, "a", "k3.42", at, []byte("\n{ \"a\" :\r\n 1 }\r"))},
		{"message-text", AppendMessageEvent(nil, "a", "", at, []byte("two\r\nlines"))},
		{"message-binary", AppendMessageEvent(nil, "a", "", at, []byte{0xde, 0xad})},
		{"raw", AppendRawEvent(nil, "a", "k3.42", []byte("plain text"))},
		{"raw-empty", AppendRawEvent(nil, "a", "", nil)},
		{"raw-lines", AppendRawEvent(nil, "a", "", []byte(" one\ntwo\rthree\r\n\r\n: five\n"))},
		{"raw-binary", AppendRawEvent(nil, "cam.42", "k3.42", []byte{0xde, 0xad, 0xbe, 0xef})},
		{"gap", AppendEvent(nil, "", AppendGap(nil, "stocks.AAPL", "k3.42", "k3.57", GapSlow))},
		{"skipped", AppendEvent(nil, "", AppendSkipped(nil, "stocks.AAPL", 14))},
		{"unsubscribed", AppendEvent(nil, "", AppendUnsubscribed(nil, ID{}, "stocks.AAPL", UnsubscribedTokenExpired))},
		{"token-expires", AppendEvent(nil, "", AppendTokenExpires(nil, 30*time.Second, 1732215945000))},
		{"reconnect", AppendEvent(nil, "", AppendReconnect(nil, 3200*time.Millisecond, ReconnectDraining))},
		{"close", AppendCloseEvent(nil, CloseDraining, "draining")},
	}
	names := map[string]bool{}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { wantGolden(t, "events/"+c.name+".txt", c.got) })
		names[c.name+".txt"] = true
	}
	wantNoStrays(t, "events", names)
}

// event is one that a browser dispatches.
type event struct{ typ, data, id string }

// interpret reads a whole stream as WHATWG HTML, 9.2.6, says, step by step and
// not as it was written.
func interpret(stream string) (events []event) {
	var lines []string
	for line := ""; stream != ""; {
		switch {
		case strings.HasPrefix(stream, "\r\n"):
			lines, line, stream = append(lines, line), "", stream[2:]
		case stream[0] == '\r' || stream[0] == '\n':
			lines, line, stream = append(lines, line), "", stream[1:]
		default:
			line, stream = line+stream[:1], stream[1:]
		}
	}
	data, typ, id := "", "", ""
	for _, line := range lines {
		if line == "" {
			if data != "" {
				events = append(events, event{typ, strings.TrimSuffix(data, "\n"), id})
			}
			data, typ = "", ""
			continue
		}
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "event":
			typ = value
		case "data":
			data += value + "\n"
		case "id":
			if !strings.Contains(value, "\x00") {
				id = value
			}
		}
	}
	return events
}

// Whatever a payload is, an event has it, all of it, and nothing follows that a
// client would take for something else.
func FuzzEvent(f *testing.F) {
	for _, seed := range []string{"", "x", "\n", "\r", "\r\n", "\n\r", "a\r\rb", "data: x\n\nevent: close", ": c", "\ufeff", "\x00", "\xff\n", `{"a":1}`, "[\r\n1]", " x"} {
		f.Add([]byte(seed), "k3.42")
	}
	f.Add([]byte("x"), "")
	f.Fuzz(func(t *testing.T, payload []byte, cursor string) {
		if strings.ContainsFunc(cursor, func(r rune) bool { return r <= ' ' || r > '~' || r == '@' }) {
			cursor = "k"
		}
		const topic = "a.b"
		want := event{id: EventID(cursor, topic)}
		stream := string(AppendRawEvent(nil, topic, cursor, payload)) + string(AppendMessageEvent(nil, topic, cursor, 1, payload)) + "data: after\n\n"
		got := interpret(stream)
		if len(got) != 3 || got[2].data != "after" || got[0].id != want.id || got[1].id != want.id {
			t.Fatalf("%q is %+v", stream, got)
		}
		if utf8.Valid(payload) {
			want.data = strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(string(payload))
		} else {
			want.typ, want.data = "binary", base64.StdEncoding.EncodeToString(payload)
		}
		if got[0] != want {
			t.Fatalf("raw: %+v, want %+v", got[0], want)
		}
		var plain, event any
		if err := json.Unmarshal(AppendMessage(nil, topic, cursor, 1, payload), &plain); err != nil {
			t.Skip(err) // nested deeper than encoding/json goes
		}
		if err := json.Unmarshal([]byte(got[1].data), &event); err != nil || got[1].typ != "" {
			t.Fatalf("%q is no object: %v", got[1].data, err)
		}
		a, _ := json.Marshal(plain)
		b, _ := json.Marshal(event)
		if !bytes.Equal(a, b) {
			t.Fatalf("the event has %s, a WebSocket %s", b, a)
		}
		if c, top := CutEventID(want.id); cursor != "" && (c != cursor || top != topic) {
			t.Fatalf("id %q is taken apart as %q and %q", want.id, c, top)
		}
	})
}
