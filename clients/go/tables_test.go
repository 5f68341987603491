package pushd

import (
	"strings"
	"testing"

	"github.com/pushd/pushd/internal/wire"
	"github.com/pushd/pushd/topics"
)

// What a client does about a close code is the protocol's table, of which this
// package has a copy so that nothing else of the server is in a client.
func TestCloseCodes(t *testing.T) {
	for _, want := range wire.CloseCodes() {
		got, ok := closeCodes[int(want.Code)]
		if !ok || got != (closeCode{want.Meaning, want.Reconnect, want.Wait}) {
			t.Errorf("%d: %+v, want %+v", want.Code, got, want)
		}
	}
	if n := len(wire.CloseCodes()); len(closeCodes) != n {
		t.Errorf("%d codes, want %d", len(closeCodes), n)
	}
	if got, want := closeCodeOf(4999), wire.CloseCode(4999).Info(); got.again != want.Reconnect || got.least != want.Wait {
		t.Errorf("a code that nobody knows: %+v, want %+v", got, want)
	}
}

func TestNames(t *testing.T) {
	if subprotocol != wire.JSON.Subprotocol() {
		t.Errorf("subprotocol %s, want %s", subprotocol, wire.JSON.Subprotocol())
	}
	for got, want := range map[Code]wire.ErrorCode{
		BadRequest: wire.BadRequest, UnknownType: wire.UnknownType, InvalidTopic: wire.InvalidTopic, Unauthorized: wire.Unauthorized,
		Forbidden: wire.Forbidden, TooManyTopics: wire.TooManyTopics, MessageTooLarge: wire.MessageTooLarge, RateLimited: wire.RateLimited,
		NoHistory: wire.NoHistory, Unavailable: wire.Unavailable, Internal: wire.Internal,
	} {
		if string(got) != string(want) {
			t.Errorf("code %s, want %s", got, want)
		}
	}
}

func TestMatch(t *testing.T) {
	names := strings.Fields("a a.b a.c a.b.c a.b.d b a.* a.> a.*.c a.*.* a.b.> a.*.> ab a.bc")
	for _, pattern := range names {
		for _, topic := range names {
			if isPattern(topic) {
				continue
			}
			if got, want := match(pattern, topic), topics.Match(pattern, topic); got != want {
				t.Errorf("match(%s, %s) is %v, want %v", pattern, topic, got, want)
			}
		}
	}
}

func TestEndpoint(t *testing.T) {
	f := func(server, want string) {
		t.Helper()
		got := "error"
		if u, err := endpointOf(server); err == nil {
			got = u.String()
		}
		if got != want {
			t.Errorf("%s: %s, want %s", server, got, want)
		}
	}
	f("http://h:1", "ws://h:1/ws")
	f("https://h/", "wss://h/ws")
	f("wss://h/ws", "wss://h/ws")
	f("ws://h/behind/proxy", "ws://h/behind/proxy/ws")
	f("h:8080", "ws://h:8080/ws")
	f("ftp://h", "error")
	f("http://", "error")
	f("http://h:x", "error")
}

func TestGoesAsItIs(t *testing.T) {
	f := func(data string, want bool) {
		t.Helper()
		if got := goesAsItIs([]byte(data)); got != want {
			t.Errorf("%.40q: %v", data, got)
		}
	}
	f(`{"a":[1, 2]}`, true)
	f(`"text"`, true)
	f(`text`, false)
	f(``, false)
	f(` 1`, false)
	f("1\n", false)
	f("\"\xff\"", false)
	f(strings.Repeat("[", 512)+strings.Repeat("]", 512), true)
	f(strings.Repeat("[", 513)+strings.Repeat("]", 513), false)
}
