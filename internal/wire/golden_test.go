package wire

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestServerMessagesGolden(t *testing.T) {
	const at = 1732212345678
	id, sid, none := mustID(t, "1"), mustID(t, `"a \"b\" \u00e9"`), ID{}
	price := []byte(`{"price":187.2}`)
	cases := []struct {
		name string
		got  []byte
	}{
		{"welcome", AppendWelcome(nil, "c_8fk2", 25*time.Second, 65536)},
		{"subscribed", AppendSubscribed(nil, id, "stocks.AAPL", "", NotResumed, "")},
		{"subscribed-cursor", AppendSubscribed(nil, id, "stocks.AAPL", "k3:40", NotResumed, "")},
		{"subscribed-recovered", AppendSubscribed(nil, id, "stocks.AAPL", "k3:40", Recovered, "")},
		{"subscribed-truncated", AppendSubscribed(nil, id, "stocks.AAPL", "k3:40", Truncated, GapExpired)},
		{"subscribed-restarted", AppendSubscribed(nil, id, "stocks.AAPL", "k4:0", Truncated, GapRestarted)},
		{"subscribed-no-history", AppendSubscribed(nil, none, "chat.lobby", "", Truncated, GapExpired)},
		{"subscribed-no-id", AppendSubscribed(nil, none, "stocks.>", "", NotResumed, "")},
		{"message", AppendMessage(nil, "stocks.AAPL", "k3:42", at, price)},
		{"message-no-cursor", AppendMessage(nil, "stocks.AAPL", "", at, price)},
		{"message-spaced-json", AppendMessage(nil, "a", "", at, []byte("\n{ \"a\" : [ 1 , 2.50 ] }\r\n"))},
		{"message-json-string", AppendMessage(nil, "a", "", at, []byte(`"hi\u0020\/<b>"`))},
		{"message-null", AppendMessage(nil, "a", "", at, []byte(`null`))},
		{"message-lone-surrogate", AppendMessage(nil, "a", "", at, []byte(`"\ud800"`))},
		{"message-empty", AppendMessage(nil, "a", "", at, nil)},
		{"message-text", AppendMessage(nil, "a", "", at, []byte("caf\u00e9 <b> & \"q\" \\ \u2028 \U0001F600\n\t\r\b\x00\x1f\x7f"))},
		{"message-almost-json", AppendMessage(nil, "a", "", at, []byte(`{"a":01}`))},
		{"message-binary", AppendMessage(nil, "a", "", at, []byte{0xde, 0xad, 0xbe, 0xef})},
		{"message-json-with-bad-utf8", AppendMessage(nil, "a", "", at, []byte("{\"a\":\"\xff\"}"))},
		{"gap", AppendGap(nil, "stocks.AAPL", "k3:42", "k3:57", GapSlow)},
		{"gap-no-cursors", AppendGap(nil, "stocks.*", "", "", GapUpstream)},
		{"gap-expired", AppendGap(nil, "stocks.*", "k3:42", "k3:57", GapExpired)},
		{"gap-restarted", AppendGap(nil, "stocks.*", "k3:42", "k4:1", GapRestarted)},
		{"skipped", AppendSkipped(nil, "stocks.AAPL", 14)},
		{"unsubscribed", AppendUnsubscribed(nil, id, "stocks.AAPL", UnsubscribedRequested)},
		{"unsubscribed-forbidden", AppendUnsubscribed(nil, none, "stocks.AAPL", UnsubscribedForbidden)},
		{"unsubscribed-expired", AppendUnsubscribed(nil, none, "stocks.AAPL", UnsubscribedTokenExpired)},
		{"published", AppendPublished(nil, id, "chat.lobby", "")},
		{"published-stored", AppendPublished(nil, sid, "chat.lobby", "k3:58")},
		{"authenticated", AppendAuthenticated(nil, id, 1732215945000)},
		{"authenticated-for-ever", AppendAuthenticated(nil, id, 0)},
		{"token-expires", AppendTokenExpires(nil, 30*time.Second, 1732215945000)},
		{"presence", AppendPresence(nil, id, "chat.lobby", 1234)},
		{"presence-nobody", AppendPresence(nil, none, "chat.lobby", 0)},
		{"pong", AppendPong(nil, id)},
		{"pong-string-id", AppendPong(nil, sid)},
		{"pong-no-id", AppendPong(nil, none)},
		{"error", AppendError(nil, id, Forbidden, `no permission to subscribe to "secret.x"`)},
		{"error-no-id", AppendError(nil, none, BadRequest, "not a JSON object")},
		{"error-bad-utf8", AppendError(nil, none, InvalidTopic, "bad topic \"\xff\xc3\"")},
		{"reconnect", AppendReconnect(nil, 3200*time.Millisecond, ReconnectDraining)},
		{"http-refusal", AppendRefusal(nil, RateLimited, "too many connections")},
		{"http-result", AppendResult(nil, "chat.lobby", "")},
		{"http-result-stored", AppendResult(nil, "chat.lobby", "k3:58")},
		{"history", history("k3:58", NotResumed, "", false, "k3:57", "k3:58")},
		{"history-empty", history("k3:58", NotResumed, "", false)},
		{"history-more", history("k3:57", Recovered, "", true, "k3:57")},
		{"history-truncated", history("k3:58", Truncated, GapExpired, false, "k3:58")},
		{"http-failure", AppendFailure(nil, "chat.*", InvalidTopic, `no wildcards in "chat.*"`)},
		{"http-failure-no-topic", AppendFailure(nil, "", BadRequest, `"topic" is missing`)},
	}
	names := map[string]bool{}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			wantJSON(t, c.got)
			wantGolden(t, "server/"+c.name+".json", append(c.got, '\n'))
		})
		names[c.name+".json"] = true
	}
	wantNoStrays(t, "server", names)
}

