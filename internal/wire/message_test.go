package wire

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// What a client makes of a message's data is the payload again, whatever it was.
func FuzzMessage(f *testing.F) {
	for _, seed := range []string{
		"", " ", "{}", ` {"a":[1,"b"]} `, `"text"`, "null", "text", "\"cut", "\xff", "{\"a\":\"\xff\"}", "\u2028<&>\x00\x7f\\\"", "\ufeff{}", "\ufffd",
		`"\ud800"`, "1e999", "01", strings.Repeat("[", 512) + strings.Repeat("]", 512), strings.Repeat("[", 513) + strings.Repeat("]", 513),
	} {
		f.Add("stocks.AAPL", "k3:42", int64(1732212345678), []byte(seed))
	}
	f.Add("bad\xff\xf0\x9f\x98 topic", "", int64(-1), []byte("1"))
	f.Fuzz(func(t *testing.T, topic, cursor string, at int64, payload []byte) {
		text := AppendMessage([]byte("before"), topic, cursor, at, payload)
		text, ok := bytes.CutPrefix(text, []byte("before"))
		if !ok {
			t.Fatalf("what stood in dst before is gone: %q", text)
		}
		wantJSON(t, text)
		var m struct {
			Type, Topic, Encoding string
			Cursor                *string
			Time                  int64
			Data                  json.RawMessage
		}
		if err := json.Unmarshal(text, &m); err != nil {
			t.Fatalf("%v: %q", err, text)
		}
		// []rune makes U+FFFD of each bad byte, as Append does.
		if m.Type != "message" || m.Topic != string([]rune(topic)) || m.Time != at {
			t.Errorf("type %q, topic %q, time %d: %q", m.Type, m.Topic, m.Time, text)
		}
		if (m.Cursor == nil) != (cursor == "") || m.Cursor != nil && *m.Cursor != string([]rune(cursor)) {
			t.Errorf("cursor %q came out wrong: %q", cursor, text)
		}

		var got []byte
		var s string
		switch {
		case m.Encoding == "base64":
			if utf8.Valid(payload) {
				t.Errorf("text went out as base64: %q", text)
			}
			if err := json.Unmarshal(m.Data, &s); err != nil {
				t.Fatal(err)
			}
			got, _ = base64.StdEncoding.DecodeString(s)
		case m.Encoding != "":
			t.Fatalf("encoding %q", m.Encoding)
		case json.Valid(payload) && modelDepth(payload) <= maxDepth:
			// Space around the value is the only thing that a client may not see.
			got, payload = m.Data, bytes.Trim(payload, " \t\r\n")
		default:
			if err := json.Unmarshal(m.Data, &s); err != nil {
				t.Fatalf("%v: %q", err, text)
			}
			got = []byte(s)
		}
		if !bytes.Equal(got, payload) {
			t.Errorf("a client reads %q, published was %q", got, payload)
		}
	})
}

// The scanner agrees with encoding/json on what is JSON, up to the depth that it allows.
func FuzzValidJSON(f *testing.F) {
	for _, seed := range []string{
		`{"a":[1,-2.5e+7,true,false,null,"\u00e9\n"],"b":{}}`, `[[],{}]`, ` 0 `, `-0`, `00`, `1.`, `.5`, `1e`, `+1`, `-`, `NaN`, `"\x"`, `"\u00g0"`, "\"\n\"", `"`,
		`{"a"}`, `{"a":}`, `{,}`, `[,]`, `[1,]`, `{"a":1,}`, `{1:2}`, `]`, `[}`, `{]`, `[1 2]`, `tru`, `nulll`, `"a" "b"`, "\v1", "",
		strings.Repeat(`[{"a":`, 256) + "0" + strings.Repeat("}]", 256), strings.Repeat(`[{"a":`, 257) + "0" + strings.Repeat("}]", 257),
		strings.Repeat("[", 63) + "{}" + strings.Repeat("]", 63), strings.Repeat("[", 64) + `{"a":[]}` + strings.Repeat("]", 64),
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		want := utf8.Valid(p) && json.Valid(p) && modelDepth(p) <= maxDepth
		if got := validJSON(p); got != want {
			t.Errorf("validJSON is %v for %q", got, p)
		}
	})
}

func TestDepthIsNamedInItsError(t *testing.T) {
	deepest := strings.Repeat("[", maxDepth) + strings.Repeat("]", maxDepth)
	if !validJSON([]byte(deepest)) || validJSON([]byte("["+deepest+"]")) {
		t.Errorf("the limit is not %d", maxDepth)
	}
}

func TestAppendDoesNotAllocate(t *testing.T) {
	id := mustID(t, `"request-1"`)
	payloads := [][]byte{
		[]byte(`{"price":187.2}`), []byte("line\n\"quoted\" \u00e9"), {0xde, 0xad}, bytes.Repeat([]byte("["), 2*maxDepth), nil,
	}
	dst := make([]byte, 0, 4096)
	n := testing.AllocsPerRun(100, func() {
		for _, payload := range payloads {
			AppendMessage(dst, "stocks.AAPL", "k3:42", 1732212345678, payload)
		}
		AppendWelcome(dst, "c_8fk2", 25*time.Second, 65536)
		AppendSubscribed(dst, id, "stocks.AAPL", "k3:40", Recovered, "")
		AppendGap(dst, "stocks.AAPL", "k3:42", "k3:57", GapSlow)
		AppendSkipped(dst, "stocks.AAPL", 14)
		AppendUnsubscribed(dst, id, "stocks.AAPL", UnsubscribedRequested)
		AppendPublished(dst, id, "chat.lobby", "k3:58")
		AppendAuthenticated(dst, id, 1732215945000)
		AppendPresence(dst, id, "chat.lobby", 1234)
		AppendPong(dst, id)
		AppendError(dst, id, Forbidden, "bad \xff")
		AppendReconnect(dst, time.Second, ReconnectDraining)
		AppendResult(dst, "chat.lobby", "k3:58")
		AppendFailure(dst, "chat.lobby", Unavailable, "NATS is away")
		AppendRefusal(dst, Unavailable, "NATS is away")
	})
	if n != 0 {
		t.Errorf("%v allocations into a buffer with room", n)
	}

	// A message that begins its own buffer grows it once; under -race that is two allocations.
	payload := bytes.Repeat([]byte("1"), 128)
	var kept []byte
	once := testing.AllocsPerRun(100, func() { kept = slices.Grow([]byte(nil), 256) })
	n = testing.AllocsPerRun(100, func() { kept = AppendMessage(nil, "stocks.AAPL", "k3:42", 1732212345678, payload) })
	if n > once {
		t.Errorf("%v allocations for a message of %d bytes, want %v", n, len(kept), once)
	}
}

func BenchmarkAppendMessage128(b *testing.B) {
	payload := []byte(`{"symbol":"AAPL","price":187.2,"bid":187.19,"ask":187.21,"volume":1234567,"exchange":"XNAS","time":1732212345678,"flags":["a"]}`)
	dst := make([]byte, 0, 512)
	b.SetBytes(int64(len(payload)))
	b.ReportAllocs()
	for b.Loop() {
		dst = AppendMessage(dst[:0], "stocks.AAPL", "k3:42", 1732212345678, payload)
	}
}