// history makes a whole answer, with a message for each cursor.
func history(cursor string, r Recovery, why GapReason, more bool, messages ...string) []byte {
	text := AppendHistoryStart(nil, "chat.lobby")
	for i, c := range messages {
		if i > 0 {
			text = append(text, ',')
		}
		text = AppendMessage(text, "chat.lobby", c, 1732212345678, []byte(`"hi"`))
	}
	return AppendHistoryEnd(text, HistoryEnd{Cursor: cursor, Resumed: r, Why: why, More: more})
}

// Each file shows what the client sends, how it is understood, and the reply if it is refused.
func TestCommandsGolden(t *testing.T) {
	cases := []struct{ name, text string }{
		{"subscribe", `{"type":"subscribe","id":1,"topic":"stocks.AAPL"}`},
		{"subscribe-topics", `{"type":"subscribe","id":"x","topics":["a", "b.*" ,"c.\u003e"]}`},
		{"subscribe-cursor", `{"type":"subscribe","id":2,"topic":"scores.*","cursor":"k3:41"}`},
		{"subscribe-conflated", `{"type":"subscribe","id":3,"topic":"iot.>","mode":"latest","max_rate":2}`},
		{"unsubscribe", `{"type":"unsubscribe","id":4,"topic":"stocks.AAPL"}`},
		{"unsubscribe-topics", `{"type":"unsubscribe","topics":["a"]}`},
		{"publish", `{"type":"publish","id":5,"topic":"chat.lobby","data": { "text" : "h\u0069" } }`},
		{"publish-null", `{"type":"publish","topic":"a","data":null}`},
		{"publish-string", `{"type":"publish","topic":"a","data":"hi"}`},
		{"publish-base64", `{"type":"publish","topic":"a","data":"aGk\/","encoding":"base64"}`},
		{"publish-key", `{"type":"publish","topic":"a","data":1,"idempotency_key":"order-17\u002f2"}`},
		{"auth", `{"type":"auth","id":6,"token":"e30.e30."}`},
		{"presence", `{"type":"presence","id":7,"topic":"chat.lobby"}`},
		{"ping", `{"type":"ping","id":8}`},
		{"ping-no-id", "\t{\"type\":\"ping\"}\n"},
		{"ping-unknown-fields", `{"type":"ping","ttl":[{}],"topic":5,"data":{"type":1,"type":2},"x":1,"x":2}`},
		{"ping-escaped-names", `{"\u0074ype":"p\u0069ng","\u0069d":"\ud83d\ude00"}`},
		{"ping-negative-id", `{"type":"ping","id":-0}`},

		{"refused-empty", ``},
		{"refused-no-json", `subscribe a`},
		{"refused-cut", `{"type":"ping"`},
		{"refused-tail", `{"type":"ping"} {}`},
		{"refused-trailing-comma", `{"type":"ping","id":1,}`},
		{"refused-array", `[{"type":"ping"}]`},
		{"refused-string", `"ping"`},
		{"refused-control-character", "{\"type\":\"pi\nng\"}"},
		{"refused-bad-escape", `{"type":"\ping"}`},
		{"refused-leading-zero", `{"type":"ping","id":01}`},
		{"refused-nan", `{"type":"ping","x":NaN}`},
		{"refused-bad-utf8", "{\"type\":\"ping\",\"x\":\"\xff\"}"},
		{"refused-no-type", `{"id":1}`},
		{"refused-type-not-string", `{"type":5,"id":1}`},
		{"refused-type-null", `{"type":null,"id":1}`},
		{"refused-unknown-type", `{"type":"history","id":"h","topic":["a"]}`},
		{"refused-long-unknown-type", `{"type":"` + strings.Repeat("é", 200) + `","id":1}`},
		{"refused-type-in-capitals", `{"type":"Ping","id":1}`},
		{"refused-name-in-capitals", `{"Type":"ping","id":1}`},
		{"refused-id-fraction", `{"type":"ping","id":1.5}`},
		{"refused-id-exponent", `{"type":"ping","id":1e3}`},
		{"refused-id-null", `{"type":"ping","id":null}`},
		{"refused-id-object", `{"type":"ping","id":{}}`},
		{"refused-id-long", `{"type":"ping","id":"` + strings.Repeat("x", maxIDLength-1) + `"}`},
		{"refused-twice", `{"type":"subscribe","topic":"a","topic":"b","id":1}`},
		{"refused-twice-escaped", `{"type":"subscribe","topic":"a","top\u0069c":"b","id":1}`},
		{"refused-id-twice", `{"id":1,"type":"ping","id":2}`},
		{"refused-no-topic", `{"type":"subscribe","id":1}`},
		{"refused-topic-not-string", `{"type":"subscribe","id":1,"topic":["a"]}`},
		{"refused-topic-and-topics", `{"type":"subscribe","id":1,"topic":"a","topics":["b"]}`},
		{"refused-topics-empty", `{"type":"subscribe","id":1,"topics":[ ]}`},
		{"refused-topics-not-array", `{"type":"subscribe","id":1,"topics":"a"}`},
		{"refused-topics-not-strings", `{"type":"subscribe","id":1,"topics":["a",null]}`},
		{"refused-cursor", `{"type":"subscribe","id":1,"topic":"a","cursor":41}`},
		{"refused-mode", `{"type":"subscribe","id":1,"topic":"a","mode":"newest"}`},
		{"refused-mode-not-string", `{"type":"subscribe","id":1,"topic":"a","mode":true}`},
		{"refused-max-rate-zero", `{"type":"subscribe","id":1,"topic":"a","max_rate":0}`},
		{"refused-max-rate-huge", `{"type":"subscribe","id":1,"topic":"a","max_rate":1e999}`},
		{"refused-max-rate-string", `{"type":"subscribe","id":1,"topic":"a","max_rate":"2"}`},
		{"refused-unsubscribe-no-topic", `{"type":"unsubscribe","id":1}`},
		{"refused-publish-topics", `{"type":"publish","id":1,"topics":["a"],"data":1}`},
		{"refused-publish-no-data", `{"type":"publish","id":1,"topic":"a"}`},
		{"refused-publish-encoding", `{"type":"publish","id":1,"topic":"a","data":"00","encoding":"hex"}`},
		{"refused-publish-encoding-not-string", `{"type":"publish","id":1,"topic":"a","data":"00","encoding":64}`},
		{"refused-publish-base64", `{"type":"publish","id":1,"topic":"a","data":"aGk","encoding":"base64"}`},
		{"refused-publish-base64-lines", `{"type":"publish","id":1,"topic":"a","data":"aG\nk=","encoding":"base64"}`},
		{"refused-publish-base64-not-string", `{"type":"publish","id":1,"topic":"a","data":{},"encoding":"base64"}`},
		{"refused-publish-key-empty", `{"type":"publish","id":1,"topic":"a","data":1,"idempotency_key":""}`},
		{"refused-publish-key-space", `{"type":"publish","id":1,"topic":"a","data":1,"idempotency_key":"a b"}`},
		{"refused-publish-key-long", `{"type":"publish","id":1,"topic":"a","data":1,"idempotency_key":"` + strings.Repeat("x", MaxKeyLength+1) + `"}`},
		{"refused-publish-key-not-string", `{"type":"publish","id":1,"topic":"a","data":1,"idempotency_key":17}`},
		{"refused-auth-no-token", `{"type":"auth","id":1}`},
		{"refused-auth-token", `{"type":"auth","id":1,"token":{}}`},
		{"refused-presence-no-topic", `{"type":"presence","id":1}`},
	}
	var r Parser // one for all, as a shard has it
	var c Command
	names := map[string]bool{}
	for _, k := range cases {
		t.Run(k.name, func(t *testing.T) {
			wantGolden(t, "commands/"+k.name+".txt", describe(t, &r, &c, k.text))
			if refused := strings.HasPrefix(k.name, "refused-"); refused != (understand(&r, &c, k.text) != nil) {
				t.Errorf("refused: %v, the case's name says otherwise", !refused)
			}
		})
		names[k.name+".txt"] = true
	}
	wantNoStrays(t, "commands", names)
}

// understand reads a command as the server does, with the payload of a publish.
func understand(r *Parser, c *Command, text string) *Error {
	err := r.Parse([]byte(text), c)
	if err == nil && c.Type == CommandPublish {
		_, err = PayloadOf(c.Data, c.Encoding)
	}
	return err
}

func describe(t *testing.T, r *Parser, c *Command, text string) []byte {
	t.Helper()
	shown := text
	if !utf8.ValidString(text) {
		shown = fmt.Sprintf("%q (Go syntax)", text)
	}
	got := fmt.Appendf(nil, "client: %s\n", shown)
	if err := understand(r, c, text); err != nil {
		reply := AppendError(nil, c.ID, err.Code, err.Message)
		wantJSON(t, reply)
		return fmt.Appendf(got, "server: %s\n", reply)
	}
	got = fmt.Appendf(got, "type: %s\n", c.Type)
	line := func(name string, value any, present bool) {
		if present {
			got = fmt.Appendf(got, "%s: %v\n", name, value)
		}
	}
	line("id", c.ID, c.ID != ID{})
	line("topics", fmt.Sprintf("%q", c.Topics), len(c.Topics) > 0)
	line("cursor", c.Cursor, c.Cursor != "")
	line("mode", c.Mode, c.Mode != "")
	line("max_rate", c.MaxRate, c.MaxRate != 0)
	line("token", c.Token, c.Token != "")
	line("idempotency_key", c.Key, c.Key != "")
	if c.Type == CommandPublish {
		payload, _ := PayloadOf(c.Data, c.Encoding)
		line("payload", string(payload), true)
	}
	return got
}

func wantJSON(t *testing.T, text []byte) {
	t.Helper()
	if !json.Valid(text) {
		t.Errorf("not valid JSON: %q", text)
	}
	if !utf8.Valid(text) {
		t.Errorf("not valid UTF-8: %q", text)
	}
}
